package ai.lepton.client;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;

/** Time that passes only while somebody waits; it remembers how long they did. */
final class ManualClock implements Clock {
    final List<Duration> waits = new ArrayList<>();
    private long now = 1_000;

    @Override
    public long nanos() {
        return now;
    }

    @Override
    public void await(CountDownLatch sooner, Duration wait) {
        if (sooner.getCount() > 0) {
            waits.add(wait);
            now += wait.toNanos();
        }
    }
}
