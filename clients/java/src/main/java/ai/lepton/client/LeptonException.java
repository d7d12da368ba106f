package ai.lepton.client;

import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;

/**
 * What a call may end with instead of an answer.
 *
 * <p>{@link #kind()} says what went wrong, {@link #reason()} exactly what, the message what to do about it.
 */
public final class LeptonException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** Never OK. */
    private final Status.Code code;
    /** "" stands for a lost connection until somebody says what was lost. */
    private final String reason;
    /** Null when no field is to blame. */
    private final String field;
    /** Null when the cluster asked for no wait. */
    private final Duration retryAfter;
    /** "" when unknown. */
    private final String requestId;
    /** "" when unknown. */
    private final String traceId;

    LeptonException(
            Status.Code code,
            String reason,
            String message,
            String field,
            Duration retryAfter,
            String requestId,
            String traceId) {
        super(message);
        this.code = code;
        this.reason = reason;
        this.field = field;
        this.retryAfter = retryAfter;
        this.requestId = requestId;
        this.traceId = traceId;
    }

    /** An error that this client found by itself. */
    static LeptonException of(Status.Code code, String reason, String message) {
        return new LeptonException(code, reason, message, null, null, "", "");
    }

    /** The status {@code UNAVAILABLE} that takes the place of {@code cause}, a lost connection. */
    static LeptonException lost(String reason, String message, LeptonException cause) {
        LeptonException error =
                new LeptonException(
                        Status.Code.UNAVAILABLE, reason, message, null, null, cause.requestId, cause.traceId);
        error.initCause(cause);
        return error;
    }

    /**
     * What went wrong.
     *
     * @return one of few
     */
    public ErrorKind kind() {
        return ErrorKind.of(code);
    }

    /**
     * The gRPC status.
     *
     * @return its code
     */
    public Status.Code code() {
        return code;
    }

    /**
     * The stable name for programs, from the cluster's list of errors, for example {@code QUEUE_FULL}. Text, so that a
     * reason of a newer cluster passes. Where the status came without one (from a proxy, or from gRPC itself), the
     * name of its code.
     *
     * @return the reason
     */
    public String reason() {
        return reason;
    }

    /**
     * The field of the request that is to blame, in proto spelling, for example {@code sampling.top_p}.
     *
     * @return the field, where one is to blame
     */
    public Optional<String> field() {
        return Optional.ofNullable(field);
    }

    /**
     * The wait after which asking again may help.
     *
     * @return the wait, where the cluster asked for one
     */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(retryAfter);
    }

    /**
     * The call's name in the logs of the cluster.
     *
     * @return the id, or "" when unknown
     */
    public String requestId() {
        return requestId;
    }

    /**
     * What to give to {@code lepton trace}.
     *
     * @return the id, or "" when unknown
     */
    public String traceId() {
        return traceId;
    }

    /** Whether nobody is there any more: a status without details, or a call torn down that we did not end. */
    boolean isLostConnection() {
        return reason.isEmpty();
    }

    @Override
    public String toString() {
        String where = field == null ? "" : " " + field;
        return "LeptonException: " + getMessage() + " (" + reason + where + ")";
    }
}
