package ai.lepton.client;

import ai.lepton.v1.Event;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/**
 * The events of one answer, each once and in order. It ends after {@code Finished}, or with a {@link LeptonException}.
 *
 * <p>Read by one thread, once; {@link #cancel} and {@link #close} are safe from any. The request is sent when the first
 * event is asked for, its timeout runs from when the stream was made. Leaving early stops the compute:
 *
 * <pre>{@code
 * try (GenerateStream stream = client.generate(request)) {
 *     for (Event event : stream) { … }
 * }
 * }</pre>
 */
public final class GenerateStream implements Iterable<Event>, AutoCloseable {
    private final Call call;
    private final EventSource source;
    private final CompletionBuilder soFar = new CompletionBuilder();
    private Event next;
    private LeptonException failure;
    private volatile boolean hasEnded;

    GenerateStream(Call call, EventSource source) {
        this.call = call;
        this.source = source;
    }

    /**
     * The events that have not been read yet. Every iterator of a stream reads from the same place.
     *
     * @return blocks in {@code hasNext} and {@code next}, which may throw {@link LeptonException}
     */
    @Override
    public Iterator<Event> iterator() {
        return new Iterator<>() {
            @Override
            public boolean hasNext() {
                return fetch();
            }

            @Override
            public Event next() {
                if (!fetch()) {
                    throw new NoSuchElementException("the stream has ended");
                }
                Event event = next;
                next = null;
                return event;
            }
        };
    }

    /**
     * Reads the stream to its end.
     *
     * @return the whole answer, with what was read before
     */
    public Completion collect() {
        while (fetch()) {
            next = null;
        }
        return completion();
    }

    /**
     * What was read by now; also after the stream has failed or was left.
     *
     * @return the answer so far
     */
    public Completion completion() {
        return soFar.build();
    }

    /**
     * Reads the stream to its end in another thread. Cancelling the future does not stop the stream, {@link #cancel} does.
     *
     * @param executor where to read; it is occupied for as long as the stream lasts
     * @param listener gets each event, in that thread
     * @return the whole answer, or fails with {@link LeptonException}
     */
    public CompletableFuture<Completion> readAsync(Executor executor, Consumer<? super Event> listener) {
        return CompletableFuture.supplyAsync(
                () -> {
                    try (this) {
                        forEach(listener);
                        return completion();
                    }
                },
                executor);
    }

    /**
     * What to give to {@code lepton trace}.
     *
     * @return the id, "" before the first event
     */
    public String traceId() {
        return call.traceId();
    }

    /**
     * Ends the call; the compute stops. Whoever reads gets a {@link LeptonException} of the kind {@code CANCELLED}. Does
     * nothing when the stream has ended.
     */
    public void cancel() {
        if (hasEnded || call.isGivenUp()) {
            return;
        }
        call.giveUp();
        source.abandon();
    }

    /** The same as {@link #cancel}. */
    @Override
    public void close() {
        cancel();
    }

    /** Whether there is a next event. */
    private boolean fetch() {
        if (next != null) {
            return true;
        }
        if (failure != null) {
            throw failure;
        }
        if (hasEnded) {
            return false;
        }
        try {
            if (call.isGivenUp()) {
                throw Rpc.givenUp();
            }
            next = source.next();
        } catch (LeptonException error) {
            failure = error;
            hasEnded = true;
            throw error;
        }
        if (next == null) {
            hasEnded = true;
            return false;
        }
        soFar.take(next);
        return true;
    }
}
