package ai.lepton.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** One call of one peer, read by one thread; {@link #cancel} is safe from any. */
final class Rpc<Q, A> {
    /** Messages that may wait here unread; the peer holds back the rest. */
    private static final int AHEAD_MAX = 8;

    private final ClientCall<Q, A> call;
    private final BlockingQueue<Signal<A>> signals = new LinkedBlockingQueue<>();
    private volatile Metadata headers;
    private volatile boolean isCancelled;

    /** What gRPC's threads tell the reader: a message, or (status set) the end. */
    private record Signal<A>(A message, Status status, Metadata trailers) {}

    private Rpc(ClientCall<Q, A> call) {
        this.call = call;
    }

    /** Sends the request. What goes wrong shows at the first {@link #next}. */
    static <Q, A> Rpc<Q, A> start(
            Channel channel, MethodDescriptor<Q, A> method, Metadata headers, Q request, Duration timeout) {
        CallOptions options =
                CallOptions.DEFAULT.withDeadlineAfter(Math.max(0, timeout.toNanos()), TimeUnit.NANOSECONDS);
        Rpc<Q, A> rpc = new Rpc<>(channel.newCall(method, options));
        rpc.call.start(rpc.new Listener(), headers);
        rpc.call.request(AHEAD_MAX);
        rpc.call.sendMessage(request);
        rpc.call.halfClose();
        return rpc;
    }

    /** The next message; null after the last one. {@link LeptonException} when the call failed. */
    A next() {
        return take(null);
    }

    /** The same; a peer that says nothing for {@code silenceMax} is a lost connection. */
    A next(Duration silenceMax) {
        return take(silenceMax);
    }

    /** The only message of a unary call. */
    A single() {
        A answer = next();
        if (answer == null) {
            throw LeptonException.of(Status.Code.INTERNAL, "INTERNAL", "the peer answered with nothing");
        }
        next(); // the status: it may still be an error
        return answer;
    }

    /** Lets the peer end a call whose last message was read: cancelled now, it would look like one that was left. */
    void finish() {
        try {
            while (next() != null) {
                continue;
            }
        } catch (LeptonException late) {
            return; // everything is here already
        }
    }

    /** Ends the call; the peer stops its work. */
    void cancel() {
        isCancelled = true;
        call.cancel("the client gave the call up", null);
    }

    /** From the initial metadata, "" before they are there. */
    String traceId() {
        return Headers.text(Headers.TRACE_ID, null, headers);
    }

    private A take(Duration silenceMax) {
        Signal<A> signal;
        try {
            signal = silenceMax == null
                    ? signals.take()
                    : signals.poll(silenceMax.toNanos(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException interrupted) {
            cancel();
            Thread.currentThread().interrupt();
            throw givenUp();
        }
        if (signal == null) {
            throw LeptonException.of(
                    Status.Code.UNAVAILABLE, "", "it said nothing for " + silenceMax.toSeconds() + " s");
        }
        if (signal.status == null) {
            call.request(1);
            return signal.message;
        }
        signals.add(signal); // whoever reads on meets the end again
        if (signal.status.isOk()) {
            return null;
        }
        if (isCancelled) {
            throw givenUp();
        }
        throw StatusReader.read(signal.status, signal.trailers, headers);
    }

    /** How a call ends that its own client does not want any more. */
    static LeptonException givenUp() {
        return LeptonException.of(Status.Code.CANCELLED, "CLIENT_GONE", "this client gave the call up");
    }

    private final class Listener extends ClientCall.Listener<A> {
        @Override
        public void onHeaders(Metadata received) {
            headers = received;
        }

        @Override
        public void onMessage(A message) {
            signals.add(new Signal<>(message, null, null));
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            signals.add(new Signal<>(null, status, trailers));
        }
    }
}
