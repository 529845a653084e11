package io.omni.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class QuantizationTest {
    private static final ValueLayout.OfByte BYTE = ValueLayout.JAVA_BYTE;
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Random random = new Random(1);

    /** Rows of {@code columns} elements. */
    private static HostTensor quantize(DType type, int columns, float... values) {
        MemorySegment data = MemorySegment.ofArray(new byte[(int) type.bytes(values.length) + 1]).asSlice(1);
        Quantization.quantize(values, columns, type, data, 0);
        return new HostTensor("matrix", type, new int[]{values.length / columns, columns}, data);
    }

    /** Of element {@code index} in rows of 64. */
    private static float scale(HostTensor q, int index) {
        int block = index / 64 / 32 * 2 + index % 64 / 32;
        return Float.float16ToFloat(q.data().get(SHORT, (long) q.dtype().blockBytes() * block + 2 * (index / 64 % 32)));
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
            float[] values = gaussian(96 * 64, deviation);
            HostTensor q = quantize(DType.Q8, 64, values);
            for (int i = 0; i < values.length; i++)
                assertThat(q.getFloat(i)).isCloseTo(values[i], within(scale(q, i) * 0.50001f));
        }
    }

    @Test
    void q4HasLessErrorThanSevenStepsEachWay() {
        for (double deviation : new double[]{1e-7, 1e-5, 0.02, 1, 1e4}) {
            float[] values = gaussian(96 * 64, deviation);
            float[] back = quantize(DType.Q4, 64, values).toFloats();
            for (int first = 0; first < values.length; first += 32) {
                double error = 0;
                float largest = 0;
                for (int i = first; i < first + 32; i++)
                    largest = Math.max(largest, Math.abs(values[i]));
                for (int i = first; i < first + 32; i++)
                    error += Math.pow(back[i] - values[i], 2);
                assertThat(error).isLessThanOrEqualTo(32 * Math.pow(largest / 14, 2) * 1.01 + 32 * 1e-15);
            }
        }
    }

    @Test
    void errorsOfGaussianMatrices() {
        float[] values = gaussian(96 * 320, 0.02);
        assertThat(relativeError(values, quantize(DType.Q8, 320, values).toFloats())).isLessThan(0.006);
        assertThat(relativeError(values, quantize(DType.Q4, 320, values).toFloats())).isLessThan(0.09);
    }

    private static double relativeError(float[] values, float[] back) {
        double error = 0;
        double norm = 0;
        for (int i = 0; i < values.length; i++) {
            error += Math.pow(back[i] - values[i], 2);
            norm += Math.pow(values[i], 2);
        }
        System.out.printf("relative error %.4f%n", Math.sqrt(error / norm));
        return Math.sqrt(error / norm);
    }

    @Test
    void whatABlockHoldsComesBack() {
        float[] eight = new float[64 * 96];
        float[] four = new float[64 * 96];
        for (int first = 0; first < eight.length; first += 32) {
            float scale = Float.float16ToFloat((short) random.nextInt(1, 0x7000));
            for (int i = first; i < first + 32; i++) {
                eight[i] = scale * (random.nextInt(255) - 127);
                four[i] = scale * (random.nextInt(15) - 7);
            }
            int at = first + random.nextInt(32);
            eight[at] = scale * (random.nextBoolean() ? 127 : -127);
            four[at] = scale * (random.nextBoolean() ? -8 : random.nextBoolean() ? 7 : -7);
        }
        assertSame(quantize(DType.Q8, 96, eight).toFloats(), eight);
        assertSame(quantize(DType.Q4, 96, four).toFloats(), four);
    }

    // zeros of either sign are the same
    private static void assertSame(float[] actual, float[] expected) {
        for (int i = 0; i < expected.length; i++)
            assertThat(actual[i] + 0f).isEqualTo(expected[i] + 0f);
    }

    @Test
    void bytesLieAsDocumented() {
        // the second block of the second band, of 32 rows and 64 columns: rows' largest elements give scales 1, 2, 1, 2, ...
        float[] values = new float[64 * 64];
        for (int r = 0; r < 32; r++)
            for (int c = 0; c < 32; c++)
                values[64 * (32 + r) + 32 + c] = (c + r) % 16 - 8 << r % 2;
        byte[] four = quantize(DType.Q4, 64, values).data().asSlice(3 * 576, 576).toArray(BYTE);
        assertThat(four).startsWith(0x00, 0x3c, 0x00, 0x40, 0x00, 0x3c);
        // rows 0 and 1 of the first piece, and row 0 of the second
        assertThat(Arrays.copyOfRange(four, 64, 72)).containsExactly(0x10, 0x32, 0x54, 0x76, 0x21, 0x43, 0x65, 0x87);
        assertThat(Arrays.copyOfRange(four, 192, 196)).containsExactly(0x98, 0xba, 0xdc, 0xfe);
        for (int r = 0; r < 32; r++)
            values[64 * (32 + r) + 32 + 5] = -127 << r % 2;
        byte[] eight = quantize(DType.Q8, 64, values).data().asSlice(3 * 1088, 1088).toArray(BYTE);
        assertThat(eight).startsWith(0x00, 0x3c, 0x00, 0x40, 0x00, 0x3c);
        assertThat(Arrays.copyOfRange(eight, 64, 72)).containsExactly(120, 121, 122, 123, 121, 122, 123, 124);
        assertThat(Arrays.copyOfRange(eight, 192, 196)).containsExactly(124, 1, 126, 127);
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void zerosAndRows(DType type) {
        assertThat(quantize(type, 64, new float[64 * 64]).toFloats()).containsOnly(0);
        HostTensor q = quantize(type, 96, gaussian(96 * 96, 1));
        float[] middle = q.rows(32, 64).toFloats();
        for (int i = 0; i < middle.length; i++)
            assertThat(middle[i]).isEqualTo(q.getFloat(32 * 96 + i));
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void refuses(DType type) {
        assertThatThrownBy(() -> Quantization.quantize(new float[32 * 48], 48, type,
                MemorySegment.ofArray(new byte[9999]), 0))
                .hasMessage("1536 elements in rows of 48 are not whole blocks of 32 by 32 " + type);
        assertThatThrownBy(() -> type.bytes(48)).hasMessage("48 elements are not whole blocks of 1024 " + type);
        assertThatThrownBy(() -> new HostTensor("w", type, new int[]{32, 24}, MemorySegment.ofArray(new byte[999])))
                .hasMessage("w: [32, 24] is no matrix of whole blocks of 32 by 32 elements, as " + type + " needs");
        HostTensor q = quantize(type, 32, new float[64 * 32]);
        assertThatThrownBy(() -> q.rows(16, 48)).hasMessageContaining("rows 16 to 48, expected multiples of 32");
        assertThatThrownBy(() -> q.rows(32, 40)).hasMessageContaining("rows 32 to 40, expected multiples of 32");
        assertThatThrownBy(() -> q.reshape(32, 64)).hasMessageContaining("[64, 32] seen as [32, 64]");
        float[] odd = new float[32 * 32];
        odd[3] = Float.NaN;
        assertThatThrownBy(() -> quantize(type, 32, odd)).hasMessageContaining("element 3 is NaN");
        odd[3] = Float.MAX_VALUE;
        assertThatThrownBy(() -> quantize(type, 32, odd)).hasMessageContaining("beyond binary16");
        assertThatThrownBy(
                () -> Quantization.quantize(odd, 32, DType.F16, MemorySegment.ofArray(new byte[99]), 0))
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
        MemorySegment data = MemorySegment.ofArray(new byte[(int) type.bytes(64 * 96)]);
        byte[] other = new byte[96];
        for (int row : new int[]{0, 36, 38, 63})
            Quantization.pack(other, new float[3], type, data, row);
        Quantization.pack(q, scales, type, data, 37);
        HostTensor matrix = new HostTensor("matrix", type, new int[]{64, 96}, data);
        for (int i = 0; i < q.length; i++) {
            assertThat(matrix.getFloat(37 * 96 + i)).isEqualTo(q[i] * scales[i / 32]);
            assertThat(matrix.getFloat(36 * 96 + i)).isZero();
            assertThat(matrix.getFloat(38 * 96 + i)).isZero();
        }
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
