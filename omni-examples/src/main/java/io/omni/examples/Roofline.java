package io.omni.examples;

import io.omni.api.Backend;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * What the machine can do at most, measured now: how fast all cores together read memory, and multiply and add.
 *
 * @param hostGigabytes
 *            GB a second that all cores read
 * @param copiedGigabytes
 *            GB a second that the backend reads and writes: on a card, its own memory
 * @param gigaflops
 *            float32 GFLOP a second
 */
record Roofline(double hostGigabytes, double copiedGigabytes, double gigaflops) {
    private static final VectorSpecies<Integer> INTS = IntVector.SPECIES_PREFERRED;
    private static final VectorSpecies<Float> FLOATS = FloatVector.SPECIES_PREFERRED;
    private static final long BYTES = 256L << 20;
    private static final int ROUNDS = 7;
    /** 128 MB of float32, beyond any card's cache. */
    private static final int COPIED_ROWS = 1 << 15;
    private static final int COPIED_WIDTH = 1 << 10;

    static Roofline measure(Backend backend, int threads) {
        try (Arena arena = Arena.ofShared(); ExecutorService pool = Executors.newFixedThreadPool(threads)) {
            MemorySegment memory = arena.allocate(BYTES, 64);
            memory.fill((byte) 1);
            long part = BYTES / threads / 64 * 64;
            double read = median(pool, threads, i -> sum(memory.asSlice(i * part, part)));
            double compute = median(pool, threads, i -> multiplyAdd());
            return new Roofline(part * threads / read / 1e9, copied(backend),
                    2.0 * STEPS * 16 * FLOATS.length() * threads / compute / 1e9);
        }
    }

    /** GB a second, of the host's memory or of the card's. */
    double readGigabytes() {
        return Math.max(hostGigabytes, copiedGigabytes);
    }

    /**
     * GB a second that the backend's own memory is read and written with, where one matrix is put together from two: on a
     * card, whose memory is not the host's, the read roofline.
     */
    private static double copied(Backend backend) {
        TensorOps ops = backend.tensorOps();
        try (Scope scope = backend.scope()) {
            Tensor first = backend.tensor(new float[COPIED_ROWS / 128 * COPIED_WIDTH], COPIED_ROWS / 128, COPIED_WIDTH);
            while (first.dim(0) < COPIED_ROWS)
                first = ops.concat(List.of(first, first));
            Tensor second = ops.concat(List.of(first));
            double[] seconds = new double[ROUNDS];
            for (int round = -1; round < ROUNDS; round++)
                try (Scope copy = backend.scope()) {
                    ops.slice(second, 0, 1).toFloats();
                    long start = System.nanoTime();
                    ops.slice(ops.concat(List.of(first, second)), 0, 1).toFloats();
                    if (round >= 0)
                        seconds[round] = (System.nanoTime() - start) / 1e9;
                }
            return 2 * 2 * 4.0 * COPIED_ROWS * COPIED_WIDTH / Bench.median(seconds) / 1e9;
        }
    }

    private static int sum(MemorySegment memory) {
        IntVector a = IntVector.zero(INTS);
        IntVector b = IntVector.zero(INTS);
        IntVector c = IntVector.zero(INTS);
        IntVector d = IntVector.zero(INTS);
        int step = INTS.vectorByteSize();
        long end = memory.byteSize() / (4L * step) * (4L * step);
        for (long at = 0; at < end; at += 4L * step) {
            a = a.add(IntVector.fromMemorySegment(INTS, memory, at, ByteOrder.nativeOrder()));
            b = b.add(IntVector.fromMemorySegment(INTS, memory, at + step, ByteOrder.nativeOrder()));
            c = c.add(IntVector.fromMemorySegment(INTS, memory, at + 2L * step, ByteOrder.nativeOrder()));
            d = d.add(IntVector.fromMemorySegment(INTS, memory, at + 3L * step, ByteOrder.nativeOrder()));
        }
        return a.add(b).add(c).add(d).lane(0);
    }

    private static final int STEPS = 2_000_000;

    private static int multiplyAdd() {
        FloatVector x = FloatVector.broadcast(FLOATS, 0.999f);
        FloatVector y = FloatVector.broadcast(FLOATS, 0.001f);
        FloatVector a0 = x, a1 = x, a2 = x, a3 = x, a4 = x, a5 = x, a6 = x, a7 = x;
        FloatVector b0 = y, b1 = y, b2 = y, b3 = y, b4 = y, b5 = y, b6 = y, b7 = y;
        for (int i = 0; i < STEPS; i++) {
            a0 = a0.fma(x, y);
            a1 = a1.fma(x, y);
            a2 = a2.fma(x, y);
            a3 = a3.fma(x, y);
            a4 = a4.fma(x, y);
            a5 = a5.fma(x, y);
            a6 = a6.fma(x, y);
            a7 = a7.fma(x, y);
            b0 = b0.fma(x, y);
            b1 = b1.fma(x, y);
            b2 = b2.fma(x, y);
            b3 = b3.fma(x, y);
            b4 = b4.fma(x, y);
            b5 = b5.fma(x, y);
            b6 = b6.fma(x, y);
            b7 = b7.fma(x, y);
        }
        FloatVector a = a0.add(a1).add(a2).add(a3).add(a4).add(a5).add(a6).add(a7);
        FloatVector b = b0.add(b1).add(b2).add(b3).add(b4).add(b5).add(b6).add(b7);
        return (int) a.add(b).lane(0);
    }

    private interface Part {
        int run(int index);
    }

    /** Seconds that all threads together take for their parts. */
    private static double median(ExecutorService pool, int threads, Part part) {
        double[] seconds = new double[ROUNDS];
        int sink = 0;
        for (int round = 0; round < ROUNDS; round++) {
            long start = System.nanoTime();
            try {
                for (var future : pool.invokeAll(
                        IntStream.range(0, threads).mapToObj(i -> (Callable<Integer>) () -> part.run(i)).toList()))
                    sink += future.get();
            } catch (InterruptedException | ExecutionException e) {
                throw new IllegalStateException("the roofline could not be measured", e);
            }
            seconds[round] = (System.nanoTime() - start) / 1e9;
        }
        Arrays.sort(seconds);
        // a sum that is always there keeps the loops from being removed
        return sink == Integer.MIN_VALUE ? Double.NaN : seconds[ROUNDS / 2];
    }
}
