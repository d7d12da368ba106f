package ai.lepton.client;

import ai.lepton.v1.Event;

/** The events of one answer, however they come. Read by one thread. */
interface EventSource {
    /** The next event, each {@code seq} once and in order; null after {@code Finished}. */
    Event next();

    /** Stops a compute that would outlive its connection; the call was given up before its end. */
    void abandon();
}
