package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import ai.lepton.v1.ChoiceEnd;
import ai.lepton.v1.Delta;
import ai.lepton.v1.Event;
import java.util.List;
import org.junit.jupiter.api.Test;

class CompletionBuilderTest {
    private final CompletionBuilder builder = new CompletionBuilder();

    @Test
    void choicesAreKeptApart() {
        List.of(Events.started(0, ""), Events.text(1, 1, "b"), Events.text(2, 0, "a"), Events.end(3, 1))
                .forEach(builder::take);
        assertEquals(
                List.of(new Completion.Choice("a", ""), new Completion.Choice("b", "STOP")),
                builder.build().choices());
        assertEquals("r-1", builder.build().requestId());
    }

    @Test
    void thereIsAlwaysAFirstChoice() {
        assertEquals("", builder.build().text());
        assertEquals(0, builder.build().usage().getCompletionTokens());
    }

    @Test
    void aReasonOfANewerClusterIsItsNumber() {
        Delta.Builder delta = Delta.newBuilder().setEnd(ChoiceEnd.newBuilder().setReasonValue(99));
        builder.take(Event.newBuilder().setSeq(1).setDelta(delta).build());
        assertEquals("99", builder.build().finishReason());
    }
}
