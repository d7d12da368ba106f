package ai.lepton.client;

import java.util.List;
import java.util.stream.Collectors;

/** The routers of a cluster, and which of them answered last. */
final class Routers {
    private final List<Peer> peers;
    private volatile int first;

    Routers(List<Peer> peers) {
        this.peers = List.copyOf(peers);
    }

    /** For one call. */
    Route route() {
        return new Route(this);
    }

    int size() {
        return peers.size();
    }

    Peer at(int index) {
        return peers.get(index);
    }

    /** Whom to ask first. */
    int first() {
        return first;
    }

    void answered(int index) {
        first = index;
    }

    void close() {
        peers.forEach(Peer::close);
    }

    @Override
    public String toString() {
        return peers.stream().map(Peer::address).collect(Collectors.joining(", "));
    }
}
