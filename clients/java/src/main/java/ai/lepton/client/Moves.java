package ai.lepton.client;

import java.util.EnumMap;
import java.util.Map;

/** How often one direct stream has moved, by why. */
final class Moves {
    private final Map<Break, Integer> made = new EnumMap<>(Break.class);

    /** Whether the stream may move once more after such a break; counts it. */
    boolean take(Break how) {
        int before = made.getOrDefault(how, 0);
        if (before >= how.most) {
            return false;
        }
        made.put(how, before + 1);
        return true;
    }

    /** Which continuation is next, from 1; one that was refused is sent again as the same. */
    int attempt() {
        return made.getOrDefault(Break.LOSS, 0) + made.getOrDefault(Break.HAND_OVER, 0);
    }
}
