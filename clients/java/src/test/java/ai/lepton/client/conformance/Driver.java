package ai.lepton.client.conformance;

import ai.lepton.client.LeptonException;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonNull;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** The client under the conformance suite: a command per line in, a report per line out. */
public final class Driver {
    private Driver() {}

    /** Until the end of stdin. */
    public static void main(String[] args) throws IOException {
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(report(JsonParser.parseString(line).getAsJsonObject()));
        }
    }

    private static JsonObject report(JsonObject command) throws IOException {
        JsonObject report = new JsonObject();
        report.add("id", command.get("id"));
        report.add("error", JsonNull.INSTANCE);
        report.addProperty("cancelled", false);
        try (var client = Arguments.client(command)) {
            new Operations(client, command, report).run();
        } catch (LeptonException error) {
            report.add("error", error(error));
        }
        return report;
    }

    private static JsonObject error(LeptonException error) {
        JsonObject told = new JsonObject();
        told.addProperty("code", error.code().name());
        told.addProperty("reason", error.reason());
        told.addProperty("field", error.field().orElse(null));
        told.addProperty(
                "retry_after_s", error.retryAfter().map(wait -> wait.toNanos() / 1e9).orElse(null));
        told.addProperty("message", error.getMessage());
        told.addProperty("has_request_id", !error.requestId().isEmpty());
        return told;
    }
}
