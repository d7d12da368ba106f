package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.lepton.v1.Continuation;
import java.util.List;
import org.junit.jupiter.api.Test;

class AnswerRecordTest {
    private final AnswerRecord record = new AnswerRecord(2);

    @Test
    void aContinuationTellsWhatTheClientHas() {
        record.take(Events.started(0, ""));
        record.take(Events.text(1, 1, "a", 4, 5));
        record.take(Events.text(2, 1, "b", 6));
        record.take(Events.end(3, 1));
        Continuation told = record.continuation(4, 1, "w-1");
        assertEquals(4, told.getNextSeq());
        assertEquals(7, told.getSeed());
        assertEquals(3, told.getPromptTokens());
        assertEquals("w-1", told.getFromWorkerId());
        assertEquals(2, told.getChoicesCount());
        assertEquals(List.of(), told.getChoices(0).getTokenIdsList());
        assertEquals(List.of(4, 5, 6), told.getChoices(1).getTokenIdsList());
        assertTrue(told.getChoices(1).hasEnd());
    }

    @Test
    void withoutABeginningThereIsNothingToGoOnWith() {
        assertNull(record.continuation(0, 1, "w-1"));
    }

    @Test
    void moreAfterTheEndIsAFault() {
        record.take(Events.end(1, 0));
        assertThrows(LeptonException.class, () -> record.take(Events.text(2, 0, "a", 1)));
    }

    @Test
    void aChoiceThatNobodyAskedForIsAFault() {
        assertThrows(LeptonException.class, () -> record.take(Events.text(1, 2, "a", 1)));
        assertThrows(LeptonException.class, () -> record.take(Events.text(1, -1, "a", 1)));
    }
}
