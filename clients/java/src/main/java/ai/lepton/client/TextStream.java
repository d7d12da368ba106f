package ai.lepton.client;

import ai.lepton.v1.Event;
import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * The text of an answer, piece by piece; of several choices, that of the first. Otherwise like {@link GenerateStream}.
 *
 * <pre>{@code
 * try (TextStream answer = client.chat("What is 27 + 35?")) {
 *     for (String piece : answer) System.out.print(piece);
 * }
 * }</pre>
 */
public final class TextStream implements Iterable<String>, AutoCloseable {
    private final GenerateStream stream;
    private final Iterator<Event> events;

    TextStream(GenerateStream stream) {
        this.stream = stream;
        this.events = stream.iterator();
    }

    /**
     * The text that has not been read yet, in pieces that are never empty.
     *
     * @return blocks in {@code hasNext} and {@code next}, which may throw {@link LeptonException}
     */
    @Override
    public Iterator<String> iterator() {
        return new Iterator<>() {
            private String piece = "";

            @Override
            public boolean hasNext() {
                while (piece.isEmpty() && events.hasNext()) {
                    Event event = events.next();
                    if (event.getDelta().getIndex() == 0) {
                        piece = event.getDelta().getText();
                    }
                }
                return !piece.isEmpty();
            }

            @Override
            public String next() {
                if (!hasNext()) {
                    throw new NoSuchElementException("the stream has ended");
                }
                String given = piece;
                piece = "";
                return given;
            }
        };
    }

    /**
     * Reads the answer to its end.
     *
     * @return texts, finish reasons and counts of all choices, with what was read before
     */
    public Completion collect() {
        return stream.collect();
    }

    /**
     * The stream underneath, for what is not text.
     *
     * @return reads from the same place
     */
    public GenerateStream events() {
        return stream;
    }

    /** Ends the call; the compute stops. Does nothing when the answer is complete. */
    @Override
    public void close() {
        stream.close();
    }
}
