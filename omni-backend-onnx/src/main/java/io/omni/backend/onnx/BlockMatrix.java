package io.omni.backend.onnx;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;

/**
 * A matrix as {@code com.microsoft.MatMulNBits} reads it: rows of blocks of unsigned integers around their middle value,
 * and a float32 scale for each block.
 *
 * <p>
 * Quantised weights keep their values exactly. A bfloat16 row is written as two rows of bytes one after the other, its high
 * and its low halves as 16-bit integers: w = 256 · step · high + step · low. The step is 2⁻¹⁴ of the power of two at the
 * block's largest magnitude, so elements down to 2⁻⁷ of that are exact, and no other is off by more than half a step.
 */
final class BlockMatrix implements AutoCloseable {
    private static final float[] Q4_LARGEST = {-8, 7, -7, 6, -6, 5, -5, 4, -4, 3, -3, 2, -2, 1, -1};
    /** Below, steps would not be normal numbers. */
    private static final int LEAST_EXPONENT = -100;

    final int rows;
    final int columns;
    final int bits;
    /** Times that a row, and so what it is multiplied with, is written. */
    final int planes;
    /** Elements that share a scale. */
    final int block;
    /** [rows, planes · columns / block, block · bits / 8]. */
    final Storage integers;
    /** [rows, planes · columns / block]. */
    final Storage scales;

    private BlockMatrix(HostTensor host, NativeMemory memory) {
        rows = host.shape()[0];
        columns = host.shape()[1];
        bits = host.dtype() == DType.Q4 ? 4 : 8;
        planes = host.dtype() == DType.BF16 ? 2 : 1;
        block = host.dtype().isQuantized() ? 32 : columns % 128 == 0 ? 128 : columns % 64 == 0 ? 64 : 32;
        long blocks = (long) planes * columns / block;
        integers = Storage.allocate(memory, OnnxType.UINT8, rows, blocks, block * bits / 8);
        try {
            scales = Storage.allocate(memory, OnnxType.FLOAT, rows, blocks);
        } catch (RuntimeException e) {
            integers.release();
            throw e;
        }
    }

    /** Whether a matrix can be written so, its values aside. */
    static boolean fits(HostTensor host) {
        return (host.dtype().isQuantized() || host.dtype() == DType.BF16) && host.size() > 0
                && host.shape()[1] % 32 == 0 && bytes(host) < Integer.MAX_VALUE;
    }

    /** About what the runtime keeps for it: integers, scales, sums of blocks, and the scales once more. */
    static long bytes(HostTensor host) {
        return switch (host.dtype()) {
            case Q4 -> host.size() / 2 + host.size() / 32 * 12;
            case Q8 -> host.size() + host.size() / 32 * 12;
            default -> 2 * host.size() + host.size() / 128 * 24;
        };
    }

    /** The matrix, or null if it holds numbers that are not finite. The caller closes it. */
    static BlockMatrix of(HostTensor host, NativeMemory memory) {
        var matrix = new BlockMatrix(host, memory);
        var finite = new AtomicBoolean(true);
        int chunk = Math.max(1, (1 << 16) / matrix.columns);
        IntStream.range(0, (matrix.rows + chunk - 1) / chunk).parallel().forEach(c -> {
            float[] row = new float[matrix.columns];
            for (int i = c * chunk; i < Math.min(matrix.rows, (c + 1) * chunk); i++) {
                for (int j = 0; j < row.length; j++)
                    row[j] = host.getFloat((long) i * row.length + j);
                for (int from = 0; from < row.length; from += matrix.block)
                    if (!matrix.write(i, row, from, host.dtype()))
                    finite.set(false);
            }
        });
        if (finite.get())
            return matrix;
        matrix.close();
        return null;
    }

    private boolean write(int row, float[] values, int from, DType type) {
        float largest = 0;
        for (int i = from; i < from + block; i++) {
            if (!Float.isFinite(values[i]))
                return false;
            if (Math.abs(values[i]) > Math.abs(largest))
                largest = values[i];
        }
        long at = (long) row * planes * (columns / block) + from / block;
        switch (type) {
            case Q8 -> bytes(at, values, from, q8Scale(largest, values, from));
            case Q4 -> nibbles(at, values, from, q4Scale(largest, values, from));
            default -> halves(at, values, from, largest);
        }
        return true;
    }

    /** A scale that gives all of a block's values as integers: a stored block's largest need not be 127 of its scale. */
    private float q8Scale(float largest, float[] values, int from) {
        for (int n = 128; n > 0; n--)
            for (float scale : new float[]{largest / n, -largest / n})
                if (isExact(scale, values, from, -128, 127))
                return scale;
        return largest / 127;
    }

    private float q4Scale(float largest, float[] values, int from) {
        for (float n : Q4_LARGEST)
            if (isExact(largest / n, values, from, -8, 7))
            return largest / n;
        return largest / -8;
    }

    private boolean isExact(float scale, float[] values, int from, int min, int max) {
        for (int i = from; i < from + block; i++) {
            float q = integer(values[i], scale);
            if (q < min || q > max || q * scale != values[i])
                return false;
        }
        return true;
    }

    private static float integer(float value, float scale) {
        return scale == 0 ? 0 : (float) Math.rint(value / scale);
    }

    private void bytes(long at, float[] values, int from, float scale) {
        scales.memory.setAtIndex(ValueLayout.JAVA_FLOAT, at, scale);
        for (int i = 0; i < block; i++)
            integers.memory.set(ValueLayout.JAVA_BYTE, at * block + i,
                    (byte) (Math.clamp((long) integer(values[from + i], scale), -128, 127) + 128));
    }

    private void nibbles(long at, float[] values, int from, float scale) {
        scales.memory.setAtIndex(ValueLayout.JAVA_FLOAT, at, scale);
        for (int i = 0; i < block; i += 2) {
            int low = Math.clamp((long) integer(values[from + i], scale), -8, 7) + 8;
            int high = Math.clamp((long) integer(values[from + i + 1], scale), -8, 7) + 8;
            integers.memory.set(ValueLayout.JAVA_BYTE, (at * block + i) / 2, (byte) (low | high << 4));
        }
    }

    private void halves(long at, float[] values, int from, float largest) {
        int exponent = Math.max(LEAST_EXPONENT, Math.getExponent(largest));
        float step = Math.scalb(1f, exponent - 14);
        float perStep = Math.scalb(1f, 14 - exponent);
        long low = at + columns / block;
        MemorySegment memory = integers.memory;
        scales.memory.setAtIndex(ValueLayout.JAVA_FLOAT, at, 256 * step);
        scales.memory.setAtIndex(ValueLayout.JAVA_FLOAT, low, step);
        for (int i = 0; i < block; i++) {
            // the largest of all, 255 · 128, would have a high half of 128
            int value = Math.min(32639, (int) Math.rint(values[from + i] * perStep));
            int high = value + 128 >> 8;
            memory.set(ValueLayout.JAVA_BYTE, at * block + i, (byte) (high + 128));
            memory.set(ValueLayout.JAVA_BYTE, low * block + i, (byte) (value - (high << 8) + 128));
        }
    }

    @Override
    public void close() {
        integers.release();
        scales.release();
    }
}
