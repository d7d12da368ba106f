package ai.lepton.client.conformance;

import ai.lepton.client.Completion;
import ai.lepton.client.GenerateStream;
import ai.lepton.client.LeptonClient;
import ai.lepton.client.TextStream;
import ai.lepton.v1.CountTokensRequest;
import ai.lepton.v1.DetokenizeRequest;
import ai.lepton.v1.Event;
import ai.lepton.v1.GenerateRequest;
import ai.lepton.v1.ListModelsResponse;
import ai.lepton.v1.TokenizeRequest;
import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;

/** Does what one command says, and writes down what the client gave out. */
final class Operations {
    private final LeptonClient client;
    private final JsonObject command;
    private final JsonObject request;
    private final JsonObject report;

    Operations(LeptonClient client, JsonObject command, JsonObject report) {
        this.client = client;
        this.command = command;
        this.request = Arguments.object(command, "request");
        this.report = report;
    }

    void run() throws InvalidProtocolBufferException {
        String op = command.get("op").getAsString();
        switch (op) {
            case "generate" -> generate();
            case "complete" -> text(client.complete(
                    request.get("text").getAsString(), Arguments.fields(request)));
            case "chat" -> text(client.chat(Arguments.messages(request), Arguments.fields(request)));
            case "tokenize" -> response(json(client.tokenize(parsed(TokenizeRequest.newBuilder()).build())));
            case "detokenize" -> response(
                    "text", client.detokenize(parsed(DetokenizeRequest.newBuilder()).build()));
            case "count_tokens" -> response(
                    "numTokens", client.countTokens(parsed(CountTokensRequest.newBuilder()).build()));
            case "list_models" -> response(
                    json(ListModelsResponse.newBuilder().addAllModels(client.listModels()).build()));
            default -> throw new IllegalArgumentException("no operation " + op);
        }
    }

    private void generate() throws InvalidProtocolBufferException {
        JsonElement leaveAfter = Arguments.object(command, "options").get("cancel_after_events");
        JsonArray events = new JsonArray();
        report.add("events", events);
        try (GenerateStream stream = client.generate(parsed(GenerateRequest.newBuilder()).build())) {
            try {
                for (Event event : stream) {
                    events.add(json(event));
                    if (leaveAfter != null && events.size() == leaveAfter.getAsInt()) {
                        report.addProperty("cancelled", true);
                        break;
                    }
                }
            } finally {
                answer(stream.completion());
            }
        }
    }

    /** The first choice as it was iterated over, the others as collected. */
    private void text(TextStream stream) {
        StringBuilder first = new StringBuilder();
        try (stream) {
            stream.forEach(first::append);
            answer(stream.collect());
            report.getAsJsonArray("text").set(0, new JsonPrimitive(first.toString()));
        }
    }

    private void answer(Completion completion) {
        JsonArray texts = new JsonArray();
        JsonArray reasons = new JsonArray();
        for (Completion.Choice choice : completion.choices()) {
            texts.add(choice.text());
            reasons.add(choice.finishReason());
        }
        report.add("text", texts);
        report.add("finish", reasons);
    }

    private void response(JsonElement value) {
        report.add("response", value);
    }

    private void response(String name, Object value) {
        JsonObject response = new JsonObject();
        response.add(name, new Gson().toJsonTree(value));
        response(response);
    }

    private <B extends Message.Builder> B parsed(B builder) throws InvalidProtocolBufferException {
        JsonFormat.parser().merge(request.toString(), builder);
        return builder;
    }

    private static JsonElement json(MessageOrBuilder message) throws InvalidProtocolBufferException {
        return JsonParser.parseString(JsonFormat.printer().print(message));
    }
}
