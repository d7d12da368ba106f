package ai.lepton.client;

import ai.lepton.v1.ChatInput;
import ai.lepton.v1.ChatMessage;
import ai.lepton.v1.CountTokensRequest;
import ai.lepton.v1.DetokenizeRequest;
import ai.lepton.v1.GenerateRequest;
import ai.lepton.v1.InferenceServiceGrpc;
import ai.lepton.v1.ListModelsRequest;
import ai.lepton.v1.ModelInfo;
import ai.lepton.v1.TokenizeRequest;
import ai.lepton.v1.TokenizeResponse;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.List;

/**
 * Calls a Lepton cluster. Safe for use by many threads; one per program is enough.
 *
 * <pre>{@code
 * try (LeptonClient client = LeptonClient.builder("127.0.0.1:50051").build()) {
 *     System.out.println(client.chat("What is 27 + 35?").collect().text());
 * }
 * }</pre>
 *
 * <p>Every method may throw {@link LeptonException}; the streams do so while they are read.
 */
public final class LeptonClient implements AutoCloseable {
    private final Cluster cluster;
    private final Duration timeout;
    private final boolean resume;
    private final boolean direct;

    LeptonClient(Cluster cluster, Duration timeout, boolean resume, boolean direct) {
        this.cluster = cluster;
        this.timeout = timeout;
        this.resume = resume;
        this.direct = direct;
    }

    /**
     * Begins a client. It connects when it is first used.
     *
     * @param addresses routers of one cluster, host:port; at least one
     * @return what else can be said of it
     */
    public static LeptonClientBuilder builder(String... addresses) {
        return new LeptonClientBuilder(List.of(addresses));
    }

    /**
     * Generates tokens and streams them.
     *
     * @param request as the cluster takes it
     * @return its events
     */
    public GenerateStream generate(GenerateRequest request) {
        return generate(request, timeout);
    }

    /**
     * Generates tokens and streams them.
     *
     * @param request as the cluster takes it
     * @param timeout for the whole call, retries and resumptions included; above 0
     * @return its events
     */
    public GenerateStream generate(GenerateRequest request, Duration timeout) {
        Call call = cluster.begin(timeout);
        EventSource source = direct
                ? new DirectEvents(cluster, call, request)
                : new RelayedEvents(cluster, call, request, resume);
        return new GenerateStream(call, source);
    }

    /**
     * Goes on with a text.
     *
     * @param text used as it is; never read as control tokens
     * @return what follows it
     */
    public TextStream complete(String text) {
        return complete(text, new GenerateOptions());
    }

    /**
     * Goes on with a text.
     *
     * @param text used as it is; never read as control tokens
     * @param options further fields of the request
     * @return what follows it
     */
    public TextStream complete(String text, GenerateOptions options) {
        return text(GenerateRequest.newBuilder().setText(text), options);
    }

    /**
     * Answers one message of a user.
     *
     * @param content plain text
     * @return the model's answer
     */
    public TextStream chat(String content) {
        return chat(content, new GenerateOptions());
    }

    /**
     * Answers one message of a user.
     *
     * @param content plain text
     * @param options further fields of the request
     * @return the model's answer
     */
    public TextStream chat(String content, GenerateOptions options) {
        return chat(List.of(Messages.user(content)), options);
    }

    /**
     * Answers a conversation.
     *
     * @param messages oldest first; {@link Messages} writes them
     * @param options further fields of the request
     * @return the model's answer
     */
    public TextStream chat(List<ChatMessage> messages, GenerateOptions options) {
        ChatInput.Builder chat = ChatInput.newBuilder().addAllMessages(messages);
        return text(GenerateRequest.newBuilder().setChat(chat), options);
    }

    /**
     * Turns text or a chat into token ids.
     *
     * @param request as the cluster takes it
     * @return ids, and the text of each
     */
    public TokenizeResponse tokenize(TokenizeRequest request) {
        return unary(InferenceServiceGrpc.getTokenizeMethod(), request);
    }

    /**
     * Turns text into the token ids of the cluster's only model.
     *
     * @param text plain text
     * @return ids, and the text of each
     */
    public TokenizeResponse tokenize(String text) {
        return tokenize(TokenizeRequest.newBuilder().setText(text).build());
    }

    /**
     * Turns token ids back into text.
     *
     * @param request as the cluster takes it
     * @return the text, without control tokens
     */
    public String detokenize(DetokenizeRequest request) {
        return unary(InferenceServiceGrpc.getDetokenizeMethod(), request).getText();
    }

    /**
     * Turns token ids of the cluster's only model back into text.
     *
     * @param tokenIds in order
     * @return the text, without control tokens
     */
    public String detokenize(List<Integer> tokenIds) {
        return detokenize(DetokenizeRequest.newBuilder().addAllTokenIds(tokenIds).build());
    }

    /**
     * Counts the tokens that a generation would see.
     *
     * @param request as the cluster takes it
     * @return how many
     */
    public int countTokens(CountTokensRequest request) {
        return unary(InferenceServiceGrpc.getCountTokensMethod(), request).getNumTokens();
    }

    /**
     * Counts the tokens of a text for the cluster's only model.
     *
     * @param text plain text
     * @return how many
     */
    public int countTokens(String text) {
        return countTokens(CountTokensRequest.newBuilder().setText(text).build());
    }

    /**
     * Lists what can be asked now.
     *
     * @return one per model and revision, sorted by name
     */
    public List<ModelInfo> listModels() {
        return unary(InferenceServiceGrpc.getListModelsMethod(), ListModelsRequest.getDefaultInstance())
                .getModelsList();
    }

    /** Ends what still runs, and the connections. */
    @Override
    public void close() {
        cluster.close();
    }

    private TextStream text(GenerateRequest.Builder request, GenerateOptions options) {
        return new TextStream(
                generate(options.into(request).build(), options.timeout().orElse(timeout)));
    }

    private <Q, A> A unary(MethodDescriptor<Q, A> method, Q request) {
        return cluster.unary(cluster.begin(timeout), method, request);
    }
}
