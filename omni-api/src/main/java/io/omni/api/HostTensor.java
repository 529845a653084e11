package io.omni.api;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * Elements in host memory, row-major and little-endian, such as one entry of a memory-mapped checkpoint. The memory is
 * borrowed: whoever maps or allocates it keeps it alive while a backend uses it.
 *
 * @param name
 *            what error messages call it, such as its name in the checkpoint
 * @param dtype
 *            element type
 * @param shape
 *            sizes of the dimensions, outermost first
 * @param data
 *            exactly the elements' bytes; any alignment
 */
public record HostTensor(String name, DType dtype, int[] shape, MemorySegment data) {
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /**
     * @throws IllegalArgumentException if the data are not exactly as long as type and shape say, or the type is of
     * blocks that the shape has not
     */
    public HostTensor {
        if (!Quantization.fits(dtype, shape))
            throw new IllegalArgumentException(name + ": " + Arrays.toString(shape)
                    + " is no matrix of whole blocks of 32 by 32 elements, as " + dtype + " needs");
        long expected = dtype.bytes(size(shape));
        if (data.byteSize() != expected)
            throw new IllegalArgumentException(name + ": " + data.byteSize() + " bytes for " + dtype + " "
                    + Arrays.toString(shape) + ", expected " + expected);
    }

    /** A copy-free float32 tensor over {@code values}. */
    public static HostTensor of(String name, float[] values, int... shape) {
        return new HostTensor(name, DType.F32, shape, MemorySegment.ofArray(values));
    }

    /** Number of elements in a tensor of this shape. */
    public static long size(int... shape) {
        long size = 1;
        for (int n : shape)
            size *= n;
        return size;
    }

    /** Number of elements. */
    public long size() {
        return size(shape);
    }

    /**
     * Rows {@code from} (inclusive) to {@code to} (exclusive) of the outermost dimension, sharing the memory; of a
     * quantised matrix, whole blocks.
     */
    public HostTensor rows(int from, int to) {
        if (from % dtype.blockSize() != 0 || to % dtype.blockSize() != 0)
            throw new IllegalArgumentException(name + ": rows " + from + " to " + to + ", expected multiples of "
                    + dtype.blockSize() + " for " + dtype);
        int[] part = shape.clone();
        part[0] = to - from;
        long row = shape[0] == 0 ? 0 : size() / shape[0];
        long offset = dtype.bytes(from * row);
        return new HostTensor(name, dtype, part, data.asSlice(offset, dtype.bytes(size(part))));
    }

    /** The same elements seen with another shape of the same size; a quantised matrix has no other. */
    public HostTensor reshape(int... newShape) {
        if (dtype.isQuantized() && !Arrays.equals(shape, newShape))
            throw new IllegalArgumentException(name + ": " + dtype + " " + Arrays.toString(shape) + " seen as "
                    + Arrays.toString(newShape) + ", but its blocks are of rows and columns");
        return new HostTensor(name, dtype, newShape, data);
    }

    /** Element {@code index} of the flattened tensor as a float, exact for all types but the integers beyond 2²⁴. */
    public float getFloat(long index) {
        return switch (dtype) {
            case F32 -> data.get(FLOAT, index * 4);
            case F16 -> Float.float16ToFloat(data.get(SHORT, index * 2));
            case BF16 -> Float.intBitsToFloat(data.get(SHORT, index * 2) << 16);
            case I32 -> data.get(INT, index * 4);
            case I64 -> data.get(LONG, index * 8);
            case I8, BOOL -> data.get(ValueLayout.JAVA_BYTE, index);
            case Q8, Q4 -> Quantization.get(data, dtype, shape[1], index);
        };
    }

    /** Element {@code index} of the flattened tensor as an integer. */
    public long getLong(long index) {
        return switch (dtype) {
            case I32 -> data.get(INT, index * 4);
            case I64 -> data.get(LONG, index * 8);
            case I8, BOOL -> data.get(ValueLayout.JAVA_BYTE, index);
            default -> (long) getFloat(index);
        };
    }

    /** All elements as floats. */
    public float[] toFloats() {
        float[] values = new float[Math.toIntExact(size())];
        for (int i = 0; i < values.length; i++)
            values[i] = getFloat(i);
        return values;
    }
}
