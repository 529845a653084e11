package io.omni.core;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * Seeded random weights for a model that has no checkpoint. Each tensor depends on the seed and its own name only; values
 * are uniform with the standard deviation given, norms are 1 and biases 0, stored as bfloat16.
 */
final class RandomWeights implements TensorSource {
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final long seed;
    private final double deviation;

    RandomWeights(long seed, double deviation) {
        this.seed = seed;
        this.deviation = deviation;
    }

    @Override
    public boolean has(String name) {
        return true;
    }

    @Override
    public HostTensor get(Arena memory, String name, int... shape) {
        long size = HostTensor.size(shape);
        MemorySegment data = memory.allocate(Math.max(1, 2 * size), 64).asSlice(0, 2 * size);
        if (name.endsWith("norm.weight") || name.matches(".*(norm\\d?|ln_q|ln_post)\\.weight"))
            fill(data, size, 1);
        else if (name.endsWith("scale") || name.endsWith("gamma"))
            fill(data, size, 0.01f);
        else if (!name.endsWith("bias") && !name.endsWith("alpha") && !name.endsWith("beta"))
            scatter(name, data, size);
        return new HostTensor(name, DType.BF16, shape, data);
    }

    private static void fill(MemorySegment data, long size, float value) {
        short bits = (short) (Float.floatToIntBits(value) >>> 16);
        for (long i = 0; i < size; i++)
            data.setAtIndex(SHORT, i, bits);
    }

    private void scatter(String name, MemorySegment data, long size) {
        // uniform in [-1, 1) by xorshift, times sqrt(3) times the deviation
        float scale = (float) (Math.sqrt(3) * deviation / (1L << 31));
        long state = (seed + 1) * 0x9e3779b97f4a7c15L ^ name.hashCode() * 0xbf58476d1ce4e5b9L;
        if (state == 0)
            state = 1;
        for (long i = 0; i < size; i++) {
            state ^= state << 13;
            state ^= state >>> 7;
            state ^= state << 17;
            data.setAtIndex(SHORT, i, (short) (Float.floatToRawIntBits((int) (state >>> 32) * scale) >>> 16));
        }
    }

    @Override
    public void close() {}
}
