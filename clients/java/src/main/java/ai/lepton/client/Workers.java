package ai.lepton.client;

import io.grpc.ChannelCredentials;
import java.util.LinkedHashMap;
import java.util.Map;

/** Connections to workers, for direct mode; the ones that were not used for longest are given up. */
final class Workers {
    private static final int PEERS_MAX = 64;

    private final ChannelCredentials credentials;
    private final Map<String, Peer> peers = new LinkedHashMap<>(16, 0.75f, true) {
        private static final long serialVersionUID = 1L;

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Peer> eldest) {
            if (size() <= PEERS_MAX) {
                return false;
            }
            eldest.getValue().retire();
            return true;
        }
    };

    Workers(ChannelCredentials credentials) {
        this.credentials = credentials;
    }

    /** The worker at {@code address}, host:port. */
    synchronized Peer at(String address) {
        return peers.computeIfAbsent(address, where -> new Peer(where, credentials));
    }

    synchronized void close() {
        peers.values().forEach(Peer::close);
    }
}
