package ai.lepton.client;

import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;

/** What the attempts of one call have in common: its deadline, its metadata, and that it can be given up. */
final class Call {
    private final Clock clock;
    private final long endsAt;
    private final Metadata headers;
    private final CountDownLatch givenUp = new CountDownLatch(1);
    private volatile Rpc<?, ?> current;

    /** {@code IllegalArgumentException} for a timeout that is not above 0. */
    Call(Clock clock, Duration timeout, Metadata headers) {
        if (timeout.isZero() || timeout.isNegative()) {
            throw new IllegalArgumentException("a timeout must be above 0");
        }
        this.clock = clock;
        this.endsAt = clock.nanos() + timeout.toNanos();
        this.headers = headers;
    }

    /** Begins an attempt; the ones before have ended or are of no interest any more. */
    <Q, A> Rpc<Q, A> start(Peer peer, MethodDescriptor<Q, A> method, Q request) {
        return start(peer, method, request, headers);
    }

    /** The same with a ticket for the peer. */
    <Q, A> Rpc<Q, A> start(Peer peer, MethodDescriptor<Q, A> method, Q request, String ticket) {
        return start(peer, method, request, Headers.withTicket(headers, ticket));
    }

    private <Q, A> Rpc<Q, A> start(Peer peer, MethodDescriptor<Q, A> method, Q request, Metadata sent) {
        Metadata own = new Metadata();
        own.merge(sent); // gRPC writes into what it is given
        Rpc<Q, A> rpc = Rpc.start(peer.channel(), method, own, request, left());
        current = rpc;
        if (isGivenUp()) {
            rpc.cancel();
        }
        return rpc;
    }

    /** Time until the deadline, 0 or less when it has passed. */
    Duration left() {
        return Duration.ofNanos(endsAt - clock.nanos());
    }

    /** Waits. {@link LeptonException} when the call is given up meanwhile. */
    void pause(Duration wait) {
        try {
            clock.await(givenUp, wait);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw Rpc.givenUp();
        }
        if (isGivenUp()) {
            throw Rpc.givenUp();
        }
    }

    /** Ends the call, from any thread. */
    void giveUp() {
        givenUp.countDown();
        Rpc<?, ?> running = current;
        if (running != null) {
            running.cancel();
        }
    }

    boolean isGivenUp() {
        return givenUp.getCount() == 0;
    }

    /** Of the last attempt, "" before it was answered. */
    String traceId() {
        Rpc<?, ?> last = current;
        return last == null ? "" : last.traceId();
    }
}
