package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import io.omni.api.Backend;
import io.omni.api.Scope;
import org.junit.jupiter.api.Test;

class LossesTest {
    @Test
    void averagesOverTheLabelsThatCount() {
        try (Backend backend = Reference.cpu(); Scope scope = backend.scope()) {
            float log3 = (float) Math.log(3);
            var logits = backend.tensor(new float[]{0, log3, 9, 9, log3, 0, 5, 5}, 4, 2);
            // two sequences of two tokens: only rows 0 and 2 predict anything
            assertThat(Losses.crossEntropy(logits, new int[][]{{0, 1}, {0, 1}}, new int[]{2, 2}))
                    .isCloseTo((float) (Math.log(4 / 3.0) + Math.log(4)) / 2, within(1e-6f));
            assertThat(Losses.crossEntropy(logits, new int[][]{{0, -100}, {0, 1}}, new int[]{2, 2}))
                    .isCloseTo((float) Math.log(4), within(1e-6f));
            assertThat(Losses.crossEntropy(logits, new int[][]{{0, -100}, {0, -100}}, new int[]{2, 2})).isNaN();
            assertThatThrownBy(() -> Losses.crossEntropy(logits, new int[][]{{0, 2}, {0, 1}}, new int[]{2, 2}))
                    .hasMessageContaining("label 2, expected 0 to 1");
        }
    }

    @Test
    void chunksGoByRangesOfPositions() {
        assertThat(RopeIndex.chunkedIndex(new float[]{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 4, 0))
                .containsExactly(new int[]{0, 4}, new int[]{4, 8}, new int[]{8, 10});
        assertThat(RopeIndex.chunkedIndex(new float[]{}, 3, 0)).containsExactly(new int[]{0, 0});
    }
}
