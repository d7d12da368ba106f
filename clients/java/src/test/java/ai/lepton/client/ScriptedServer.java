package ai.lepton.client;

import ai.lepton.v1.AbortRequest;
import ai.lepton.v1.AbortResponse;
import ai.lepton.v1.GenerateRequest;
import ai.lepton.v1.GenerateResponse;
import ai.lepton.v1.InferenceServiceGrpc.InferenceServiceImplBase;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;

/** A real server on a free port whose calls of Generate go as the test says, one after the other. */
final class ScriptedServer extends InferenceServiceImplBase implements AutoCloseable {
    final BlockingQueue<GenerateRequest> requests = new LinkedBlockingQueue<>();
    final BlockingQueue<String> aborted = new LinkedBlockingQueue<>();
    final BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();

    private final Deque<Consumer<StreamObserver<GenerateResponse>>> script = new ArrayDeque<>();
    private final Server server;

    ScriptedServer() throws IOException {
        server = NettyServerBuilder.forAddress(
                        new InetSocketAddress("127.0.0.1", 0), InsecureServerCredentials.create())
                .addService(this)
                .build()
                .start();
    }

    String address() {
        return "127.0.0.1:" + server.getPort();
    }

    /** What the next call that has no script yet does. */
    ScriptedServer then(Consumer<StreamObserver<GenerateResponse>> answer) {
        script.add(answer);
        return this;
    }

    @Override
    public synchronized void generate(GenerateRequest request, StreamObserver<GenerateResponse> out) {
        requests.add(request);
        ((ServerCallStreamObserver<GenerateResponse>) out).setOnCancelHandler(() -> cancelled.add("generate"));
        script.remove().accept(out);
    }

    @Override
    public void abort(AbortRequest request, StreamObserver<AbortResponse> out) {
        aborted.add(request.getResumeToken());
        out.onNext(AbortResponse.getDefaultInstance());
        out.onCompleted();
    }

    @Override
    public void close() {
        server.shutdownNow();
    }
}
