package ai.lepton.client;

import ai.lepton.v1.Continuation;
import ai.lepton.v1.Event;
import ai.lepton.v1.GenerateRequest;
import ai.lepton.v1.GenerateResponse;
import ai.lepton.v1.InferenceServiceGrpc;
import ai.lepton.v1.PickRequest;
import ai.lepton.v1.PickResponse;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.UUID;

/** An answer straight from workers: a router picks; when the worker is lost, the next pick goes on where it was. */
final class DirectEvents implements EventSource {
    /** A stream that has begun and says nothing for so long is given up. */
    private static final Duration SILENCE_MAX = Duration.ofSeconds(10);

    private final Cluster cluster;
    private final Call call;
    private final GenerateRequest request;
    private final boolean hidesIds;
    private final StreamOrder order;
    private final AnswerRecord record;
    private final Moves moves = new Moves();
    /** Oldest first. */
    private final List<String> failedTickets = new ArrayList<>();
    private final Deque<Event> pending = new ArrayDeque<>();

    private PickResponse picked;
    private Rpc<GenerateRequest, GenerateResponse> rpc;
    /** Whether the worker of this attempt has sent something. */
    private boolean hasAnswered;
    /** Where the part of the answer comes from that the client has; null before it has any. */
    private PickResponse origin;
    private Continuation continuation;
    /** What happened to the stream last: who declines to go on with it is not what happened. */
    private LeptonException failure;

    DirectEvents(Cluster cluster, Call call, GenerateRequest request) {
        this.cluster = cluster;
        this.call = call;
        this.request = request.getRequestId().isEmpty()
                ? request.toBuilder().setRequestId("direct-" + UUID.randomUUID()).build()
                : request;
        this.order = new StreamOrder(this.request);
        this.hidesIds = request.getOutput().hasTokenIds() && !request.getOutput().getTokenIds();
        this.record = new AnswerRecord(Math.max(1, Integer.toUnsignedLong(request.getSampling().getN())));
    }

    @Override
    public Event next() {
        while (true) {
            if (rpc == null) {
                begin();
            }
            try {
                return fromWorker();
            } catch (LeptonException error) {
                rpc.cancel();
                rpc = null;
                pending.clear();
                move(meant(error));
            }
        }
    }

    @Override
    public void abandon() {
        // The worker stops when its stream is cancelled.
    }

    private void begin() {
        PickRequest.Builder asked =
                PickRequest.newBuilder().setRequest(request).addAllFailedTickets(failedTickets);
        if (origin != null) {
            asked.getOriginBuilder()
                    .setWorkerId(origin.getWorkerId())
                    .setModel(origin.getModel())
                    .setRevision(origin.getRevision())
                    .setFingerprint(origin.getFingerprint());
        }
        picked = cluster.unary(call, InferenceServiceGrpc.getPickMethod(), asked.build());
        hasAnswered = false;
        Peer worker = cluster.workers.at(picked.getAddress());
        rpc = call.start(worker, InferenceServiceGrpc.getGenerateMethod(), forWorker(), picked.getTicket());
    }

    /** The request for the worker of one model and revision, with the ids that a move needs. */
    private GenerateRequest forWorker() {
        GenerateRequest.Builder meant =
                request.toBuilder().setModel(picked.getModel()).setRevision(picked.getRevision());
        meant.getOutputBuilder().setTokenIds(true);
        if (continuation != null) {
            meant.setContinuation(continuation);
        }
        return meant.build();
    }

    private Event fromWorker() {
        while (true) {
            Event event = pending.poll();
            if (event != null) {
                if (order.isDue(event)) {
                    record.take(event);
                    order.take(event);
                    return shown(event);
                }
            } else if (order.isFinished()) {
                rpc.finish();
                return null;
            } else {
                pending.addAll(message().getEventsList());
            }
        }
    }

    private GenerateResponse message() {
        // Before the first event nobody can say how long a prompt takes: there the connection's pings and the deadline
        // have to do.
        GenerateResponse response = hasAnswered ? rpc.next(SILENCE_MAX) : rpc.next();
        if (response == null) {
            throw LeptonException.of(Status.Code.UNAVAILABLE, "", "it ended the stream before its end");
        }
        hasAnswered = true;
        origin = picked;
        return response;
    }

    /** Returns when the next worker may go on; throws otherwise. */
    private void move(LeptonException error) {
        Break how = Break.of(error, hasAnswered);
        if (!moves.take(how) || call.left().compareTo(Duration.ZERO) <= 0) {
            throw how == Break.REFUSAL && failure != null ? failure : error;
        }
        failedTickets.add(picked.getTicket());
        if (how == Break.REFUSAL) {
            return;
        }
        failure = error;
        if (origin != null) {
            continuation = record.continuation(order.due(), moves.attempt(), picked.getWorkerId());
        }
    }

    /** A worker that cannot be reached, or tears down a call that we did not end, is lost. */
    private LeptonException meant(LeptonException error) {
        boolean tornDown = error.reason().equals("CLIENT_GONE") && !call.isGivenUp();
        if (!error.isLostConnection() && !tornDown) {
            return error;
        }
        return LeptonException.lost(
                "WORKER_LOST", "worker " + picked.getWorkerId() + " is lost: " + error.getMessage(), error);
    }

    private Event shown(Event event) {
        if (!hidesIds || !event.hasDelta()) {
            return event;
        }
        Event.Builder without = event.toBuilder();
        without.getDeltaBuilder().clearTokenIds();
        return without.build();
    }
}
