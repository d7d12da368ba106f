package ai.lepton.examples;

import ai.lepton.client.LeptonClient;
import ai.lepton.client.LeptonException;
import ai.lepton.client.TextStream;

/** Asks a cluster one question and prints the answer as it comes. {@code LEPTON_ADDRESS}: its routers, with commas. */
public final class Ask {
    private Ask() {}

    /** {@code args}: the question. */
    public static void main(String[] args) {
        String question = args.length > 0 ? String.join(" ", args) : "What is 27 + 35?";
        String routers = System.getenv().getOrDefault("LEPTON_ADDRESS", "127.0.0.1:50051");
        try (LeptonClient client = LeptonClient.builder(routers.split(",")).resume(true).build();
                TextStream answer = client.chat(question)) {
            for (String piece : answer) {
                System.out.print(piece);
                System.out.flush();
            }
            var end = answer.collect();
            System.out.printf("%n[%s, %d tokens]%n", end.finishReason(), end.usage().getCompletionTokens());
        } catch (LeptonException error) {
            System.err.println(error);
            System.exit(1);
        }
    }
}
