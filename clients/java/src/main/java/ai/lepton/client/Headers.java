package ai.lepton.client;

import io.grpc.Metadata;
import java.util.Map;
import java.util.regex.Pattern;

/** The metadata of calls: which keys there are, and what every call of a client carries. */
final class Headers {
    static final Metadata.Key<String> REQUEST_ID = key("lepton-request-id");
    static final Metadata.Key<String> TRACE_ID = key("lepton-trace-id");
    static final Metadata.Key<String> TICKET = key("lepton-ticket");

    private static final Metadata.Key<String> CALLER = key("lepton-caller");
    private static final Metadata.Key<String> AUTHORIZATION = key("authorization");
    private static final Metadata.Key<String> TRACEPARENT = key("traceparent");

    /** gRPC would send anything else as question marks. */
    private static final Pattern SENDABLE = Pattern.compile("[ -~]*");

    private Headers() {}

    /** What every call carries. {@code IllegalArgumentException} for what cannot be sent. */
    static Metadata ofClient(Map<String, String> more, String caller, String apiKey) {
        Metadata headers = new Metadata();
        more.forEach((name, value) -> headers.put(key(name), sendable(name, value)));
        if (!caller.isEmpty()) {
            headers.put(CALLER, sendable("the caller", caller));
        }
        if (!apiKey.isEmpty()) {
            headers.put(AUTHORIZATION, "Bearer " + sendable("the API key", apiKey));
        }
        return headers;
    }

    /** The same and the trace context of one call, if it has one. */
    static Metadata ofCall(Metadata client, String traceparent) {
        Metadata headers = copy(client);
        if (traceparent != null && !traceparent.isEmpty()) {
            headers.put(TRACEPARENT, traceparent);
        }
        return headers;
    }

    /** The same and a ticket for one worker. */
    static Metadata withTicket(Metadata call, String ticket) {
        Metadata headers = copy(call);
        headers.put(TICKET, ticket);
        return headers;
    }

    /** The value of a key in trailing or else initial metadata, of which either may be null; "" where it is missing. */
    static String text(Metadata.Key<String> key, Metadata trailers, Metadata headers) {
        String found = trailers == null ? null : trailers.get(key);
        if (found == null && headers != null) {
            found = headers.get(key);
        }
        return found == null ? "" : found;
    }

    private static Metadata copy(Metadata from) {
        Metadata to = new Metadata();
        to.merge(from);
        return to;
    }

    private static String sendable(String what, String value) {
        if (!SENDABLE.matcher(value).matches()) {
            throw new IllegalArgumentException(what + " has characters beyond printable ASCII");
        }
        return value;
    }

    private static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }
}
