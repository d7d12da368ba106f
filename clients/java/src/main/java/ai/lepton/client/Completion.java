package ai.lepton.client;

import ai.lepton.v1.Finished;
import ai.lepton.v1.Started;
import ai.lepton.v1.Usage;
import java.util.List;

/**
 * What has come of an answer: all of it once its stream has ended.
 *
 * @param choices one per answer that was asked for; at least one
 * @param started who answers: request id, worker, model, seed; empty before the first event
 * @param finished counts, timings and ends; empty before the last event
 * @param moves times that the stream went on from another worker
 */
public record Completion(List<Choice> choices, Started started, Finished finished, int moves) {

    /**
     * One answer.
     *
     * @param text its text
     * @param finishReason why it ended: {@code STOP}, {@code LENGTH}, the number of a reason of a newer cluster, or ""
     *     while it has not
     */
    public record Choice(String text, String finishReason) {}

    /**
     * The text of the first choice.
     *
     * @return its text
     */
    public String text() {
        return choices.get(0).text();
    }

    /**
     * Why the first choice ended.
     *
     * @return as in {@link Choice}
     */
    public String finishReason() {
        return choices.get(0).finishReason();
    }

    /**
     * Token counts.
     *
     * @return all zero before the last event
     */
    public Usage usage() {
        return finished.getUsage();
    }

    /**
     * The call's name in the logs of the cluster.
     *
     * @return the id, "" before the first event
     */
    public String requestId() {
        return started.getRequestId();
    }
}
