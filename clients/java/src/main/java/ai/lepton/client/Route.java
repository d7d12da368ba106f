package ai.lepton.client;

import java.util.function.Function;

/**
 * The way of one call through the routers. An attempt begins at the router that answered last; after a failure at the one
 * behind it: what is so there (it drains, its line is full, it hangs) may be otherwise elsewhere.
 */
final class Route {
    private final Routers routers;
    private int asked;
    private boolean hasFailed;

    Route(Routers routers) {
        this.routers = routers;
    }

    /**
     * One attempt: what {@code ask} gets from the first router that can be reached, each asked at most once.
     *
     * <p>{@link LeptonException} when one refused, or ({@code UNREACHABLE}) none is there.
     */
    <T> T attempt(Function<Peer, T> ask) {
        int begin = hasFailed ? asked + 1 : routers.first();
        LeptonException cause = null;
        for (int step = 0; step < routers.size(); step++) {
            asked = (begin + step) % routers.size();
            try {
                T answer = ask.apply(routers.at(asked));
                routers.answered(asked);
                hasFailed = false;
                return answer;
            } catch (LeptonException error) {
                hasFailed = true;
                if (!error.isLostConnection()) {
                    routers.answered(asked);
                    throw error;
                }
                cause = error;
            }
        }
        throw LeptonException.lost(
                "UNREACHABLE", "nothing answers at " + routers + ": " + cause.getMessage(), cause);
    }

    /** The router that had answered has lost the call since. */
    void lost() {
        hasFailed = true;
    }
}
