package io.omni.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class DefinitionsTest {
    /** From tables of the error function. */
    @ParameterizedTest
    @CsvSource({"0, 0", "0.5, 0.5204998778130465", "1, 0.8427007929497149", "2.4, 0.9993114861033549",
            "2.6, 0.9997639655834707", "4, 0.9999999845827421", "-1, -0.8427007929497149", "7, 1"})
    void erfIsExactToFloat64(double x, double erf) {
        assertThat(Definitions.erf(x)).isCloseTo(erf, within(1e-14));
    }

    @Test
    void multimodalSectionsInterleave() {
        assertThat(Rope.multimodal(16, 1e6, 4, 2, 2).row()).containsExactly(0, 1, 2, 0, 1, 2, 0, 0);
        assertThat(Rope.axial(16, 1e4).row()).containsExactly(0, 0, 0, 0, 1, 1, 1, 1);
        assertThat(Rope.standard(4, 100).inverseFrequency()).containsExactly(1, 0.1f);
    }

    @Test
    void softmaxOfLargeValuesStaysFinite() {
        assertThat(Definitions.softmax(new double[]{1000, 1000, 0, 0}, 2)).containsExactly(0.5, 0.5, 0.5, 0.5);
    }

    @Test
    void bfloat16AndHalfReadBack() {
        byte[] half = {0x00, 0x3c, 0x00, (byte) 0xc0};
        assertThat(
                new HostTensor("x", DType.F16, new int[]{2}, java.lang.foreign.MemorySegment.ofArray(half)).toFloats())
                .containsExactly(1, -2);
        byte[] brain = {(byte) 0x80, 0x3f, 0x00, (byte) 0xc0};
        assertThat(
                new HostTensor("x", DType.BF16, new int[]{2}, java.lang.foreign.MemorySegment.ofArray(brain)).rows(1, 2)
                        .toFloats())
                .containsExactly(-2);
    }
}
