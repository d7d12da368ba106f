package ai.lepton.client;

import java.time.Duration;
import java.util.Optional;

/**
 * How a client asks again before the first event of an answer; after it only {@code resume} does.
 *
 * @param attemptsMax attempts in all, at least 1; 1: never again
 * @param firstWait longest wait before the second attempt; it doubles from attempt to attempt
 * @param waitMax longest wait at all, unless the cluster asks for more
 * @param budgetPerCall retries that each call adds to what may be spent
 * @param budgetMax most retries that are saved up, and what a client begins with
 */
public record RetryPolicy(
        int attemptsMax, Duration firstWait, Duration waitMax, double budgetPerCall, double budgetMax) {

    /** Three attempts, waits up to 0.1 s and 0.2 s, one retry in ten calls, ten saved up. */
    public static final RetryPolicy DEFAULT =
            new RetryPolicy(3, Duration.ofMillis(100), Duration.ofSeconds(2), 0.1, 10);

    /** Never asks again. */
    public static final RetryPolicy NONE = new RetryPolicy(1, DEFAULT.firstWait, DEFAULT.waitMax, 0, 0);

    /**
     * A policy of one's own.
     *
     * @param attemptsMax attempts in all, at least 1
     * @param firstWait longest wait before the second attempt
     * @param waitMax longest wait at all
     * @param budgetPerCall retries that each call adds
     * @param budgetMax most retries that are saved up
     * @throws IllegalArgumentException for numbers that make no sense
     */
    public RetryPolicy {
        if (attemptsMax < 1 || firstWait.isNegative() || waitMax.isNegative() || budgetPerCall < 0 || budgetMax < 0) {
            throw new IllegalArgumentException("attemptsMax must be at least 1, everything else at least 0");
        }
    }

    /**
     * The wait before retry {@code k}: full jitter, but never shorter than the cluster asked for.
     *
     * @param k from 0
     * @param drawn from 0 to below 1, at random
     */
    Duration wait(int k, double drawn, Optional<Duration> atLeast) {
        double longest = Math.min(waitMax.toNanos(), firstWait.toNanos() * Math.pow(2, k));
        Duration jittered = Duration.ofNanos((long) (longest * drawn));
        return atLeast.filter(asked -> asked.compareTo(jittered) > 0).orElse(jittered);
    }

    /** Whether nothing was computed and asking again may help. */
    static boolean mayHelp(LeptonException error) {
        return switch (error.kind()) {
            case UNAVAILABLE -> true;
            case CANCELLED -> error.isLostConnection();
            // Without a reason of the cluster's it is gRPC's own refusal of a message that is too large.
            case OVERLOADED -> !error.reason().equals(error.code().name());
            default -> false;
        };
    }
}
