package ai.lepton.client;

import ai.lepton.v1.AbortRequest;
import ai.lepton.v1.InferenceServiceGrpc;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.function.Supplier;

/** What all calls of a client share: routers, workers, retries, and what each call carries. */
final class Cluster {
    private static final Duration ABORT_MAX = Duration.ofSeconds(5);

    private final Clock clock;
    private final Metadata headers;
    private final Supplier<String> traceparent;
    final Routers routers;
    final Workers workers;
    final Retries retries;

    Cluster(
            Clock clock,
            Metadata headers,
            Supplier<String> traceparent,
            Routers routers,
            Workers workers,
            Retries retries) {
        this.clock = clock;
        this.headers = headers;
        this.traceparent = traceparent;
        this.routers = routers;
        this.workers = workers;
        this.retries = retries;
    }

    /** A call whose time begins now. */
    Call begin(Duration timeout) {
        return new Call(clock, timeout, Headers.ofCall(headers, traceparent.get()));
    }

    /** One message each way, at any router. */
    <Q, A> A unary(Call call, MethodDescriptor<Q, A> method, Q request) {
        Route route = routers.route();
        return retries.run(
                call, () -> route.attempt(router -> call.start(router, method, request).single()));
    }

    /** Ends a resumable call. When nobody can be told, it ends by itself once nobody has come back for it. */
    void abort(String resumeToken) {
        AbortRequest request = AbortRequest.newBuilder().setResumeToken(resumeToken).build();
        try {
            unary(begin(ABORT_MAX), InferenceServiceGrpc.getAbortMethod(), request);
        } catch (LeptonException unheard) {
            return;
        }
    }

    void close() {
        routers.close();
        workers.close();
    }
}
