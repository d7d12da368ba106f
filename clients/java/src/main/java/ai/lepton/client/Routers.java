package ai.lepton.client;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Collectors;

/** The routers of a cluster; the one that answered last is asked first. */
final class Routers {
    private final List<Peer> peers;
    private volatile int first;

    Routers(List<Peer> peers) {
        this.peers = List.copyOf(peers);
    }

    /**
     * One attempt: what {@code ask} gets from the first router that can be reached, each asked at most once.
     *
     * <p>{@link LeptonException} when one refused, or ({@code UNREACHABLE}) none is there.
     */
    <T> T attempt(Function<Peer, T> ask) {
        LeptonException cause = null;
        for (int index : inOrder()) {
            try {
                T answer = ask.apply(peers.get(index));
                first = index;
                return answer;
            } catch (LeptonException error) {
                if (!error.isLostConnection()) {
                    first = index;
                    throw error;
                }
                cause = error;
            }
        }
        String where = peers.stream().map(Peer::address).collect(Collectors.joining(", "));
        throw LeptonException.lost(
                "UNREACHABLE", "nothing answers at " + where + ": " + cause.getMessage(), cause);
    }

    void close() {
        peers.forEach(Peer::close);
    }

    private List<Integer> inOrder() {
        List<Integer> order = new ArrayList<>(peers.size());
        int begin = first;
        for (int step = 0; step < peers.size(); step++) {
            order.add((begin + step) % peers.size());
        }
        return order;
    }
}
