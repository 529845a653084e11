package io.omni.backend.onnx;

import static io.omni.backend.onnx.Recording.with;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.backend.onnx.Graph.Attribute;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;

/**
 * A quantised matrix as {@code com.microsoft.MatMulNBits} reads it: rows of blocks of unsigned integers around their middle
 * value, and a float32 scale for each block. No value changes.
 *
 * <p>
 * The operator rounds activations to 8 bits a block. So that less is lost, rows go in once for each part: rounded so, what
 * that left likewise, and at the end what is left then. All are multiplied while the weights pass.
 */
final class BlockMatrix implements IntegerMatrix {
    private static final float[] Q4_LARGEST = {-8, 7, -7, 6, -6, 5, -5, 4, -4, 3, -3, 2, -2, 1, -1};
    /** Added to a small number, it leaves no bits for a fraction. */
    private static final float ROUND = 3 << 22;
    /** Elements that share a scale. */
    private static final int BLOCK = 32;

    private final int rows;
    private final int columns;
    private final int parts;
    private final DType type;
    private final int bits;
    /** [rows, columns / 32, 4 · bits]. */
    private final Storage integers;
    /** [rows, columns / 32]. */
    private final Storage scales;

    BlockMatrix(HostTensor host, NativeMemory memory, int parts) {
        this.parts = parts;
        rows = host.shape()[0];
        columns = host.shape()[1];
        type = host.dtype();
        bits = type == DType.Q4 ? 4 : 8;
        integers = Storage.allocate(memory, OnnxType.UINT8, rows, columns / BLOCK, BLOCK * bits / 8);
        try {
            scales = Storage.allocate(memory, OnnxType.FLOAT, rows, columns / BLOCK);
        } catch (RuntimeException e) {
            integers.release();
            throw e;
        }
    }

    @Override
    public int columns() {
        return columns;
    }

    @Override
    public boolean write(int row, float[] values) {
        for (int from = 0; from < columns; from += BLOCK) {
            float largest = 0;
            for (int i = from; i < from + BLOCK; i++) {
                if (!Float.isFinite(values[i]))
                    return false;
                if (Math.abs(values[i]) > Math.abs(largest))
                    largest = values[i];
            }
            long at = (long) row * (columns / BLOCK) + from / BLOCK;
            if (type == DType.Q8)
                bytes(at, values, from, q8Scale(largest, values, from));
            else
                nibbles(at, values, from, q4Scale(largest, values, from));
        }
        return true;
    }

    /** A scale that gives all of a block's values as integers: a stored block's largest need not be 127 of its scale. */
    private static float q8Scale(float largest, float[] values, int from) {
        for (int n = 128; n > 0; n--)
            for (float scale : new float[]{largest / n, -largest / n})
                if (isExact(scale, values, from, -128, 127))
                return scale;
        return largest / 127;
    }

    private static float q4Scale(float largest, float[] values, int from) {
        for (float n : Q4_LARGEST)
            if (isExact(largest / n, values, from, -8, 7))
            return largest / n;
        return largest / -8;
    }

    private static boolean isExact(float scale, float[] values, int from, int min, int max) {
        for (int i = from; i < from + BLOCK; i++) {
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
        for (int i = 0; i < BLOCK; i++)
            integers.memory.set(ValueLayout.JAVA_BYTE, at * BLOCK + i,
                    (byte) (Math.clamp((long) integer(values[from + i], scale), -128, 127) + 128));
    }

    private void nibbles(long at, float[] values, int from, float scale) {
        scales.memory.setAtIndex(ValueLayout.JAVA_FLOAT, at, scale);
        for (int i = 0; i < BLOCK; i += 2) {
            int low = Math.clamp((long) integer(values[from + i], scale), -8, 7) + 8;
            int high = Math.clamp((long) integer(values[from + i + 1], scale), -8, 7) + 8;
            integers.memory.set(ValueLayout.JAVA_BYTE, (at * BLOCK + i) / 2, (byte) (low | high << 4));
        }
    }

    /** Floats [parts · n, columns]. */
    @Override
    public List<Storage> split(NativeMemory memory, MemorySegment x, int n) {
        // the operator itself rounds the last part
        if (parts == 1)
            return List.of(Storage.borrow(x.asSlice(0, 4L * n * columns), OnnxType.FLOAT, n, columns));
        Storage split = Storage.allocate(memory, OnnxType.FLOAT, (long) parts * n, columns);
        float[] left = new float[columns];
        float[] part = new float[columns];
        for (int i = 0; i < n; i++) {
            MemorySegment.copy(x, ValueLayout.JAVA_FLOAT, 4L * i * columns, left, 0, columns);
            for (int p = 0; p < parts - 1; p++) {
                for (int from = 0; from < columns; from += BLOCK)
                    round(left, part, from);
                MemorySegment.copy(part, 0, split.memory, ValueLayout.JAVA_FLOAT, 4L * (p * n + i) * columns, columns);
            }
            MemorySegment.copy(left, 0, split.memory, ValueLayout.JAVA_FLOAT, 4L * ((parts - 1) * n + i) * columns,
                    columns);
        }
        return List.of(split);
    }

    /** Moves a block's values, rounded to 127ths of the largest, to {@code part}. */
    private static void round(float[] left, float[] part, int from) {
        int most = 0;
        for (int i = from; i < from + BLOCK; i++)
            most = Math.max(most, Float.floatToRawIntBits(left[i]) & Integer.MAX_VALUE);
        float step = Math.max(Float.intBitsToFloat(most) / 127, Float.MIN_NORMAL);
        float perStep = 1 / step;
        for (int i = from; i < from + BLOCK; i++) {
            part[i] = (left[i] * perStep + ROUND - ROUND) * step;
            left[i] -= part[i];
        }
    }

    @Override
    public Value product(Recording r, List<Storage> split) {
        Attribute[] attributes = {with("K", columns), with("N", rows), with("bits", bits), with("block_size", BLOCK),
                with("accuracy_level", 4)};
        Value all = r.node("MatMulNBits", Recording.MICROSOFT, attributes, r.input(split.getFirst()),
                r.initializer(integers), r.initializer(scales));
        return parts == 1 ? all : r.node("Sum", r.split(all, 0, parts));
    }

    @Override
    public Storage scales() {
        return scales;
    }

    @Override
    public void close() {
        integers.release();
        scales.release();
    }
}
