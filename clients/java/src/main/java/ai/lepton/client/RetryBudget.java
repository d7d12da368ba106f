package ai.lepton.client;

/** What keeps clients from multiplying the load of a cluster in trouble: calls earn retries, retries spend them. */
final class RetryBudget {
    private final RetryPolicy policy;
    private double saved;

    RetryBudget(RetryPolicy policy) {
        this.policy = policy;
        this.saved = policy.budgetMax();
    }

    /** One more call has begun. */
    synchronized void countCall() {
        saved = Math.min(policy.budgetMax(), saved + policy.budgetPerCall());
    }

    /** Whether one more retry may be spent; spends it. */
    synchronized boolean take() {
        if (saved < 1) {
            return false;
        }
        saved -= 1;
        return true;
    }
}
