package ai.lepton.client;

import ai.lepton.v1.Event;
import ai.lepton.v1.GenerateRequest;
import ai.lepton.v1.GenerateResponse;
import ai.lepton.v1.InferenceServiceGrpc;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;

/** An answer through routers: asked for again until its first event, resumed after it where that is wanted. */
final class RelayedEvents implements EventSource {
    static final int RESUMABLE_MS = 30_000;
    /** In a row without a new event. */
    private static final int RESUMPTIONS_MAX = 5;

    private final Cluster cluster;
    private final Call call;
    private final boolean resumes;
    private final StreamOrder order;
    private final Route route;
    private final Deque<Event> pending = new ArrayDeque<>();
    private Rpc<GenerateRequest, GenerateResponse> rpc;
    private int resumptions;

    RelayedEvents(Cluster cluster, Call call, GenerateRequest request, boolean resumes) {
        this.cluster = cluster;
        this.call = call;
        this.route = cluster.routers.route();
        this.order = new StreamOrder(
                resumes && !request.hasResumableMs()
                        ? request.toBuilder().setResumableMs(RESUMABLE_MS).build()
                        : request);
        this.resumes = resumes;
    }

    @Override
    public Event next() {
        while (true) {
            Event event = pending.poll();
            if (event == null) {
                if (order.isFinished()) {
                    rpc.finish();
                    return null;
                }
                read();
            } else if (order.isDue(event)) {
                order.take(event);
                resumptions = 0;
                return event;
            }
        }
    }

    @Override
    public void abandon() {
        if (!order.isFinished() && !order.resumeToken().isEmpty()) {
            cluster.abort(order.resumeToken());
        }
    }

    private void read() {
        if (rpc == null) {
            cluster.retries.run(call, this::open);
            return;
        }
        try {
            pending.addAll(message(rpc).getEventsList());
        } catch (LeptonException error) {
            route.lost();
            resume(error);
        }
    }

    /** One attempt, until the first message is there. */
    private boolean open() {
        return route.attempt(router -> {
            var begun = call.start(router, InferenceServiceGrpc.getGenerateMethod(), order.requestNow());
            pending.addAll(message(begun).getEventsList());
            rpc = begun;
            return true;
        });
    }

    private static GenerateResponse message(Rpc<GenerateRequest, GenerateResponse> from) {
        GenerateResponse response = from.next();
        if (response == null) {
            throw LeptonException.of(
                    Status.Code.UNAVAILABLE, "WORKER_LOST", "the stream ended before its end");
        }
        return response;
    }

    /** Returns when the stream that broke goes on; throws what broke it otherwise. */
    private void resume(LeptonException broken) {
        LeptonException error = broken.isLostConnection()
                ? LeptonException.lost(
                        "WORKER_LOST", "the connection broke in the middle of the answer: " + broken.getMessage(), broken)
                : broken;
        while (mayResume(error)) {
            Duration wait = cluster.retries.wait(resumptions, error);
            if (wait.compareTo(call.left()) >= 0) {
                break;
            }
            resumptions++;
            call.pause(wait);
            try {
                open();
                return;
            } catch (LeptonException again) {
                error = again;
            }
        }
        throw error;
    }

    private boolean mayResume(LeptonException error) {
        return resumes
                && !order.resumeToken().isEmpty()
                && error.kind() == ErrorKind.UNAVAILABLE
                && resumptions < RESUMPTIONS_MAX;
    }
}
