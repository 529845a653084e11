package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;

class RopeIndexTest {
    private static final int IMAGE = 101;
    private static final int AUDIO = 103;
    private static final int VISION_START = 104;
    private static final int AUDIO_START = 105;
    private static final MediaTokens TOKENS = new MediaTokens(IMAGE, 102, AUDIO, VISION_START, AUDIO_START, 13);

    @Test
    void tokensThatTextOnlyMentionsOpenNoMedia() {
        int[] ids = {AUDIO_START, 1, VISION_START, 2, AUDIO_START, AUDIO, AUDIO, 3, VISION_START, IMAGE, IMAGE, 4,
                AUDIO_START, 5, VISION_START};
        RopeIndex rope = RopeIndex.of(ids, TOKENS, 1, new int[]{2}, List.of(new RopeIndex.Grid(1, 1, 2, 0)), List.of(),
                false);
        assertThat(rope.positions()[0]).containsExactly(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 11, 12, 13, 14);
        assertThat(rope.positions()[2]).containsExactly(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14);
        assertThat(rope.delta()).isZero();
    }

    /** The two tokens that open a video merged with its sound, in a text and just before a sound. */
    @Test
    void mentionsOfMergedMediaOpenNone() {
        int[] ids = {VISION_START, AUDIO_START, 1, VISION_START, AUDIO_START, AUDIO, AUDIO, 2};
        for (boolean useAudioInVideo : new boolean[]{false, true}) {
            RopeIndex rope = RopeIndex.of(ids, TOKENS, 1, new int[]{2}, List.of(), List.of(), useAudioInVideo);
            for (float[] row : rope.positions())
                assertThat(row).containsExactly(0, 1, 2, 3, 4, 5, 6, 7);
        }
    }
}
