package ai.lepton.client;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Supplier;
import java.util.regex.Pattern;

/** How a {@link LeptonClient} shall behave. Everything has a default. */
public final class LeptonClientBuilder {
    private static final Pattern ADDRESS = Pattern.compile("(\\[[0-9A-Fa-f:.]+\\]|[^:\\s/]+):\\d{1,5}");

    private final List<String> addresses;
    private final Map<String, String> metadata = new LinkedHashMap<>();
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private String apiKey = "";
    private String caller = "";
    private Supplier<String> traceparent = TraceContext.current();
    private RetryPolicy retry = RetryPolicy.DEFAULT;
    private Duration timeout = Duration.ofSeconds(600);
    private boolean resume;
    private boolean direct;

    LeptonClientBuilder(List<String> addresses) {
        this.addresses = addresses;
    }

    /**
     * TLS: for example {@code TlsChannelCredentials.newBuilder().trustManager(caFile).keyManager(certFile,
     * keyFile).build()}. Default: plaintext.
     *
     * @param value of gRPC
     * @return this
     */
    public LeptonClientBuilder credentials(ChannelCredentials value) {
        credentials = value;
        return this;
    }

    /**
     * Sent as {@code authorization: Bearer …}.
     *
     * @param value printable ASCII
     * @return this
     */
    public LeptonClientBuilder apiKey(String value) {
        apiKey = value;
        return this;
    }

    /**
     * On whose behalf: callers share a full cluster fairly.
     *
     * @param value at most 128 printable characters without spaces
     * @return this
     */
    public LeptonClientBuilder caller(String value) {
        caller = value;
        return this;
    }

    /**
     * One more key of the metadata of every call.
     *
     * @param key in lower case
     * @param value printable ASCII
     * @return this
     */
    public LeptonClientBuilder metadata(String key, String value) {
        metadata.put(key, value);
        return this;
    }

    /**
     * Asked once for every call: the W3C trace context to send, "" or null for none. Default: OpenTelemetry's current
     * one, where the program has OpenTelemetry.
     *
     * @param value gives a {@code traceparent}
     * @return this
     */
    public LeptonClientBuilder traceparent(Supplier<String> value) {
        traceparent = value;
        return this;
    }

    /**
     * How a call is asked again before its first event. Default: {@link RetryPolicy#DEFAULT}.
     *
     * @param value {@link RetryPolicy#NONE}: not at all
     * @return this
     */
    public LeptonClientBuilder retry(RetryPolicy value) {
        retry = value;
        return this;
    }

    /**
     * Time for a whole call, retries and resumptions included. Default: 600 s.
     *
     * @param value above 0
     * @return this
     */
    public LeptonClientBuilder timeout(Duration value) {
        timeout = value;
        return this;
    }

    /**
     * Whether a stream that is cut after its first event goes on where it was, through any router. Default: no. Such calls
     * outlive their connection by up to 30 s.
     *
     * @param value whether
     * @return this
     */
    public LeptonClientBuilder resume(boolean value) {
        resume = value;
        return this;
    }

    /**
     * Whether streams come straight from the workers, whose addresses must then be reachable. Default: no. Not together
     * with {@link #resume}.
     *
     * @param value whether
     * @return this
     */
    public LeptonClientBuilder direct(boolean value) {
        direct = value;
        return this;
    }

    /**
     * Makes the client.
     *
     * @return connects when it is first used
     * @throws IllegalArgumentException for what cannot be, alone or together
     */
    public LeptonClient build() {
        if (addresses.isEmpty()) {
            throw new IllegalArgumentException("a client needs the address of a router, HOST:PORT");
        }
        for (String address : addresses) {
            if (!ADDRESS.matcher(address).matches()) {
                throw new IllegalArgumentException(
                        "'" + address + "' is not an address; write HOST:PORT, for example 127.0.0.1:50051");
            }
        }
        if (resume && direct) {
            throw new IllegalArgumentException(
                    "resume goes through routers, direct does not: leave one of them out");
        }
        ChannelCredentials shared = credentials;
        Cluster cluster = new Cluster(
                Clock.SYSTEM,
                Headers.ofClient(metadata, caller, apiKey),
                traceparent,
                new Routers(addresses.stream().map(address -> new Peer(address, shared)).toList()),
                new Workers(shared),
                new Retries(retry, () -> ThreadLocalRandom.current().nextDouble()));
        return new LeptonClient(cluster, timeout, resume, direct);
    }
}
