package ai.lepton.client;

import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Time as calls see it; tests bring their own. */
interface Clock {
    /** Nanoseconds since some moment. */
    long nanos();

    /** Waits so long, or until {@code sooner} is released. */
    void await(CountDownLatch sooner, Duration wait) throws InterruptedException;

    /** The machine's. */
    Clock SYSTEM =
            new Clock() {
                @Override
                public long nanos() {
                    return System.nanoTime();
                }

                @Override
                @SuppressWarnings("ResultOfMethodCallIgnored")
                public void await(CountDownLatch sooner, Duration wait) throws InterruptedException {
                    sooner.await(wait.toNanos(), TimeUnit.NANOSECONDS);
                }
            };
}
