package ai.lepton.client;

import ai.lepton.v1.Delta;
import ai.lepton.v1.Event;
import ai.lepton.v1.FinishReason;
import ai.lepton.v1.Finished;
import ai.lepton.v1.Started;
import java.util.ArrayList;
import java.util.List;

/** Puts the events of an answer together. */
final class CompletionBuilder {
    private static final String PREFIX = "FINISH_REASON_";

    private final List<StringBuilder> texts = new ArrayList<>();
    private final List<String> reasons = new ArrayList<>();
    private Started started = Started.getDefaultInstance();
    private Finished finished = Finished.getDefaultInstance();
    private int moves;

    CompletionBuilder() {
        grow(1);
    }

    /** The next event; one of a newer cluster changes nothing. */
    void take(Event event) {
        switch (event.getKindCase()) {
            case STARTED -> started = event.getStarted();
            case DELTA -> take(event.getDelta());
            case MIGRATED -> moves++;
            case FINISHED -> finished = event.getFinished();
            default -> {}
        }
    }

    /** What there is by now. */
    Completion build() {
        List<Completion.Choice> choices = new ArrayList<>(texts.size());
        for (int index = 0; index < texts.size(); index++) {
            choices.add(new Completion.Choice(texts.get(index).toString(), reasons.get(index)));
        }
        return new Completion(List.copyOf(choices), started, finished, moves);
    }

    private void take(Delta delta) {
        grow(delta.getIndex() + 1);
        texts.get(delta.getIndex()).append(delta.getText());
        if (delta.hasEnd()) {
            reasons.set(delta.getIndex(), name(delta.getEnd().getReasonValue()));
        }
    }

    private void grow(int size) {
        while (texts.size() < size) {
            texts.add(new StringBuilder());
            reasons.add("");
        }
    }

    private static String name(int number) {
        FinishReason reason = FinishReason.forNumber(number);
        return reason == null ? Integer.toString(number) : reason.name().substring(PREFIX.length());
    }
}
