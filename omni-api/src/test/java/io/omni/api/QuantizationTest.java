package io.omni.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class QuantizationTest {
    private final Random random = new Random(1);

    private static HostTensor quantize(DType type, float... row) {
        MemorySegment data = MemorySegment.ofArray(new byte[(int) type.bytes(row.length) + 1]).asSlice(1);
        Quantization.quantize(row, type, data, 0);
        return new HostTensor("row", type, new int[]{1, row.length}, data);
    }

    private float[] gaussian(int n, double deviation) {
        float[] row = new float[n];
        for (int i = 0; i < n; i++)
            row[i] = (float) (deviation * random.nextGaussian());
        return row;
    }

    @Test
    void q8IsOffByHalfAScaleAtMost() {
        for (double deviation : new double[]{1e-9, 1e-7, 1e-5, 0.02, 1, 1e5}) {
            float[] row = gaussian(32 * 40, deviation);
            HostTensor q = quantize(DType.Q8, row);
            for (int block = 0; block < 40; block++) {
                float scale = Float.float16ToFloat(q.data().get(
                        java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED, 34L * block));
                for (int i = 32 * block; i < 32 * block + 32; i++)
                    assertThat(q.getFloat(i)).isCloseTo(row[i], within(scale * 0.50001f));
            }
        }
    }

    @Test
    void q4HasLessErrorThanSevenStepsEachWay() {
        for (double deviation : new double[]{1e-7, 1e-5, 0.02, 1, 1e4}) {
            float[] row = gaussian(32 * 40, deviation);
            float[] back = quantize(DType.Q4, row).toFloats();
            for (int block = 0; block < 40; block++) {
                double error = 0;
                double plain = 0;
                float largest = 0;
                for (int i = 32 * block; i < 32 * block + 32; i++)
                    largest = Math.max(largest, Math.abs(row[i]));
                for (int i = 32 * block; i < 32 * block + 32; i++) {
                    error += Math.pow(back[i] - row[i], 2);
                    plain += Math.pow(largest / 14, 2);
                }
                assertThat(error).isLessThanOrEqualTo(plain * 1.01 + 32 * 1e-15);
            }
        }
    }

    @Test
    void errorsOfGaussianRows() {
        float[] row = gaussian(32 * 1000, 0.02);
        assertThat(relativeError(row, quantize(DType.Q8, row).toFloats())).isLessThan(0.006);
        assertThat(relativeError(row, quantize(DType.Q4, row).toFloats())).isLessThan(0.09);
    }

    private static double relativeError(float[] row, float[] back) {
        double error = 0;
        double norm = 0;
        for (int i = 0; i < row.length; i++) {
            error += Math.pow(back[i] - row[i], 2);
            norm += Math.pow(row[i], 2);
        }
        System.out.printf("relative error %.4f%n", Math.sqrt(error / norm));
        return Math.sqrt(error / norm);
    }

    @Test
    void whatABlockHoldsComesBack() {
        for (int round = 0; round < 200; round++) {
            float scale = Float.float16ToFloat((short) random.nextInt(1, 0x7000));
            float[] eight = new float[64];
            float[] four = new float[64];
            for (int i = 0; i < 64; i++) {
                eight[i] = scale * (random.nextInt(255) - 127);
                four[i] = scale * (random.nextInt(15) - 7);
            }
            for (int at : new int[]{random.nextInt(32), 32 + random.nextInt(32)}) {
                eight[at] = scale * (random.nextBoolean() ? 127 : -127);
                four[at] = scale * (random.nextBoolean() ? -8 : random.nextBoolean() ? 7 : -7);
            }
            assertSame(quantize(DType.Q8, eight).toFloats(), eight);
            assertSame(quantize(DType.Q4, four).toFloats(), four);
        }
    }

    // zeros of either sign are the same
    private static void assertSame(float[] actual, float[] expected) {
        for (int i = 0; i < expected.length; i++)
            assertThat(actual[i] + 0f).isEqualTo(expected[i] + 0f);
    }

    @Test
    void bytesLieAsDocumented() {
        float[] row = new float[32];
        for (int i = 0; i < 32; i++)
            row[i] = i % 16 - 8;
        byte[] four = quantize(DType.Q4, row).data().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
        assertThat(four).hasSize(18).startsWith(0x00, 0x3c, 0x00, 0x11, 0x22);
        row[5] = -127;
        byte[] eight = quantize(DType.Q8, row).data().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
        assertThat(eight).hasSize(34).startsWith(0x00, 0x3c, -8, -7, -6, -5, -4, -127, -2);
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void zerosAndDequantize(DType type) {
        assertThat(quantize(type, new float[64]).toFloats()).containsOnly(0);
        float[] row = gaussian(96, 1);
        HostTensor q = quantize(type, row);
        float[] last = new float[32];
        Quantization.dequantize(q.data(), type.bytes(64), type, last);
        for (int i = 0; i < 32; i++)
            assertThat(last[i]).isEqualTo(q.getFloat(64 + i));
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void refuses(DType type) {
        assertThatThrownBy(() -> quantize(type, new float[48])).isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("48 elements are not whole blocks of 32 " + type);
        assertThatThrownBy(() -> Quantization.quantize(new float[33], type, MemorySegment.ofArray(new byte[99]), 0))
                .hasMessage("rows of 33 elements are not whole blocks of 32 " + type);
        assertThatThrownBy(() -> new HostTensor("w", type, new int[]{4, 24}, MemorySegment.ofArray(new byte[999])))
                .hasMessage("w: rows of 24 elements are not whole blocks of 32 " + type);
        float[] odd = new float[32];
        odd[3] = Float.NaN;
        assertThatThrownBy(() -> quantize(type, odd)).hasMessageContaining("element 3 of a row is NaN");
        odd[3] = Float.MAX_VALUE;
        assertThatThrownBy(() -> quantize(type, odd)).hasMessageContaining("beyond binary16");
        assertThatThrownBy(
                () -> Quantization.quantize(odd, DType.F16, MemorySegment.ofArray(new byte[99]), 0))
                .hasMessage("quantising to F16, expected Q8 or Q4");
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void packsWholeNumbersAsTheyAre(DType type) {
        byte[] q = new byte[96];
        for (int i = 0; i < q.length; i++)
            q[i] = (byte) (type == DType.Q4 ? i % 16 - 8 : i * 37);
        float[] scales = {0.5f, -6e-8f, 65504};
        scales[1] = Float.float16ToFloat(Float.floatToFloat16(scales[1]));
        MemorySegment data = MemorySegment.ofArray(new byte[(int) type.bytes(96) + 3]);
        Quantization.pack(q, scales, type, data, 3);
        HostTensor row = new HostTensor("row", type, new int[]{96}, data.asSlice(3));
        for (int i = 0; i < q.length; i++)
            assertThat(row.getFloat(i)).isEqualTo(q[i] * scales[i / 32]);
        scales[2] = 0.1f;
        assertThatThrownBy(() -> Quantization.pack(q, scales, type, data, 0))
                .hasMessage("a scale of 0.1 is no binary16 number");
        assertThatThrownBy(() -> Quantization.pack(q, new float[2], type, data, 0))
                .hasMessage("2 scales for 96 elements, expected 3");
        assertThatThrownBy(() -> Quantization.pack(new byte[16], scales, type, data, 0))
                .hasMessageContaining("not whole blocks");
        q[5] = 8;
        scales[2] = 1;
        if (type == DType.Q4)
            assertThatThrownBy(() -> Quantization.pack(q, scales, type, data, 0))
                    .hasMessage("8 in a block of Q4, expected -8 to 7");
    }
}
