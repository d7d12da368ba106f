package ai.lepton.client;

import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import java.util.concurrent.TimeUnit;

/** A router or worker: its address, and a connection that is opened when it is first needed. */
final class Peer {
    private static final int CONNECT_MS_MAX = 5_000;
    private static final int MESSAGE_BYTES_MAX = 64 << 20;
    /** What a stream that nobody reads may hold here. */
    private static final int STREAM_WINDOW_BYTES = 64 << 10;
    /** A peer that vanished without a word is noticed after both, seconds. */
    private static final int PING_EVERY_S = 10;
    private static final int PING_ANSWER_S_MAX = 5;
    private static final int CLOSE_S_MAX = 5;

    private final String address;
    private final ChannelCredentials credentials;
    private ManagedChannel channel;
    private boolean isClosed;

    /** {@code address} is host:port. */
    Peer(String address, ChannelCredentials credentials) {
        this.address = address;
        this.credentials = credentials;
    }

    String address() {
        return address;
    }

    /** {@code IllegalStateException} when it was closed. */
    synchronized Channel channel() {
        if (isClosed) {
            throw new IllegalStateException("the client is closed");
        }
        // gRPC would answer for a peer that could not be reached, without a try, until its back-off is over. When to
        // wait is decided here: every attempt is a real one.
        if (channel != null && channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
            channel.shutdown();
            channel = null;
        }
        if (channel == null) {
            channel = open();
        }
        return channel;
    }

    /** No new calls; those that run may end. */
    synchronized void retire() {
        isClosed = true;
        if (channel != null) {
            channel.shutdown();
        }
    }

    /** Ends what still runs and waits for its threads. */
    void close() {
        ManagedChannel last;
        synchronized (this) {
            isClosed = true;
            last = channel;
        }
        if (last == null) {
            return;
        }
        try {
            last.shutdownNow().awaitTermination(CLOSE_S_MAX, TimeUnit.SECONDS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private ManagedChannel open() {
        return NettyChannelBuilder.forTarget("dns:///" + address, credentials)
                .withOption(ChannelOption.CONNECT_TIMEOUT_MILLIS, CONNECT_MS_MAX)
                .keepAliveTime(PING_EVERY_S, TimeUnit.SECONDS)
                .keepAliveTimeout(PING_ANSWER_S_MAX, TimeUnit.SECONDS)
                .maxInboundMessageSize(MESSAGE_BYTES_MAX)
                .flowControlWindow(STREAM_WINDOW_BYTES)
                // Which call is worth a retry is decided here, not by gRPC.
                .disableRetry()
                // Listeners only put into queues.
                .directExecutor()
                // A proxy of the environment is not meant for a cluster.
                .proxyDetector(target -> null)
                .build();
    }
}
