package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.lepton.v1.Event;
import ai.lepton.v1.GenerateRequest;
import org.junit.jupiter.api.Test;

class StreamOrderTest {
    private final GenerateRequest request =
            GenerateRequest.newBuilder().setText("x").setResumableMs(30_000).build();
    private final StreamOrder order = new StreamOrder(request);

    @Test
    void whatIsKnownIsNotDueAgain() {
        order.take(Events.started(0, "t"));
        assertFalse(order.isDue(Events.started(0, "t")));
        assertTrue(order.isDue(Events.text(1, 0, "a")));
    }

    @Test
    void aGapIsAFaultOfTheStream() {
        LeptonException fault =
                assertThrows(LeptonException.class, () -> order.isDue(Events.text(2, 0, "a")));
        assertEquals("STREAM_FAULT", fault.reason());
    }

    @Test
    void aStreamThatHasNotBegunIsAskedForAsItWas() {
        assertSame(request, order.requestNow());
    }

    @Test
    void aStreamThatHasBegunIsGoneOnWith() {
        order.take(Events.started(0, "t"));
        order.take(Events.text(1, 0, "a"));
        assertEquals("t", order.requestNow().getResume().getResumeToken());
        assertEquals(1, order.requestNow().getResume().getAfterSeq());
    }

    @Test
    void aCallThatIsResumedByHandBeginsWhereItsRequestSays() {
        GenerateRequest.Builder byHand = request.toBuilder();
        byHand.getResumeBuilder().setResumeToken("t").setAfterSeq(3);
        StreamOrder middle = new StreamOrder(byHand.build());
        assertTrue(middle.isDue(Events.text(4, 0, "a")));
        assertEquals(3, middle.requestNow().getResume().getAfterSeq());
    }

    @Test
    void theLastTokenHolds() {
        order.take(Events.started(0, "t"));
        order.take(Events.migrated(1, "u"));
        assertEquals("u", order.resumeToken());
    }

    @Test
    void anEventOfANewerClusterOnlyCounts() {
        order.take(Events.started(0, "t"));
        order.take(Event.newBuilder().setSeq(1).build());
        assertEquals(2, order.due());
        order.take(Events.finished(2));
        assertTrue(order.isFinished());
    }
}
