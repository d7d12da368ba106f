package ai.lepton.client;

import ai.lepton.v1.ChatMessage;
import ai.lepton.v1.Role;

/** Short ways to write the messages of a conversation. */
public final class Messages {
    private Messages() {}

    /**
     * Instructions that hold for the whole conversation.
     *
     * @param content plain text
     * @return the message
     */
    public static ChatMessage system(String content) {
        return of(Role.ROLE_SYSTEM, content);
    }

    /**
     * What the person or program asks.
     *
     * @param content plain text
     * @return the message
     */
    public static ChatMessage user(String content) {
        return of(Role.ROLE_USER, content);
    }

    /**
     * What the model said.
     *
     * @param content plain text
     * @return the message
     */
    public static ChatMessage assistant(String content) {
        return of(Role.ROLE_ASSISTANT, content);
    }

    private static ChatMessage of(Role role, String content) {
        return ChatMessage.newBuilder().setRole(role).setContent(content).build();
    }
}
