package ai.lepton.client;

import ai.lepton.v1.Event;
import ai.lepton.v1.GenerateRequest;
import io.grpc.Status;

/** Where a stream stands: which event is due, how it is gone on with, whether it has ended. Pure. */
final class StreamOrder {
    private final GenerateRequest request;
    private long due;
    private String resumeToken;
    private boolean hasBegun;
    private boolean isFinished;

    /** A stream that answers {@code request}; one that is resumed by hand begins where its request says. */
    StreamOrder(GenerateRequest request) {
        this.request = request;
        this.due = request.getResume().hasAfterSeq() ? request.getResume().getAfterSeq() + 1 : 0;
        this.resumeToken = request.getResume().getResumeToken();
    }

    /** Whether {@code event} is the one that is due; one that is known already is not. {@link LeptonException} at a gap. */
    boolean isDue(Event event) {
        int side = Long.compareUnsigned(event.getSeq(), due);
        if (side > 0) {
            throw LeptonException.of(
                    Status.Code.INTERNAL,
                    "STREAM_FAULT",
                    "event " + Long.toUnsignedString(event.getSeq()) + " came where " + Long.toUnsignedString(due) + " was due");
        }
        return side == 0;
    }

    /** The event that was due is there. */
    void take(Event event) {
        due++;
        hasBegun = true;
        switch (event.getKindCase()) {
            case STARTED -> resumeToken = event.getStarted().getResumeToken();
            case MIGRATED -> resumeToken = event.getMigrated().getResumeToken();
            case FINISHED -> isFinished = true;
            default -> {} // text, or of a newer cluster
        }
    }

    boolean isFinished() {
        return isFinished;
    }

    /** The {@code seq} of the next event. */
    long due() {
        return due;
    }

    /** The way back to the call; "" when there is none. */
    String resumeToken() {
        return resumeToken;
    }

    /** What to send now: the request, or where the stream has begun the same and from where on. */
    GenerateRequest requestNow() {
        if (!hasBegun || resumeToken.isEmpty()) {
            return request;
        }
        GenerateRequest.Builder again = request.toBuilder();
        again.getResumeBuilder().setResumeToken(resumeToken).setAfterSeq(due - 1);
        return again.build();
    }
}
