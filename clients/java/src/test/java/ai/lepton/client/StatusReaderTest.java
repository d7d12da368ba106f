package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import org.junit.jupiter.api.Test;

class StatusReaderTest {
    private static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

    private static Metadata trailers(Message... details) {
        var status = com.google.rpc.Status.newBuilder();
        for (Message detail : details) {
            status.addDetails(Any.pack(detail));
        }
        Metadata trailers = new Metadata();
        trailers.put(DETAILS, status.build().toByteArray());
        return trailers;
    }

    @Test
    void detailsOfTheClusterAreRead() {
        Metadata trailers = trailers(
                ErrorInfo.newBuilder()
                        .setDomain("lepton")
                        .setReason("REASON_OF_TOMORROW")
                        .putMetadata("field", "sampling.n")
                        .build(),
                RetryInfo.newBuilder()
                        .setRetryDelay(com.google.protobuf.Duration.newBuilder().setNanos(250_000_000))
                        .build());
        trailers.put(Headers.REQUEST_ID, "r-1");
        LeptonException error =
                StatusReader.read(Status.RESOURCE_EXHAUSTED.withDescription("full"), trailers, null);
        assertEquals("REASON_OF_TOMORROW", error.reason());
        assertEquals(ErrorKind.OVERLOADED, error.kind());
        assertEquals("sampling.n", error.field().orElseThrow());
        assertEquals(Duration.ofMillis(250), error.retryAfter().orElseThrow());
        assertEquals("r-1", error.requestId());
        assertEquals("full", error.getMessage());
    }

    @Test
    void theRequestIdMayBeInTheInitialMetadata() {
        Metadata headers = new Metadata();
        headers.put(Headers.REQUEST_ID, "r-2");
        assertEquals(
                "r-2", StatusReader.read(Status.INTERNAL, new Metadata(), headers).requestId());
    }

    @Test
    void aStatusOfNobodyIsALostConnection() {
        assertTrue(StatusReader.read(Status.UNAVAILABLE, new Metadata(), null).isLostConnection());
        assertTrue(StatusReader.read(Status.CANCELLED, new Metadata(), null).isLostConnection());
        assertFalse(StatusReader.read(Status.INTERNAL, new Metadata(), null).isLostConnection());
    }

    @Test
    void detailsOfSomebodyElseCountForNothing() {
        Metadata trailers = trailers(
                ErrorInfo.newBuilder().setDomain("proxy").setReason("X").build());
        assertEquals(
                "RESOURCE_EXHAUSTED",
                StatusReader.read(Status.RESOURCE_EXHAUSTED, trailers, null).reason());
    }

    @Test
    void unreadableDetailsLeaveTheCode() {
        Metadata trailers = new Metadata();
        trailers.put(DETAILS, new byte[] {(byte) 0xff, 1, 2});
        LeptonException error = StatusReader.read(Status.NOT_FOUND, trailers, null);
        assertEquals(ErrorKind.NOT_FOUND, error.kind());
        assertEquals("NOT_FOUND", error.getMessage());
    }
}
