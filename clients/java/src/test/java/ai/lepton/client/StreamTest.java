package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.lepton.v1.Event;
import ai.lepton.v1.GenerateRequest;
import ai.lepton.v1.GenerateResponse;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Streams over real connections. */
@Timeout(30)
class StreamTest {
    private static final GenerateRequest REQUEST =
            GenerateRequest.newBuilder().setText("x").build();

    private final ScriptedServer server = new ScriptedServer();
    private final RetryPolicy quick = new RetryPolicy(3, Duration.ofMillis(1), Duration.ofMillis(1), 0.1, 10);
    private final LeptonClient client =
            LeptonClient.builder(server.address()).retry(quick).build();
    private final LeptonClient resuming =
            LeptonClient.builder(server.address()).retry(quick).resume(true).build();

    StreamTest() throws IOException {}

    @AfterEach
    void close() {
        client.close();
        resuming.close();
        server.close();
    }

    private static void whole(StreamObserver<GenerateResponse> out) {
        out.onNext(Events.response(Events.started(0, "t"), Events.text(1, 0, "a")));
        out.onNext(Events.response(Events.text(2, 0, "b"), Events.end(3, 0), Events.finished(4)));
        out.onCompleted();
    }

    private static void begin(StreamObserver<GenerateResponse> out) {
        out.onNext(Events.response(Events.started(0, "t"), Events.text(1, 0, "a")));
    }

    private static void lose(StreamObserver<GenerateResponse> out) {
        out.onError(Status.UNAVAILABLE.asRuntimeException());
    }

    @Test
    void anAnswerIsItsEvents() {
        server.then(StreamTest::whole);
        List<Long> seqs = new ArrayList<>();
        try (GenerateStream stream = client.generate(REQUEST)) {
            stream.forEach(event -> seqs.add(event.getSeq()));
            assertEquals("ab", stream.completion().text());
        }
        assertEquals(List.of(0L, 1L, 2L, 3L, 4L), seqs);
        assertTrue(server.cancelled.isEmpty());
    }

    @Test
    void textCollectsWithWhatWasRead() {
        server.then(StreamTest::whole);
        try (TextStream answer = client.complete("x")) {
            assertEquals("a", answer.iterator().next());
            assertEquals("ab", answer.collect().text());
            assertFalse(answer.iterator().hasNext());
        }
    }

    @Test
    void leavingReachesTheServer() throws InterruptedException {
        server.then(StreamTest::begin);
        try (GenerateStream stream = client.generate(REQUEST)) {
            stream.iterator().next();
        }
        assertNotNull(server.cancelled.poll(10, TimeUnit.SECONDS));
    }

    @Test
    void leavingAResumableCallAbortsIt() throws InterruptedException {
        server.then(StreamTest::begin);
        try (GenerateStream stream = resuming.generate(REQUEST)) {
            stream.iterator().next();
        }
        assertEquals("t", server.aborted.poll(10, TimeUnit.SECONDS));
    }

    @Test
    void cancellingEndsTheReaderOfAnotherThread() throws Exception {
        server.then(StreamTest::begin);
        var begun = new CountDownLatch(2);
        var pool = Executors.newSingleThreadExecutor();
        try {
            GenerateStream stream = client.generate(REQUEST);
            var answer = stream.readAsync(pool, event -> begun.countDown());
            begun.await();
            stream.cancel();
            var failure = assertThrows(ExecutionException.class, answer::get);
            assertEquals(ErrorKind.CANCELLED, ((LeptonException) failure.getCause()).kind());
        } finally {
            pool.shutdownNow();
        }
    }

    @Test
    void aStreamThatHasBegunIsNotAskedForAgain() {
        server.then(out -> {
            begin(out);
            lose(out);
        });
        List<Event> seen = new ArrayList<>();
        LeptonException error =
                assertThrows(LeptonException.class, () -> client.generate(REQUEST).forEach(seen::add));
        assertEquals("WORKER_LOST", error.reason());
        assertEquals(2, seen.size());
        assertEquals(1, server.requests.size());
    }

    @Test
    void anEndWithoutFinishedIsALoss() {
        server.then(out -> {
            begin(out);
            out.onCompleted();
        });
        LeptonException error =
                assertThrows(LeptonException.class, () -> client.generate(REQUEST).collect());
        assertEquals("WORKER_LOST", error.reason());
    }

    @Test
    void aResumedStreamGoesOnWhereItWas() {
        server.then(out -> {
            begin(out);
            lose(out);
        });
        server.then(StreamTest::whole); // with what is known, which nobody sees twice
        assertEquals("ab", resuming.generate(REQUEST).collect().text());
        assertEquals(RelayedEvents.RESUMABLE_MS, server.requests.remove().getResumableMs());
        assertEquals(1, server.requests.remove().getResume().getAfterSeq());
    }

    @Test
    void fiveResumptionsWithoutProgressAreEnough() {
        server.then(out -> {
            begin(out);
            lose(out);
        });
        for (int attempt = 0; attempt < 5; attempt++) {
            server.then(StreamTest::lose);
        }
        assertThrows(LeptonException.class, () -> resuming.generate(REQUEST).collect());
        assertEquals(6, server.requests.size());
    }

    @Test
    void aFailureIsTheSameWhenAskedAgain() {
        server.then(out -> out.onError(Status.INTERNAL.asRuntimeException()));
        Iterator<Event> events = client.generate(REQUEST).iterator();
        assertThrows(LeptonException.class, events::hasNext);
        assertThrows(LeptonException.class, events::hasNext);
        assertEquals(1, server.requests.size());
    }

    @Test
    void aRouterThatIsDownIsPassedOver() throws IOException {
        String gone = server.address();
        server.close();
        try (ScriptedServer second = new ScriptedServer();
                LeptonClient both = LeptonClient.builder(gone, second.address()).build()) {
            second.then(StreamTest::whole);
            assertEquals("ab", both.generate(REQUEST).collect().text());
        }
    }
}
