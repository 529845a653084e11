package io.omni.api;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * How float rows become {@link DType#Q8} and {@link DType#Q4} blocks, and what blocks mean. Each block stands for itself.
 *
 * <ul>
 * <li><b>Q8</b>: the scale is the smallest binary16 number not below max|x| / 127, and q = x / scale rounded to the nearest
 * integer, to even on a tie. So no element is off by more than half a scale.
 * <li><b>Q4</b>: m is the element of the largest magnitude, the first one on a tie. Of the scales m / −8, m / −8.5, m / −7.5
 * and m / −7, each rounded to binary16 away from 0, the one with the least sum of squared errors is taken, the first on a
 * tie; q = x / scale is rounded in the same way and limited to −8 to 7. So the errors' mean square is at most that of the
 * last scale, with which no element is off by more than half a scale, |m| / 14.
 * </ul>
 *
 * <p>
 * A block that is all zeros has scale 0. Values that a block holds exactly come back exactly where its largest |q| is 127
 * in Q8, and −8, −7 or 7 in Q4.
 */
public final class Quantization {
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final int BLOCK = 32;
    private static final float[] Q4_DIVISORS = {-8, -8.5f, -7.5f, -7};

    private Quantization() {}

    /**
     * Quantises a row.
     *
     * @param row
     *            a whole number of blocks
     * @param type
     *            Q8 or Q4
     * @param to
     *            memory for {@code type.bytes(row.length)} bytes from {@code offset} on
     * @throws IllegalArgumentException
     *             if the row is not whole blocks, the type is not quantised, or a value is not finite or so large that its
     *             block's scale is beyond binary16
     */
    public static void quantize(float[] row, DType type, MemorySegment to, long offset) {
        checkBlocks(row.length, type);
        long at = offset;
        for (int from = 0; from < row.length; from += BLOCK) {
            if (type == DType.Q8)
                q8(row, from, to, at);
            else
                q4(row, from, to, at);
            at += type.blockBytes();
        }
    }

    /**
     * Stores a row of whole numbers with a scale for each block, as they are.
     *
     * @param q
     *            a whole number of blocks; from −8 to 7 for Q4
     * @param scales
     *            one for each block, a binary16 number
     * @param to
     *            memory for {@code type.bytes(q.length)} bytes from {@code offset} on
     * @throws IllegalArgumentException
     *             if the type does not hold the row exactly
     */
    public static void pack(byte[] q, float[] scales, DType type, MemorySegment to, long offset) {
        checkBlocks(q.length, type);
        if (scales.length != q.length / BLOCK)
            throw new IllegalArgumentException(
                    scales.length + " scales for " + q.length + " elements, expected " + q.length / BLOCK);
        for (int b = 0; b < scales.length; b++) {
            if (!isBinary16(scales[b]))
                throw new IllegalArgumentException("a scale of " + scales[b] + " is no binary16 number");
            long at = offset + (long) b * type.blockBytes();
            to.set(SHORT, at, Float.floatToFloat16(scales[b]));
            if (type == DType.Q8)
                MemorySegment.copy(q, b * BLOCK, to, ValueLayout.JAVA_BYTE, at + 2, BLOCK);
            else
                for (int i = b * BLOCK; i < b * BLOCK + BLOCK / 2; i++)
                    to.set(ValueLayout.JAVA_BYTE, at + 2 + i % BLOCK,
                            (byte) (checkNibble(q[i]) + 8 | checkNibble(q[i + BLOCK / 2]) + 8 << 4));
        }
    }

    /** Whether a block can have this scale: it is finite and binary16 holds it exactly. */
    public static boolean isBinary16(float scale) {
        return Float.isFinite(scale) && Float.float16ToFloat(Float.floatToFloat16(scale)) == scale;
    }

    private static int checkNibble(byte q) {
        if (q < -8 || q > 7)
            throw new IllegalArgumentException(q + " in a block of Q4, expected -8 to 7");
        return q;
    }

    /** The values of {@code row.length} elements, a whole number of blocks, from byte {@code offset} on. */
    public static void dequantize(MemorySegment from, long offset, DType type, float[] row) {
        checkBlocks(row.length, type);
        MemorySegment blocks = from.asSlice(offset, type.bytes(row.length));
        for (int i = 0; i < row.length; i++)
            row[i] = get(blocks, type, i);
    }

    /** Whether rows of this length can be stored in this type. */
    public static boolean fits(DType type, int rowLength) {
        return rowLength % type.blockSize() == 0;
    }

    /** Element {@code index} of blocks one after another. */
    static float get(MemorySegment data, DType type, long index) {
        long block = index / BLOCK * type.blockBytes();
        int i = (int) (index % BLOCK);
        float scale = Float.float16ToFloat(data.get(SHORT, block));
        if (type == DType.Q8)
            return scale * data.get(ValueLayout.JAVA_BYTE, block + 2 + i);
        int pair = data.get(ValueLayout.JAVA_BYTE, block + 2 + i % 16);
        return scale * ((i < 16 ? pair & 15 : pair >> 4 & 15) - 8);
    }

    private static void checkBlocks(int length, DType type) {
        if (!type.isQuantized())
            throw new IllegalArgumentException("quantising to " + type + ", expected Q8 or Q4");
        if (!fits(type, length))
            throw new IllegalArgumentException(
                    "rows of " + length + " elements are not whole blocks of " + type.blockSize() + " " + type);
    }

    private static void q8(float[] row, int from, MemorySegment to, long at) {
        float scale = awayFromZero(Math.abs(largest(row, from)) / 127);
        to.set(SHORT, at, Float.floatToFloat16(scale));
        for (int i = 0; i < BLOCK; i++)
            to.set(ValueLayout.JAVA_BYTE, at + 2 + i, (byte) (scale == 0 ? 0 : Math.rint(row[from + i] / scale)));
    }

    private static void q4(float[] row, int from, MemorySegment to, long at) {
        float largest = largest(row, from);
        float best = 0;
        double least = Double.POSITIVE_INFINITY;
        for (float divisor : Q4_DIVISORS) {
            float scale = awayFromZero(largest / divisor);
            double error = 0;
            for (int i = 0; i < BLOCK; i++) {
                float e = row[from + i] - scale * nibble(row[from + i], scale);
                error += (double) e * e;
            }
            if (error < least) {
                least = error;
                best = scale;
            }
        }
        to.set(SHORT, at, Float.floatToFloat16(best));
        for (int i = 0; i < BLOCK / 2; i++)
            to.set(ValueLayout.JAVA_BYTE, at + 2 + i,
                    (byte) (nibble(row[from + i], best) + 8 | nibble(row[from + BLOCK / 2 + i], best) + 8 << 4));
    }

    private static int nibble(float value, float scale) {
        return scale == 0 ? 0 : Math.clamp((long) Math.rint(value / scale), -8, 7);
    }

    private static float largest(float[] row, int from) {
        float largest = 0;
        for (int i = from; i < from + BLOCK; i++) {
            if (!Float.isFinite(row[i]))
                throw new IllegalArgumentException(
                        "element " + i + " of a row is " + row[i] + ", which no block holds");
            if (Math.abs(row[i]) > Math.abs(largest))
                largest = row[i];
        }
        return largest;
    }

    /** The nearest binary16 number that is not nearer to 0. */
    private static float awayFromZero(float value) {
        if (value == 0)
            return 0;
        short half = Float.floatToFloat16(value);
        if (Math.abs(Float.float16ToFloat(half)) < Math.abs(value))
            half++;
        float scale = Float.float16ToFloat(half);
        if (Float.isInfinite(scale))
            throw new IllegalArgumentException("a scale of " + value + " is beyond binary16");
        return scale;
    }
}
