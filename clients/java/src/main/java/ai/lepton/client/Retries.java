package ai.lepton.client;

import java.time.Duration;
import java.util.function.DoubleSupplier;
import java.util.function.Supplier;

/** Attempts of calls, by one client's policy and budget. */
final class Retries {
    private final RetryPolicy policy;
    private final RetryBudget budget;
    private final DoubleSupplier random;

    /** {@code random} gives numbers from 0 to below 1. */
    Retries(RetryPolicy policy, DoubleSupplier random) {
        this.policy = policy;
        this.budget = new RetryBudget(policy);
        this.random = random;
    }

    /** What the first attempt that succeeds gives; {@link LeptonException} of the last one when none does. */
    <T> T run(Call call, Supplier<T> attempt) {
        budget.countCall();
        for (int k = 0; ; k++) {
            try {
                return attempt.get();
            } catch (LeptonException error) {
                if (k + 1 >= policy.attemptsMax() || !RetryPolicy.mayHelp(error)) {
                    throw error;
                }
                Duration wait = wait(k, error);
                if (wait.compareTo(call.left()) >= 0 || !budget.take()) {
                    throw error;
                }
                call.pause(wait);
            }
        }
    }

    /** How long to wait after the failure number {@code k} in a row, from 0. */
    Duration wait(int k, LeptonException error) {
        return policy.wait(k, random.getAsDouble(), error.retryAfter());
    }
}
