package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.InsecureChannelCredentials;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class RoutersTest {
    private final List<String> asked = new ArrayList<>();
    private final Routers routers = new Routers(Stream.of("a:1", "b:2", "c:3")
            .map(address -> new Peer(address, InsecureChannelCredentials.create()))
            .toList());

    private String attempt(Set<String> down) {
        return attempt(routers.route(), down);
    }

    private String attempt(Route route, Set<String> down) {
        asked.clear();
        return route.attempt(router -> {
            asked.add(router.address());
            if (down.contains(router.address())) {
                throw Errors.of(Status.Code.UNAVAILABLE, "");
            }
            return router.address();
        });
    }

    @Test
    void theOneThatAnsweredLastIsAskedFirst() {
        assertEquals("b:2", attempt(Set.of("a:1")));
        assertEquals("b:2", attempt(Set.of()));
        assertEquals(List.of("b:2"), asked);
        assertEquals("a:1", attempt(Set.of("b:2", "c:3")));
        assertEquals(List.of("b:2", "c:3", "a:1"), asked);
    }

    @Test
    void eachIsAskedOnceAndThenNobodyIsThere() {
        LeptonException error =
                assertThrows(LeptonException.class, () -> attempt(Set.of("a:1", "b:2", "c:3")));
        assertEquals(List.of("a:1", "b:2", "c:3"), asked);
        assertEquals("UNREACHABLE", error.reason());
        assertEquals(ErrorKind.UNAVAILABLE, error.kind());
    }

    @Test
    void aRefusalIsAnAnswer() {
        LeptonException refused = assertThrows(
                LeptonException.class,
                () -> routers.route().attempt(router -> {
                    asked.add(router.address());
                    throw Errors.of(Status.Code.UNAVAILABLE, "NO_WORKER");
                }));
        assertEquals("NO_WORKER", refused.reason());
        assertEquals(List.of("a:1"), asked);
    }

    @Test
    void anAttemptBeginsBehindTheRouterThatFailed() {
        Route route = routers.route();
        assertThrows(
                LeptonException.class,
                () -> route.attempt(router -> {
                    throw Errors.of(Status.Code.UNAVAILABLE, "DRAINING");
                }));
        attempt(Set.of("a:1", "b:2")); // another call is answered by c meanwhile
        assertEquals("c:3", attempt(route, Set.of("b:2")));
        assertEquals(List.of("b:2", "c:3"), asked);
        route.lost();
        assertEquals("a:1", attempt(route, Set.of()));
    }
}
