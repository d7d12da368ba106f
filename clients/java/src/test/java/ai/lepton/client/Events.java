package ai.lepton.client;

import ai.lepton.v1.ChoiceEnd;
import ai.lepton.v1.Delta;
import ai.lepton.v1.Event;
import ai.lepton.v1.FinishReason;
import ai.lepton.v1.Finished;
import ai.lepton.v1.GenerateResponse;
import ai.lepton.v1.Migrated;
import ai.lepton.v1.Started;
import java.util.List;

/** Events as a cluster would send them. */
final class Events {
    private Events() {}

    static Event started(long seq, String resumeToken) {
        Started started = Started.newBuilder()
                .setRequestId("r-1")
                .setSeed(7)
                .setPromptTokens(3)
                .setResumeToken(resumeToken)
                .build();
        return Event.newBuilder().setSeq(seq).setStarted(started).build();
    }

    static Event text(long seq, int index, String text, Integer... ids) {
        Delta.Builder delta =
                Delta.newBuilder().setIndex(index).setText(text).addAllTokenIds(List.of(ids));
        return Event.newBuilder().setSeq(seq).setDelta(delta).build();
    }

    static Event end(long seq, int index) {
        ChoiceEnd.Builder end = ChoiceEnd.newBuilder().setReason(FinishReason.FINISH_REASON_STOP);
        return Event.newBuilder()
                .setSeq(seq)
                .setDelta(Delta.newBuilder().setIndex(index).setEnd(end))
                .build();
    }

    static Event migrated(long seq, String resumeToken) {
        return Event.newBuilder()
                .setSeq(seq)
                .setMigrated(Migrated.newBuilder().setResumeToken(resumeToken))
                .build();
    }

    static Event finished(long seq) {
        return Event.newBuilder().setSeq(seq).setFinished(Finished.getDefaultInstance()).build();
    }

    static GenerateResponse response(Event... events) {
        return GenerateResponse.newBuilder().addAllEvents(List.of(events)).build();
    }
}
