package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class BreakTest {
    @ParameterizedTest
    @CsvSource({
        "UNAVAILABLE,WORKER_LOST,true,LOSS",
        "UNAVAILABLE,WORKER_LOST,false,LOSS",
        "UNAVAILABLE,DRAINING,true,HAND_OVER",
        "UNAVAILABLE,DRAINING,false,REFUSAL",
        "RESOURCE_EXHAUSTED,QUEUE_FULL,false,REFUSAL",
        "RESOURCE_EXHAUSTED,QUEUE_FULL,true,LOSS",
        "PERMISSION_DENIED,TICKET_EXPIRED,false,REFUSAL",
        "PERMISSION_DENIED,TICKET_INVALID,false,FINAL",
        "UNIMPLEMENTED,CONTINUATION_UNSUPPORTED,false,REFUSAL",
        "INTERNAL,ENGINE_FAILED,true,LOSS",
        "INTERNAL,STREAM_FAULT,true,LOSS",
        "INTERNAL,MODEL_OUTPUT_INVALID,true,FINAL",
        "INVALID_ARGUMENT,FIELD_REQUIRED,false,FINAL",
        "DEADLINE_EXCEEDED,DEADLINE_EXCEEDED,true,FINAL",
        "CANCELLED,CLIENT_GONE,true,FINAL",
    })
    void whatAnErrorMeansForTheStream(Status.Code code, String reason, boolean hasAnswered, Break expected) {
        assertEquals(expected, Break.of(Errors.of(code, reason), hasAnswered));
    }

    @Test
    void whoDoesNotLikeOurAdditionDeclines() {
        LeptonException error =
                Errors.ofField(Status.Code.INVALID_ARGUMENT, "FIELD_OUT_OF_RANGE", "continuation.next_seq");
        assertEquals(Break.REFUSAL, Break.of(error, false));
    }

    @Test
    void movesAreBoundedEachByWhy() {
        Moves moves = new Moves();
        assertTrue(moves.take(Break.LOSS));
        assertTrue(moves.take(Break.LOSS));
        assertFalse(moves.take(Break.LOSS));
        assertTrue(moves.take(Break.REFUSAL));
        assertTrue(moves.take(Break.HAND_OVER));
        assertFalse(moves.take(Break.FINAL));
        assertEquals(3, moves.attempt());
    }
}
