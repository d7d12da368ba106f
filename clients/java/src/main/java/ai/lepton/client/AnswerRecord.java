package ai.lepton.client;

import ai.lepton.v1.Continuation;
import ai.lepton.v1.ContinuedChoice;
import ai.lepton.v1.Delta;
import ai.lepton.v1.Event;
import ai.lepton.v1.Started;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;

/** What one stream has told its client, as far as another worker needs it to go on. */
final class AnswerRecord {
    private final long choicesAsked;
    private final List<ContinuedChoice.Builder> choices = new ArrayList<>();
    private Started started;

    /** {@code choicesAsked}: how many answers the request wants. */
    AnswerRecord(long choicesAsked) {
        this.choicesAsked = choicesAsked;
    }

    /** Notes the next event. {@link LeptonException} when it breaks the rules of a stream. */
    void take(Event event) {
        if (event.hasStarted()) {
            started = event.getStarted();
        } else if (event.hasDelta()) {
            take(event.getDelta());
        }
    }

    /** What to go on with, or null before {@code Started}. {@code attempt} counts the workers that were given up. */
    Continuation continuation(long nextSeq, int attempt, String fromWorkerId) {
        if (started == null) {
            return null;
        }
        grow(choicesAsked);
        Continuation.Builder continuation = Continuation.newBuilder()
                .setNextSeq(nextSeq)
                .setSeed(started.getSeed())
                .setPromptTokens(started.getPromptTokens())
                .setCachedTokens(started.getCachedTokens())
                .setAttempt(attempt)
                .setFromWorkerId(fromWorkerId);
        choices.forEach(continuation::addChoices);
        return continuation.build();
    }

    private void take(Delta delta) {
        long index = Integer.toUnsignedLong(delta.getIndex());
        if (index >= choicesAsked) {
            throw fault("choice " + index + " was not asked for");
        }
        grow(index + 1);
        ContinuedChoice.Builder choice = choices.get((int) index);
        if (choice.hasEnd()) {
            throw fault("more of choice " + index + " came after its end");
        }
        choice.addAllTokenIds(delta.getTokenIdsList());
        if (delta.hasEnd()) {
            choice.setEnd(delta.getEnd());
        }
    }

    private void grow(long size) {
        while (choices.size() < size) {
            choices.add(ContinuedChoice.newBuilder());
        }
    }

    private static LeptonException fault(String what) {
        return LeptonException.of(
                Status.Code.INTERNAL, "STREAM_FAULT", "the worker broke the rules of a stream: " + what);
    }
}
