package ai.lepton.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;

/** From a gRPC status to the error that the peer meant. Pure. */
final class StatusReader {
    private static final String DOMAIN = "lepton";
    private static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

    private StatusReader() {}

    /**
     * The error of a status that is not OK. Without details of Lepton's it comes from a proxy, from gRPC itself, or from
     * nobody; the last is {@link LeptonException#isLostConnection()}.
     *
     * @param headers initial metadata, null where none came
     */
    static LeptonException read(Status status, Metadata trailers, Metadata headers) {
        ErrorInfo info = null;
        Duration retryAfter = null;
        for (Any detail : details(trailers)) {
            try {
                if (detail.is(ErrorInfo.class) && detail.unpack(ErrorInfo.class).getDomain().equals(DOMAIN)) {
                    info = detail.unpack(ErrorInfo.class);
                } else if (detail.is(RetryInfo.class)) {
                    var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                }
            } catch (InvalidProtocolBufferException unreadable) {
                continue; // the code still says enough
            }
        }
        String message = status.getDescription();
        return new LeptonException(
                status.getCode(),
                info == null ? reasonWithoutDetails(status.getCode()) : info.getReason(),
                message == null || message.isEmpty() ? status.getCode().name() : message,
                info == null ? null : info.getMetadataMap().get("field"),
                retryAfter,
                Headers.text(Headers.REQUEST_ID, trailers, headers),
                Headers.text(Headers.TRACE_ID, trailers, headers));
    }

    private static String reasonWithoutDetails(Status.Code code) {
        return switch (code) {
            case UNAVAILABLE, CANCELLED -> "";
            default -> code.name();
        };
    }

    private static Iterable<Any> details(Metadata trailers) {
        byte[] packed = trailers.get(DETAILS);
        if (packed == null) {
            return List.of();
        }
        try {
            return com.google.rpc.Status.parseFrom(packed).getDetailsList();
        } catch (InvalidProtocolBufferException unreadable) {
            return List.of();
        }
    }
}
