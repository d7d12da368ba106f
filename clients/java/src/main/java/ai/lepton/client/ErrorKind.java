package ai.lepton.client;

import io.grpc.Status;

/** What went wrong, in the classes of the cluster's list of errors; {@link LeptonException#reason()} says exactly what. */
public enum ErrorKind {
    /** The request is wrong in itself; sending it again cannot help. */
    INVALID_REQUEST,
    /** No worker serves that model or revision, or no call belongs to that token. */
    NOT_FOUND,
    /** A part of the interface that this release or worker refuses. */
    UNSUPPORTED,
    /** A call, field or ticket that is not this client's. */
    FORBIDDEN,
    /** Full for now; {@link LeptonException#retryAfter()} says when to come back. */
    OVERLOADED,
    /** Nobody can answer now, or the one who did is lost. */
    UNAVAILABLE,
    /** The timeout is over; the compute has stopped. */
    DEADLINE_EXCEEDED,
    /** The call was given up, here or by whoever holds its token. */
    CANCELLED,
    /** Set aside because workers died of it, or in conflict with something. */
    REFUSED,
    /** The cluster's fault; report it with {@link LeptonException#requestId()}. */
    INTERNAL;

    /** Whether another worker may answer the same request. */
    boolean isRetryable() {
        return this == OVERLOADED || this == UNAVAILABLE || this == INTERNAL;
    }

    /** The kind of a status; codes that the cluster never sends are {@link #INTERNAL}. */
    static ErrorKind of(Status.Code code) {
        return switch (code) {
            case INVALID_ARGUMENT -> INVALID_REQUEST;
            case NOT_FOUND -> NOT_FOUND;
            case UNIMPLEMENTED -> UNSUPPORTED;
            case PERMISSION_DENIED, UNAUTHENTICATED -> FORBIDDEN;
            case RESOURCE_EXHAUSTED -> OVERLOADED;
            case UNAVAILABLE -> UNAVAILABLE;
            case DEADLINE_EXCEEDED -> DEADLINE_EXCEEDED;
            case CANCELLED -> CANCELLED;
            case FAILED_PRECONDITION -> REFUSED;
            default -> INTERNAL;
        };
    }
}
