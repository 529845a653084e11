package io.omni.core;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.stream.IntStream;

/**
 * Seeded random weights for a model that has no checkpoint. Each tensor depends on the seed, its type and its own name only;
 * values are uniform with the standard deviation given, norms are 1 and biases 0. They are bfloat16, but for the matrices that
 * {@link Quantizer} covers, which are made in blocks at once where a quantised type is wanted: a model that fits into memory
 * only in blocks can be made.
 */
final class RandomWeights implements TensorSource {
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    /** Values that one task makes: whole blocks. */
    private static final int PIECE = 1 << 17;
    /** Standard deviations of the odd numbers from −127 to 127 and from −7 to 7. */
    private static final double Q8_DEVIATION = Math.sqrt((128 * 128 - 1) / 3.0);
    private static final double Q4_DEVIATION = Math.sqrt((8 * 8 - 1) / 3.0);

    private final long seed;
    private final double deviation;
    private final DType matrixType;

    /**
     * @param matrixType
     *            what matrices are wanted in, or null
     */
    RandomWeights(long seed, double deviation, DType matrixType) {
        this.seed = seed;
        this.deviation = deviation;
        this.matrixType = matrixType;
    }

    @Override
    public boolean has(String name) {
        return true;
    }

    @Override
    public HostTensor get(Arena memory, String name, int... shape) {
        boolean blocks = matrixType != null && matrixType.isQuantized() && Quantizer.covers(name, shape, matrixType);
        DType type = blocks ? matrixType : DType.BF16;
        long size = HostTensor.size(shape);
        long bytes = type.bytes(size);
        MemorySegment data = memory.allocate(Math.max(1, bytes), 64).asSlice(0, bytes);
        if (name.endsWith("norm.weight") || name.matches(".*(norm\\d?|ln_q|ln_post)\\.weight"))
            fill(data, size, 1);
        else if (name.endsWith("scale") || name.endsWith("gamma"))
            fill(data, size, 0.01f);
        else if (!name.endsWith("bias") && !name.endsWith("alpha") && !name.endsWith("beta"))
            scatter(name, type, data, size);
        return new HostTensor(name, type, shape, data);
    }

    private static void fill(MemorySegment data, long size, float value) {
        short bits = (short) (Float.floatToIntBits(value) >>> 16);
        for (long i = 0; i < size; i++)
            data.setAtIndex(SHORT, i, bits);
    }

    private void scatter(String name, DType type, MemorySegment data, long size) {
        long key = (seed + 1) * 0x9e3779b97f4a7c15L ^ name.hashCode() * 0xbf58476d1ce4e5b9L;
        IntStream.range(0, Math.toIntExact((size + PIECE - 1) / PIECE)).parallel().forEach(piece -> {
            long state = key + piece * 0x94d049bb133111ebL;
            long from = (long) piece * PIECE;
            long n = Math.min(PIECE, size - from);
            MemorySegment part = data.asSlice(type.bytes(from), type.bytes(n));
            if (type == DType.BF16)
                floats(state == 0 ? 1 : state, part, n);
            else
                blocks(state == 0 ? 1 : state, type, part, n);
        });
    }

    private void floats(long start, MemorySegment data, long size) {
        // uniform in [-1, 1), times sqrt(3) times the deviation
        float scale = (float) (Math.sqrt(3) * deviation / (1L << 31));
        long state = start;
        for (long i = 0; i < size; i++) {
            state = next(state);
            data.setAtIndex(SHORT, i, (short) (Float.floatToRawIntBits((int) (state >>> 32) * scale) >>> 16));
        }
    }

    private void blocks(long start, DType type, MemorySegment data, long size) {
        boolean bytes = type == DType.Q8;
        short scale = Float.floatToFloat16((float) (deviation / (bytes ? Q8_DEVIATION : Q4_DEVIATION)));
        // odd numbers alone are as often positive as negative
        long odd = bytes ? 0x0101010101010101L : 0x1111111111111111L;
        long state = start;
        long at = 0;
        for (long i = 0; i < size; i += type.blockSize()) {
            data.set(SHORT, at, scale);
            for (long to = at + 2; to < at + type.blockBytes(); to += 8) {
                state = next(state);
                data.set(LONG, to, state | odd);
            }
            at += type.blockBytes();
        }
    }

    /** Marsaglia's xorshift. */
    private static long next(long state) {
        state ^= state << 13;
        state ^= state >>> 7;
        return state ^ state << 17;
    }

    @Override
    public void close() {}
}
