package ai.lepton.client;

import io.grpc.Status;
import java.time.Duration;

/** Errors as a cluster would tell them. */
final class Errors {
    private Errors() {}

    static LeptonException of(Status.Code code, String reason) {
        return LeptonException.of(code, reason, "as the test says");
    }

    static LeptonException ofField(Status.Code code, String reason, String field) {
        return new LeptonException(code, reason, "as the test says", field, null, "", "");
    }

    static LeptonException full(Duration retryAfter) {
        return new LeptonException(
                Status.Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", "as the test says", null, retryAfter, "", "");
    }
}
