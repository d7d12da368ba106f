package ai.lepton.client.conformance;

import ai.lepton.client.GenerateOptions;
import ai.lepton.client.LeptonClient;
import ai.lepton.client.LeptonClientBuilder;
import ai.lepton.client.Messages;
import ai.lepton.client.RetryPolicy;
import ai.lepton.v1.ChatMessage;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** From the words of a command to the arguments of the client. */
final class Arguments {
    private Arguments() {}

    /** A client with the options of a command. */
    static LeptonClient client(JsonObject command) {
        List<String> addresses = strings(command.getAsJsonArray("addresses"));
        LeptonClientBuilder builder = LeptonClient.builder(addresses.toArray(String[]::new));
        for (Map.Entry<String, JsonElement> option : object(command, "options").entrySet()) {
            JsonElement value = option.getValue();
            switch (option.getKey()) {
                case "timeout_s" -> builder.timeout(Duration.ofNanos((long) (value.getAsDouble() * 1e9)));
                case "direct" -> builder.direct(value.getAsBoolean());
                case "resume" -> builder.resume(value.getAsBoolean());
                case "retry" -> builder.retry(value.getAsBoolean() ? RetryPolicy.DEFAULT : RetryPolicy.NONE);
                case "api_key" -> builder.apiKey(value.getAsString());
                case "caller" -> builder.caller(value.getAsString());
                case "traceparent" -> builder.traceparent(value::getAsString);
                case "metadata" -> value.getAsJsonObject()
                        .entrySet()
                        .forEach(pair -> builder.metadata(pair.getKey(), pair.getValue().getAsString()));
                case "tls_ca" -> builder.credentials(trusting(value.getAsString()));
                case "cancel_after_events" -> {}
                default -> throw new IllegalArgumentException("no option " + option.getKey());
            }
        }
        return builder.build();
    }

    private static ChannelCredentials trusting(String authority) {
        try {
            return TlsChannelCredentials.newBuilder()
                    .trustManager(new ByteArrayInputStream(authority.getBytes(StandardCharsets.US_ASCII)))
                    .build();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** The fields beside the text or messages. */
    static GenerateOptions fields(JsonObject request) {
        GenerateOptions options = new GenerateOptions();
        for (Map.Entry<String, JsonElement> field : request.entrySet()) {
            JsonElement value = field.getValue();
            switch (field.getKey()) {
                case "text", "messages" -> {}
                case "model" -> options.model(value.getAsString());
                case "revision" -> options.revision(value.getAsString());
                case "request_id" -> options.requestId(value.getAsString());
                case "session_key" -> options.sessionKey(value.getAsString());
                case "max_tokens" -> options.maxTokens(value.getAsInt());
                case "min_tokens" -> options.minTokens(value.getAsInt());
                case "ignore_eos" -> options.ignoreEos(value.getAsBoolean());
                case "stop" -> options.stop(
                        value.isJsonArray()
                                ? strings(value.getAsJsonArray()).toArray(String[]::new)
                                : new String[] {value.getAsString()});
                case "temperature" -> options.temperature(value.getAsDouble());
                case "top_p" -> options.topP(value.getAsDouble());
                case "top_k" -> options.topK(value.getAsInt());
                case "min_p" -> options.minP(value.getAsDouble());
                case "repetition_penalty" -> options.repetitionPenalty(value.getAsDouble());
                case "frequency_penalty" -> options.frequencyPenalty(value.getAsDouble());
                case "presence_penalty" -> options.presencePenalty(value.getAsDouble());
                case "seed" -> options.seed(value.getAsLong());
                case "n" -> options.n(value.getAsInt());
                case "json_schema" -> options.jsonSchema(value.getAsString());
                case "regex" -> options.regex(value.getAsString());
                case "grammar" -> options.grammar(value.getAsString());
                case "logprobs" -> options.logprobs(value.getAsInt());
                case "token_ids" -> options.tokenIds(value.getAsBoolean());
                default -> throw new IllegalArgumentException("no field " + field.getKey());
            }
        }
        return options;
    }

    /** The conversation of a chat. */
    static List<ChatMessage> messages(JsonObject request) {
        List<ChatMessage> messages = new ArrayList<>();
        for (JsonElement element : request.getAsJsonArray("messages")) {
            JsonObject message = element.getAsJsonObject();
            String content = message.get("content").getAsString();
            messages.add(switch (message.get("role").getAsString()) {
                case "system" -> Messages.system(content);
                case "assistant" -> Messages.assistant(content);
                default -> Messages.user(content);
            });
        }
        return messages;
    }

    /** A part of a command, empty where it is missing. */
    static JsonObject object(JsonObject command, String key) {
        return command.has(key) ? command.getAsJsonObject(key) : new JsonObject();
    }

    private static List<String> strings(JsonArray array) {
        List<String> strings = new ArrayList<>();
        array.forEach(element -> strings.add(element.getAsString()));
        return strings;
    }
}
