package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RetriesTest {
    private final ManualClock clock = new ManualClock();
    private final Retries retries = new Retries(RetryPolicy.DEFAULT, () -> 0.5);

    private Call call(Duration timeout) {
        return new Call(clock, timeout, new Metadata());
    }

    private String run(Call call, LeptonException... failures) {
        Deque<LeptonException> left = new ArrayDeque<>(List.of(failures));
        return retries.run(call, () -> {
            if (!left.isEmpty()) {
                throw left.poll();
            }
            return "answer";
        });
    }

    @Test
    void waitsGrowAndAreDrawn() {
        LeptonException away = Errors.of(Status.Code.UNAVAILABLE, "NO_WORKER");
        assertEquals("answer", run(call(Duration.ofSeconds(10)), away, away));
        assertEquals(List.of(Duration.ofMillis(50), Duration.ofMillis(100)), clock.waits);
    }

    @Test
    void noWaitIsShorterThanTheClusterAsks() {
        run(call(Duration.ofSeconds(10)), Errors.full(Duration.ofSeconds(3)));
        assertEquals(List.of(Duration.ofSeconds(3)), clock.waits);
    }

    @Test
    void theThirdFailureIsTheLast() {
        LeptonException away = Errors.of(Status.Code.UNAVAILABLE, "NO_WORKER");
        LeptonException last = Errors.full(Duration.ZERO);
        Call call = call(Duration.ofSeconds(10));
        assertSame(last, assertThrows(LeptonException.class, () -> run(call, away, away, last)));
    }

    @Test
    void noWaitGoesBeyondTheDeadline() {
        Call call = call(Duration.ofSeconds(2));
        assertThrows(LeptonException.class, () -> run(call, Errors.full(Duration.ofSeconds(2))));
        assertTrue(clock.waits.isEmpty());
    }

    @Test
    void aSpentBudgetEndsIt() {
        Call call = call(Duration.ofHours(1));
        LeptonException full = Errors.full(Duration.ZERO);
        for (int spent = 0; spent < 5; spent++) {
            run(call, full, full); // two of ten each; what the calls earn is capped or below one
        }
        assertThrows(LeptonException.class, () -> run(call, full));
    }

    @Test
    void callsEarnRetries() {
        RetryBudget budget = new RetryBudget(RetryPolicy.DEFAULT);
        while (budget.take()) {
            continue;
        }
        for (int call = 0; call < 11; call++) {
            budget.countCall();
        }
        assertTrue(budget.take());
    }

    @Test
    void givingUpEndsTheWait() {
        Call call = call(Duration.ofSeconds(10));
        call.giveUp();
        LeptonException error =
                assertThrows(LeptonException.class, () -> run(call, Errors.of(Status.Code.UNAVAILABLE, "NO_WORKER")));
        assertEquals(ErrorKind.CANCELLED, error.kind());
    }

    @ParameterizedTest
    @CsvSource({
        "UNAVAILABLE,NO_WORKER,true",
        "UNAVAILABLE,REASON_OF_TOMORROW,true",
        "UNAVAILABLE,'',true",
        "CANCELLED,'',true",
        "CANCELLED,ABORTED,false",
        "RESOURCE_EXHAUSTED,QUEUE_FULL,true",
        "RESOURCE_EXHAUSTED,RESOURCE_EXHAUSTED,false",
        "INTERNAL,ENGINE_FAILED,false",
        "INVALID_ARGUMENT,FIELD_REQUIRED,false",
        "DEADLINE_EXCEEDED,DEADLINE_EXCEEDED,false",
    })
    void whatIsAskedAgain(Status.Code code, String reason, boolean expected) {
        assertEquals(expected, RetryPolicy.mayHelp(Errors.of(code, reason)));
    }
}
