package io.omni.backend.onnx;

import static io.omni.backend.onnx.Recording.constant;

import io.omni.api.HostTensor;
import io.omni.backend.onnx.Graph.Constant;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;

/**
 * A bfloat16 matrix as two of bytes, the high and the low halves of 16-bit integers: w = step · (256 · high + low). The
 * step of a row is 2⁻¹⁴ of the power of two at its largest magnitude, so elements down to 2⁻⁷ of that are exact, and no
 * other is off by more than half a step. {@code MatMulIntegerToFloat} multiplies by bytes several times faster than any
 * product of floats.
 *
 * <p>
 * Activations are integers too, of as many bytes as there are parts, with a step for each row. Of the products of halves
 * and parts, those are left out that lie below the last part.
 */
final class HalvesMatrix implements IntegerMatrix {
    /** Below, steps would not be normal numbers. */
    private static final int LEAST_EXPONENT = -100;
    /** Loss, relative to the length of a row without its largest element, above bfloat16's own. */
    private static final double MOST_LOST = 1e-3;
    /** Activations below lose bits: the inverses of their steps would not be finite. */
    private static final float LEAST = 1e-30f;
    /** Added to a number below 2²² in magnitude, leaves it rounded in the lowest bits. */
    private static final float ROUND = 3 << 22;
    private static final int ROUND_BITS = Float.floatToRawIntBits(ROUND);
    private static final Value ZERO_POINT = new Constant(OnnxType.UINT8, new long[0], new byte[]{(byte) 128});

    private final int rows;
    private final int columns;
    private final int parts;
    /** Parts that the low halves are multiplied by. */
    private final int lowParts;
    /** [columns, rows], as the operator wants them. */
    private final Storage high;
    private final Storage low;
    /** [rows], the steps. */
    private final Storage scales;

    HalvesMatrix(HostTensor host, NativeMemory memory, int parts) {
        this.parts = parts;
        lowParts = Math.max(1, parts - 1);
        rows = host.shape()[0];
        columns = host.shape()[1];
        high = Storage.allocate(memory, OnnxType.INT8, columns, rows);
        Storage second = null;
        try {
            second = Storage.allocate(memory, OnnxType.INT8, columns, rows);
            scales = Storage.allocate(memory, OnnxType.FLOAT, rows);
        } catch (RuntimeException e) {
            high.release();
            if (second != null)
                second.release();
            throw e;
        }
        low = second;
    }

    @Override
    public int columns() {
        return columns;
    }

    @Override
    public boolean write(int row, float[] values) {
        float largest = 0;
        double square = 0;
        for (float value : values) {
            largest = Math.max(largest, Math.abs(value));
            square += (double) value * value;
        }
        if (!Double.isFinite(square) || !Float.isFinite(largest))
            return false;
        int exponent = Math.max(LEAST_EXPONENT, Math.getExponent(largest));
        float step = Math.scalb(1f, exponent - 14);
        float perStep = Math.scalb(1f, 14 - exponent);
        scales.memory.setAtIndex(ValueLayout.JAVA_FLOAT, row, step);
        MemorySegment highs = high.memory;
        MemorySegment lows = low.memory;
        double lost = 0;
        for (int i = 0; i < columns; i++) {
            float exact = values[i] * perStep;
            // the largest of all, 255 · 128, would have a high half of 128
            int value = Math.min(32639, (int) Math.rint(exact));
            lost += (exact - value) * (exact - value);
            int upper = value + 128 >> 8;
            long at = (long) i * rows + row;
            highs.set(ValueLayout.JAVA_BYTE, at, (byte) upper);
            lows.set(ValueLayout.JAVA_BYTE, at, (byte) (value - (upper << 8)));
        }
        // beside one huge element, others would be nothing
        return lost * step * step <= MOST_LOST * MOST_LOST * (square - (double) largest * largest);
    }

    /** Bytes [parts · n, columns], those of them for the low halves, and the step of each row, [n, 1]. */
    @Override
    public List<Storage> split(NativeMemory memory, MemorySegment x, int n) {
        Storage bytes = Storage.allocate(memory, OnnxType.UINT8, (long) parts * n, columns);
        Storage steps = null;
        try {
            steps = Storage.allocate(memory, OnnxType.FLOAT, n, 1);
            long lows = (long) lowParts * n;
            Storage some = Storage.borrow(bytes.memory.asSlice(0, lows * columns), OnnxType.UINT8, lows, columns);
            float[] row = new float[columns];
            int[] integers = new int[columns];
            byte[] part = new byte[columns];
            for (int i = 0; i < n; i++) {
                MemorySegment.copy(x, ValueLayout.JAVA_FLOAT, 4L * i * columns, row, 0, columns);
                steps.memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, integers(row, integers));
                for (int p = parts - 1; p >= 0; p--) {
                    takeLowest(integers, part);
                    MemorySegment.copy(part, 0, bytes.memory, ValueLayout.JAVA_BYTE, ((long) p * n + i) * columns,
                            columns);
                }
            }
            return List.of(bytes, some, steps);
        } catch (RuntimeException e) {
            bytes.release();
            if (steps != null)
                steps.release();
            throw e;
        }
    }

    /**
     * Rounds a row to integers of as many bytes as there are parts, of three only to 23 bits.
     *
     * @return what one of the highest byte stands for, NaN if a number is not finite
     */
    private float integers(float[] row, int[] integers) {
        // compared as integers, which takes many at once, and ranks what is not finite highest
        int most = Float.floatToRawIntBits(LEAST);
        for (float value : row)
            most = Math.max(most, Float.floatToRawIntBits(value) & Integer.MAX_VALUE);
        float largest = Float.intBitsToFloat(most);
        int highest = parts < 3 ? 127 : 63;
        float perStep = Math.scalb(highest, 8 * (parts - 1)) / largest;
        for (int i = 0; i < row.length; i++)
            integers[i] = Float.floatToRawIntBits(row[i] * perStep + ROUND) - ROUND_BITS;
        return largest < Float.POSITIVE_INFINITY ? largest / highest : Float.NaN;
    }

    /** Takes the lowest byte off, as a signed number; the operator wants it with 128 added. */
    private static void takeLowest(int[] integers, byte[] part) {
        for (int i = 0; i < integers.length; i++) {
            int value = integers[i];
            part[i] = (byte) (value + 128);
            integers[i] = value + 128 >> 8;
        }
    }

    @Override
    public Value product(Recording r, List<Storage> split) {
        Value[] terms = new Value[parts + lowParts];
        terms(r, r.input(split.get(0)), high, 256, parts, terms, 0);
        terms(r, r.input(split.get(1)), low, 1, lowParts, terms, parts);
        return r.node("Mul", r.node("Sum", terms), r.input(split.get(2)));
    }

    private void terms(Recording r, Value bytes, Storage half, float unit, int parts, Value[] terms, int at) {
        Value all = r.node("MatMulIntegerToFloat", Recording.MICROSOFT, Recording.NONE, bytes, r.initializer(half),
                constant(unit), r.initializer(scales), ZERO_POINT);
        Value[] each = parts == 1 ? new Value[]{all} : r.split(all, 0, parts);
        for (int i = 0; i < parts; i++)
            terms[at + i] = i == 0 ? each[0] : r.node("Mul", each[i], constant(Math.scalb(1f, -8 * i)));
    }

    @Override
    public Storage scales() {
        return scales;
    }

    @Override
    public void close() {
        high.release();
        low.release();
        scales.release();
    }
}
