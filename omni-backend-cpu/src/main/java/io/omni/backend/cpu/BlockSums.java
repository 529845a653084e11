package io.omni.backend.cpu;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * The sums of each 32 neighbouring activations of some rows, from which products with quantised weights start. Tasks that
 * multiply the same rows by different outputs share them.
 */
final class BlockSums implements AutoCloseable {
    private static final VectorSpecies<Float> F = Lanes.F;
    private static final MemorySegment ALL = Memory.ALL;
    private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;
    private static final int BLOCK_BYTES = 4 * Quantized.BLOCK;
    private static final int VECTOR = Lanes.BYTES;
    private static final int ROWS_PER_TASK = 16;
    /** Memory to work in for one row at a time: a vector for each lane. */
    static final long LANES_BYTES = (long) VECTOR * Lanes.LANES;

    private final Memory memory;
    private final long address;
    private final long bytes;
    private final long[] rows;

    private BlockSums(CpuBackend backend, long[] x, int in) {
        memory = backend.memory;
        int blocks = in / Quantized.BLOCK;
        int tasks = CpuTensorOps.parts(x.length, ROWS_PER_TASK);
        bytes = x.length * rowBytes(blocks) + tasks * LANES_BYTES;
        address = memory.take(bytes);
        rows = Product.addresses(address, rowBytes(blocks), x.length);
        long lanes = address + x.length * rowBytes(blocks);
        backend.workers.run(tasks, task -> {
            for (int r = task * ROWS_PER_TASK; r < Math.min(x.length, (task + 1) * ROWS_PER_TASK); r++)
                of(x[r], blocks, lanes + task * LANES_BYTES, rows[r]);
        });
    }

    /** Of all rows, or null where no weights are quantised, or the rows are so few that each task had better add up its own. */
    static BlockSums of(CpuBackend backend, long[] x, int in, boolean quantised) {
        return quantised && x.length >= Quantized.MANY ? new BlockSums(backend, x, in) : null;
    }

    /** What {@link #of(long, int, long, long)} writes, whole vectors. */
    static long rowBytes(int blocks) {
        return 4L * ((blocks + Lanes.LANES - 1) / Lanes.LANES * Lanes.LANES);
    }

    /** Of one row, with {@link #LANES_BYTES} bytes at {@code lanes} to work in. */
    static void of(long x, int blocks, long lanes, long to) {
        for (int b = 0; b < blocks; b += Lanes.LANES) {
            for (int i = 0; i < Math.min(Lanes.LANES, blocks - b); i++) {
                long at = x + (long) BLOCK_BYTES * (b + i);
                FloatVector sum = FloatVector.zero(F);
                for (int lane = 0; lane < BLOCK_BYTES; lane += VECTOR)
                    sum = sum.add(FloatVector.fromMemorySegment(F, ALL, at + lane, ORDER));
                sum.intoMemorySegment(ALL, lanes + (long) VECTOR * i, ORDER);
            }
            Lanes.sumsTo(lanes, to + 4L * b);
        }
    }

    /** Where each row's are, or null. */
    static long[] addresses(BlockSums sums) {
        return sums == null ? null : sums.rows;
    }

    @Override
    public void close() {
        memory.give(address, bytes);
    }
}
