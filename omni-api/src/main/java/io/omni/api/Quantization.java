package io.omni.api;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * How float matrices become {@link DType#Q8} and {@link DType#Q4} blocks, and what blocks mean.
 *
 * <p>
 * Thirty-two columns of a row share a scale, and each stands for itself:
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
 * Thirty-two columns that are all zeros have scale 0. Values that scale and q hold exactly come back exactly where the
 * largest |q| is 127 in Q8, and −8, −7 or 7 in Q4.
 *
 * <p>
 * Thirty-two rows lie together, so that a vector's lanes can be rows, and the blocks of these rows one after another, so
 * that they are read in one stream. A block is 32 scales, little-endian, one a row, and then pieces of four bytes a row:
 * the first piece of each of the 32 rows, the second piece of each, and so on. A piece is four elements in Q8, a byte each
 * and q + 128 in it, and eight in Q4, four bits each and q + 8 in them, the first element in the lowest bits of the
 * little-endian integer. So in Q8 the element of row r and column c is byte 64 + 128 · ⌊c / 4⌋ + 4 · r + c mod 4 of its
 * block; in Q4 it is half of byte 64 + 128 · ⌊c / 8⌋ + 4 · r + ⌊c mod 8 / 2⌋.
 */
public final class Quantization {
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final int BLOCK = 32;
    private static final int SCALES = 2 * BLOCK;
    private static final float[] Q4_DIVISORS = {-8, -8.5f, -7.5f, -7};

    private Quantization() {}

    /**
     * Quantises a matrix.
     *
     * @param values
     *            rows of {@code columns} elements, in whole blocks
     * @param type
     *            Q8 or Q4
     * @param to
     *            memory for {@code type.bytes(values.length)} bytes from {@code offset} on
     * @throws IllegalArgumentException
     *             if the matrix is not whole blocks, the type is not quantised, or a value is not finite or so large that
     *             its scale is beyond binary16
     */
    public static void quantize(float[] values, int columns, DType type, MemorySegment to, long offset) {
        checkBlocks(values.length, columns, type);
        int[] q = new int[BLOCK];
        for (int first = 0; first < values.length; first += BLOCK) {
            float scale = type == DType.Q8 ? q8(values, first, q) : q4(values, first, q);
            put(q, scale, type, to, offset + block(type, columns, first), first / columns % BLOCK);
        }
    }

    /**
     * Stores a row of whole numbers with a scale for each 32 of them, as they are.
     *
     * @param q
     *            whole blocks; from −8 to 7 for Q4
     * @param scales
     *            binary16 numbers
     * @param to
     *            memory of the matrix
     * @param row
     *            which of its rows; rows may be stored by several threads
     * @throws IllegalArgumentException
     *             if the type does not hold the row exactly
     */
    public static void pack(byte[] q, float[] scales, DType type, MemorySegment to, int row) {
        checkBlocks(BLOCK * q.length, q.length, type);
        if (scales.length != q.length / BLOCK)
            throw new IllegalArgumentException(
                    scales.length + " scales for " + q.length + " elements, expected " + q.length / BLOCK);
        for (int b = 0; b < scales.length; b++) {
            if (!isBinary16(scales[b]))
                throw new IllegalArgumentException("a scale of " + scales[b] + " is no binary16 number");
            int[] block = new int[BLOCK];
            for (int i = 0; i < BLOCK; i++)
                block[i] = type == DType.Q8 ? q[b * BLOCK + i] : checkNibble(q[b * BLOCK + i]);
            put(block, scales[b], type, to, block(type, q.length, (long) row * q.length + b * BLOCK), row % BLOCK);
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

    private static void put(int[] q, float scale, DType type, MemorySegment to, long block, int row) {
        to.set(SHORT, block + 2 * row, Float.floatToFloat16(scale));
        for (int i = 0; i < BLOCK; i++)
            if (type == DType.Q8)
            to.set(ValueLayout.JAVA_BYTE, block + q8At(row, i), (byte) (q[i] + 128));
            else if (i % 2 == 0)
            to.set(ValueLayout.JAVA_BYTE, block + q4At(row, i), (byte) (q[i] + 8 | q[i + 1] + 8 << 4));
    }

    /** Whether a tensor of this shape can be stored in this type: in a quantised one, a matrix of whole blocks. */
    public static boolean fits(DType type, int... shape) {
        return !type.isQuantized()
                || shape.length == 2 && shape[0] % type.blockSize() == 0 && shape[1] % type.blockSize() == 0;
    }

    /** Element {@code index}, counted row by row, of a matrix. */
    static float get(MemorySegment data, DType type, int columns, long index) {
        long block = block(type, columns, index);
        int row = (int) (index / columns % BLOCK);
        int column = (int) (index % columns % BLOCK);
        float scale = Float.float16ToFloat(data.get(SHORT, block + 2 * row));
        if (type == DType.Q8)
            return scale * ((data.get(ValueLayout.JAVA_BYTE, block + q8At(row, column)) & 255) - 128);
        int pair = data.get(ValueLayout.JAVA_BYTE, block + q4At(row, column));
        return scale * ((column % 2 == 0 ? pair & 15 : pair >> 4 & 15) - 8);
    }

    /** Byte offset of the block of an element. */
    private static long block(DType type, int columns, long index) {
        long band = index / columns / BLOCK;
        return (band * (columns / BLOCK) + index % columns / BLOCK) * type.blockBytes();
    }

    private static int q8At(int row, int column) {
        return SCALES + 4 * BLOCK * (column / 4) + 4 * row + column % 4;
    }

    private static int q4At(int row, int column) {
        return SCALES + 4 * BLOCK * (column / 8) + 4 * row + column % 8 / 2;
    }

    private static void checkBlocks(int size, int columns, DType type) {
        if (!type.isQuantized())
            throw new IllegalArgumentException("quantising to " + type + ", expected Q8 or Q4");
        if (columns < 1 || size % columns != 0 || !fits(type, size / columns, columns))
            throw new IllegalArgumentException(
                    size + " elements in rows of " + columns + " are not whole blocks of 32 by 32 " + type);
    }

    private static float q8(float[] values, int from, int[] q) {
        float scale = awayFromZero(Math.abs(largest(values, from)) / 127);
        for (int i = 0; i < BLOCK; i++)
            q[i] = scale == 0 ? 0 : (int) Math.rint(values[from + i] / scale);
        return scale;
    }

    private static float q4(float[] values, int from, int[] q) {
        float largest = largest(values, from);
        float best = 0;
        double least = Double.POSITIVE_INFINITY;
        for (float divisor : Q4_DIVISORS) {
            float scale = awayFromZero(largest / divisor);
            double error = 0;
            for (int i = 0; i < BLOCK; i++) {
                float e = values[from + i] - scale * nibble(values[from + i], scale);
                error += (double) e * e;
            }
            if (error < least) {
                least = error;
                best = scale;
            }
        }
        for (int i = 0; i < BLOCK; i++)
            q[i] = nibble(values[from + i], best);
        return best;
    }

    private static int nibble(float value, float scale) {
        return scale == 0 ? 0 : Math.clamp((long) Math.rint(value / scale), -8, 7);
    }

    private static float largest(float[] values, int from) {
        float largest = 0;
        for (int i = from; i < from + BLOCK; i++) {
            if (!Float.isFinite(values[i]))
                throw new IllegalArgumentException(
                        "element " + i + " is " + values[i] + ", which no block holds");
            if (Math.abs(values[i]) > Math.abs(largest))
                largest = values[i];
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
