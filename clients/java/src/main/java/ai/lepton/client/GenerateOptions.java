package ai.lepton.client;

import ai.lepton.v1.GenerateRequest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;

/**
 * The common fields of a request, by the names and with the meanings that they have in {@link GenerateRequest}. What is
 * not set has the default that is stated there; the cluster checks the values.
 *
 * <pre>{@code client.chat("Tell me a story.", new GenerateOptions().maxTokens(200).temperature(0.7))}</pre>
 */
public final class GenerateOptions {
    private final List<Consumer<GenerateRequest.Builder>> fields = new ArrayList<>();
    private Duration timeout;

    /** Nothing is set. */
    public GenerateOptions() {}

    /**
     * Time for the whole call, retries and resumptions included. Default: that of the client.
     *
     * @param value above 0
     * @return this
     */
    public GenerateOptions timeout(Duration value) {
        timeout = value;
        return this;
    }

    /**
     * Which model.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions model(String value) {
        return set(b -> b.setModel(value));
    }

    /**
     * Content hash of the model revision, or a unique prefix of it.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions revision(String value) {
        return set(b -> b.setRevision(value));
    }

    /**
     * Name for logs and traces.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions requestId(String value) {
        return set(b -> b.setRequestId(value));
    }

    /**
     * Requests with the same key prefer the same worker.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions sessionKey(String value) {
        return set(b -> b.setSessionKey(value));
    }

    /**
     * Most tokens per choice.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions maxTokens(int value) {
        return set(b -> b.getStopBuilder().setMaxTokens(value));
    }

    /**
     * No end by itself before that many tokens.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions minTokens(int value) {
        return set(b -> b.getStopBuilder().setMinTokens(value));
    }

    /**
     * Whether to go on after the model's end-of-sequence token.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions ignoreEos(boolean value) {
        return set(b -> b.getStopBuilder().setIgnoreEos(value));
    }

    /**
     * Texts that end the answer; they are not part of it.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions stop(String... value) {
        return set(b -> b.getStopBuilder().clearStrings().addAllStrings(List.of(value)));
    }

    /**
     * 0 picks the most likely token.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions temperature(double value) {
        return set(b -> b.getSamplingBuilder().setTemperature((float) value));
    }

    /**
     * Keep the smallest set of tokens whose share reaches it.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions topP(double value) {
        return set(b -> b.getSamplingBuilder().setTopP((float) value));
    }

    /**
     * Keep that many most likely tokens; 0 is off.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions topK(int value) {
        return set(b -> b.getSamplingBuilder().setTopK(value));
    }

    /**
     * Keep tokens with at least this share of the highest probability.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions minP(double value) {
        return set(b -> b.getSamplingBuilder().setMinP((float) value));
    }

    /**
     * Above 1: tokens that were seen, in the prompt too, become less likely.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions repetitionPenalty(double value) {
        return set(b -> b.getSamplingBuilder().setRepetitionPenalty((float) value));
    }

    /**
     * Subtracted per earlier occurrence in the answer.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions frequencyPenalty(double value) {
        return set(b -> b.getSamplingBuilder().setFrequencyPenalty((float) value));
    }

    /**
     * Subtracted once when the token is in the answer.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions presencePenalty(double value) {
        return set(b -> b.getSamplingBuilder().setPresencePenalty((float) value));
    }

    /**
     * Added to the logits, by token id.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions logitBias(Map<Integer, Float> value) {
        return set(b -> b.getSamplingBuilder().clearLogitBias().putAllLogitBias(value));
    }

    /**
     * Makes the draw repeatable.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions seed(long value) {
        return set(b -> b.getSamplingBuilder().setSeed(value));
    }

    /**
     * How many independent answers.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions n(int value) {
        return set(b -> b.getSamplingBuilder().setN(value));
    }

    /**
     * A JSON schema as JSON text, which the answer follows.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions jsonSchema(String value) {
        return set(b -> b.getConstraintBuilder().setJsonSchema(value));
    }

    /**
     * A regular expression that the whole answer matches.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions regex(String value) {
        return set(b -> b.getConstraintBuilder().setRegex(value));
    }

    /**
     * A Lark grammar that the answer follows.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions grammar(String value) {
        return set(b -> b.getConstraintBuilder().setGrammar(value));
    }

    /**
     * Log-probabilities of the chosen token and of that many most likely ones.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions logprobs(int value) {
        return set(b -> b.getOutputBuilder().setLogprobs(value));
    }

    /**
     * Token ids in the events.
     *
     * @param value as in the request
     * @return this
     */
    public GenerateOptions tokenIds(boolean value) {
        return set(b -> b.getOutputBuilder().setTokenIds(value));
    }

    Optional<Duration> timeout() {
        return Optional.ofNullable(timeout);
    }

    /** Writes the fields into a request. */
    GenerateRequest.Builder into(GenerateRequest.Builder request) {
        fields.forEach(field -> field.accept(request));
        return request;
    }

    private GenerateOptions set(Consumer<GenerateRequest.Builder> field) {
        fields.add(field);
        return this;
    }
}
