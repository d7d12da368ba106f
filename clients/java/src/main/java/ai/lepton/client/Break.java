package ai.lepton.client;

import java.util.Set;

/** How an attempt at a direct stream came to its end. The rules are those of the cluster's routers. */
enum Break {
    /** The request's own fault, its deadline, its client: another worker would end it alike. */
    FINAL(0),
    /** The worker died, froze, failed, or cut the stream. */
    LOSS(2),
    /** The worker leaves, and asks for others to finish its streams. */
    HAND_OVER(16),
    /** The worker declined before its first message. */
    REFUSAL(2);

    /** Errors of a worker that the same weights would give again. */
    private static final Set<String> SAME_EVERYWHERE = Set.of("MODEL_OUTPUT_INVALID");

    /** How a worker says that it is not the one that we took it for, or that we came too late. */
    private static final Set<String> NOT_THE_ONE =
            Set.of("CONTINUATION_UNSUPPORTED", "MODEL_NOT_FOUND", "REVISION_NOT_FOUND", "TICKET_EXPIRED");

    /** How often one stream may go on elsewhere after such a break. */
    final int most;

    Break(int most) {
        this.most = most;
    }

    /** What {@code error} means; {@code hasAnswered}: the worker of this attempt had sent something. */
    static Break of(LeptonException error, boolean hasAnswered) {
        if (!hasAnswered && declines(error)) {
            return REFUSAL;
        }
        if (!error.kind().isRetryable() || SAME_EVERYWHERE.contains(error.reason())) {
            return FINAL;
        }
        if (error.kind() == ErrorKind.UNAVAILABLE && !error.reason().equals("WORKER_LOST")) {
            return hasAnswered ? HAND_OVER : REFUSAL;
        }
        return LOSS;
    }

    private static boolean declines(LeptonException error) {
        if (error.field().filter(name -> name.startsWith("continuation")).isPresent()) {
            return true; // our addition to the request is what it does not like
        }
        return NOT_THE_ONE.contains(error.reason()) || error.kind() == ErrorKind.OVERLOADED;
    }
}
