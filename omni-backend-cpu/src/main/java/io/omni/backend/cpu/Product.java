package io.omni.backend.cpu;

import io.omni.api.DType;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * Matrix products x · wᵀ. Each element of the result is one dot product, summed in the same order wherever it lies: lane
 * l takes features l, l + lanes, ..., one after another, and then halves of the lanes are added, as in
 * {@link Lanes#sum}. So a row's result does not depend on how many rows there are, and which tile or thread computes it.
 *
 * <p>
 * Kernels leave a vector of partial sums for each element in scratch memory; adding up lanes afterwards, of many elements
 * at once, takes fewer instructions, and keeps each kernel small enough for the compiler to inline all of it.
 */
final class Product {
    private static final int TILE_ROWS = 4;
    static final int TILE_OUTS = 6;
    private static final int MOST_ROWS = 5;
    // a block of weight rows as floats stays in the second-level cache while all rows of x pass by
    private static final long BLOCK_BYTES = 384 << 10;
    static final int MOST_OUTS = 48;
    private static final int VECTOR = Lanes.BYTES;

    // kernels call the Vector API itself: the compiler inlines it at any size of the method, but not functions of ours
    private static final VectorSpecies<Float> F = Lanes.F;
    private static final VectorSpecies<Integer> I = Lanes.I;
    private static final VectorSpecies<Short> S = Lanes.S;
    private static final MemorySegment ALL = Memory.ALL;
    private static final long MASK = Memory.MASK;
    private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;

    private Product() {}

    /** Outputs that a task should take together, a multiple of the tile. */
    static int outputsPerBlock(int in) {
        long rows = BLOCK_BYTES / Math.max(1, 4L * in);
        return Math.clamp(rows / TILE_OUTS * TILE_OUTS, TILE_OUTS, MOST_OUTS);
    }

    /**
     * Products of some rows with some outputs: element (r, o) goes to {@code y + r · yStride + 4 · o}.
     *
     * @param x
     *            the address of each row, of which {@code from} to {@code to} are taken
     * @param blockSums
     *            where each row's {@link BlockSums} are, or null
     * @param add
     *            whether to add to what is there
     */
    static void rows(Memory memory, long[] x, long[] blockSums, int from, int to, Matrix w, int firstOut, int endOut,
            long y, long yStride, boolean add) {
        if (from >= to || firstOut >= endOut)
            return;
        if (w.dtype().isQuantized()) {
            Quantized.rows(memory, x, blockSums, from, to, w, firstOut, endOut, y, yStride);
            return;
        }
        int in = w.in();
        // bfloat16 is widened each time it is read, in two instructions, which is as fast as reading floats
        boolean widen = w.dtype() == DType.F16;
        int block = Math.min(widen ? outputsPerBlock(in) : MOST_OUTS, endOut - firstOut);
        // the lanes of some rows of outputs, padded to whole groups; then the widened weights
        int padded = (block + Lanes.LANES - 1) / Lanes.LANES * Lanes.LANES;
        long sumsRow = (long) VECTOR * padded;
        long bytes = MOST_ROWS * sumsRow + (widen ? 4L * in * block : 0);
        long sums = memory.take(bytes);
        try {
            long wide = sums + MOST_ROWS * sumsRow;
            for (int o = firstOut; o < endOut; o += block) {
                int n = Math.min(block, endOut - o);
                long weights = w.row(o);
                long stride = w.rowBytes();
                boolean halves = w.dtype() == DType.BF16;
                if (widen) {
                    for (int i = 0; i < n; i++)
                        toFloats(w.dtype(), w.row(o + i), wide + 4L * in * i, in);
                    weights = wide;
                    stride = 4L * in;
                    halves = false;
                }
                for (int r = from; r < to;) {
                    int count = halves ? halvesTogether(to - r) : to - r >= 3 ? Math.min(to - r, TILE_ROWS) : 1;
                    if (halves)
                        halves(x, r, count, weights, stride, in, n, sums, sumsRow);
                    else
                        floats(x, r, count, weights, stride, in, n, sums, sumsRow);
                    for (int i = 0; i < count; i++)
                        finish(sums + i * sumsRow, n, y + (r + i) * yStride + 4L * o, add);
                    r += count;
                }
            }
        } finally {
            memory.give(sums, bytes);
        }
    }

    /** Four rows, or five if fives and fours then take all. */
    private static int halvesTogether(int rows) {
        int fives = rows % TILE_ROWS;
        return fives > 0 && rows >= MOST_ROWS * fives ? MOST_ROWS : Math.min(rows, TILE_ROWS);
    }

    /**
     * Sums of some rows with outputs in tiles. A tile takes outputs that lie a fixed number apart, and the next tile the
     * ones after them: so each stream of weights goes on from tile to tile, and the processor's prefetching with it, which
     * short rows would otherwise end before it has begun.
     */
    private static void floats(long[] x, int r, int count, long w, long stride, int in, int outs, long sums, long row) {
        int end = Lanes.F.loopBound(in);
        int tiles = outs / TILE_OUTS;
        long apart = tiles * stride;
        long next = (long) VECTOR * tiles;
        // a fourth row that is not there is the third again, and its sums are left alone
        long x3 = x[r + count - 1];
        for (int o = 0; o < tiles; o++)
            if (count >= 3)
            floats4x6(x[r], x[r + 1], x[r + 2], x3, w + o * stride, apart, end, sums + VECTOR * o, next, row);
            else
            floats1x6(x[r], w + o * stride, apart, end, sums + VECTOR * o, next);
        for (int o = tiles * TILE_OUTS; o < outs; o++)
            if (count >= 3)
            floats4x1(x[r], x[r + 1], x[r + 2], x3, w + o * stride, end, sums + VECTOR * o, row);
            else
            floats1x1(x[r], w + o * stride, end, sums + VECTOR * o);
        if (end < in)
            for (int i = 0; i < count; i++)
                for (int o = 0; o < outs; o++)
                    floatsRest(x[r + i] + 4L * end, w + o * stride + 4L * end, in - end, sums + i * row + VECTOR * o);
    }

    /** The same with weights in bfloat16. */
    private static void halves(long[] x, int r, int count, long w, long stride, int in, int outs, long sums, long row) {
        int end = Lanes.F.loopBound(in);
        int tile = count == MOST_ROWS ? 4 : TILE_OUTS;
        int tiles = outs / tile;
        long apart = tiles * stride;
        long next = (long) VECTOR * tiles;
        long last = x[r + count - 1];
        for (int o = 0; o < tiles; o++) {
            long from = w + o * stride;
            long to = sums + VECTOR * o;
            switch (count) {
                case 1 -> halves1x6(last, from, apart, end, to, next);
                case 2 -> halves2x6(x[r], last, from, apart, end, to, next, row);
                // the fourth row that is not there is the third again, and its sums are left alone
                case 3, 4 -> halves4x6(x[r], x[r + 1], x[r + 2], last, from, apart, end, to, next, row);
                default -> halves5x4(x[r], x[r + 1], x[r + 2], x[r + 3], last, from, apart, end, to, next, row);
            }
        }
        for (int o = tiles * tile; o < outs; o++)
            for (int i = 0; i < count; i++)
                halves1x1(x[r + i], w + o * stride, end, sums + i * row + VECTOR * o);
        if (end < in)
            for (int i = 0; i < count; i++)
                for (int o = 0; o < outs; o++)
                    halvesRest(x[r + i] + 4L * end, w + o * stride + 2L * end, in - end, sums + i * row + VECTOR * o);
    }

    /** Adds up the lanes of {@code n} vectors, a group at a time: {@link Lanes#LANES} vectors become one. */
    private static void finish(long sums, int n, long y, boolean add) {
        for (int o = 0; o < n; o += Lanes.LANES) {
            long group = sums + VECTOR * o;
            boolean whole = o + Lanes.LANES <= n;
            if (whole && !add)
                Lanes.sumsTo(group, y + 4L * o);
            else {
                Lanes.sumsTo(group, group);
                finishRest(group, Math.min(Lanes.LANES, n - o), y + 4L * o, add);
            }
        }
    }

    private static void finishRest(long sums, int n, long y, boolean add) {
        for (int i = 0; i < n; i++) {
            float value = Lanes.get(sums + 4L * i);
            Lanes.put(y + 4L * i, add ? value + Lanes.get(y + 4L * i) : value);
        }
    }

    /** The addresses of {@code n} rows one after another. */
    static long[] addresses(long first, long stride, int n) {
        long[] addresses = new long[n];
        Arrays.setAll(addresses, i -> first + i * stride);
        return addresses;
    }

    static void toFloats(DType dtype, long from, long to, int n) {
        switch (dtype) {
            case F32 -> Lanes.copy(from, to, 4L * n);
            case BF16 -> {
                int i = 0;
                for (; i <= n - Lanes.LANES; i += Lanes.LANES)
                    Lanes.store(Lanes.loadBf16(from + 2L * i), to + 4L * i);
                for (; i < n; i++)
                    Lanes.putInt(to + 4L * i, Lanes.getShort(from + 2L * i) << 16);
            }
            case F16 -> {
                int i = 0;
                for (; i <= n - Lanes.LANES; i += Lanes.LANES)
                    Lanes.store(Lanes.loadF16(from + 2L * i), to + 4L * i);
                for (; i < n; i++)
                    Lanes.put(to + 4L * i, Float.float16ToFloat(Lanes.getShort(from + 2L * i)));
            }
            default -> throw new IllegalArgumentException("weights of type " + dtype);
        }
    }

    /** 24 sums hide the latency of the multiply-adds, and take ten loads. */
    private static void floats4x6(long x0, long x1, long x2, long x3, long w0, long stride, int end, long sums,
            long next, long row) {
        sums &= MASK;
        long w1 = w0 + stride;
        long w2 = w1 + stride;
        long w3 = w2 + stride;
        long w4 = w3 + stride;
        long w5 = w4 + stride;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        FloatVector a01 = FloatVector.zero(Lanes.F);
        FloatVector a02 = FloatVector.zero(Lanes.F);
        FloatVector a03 = FloatVector.zero(Lanes.F);
        FloatVector a04 = FloatVector.zero(Lanes.F);
        FloatVector a05 = FloatVector.zero(Lanes.F);
        FloatVector a10 = FloatVector.zero(Lanes.F);
        FloatVector a11 = FloatVector.zero(Lanes.F);
        FloatVector a12 = FloatVector.zero(Lanes.F);
        FloatVector a13 = FloatVector.zero(Lanes.F);
        FloatVector a14 = FloatVector.zero(Lanes.F);
        FloatVector a15 = FloatVector.zero(Lanes.F);
        FloatVector a20 = FloatVector.zero(Lanes.F);
        FloatVector a21 = FloatVector.zero(Lanes.F);
        FloatVector a22 = FloatVector.zero(Lanes.F);
        FloatVector a23 = FloatVector.zero(Lanes.F);
        FloatVector a24 = FloatVector.zero(Lanes.F);
        FloatVector a25 = FloatVector.zero(Lanes.F);
        FloatVector a30 = FloatVector.zero(Lanes.F);
        FloatVector a31 = FloatVector.zero(Lanes.F);
        FloatVector a32 = FloatVector.zero(Lanes.F);
        FloatVector a33 = FloatVector.zero(Lanes.F);
        FloatVector a34 = FloatVector.zero(Lanes.F);
        FloatVector a35 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i & MASK, ORDER);
            FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, x1 + 4L * i & MASK, ORDER);
            FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, x2 + 4L * i & MASK, ORDER);
            FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, x3 + 4L * i & MASK, ORDER);
            FloatVector u = FloatVector.fromMemorySegment(F, ALL, w0 + 4L * i & MASK, ORDER);
            a00 = u.fma(v0, a00);
            a10 = u.fma(v1, a10);
            a20 = u.fma(v2, a20);
            a30 = u.fma(v3, a30);
            u = FloatVector.fromMemorySegment(F, ALL, w1 + 4L * i & MASK, ORDER);
            a01 = u.fma(v0, a01);
            a11 = u.fma(v1, a11);
            a21 = u.fma(v2, a21);
            a31 = u.fma(v3, a31);
            u = FloatVector.fromMemorySegment(F, ALL, w2 + 4L * i & MASK, ORDER);
            a02 = u.fma(v0, a02);
            a12 = u.fma(v1, a12);
            a22 = u.fma(v2, a22);
            a32 = u.fma(v3, a32);
            u = FloatVector.fromMemorySegment(F, ALL, w3 + 4L * i & MASK, ORDER);
            a03 = u.fma(v0, a03);
            a13 = u.fma(v1, a13);
            a23 = u.fma(v2, a23);
            a33 = u.fma(v3, a33);
            u = FloatVector.fromMemorySegment(F, ALL, w4 + 4L * i & MASK, ORDER);
            a04 = u.fma(v0, a04);
            a14 = u.fma(v1, a14);
            a24 = u.fma(v2, a24);
            a34 = u.fma(v3, a34);
            u = FloatVector.fromMemorySegment(F, ALL, w5 + 4L * i & MASK, ORDER);
            a05 = u.fma(v0, a05);
            a15 = u.fma(v1, a15);
            a25 = u.fma(v2, a25);
            a35 = u.fma(v3, a35);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
        a01.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a02.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a03.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a04.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a05.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a10.intoMemorySegment(ALL, sums, ORDER);
        a11.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a12.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a13.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a14.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a15.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a20.intoMemorySegment(ALL, sums, ORDER);
        a21.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a22.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a23.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a24.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a25.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a30.intoMemorySegment(ALL, sums, ORDER);
        a31.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a32.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a33.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a34.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a35.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
    }

    private static void floats4x1(long x0, long x1, long x2, long x3, long w0, int end, long sums, long row) {
        x0 &= MASK;
        x1 &= MASK;
        x2 &= MASK;
        x3 &= MASK;
        w0 &= MASK;
        sums &= MASK;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        FloatVector a10 = FloatVector.zero(Lanes.F);
        FloatVector a20 = FloatVector.zero(Lanes.F);
        FloatVector a30 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i, ORDER);
            FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, x1 + 4L * i, ORDER);
            FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, x2 + 4L * i, ORDER);
            FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, x3 + 4L * i, ORDER);
            FloatVector u = FloatVector.fromMemorySegment(F, ALL, w0 + 4L * i, ORDER);
            a00 = u.fma(v0, a00);
            a10 = u.fma(v1, a10);
            a20 = u.fma(v2, a20);
            a30 = u.fma(v3, a30);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
        sums = sums + row & MASK;
        a10.intoMemorySegment(ALL, sums, ORDER);
        sums = sums + row & MASK;
        a20.intoMemorySegment(ALL, sums, ORDER);
        sums = sums + row & MASK;
        a30.intoMemorySegment(ALL, sums, ORDER);
    }

    private static void floats1x6(long x0, long w0, long stride, int end, long sums, long next) {
        x0 &= MASK;
        w0 &= MASK;
        sums &= MASK;
        long w1 = w0 + stride & MASK;
        long w2 = w1 + stride & MASK;
        long w3 = w2 + stride & MASK;
        long w4 = w3 + stride & MASK;
        long w5 = w4 + stride & MASK;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        FloatVector a01 = FloatVector.zero(Lanes.F);
        FloatVector a02 = FloatVector.zero(Lanes.F);
        FloatVector a03 = FloatVector.zero(Lanes.F);
        FloatVector a04 = FloatVector.zero(Lanes.F);
        FloatVector a05 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i, ORDER);
            FloatVector u = FloatVector.fromMemorySegment(F, ALL, w0 + 4L * i, ORDER);
            a00 = u.fma(v0, a00);
            u = FloatVector.fromMemorySegment(F, ALL, w1 + 4L * i, ORDER);
            a01 = u.fma(v0, a01);
            u = FloatVector.fromMemorySegment(F, ALL, w2 + 4L * i, ORDER);
            a02 = u.fma(v0, a02);
            u = FloatVector.fromMemorySegment(F, ALL, w3 + 4L * i, ORDER);
            a03 = u.fma(v0, a03);
            u = FloatVector.fromMemorySegment(F, ALL, w4 + 4L * i, ORDER);
            a04 = u.fma(v0, a04);
            u = FloatVector.fromMemorySegment(F, ALL, w5 + 4L * i, ORDER);
            a05 = u.fma(v0, a05);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
        a01.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a02.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a03.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a04.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a05.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
    }

    private static void floats1x1(long x0, long w0, int end, long sums) {
        x0 &= MASK;
        w0 &= MASK;
        sums &= MASK;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i, ORDER);
            FloatVector u = FloatVector.fromMemorySegment(F, ALL, w0 + 4L * i, ORDER);
            a00 = u.fma(v0, a00);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
    }

    private static void halves4x6(long x0, long x1, long x2, long x3, long w0, long stride, int end, long sums,
            long next, long row) {
        sums &= MASK;
        long w1 = w0 + stride;
        long w2 = w1 + stride;
        long w3 = w2 + stride;
        long w4 = w3 + stride;
        long w5 = w4 + stride;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        FloatVector a01 = FloatVector.zero(Lanes.F);
        FloatVector a02 = FloatVector.zero(Lanes.F);
        FloatVector a03 = FloatVector.zero(Lanes.F);
        FloatVector a04 = FloatVector.zero(Lanes.F);
        FloatVector a05 = FloatVector.zero(Lanes.F);
        FloatVector a10 = FloatVector.zero(Lanes.F);
        FloatVector a11 = FloatVector.zero(Lanes.F);
        FloatVector a12 = FloatVector.zero(Lanes.F);
        FloatVector a13 = FloatVector.zero(Lanes.F);
        FloatVector a14 = FloatVector.zero(Lanes.F);
        FloatVector a15 = FloatVector.zero(Lanes.F);
        FloatVector a20 = FloatVector.zero(Lanes.F);
        FloatVector a21 = FloatVector.zero(Lanes.F);
        FloatVector a22 = FloatVector.zero(Lanes.F);
        FloatVector a23 = FloatVector.zero(Lanes.F);
        FloatVector a24 = FloatVector.zero(Lanes.F);
        FloatVector a25 = FloatVector.zero(Lanes.F);
        FloatVector a30 = FloatVector.zero(Lanes.F);
        FloatVector a31 = FloatVector.zero(Lanes.F);
        FloatVector a32 = FloatVector.zero(Lanes.F);
        FloatVector a33 = FloatVector.zero(Lanes.F);
        FloatVector a34 = FloatVector.zero(Lanes.F);
        FloatVector a35 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i & MASK, ORDER);
            FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, x1 + 4L * i & MASK, ORDER);
            FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, x2 + 4L * i & MASK, ORDER);
            FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, x3 + 4L * i & MASK, ORDER);
            FloatVector u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w0 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a00 = u.fma(v0, a00);
            a10 = u.fma(v1, a10);
            a20 = u.fma(v2, a20);
            a30 = u.fma(v3, a30);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w1 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a01 = u.fma(v0, a01);
            a11 = u.fma(v1, a11);
            a21 = u.fma(v2, a21);
            a31 = u.fma(v3, a31);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w2 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a02 = u.fma(v0, a02);
            a12 = u.fma(v1, a12);
            a22 = u.fma(v2, a22);
            a32 = u.fma(v3, a32);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w3 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a03 = u.fma(v0, a03);
            a13 = u.fma(v1, a13);
            a23 = u.fma(v2, a23);
            a33 = u.fma(v3, a33);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w4 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a04 = u.fma(v0, a04);
            a14 = u.fma(v1, a14);
            a24 = u.fma(v2, a24);
            a34 = u.fma(v3, a34);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w5 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a05 = u.fma(v0, a05);
            a15 = u.fma(v1, a15);
            a25 = u.fma(v2, a25);
            a35 = u.fma(v3, a35);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
        a01.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a02.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a03.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a04.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a05.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a10.intoMemorySegment(ALL, sums, ORDER);
        a11.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a12.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a13.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a14.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a15.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a20.intoMemorySegment(ALL, sums, ORDER);
        a21.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a22.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a23.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a24.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a25.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a30.intoMemorySegment(ALL, sums, ORDER);
        a31.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a32.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a33.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a34.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a35.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
    }

    /** As many rows as leave none over more often than four do. */
    private static void halves5x4(long x0, long x1, long x2, long x3, long x4, long w0, long stride, int end, long sums,
            long next, long row) {
        sums &= MASK;
        long w1 = w0 + stride;
        long w2 = w1 + stride;
        long w3 = w2 + stride;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        FloatVector a01 = FloatVector.zero(Lanes.F);
        FloatVector a02 = FloatVector.zero(Lanes.F);
        FloatVector a03 = FloatVector.zero(Lanes.F);
        FloatVector a10 = FloatVector.zero(Lanes.F);
        FloatVector a11 = FloatVector.zero(Lanes.F);
        FloatVector a12 = FloatVector.zero(Lanes.F);
        FloatVector a13 = FloatVector.zero(Lanes.F);
        FloatVector a20 = FloatVector.zero(Lanes.F);
        FloatVector a21 = FloatVector.zero(Lanes.F);
        FloatVector a22 = FloatVector.zero(Lanes.F);
        FloatVector a23 = FloatVector.zero(Lanes.F);
        FloatVector a30 = FloatVector.zero(Lanes.F);
        FloatVector a31 = FloatVector.zero(Lanes.F);
        FloatVector a32 = FloatVector.zero(Lanes.F);
        FloatVector a33 = FloatVector.zero(Lanes.F);
        FloatVector a40 = FloatVector.zero(Lanes.F);
        FloatVector a41 = FloatVector.zero(Lanes.F);
        FloatVector a42 = FloatVector.zero(Lanes.F);
        FloatVector a43 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i & MASK, ORDER);
            FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, x1 + 4L * i & MASK, ORDER);
            FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, x2 + 4L * i & MASK, ORDER);
            FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, x3 + 4L * i & MASK, ORDER);
            FloatVector v4 = FloatVector.fromMemorySegment(F, ALL, x4 + 4L * i & MASK, ORDER);
            FloatVector u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w0 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a00 = u.fma(v0, a00);
            a10 = u.fma(v1, a10);
            a20 = u.fma(v2, a20);
            a30 = u.fma(v3, a30);
            a40 = u.fma(v4, a40);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w1 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a01 = u.fma(v0, a01);
            a11 = u.fma(v1, a11);
            a21 = u.fma(v2, a21);
            a31 = u.fma(v3, a31);
            a41 = u.fma(v4, a41);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w2 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a02 = u.fma(v0, a02);
            a12 = u.fma(v1, a12);
            a22 = u.fma(v2, a22);
            a32 = u.fma(v3, a32);
            a42 = u.fma(v4, a42);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w3 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a03 = u.fma(v0, a03);
            a13 = u.fma(v1, a13);
            a23 = u.fma(v2, a23);
            a33 = u.fma(v3, a33);
            a43 = u.fma(v4, a43);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
        a01.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a02.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a03.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a10.intoMemorySegment(ALL, sums, ORDER);
        a11.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a12.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a13.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a20.intoMemorySegment(ALL, sums, ORDER);
        a21.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a22.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a23.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a30.intoMemorySegment(ALL, sums, ORDER);
        a31.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a32.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a33.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a40.intoMemorySegment(ALL, sums, ORDER);
        a41.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a42.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a43.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
    }

    private static void halves2x6(long x0, long x1, long w0, long stride, int end, long sums, long next, long row) {
        sums &= MASK;
        long w1 = w0 + stride;
        long w2 = w1 + stride;
        long w3 = w2 + stride;
        long w4 = w3 + stride;
        long w5 = w4 + stride;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        FloatVector a01 = FloatVector.zero(Lanes.F);
        FloatVector a02 = FloatVector.zero(Lanes.F);
        FloatVector a03 = FloatVector.zero(Lanes.F);
        FloatVector a04 = FloatVector.zero(Lanes.F);
        FloatVector a05 = FloatVector.zero(Lanes.F);
        FloatVector a10 = FloatVector.zero(Lanes.F);
        FloatVector a11 = FloatVector.zero(Lanes.F);
        FloatVector a12 = FloatVector.zero(Lanes.F);
        FloatVector a13 = FloatVector.zero(Lanes.F);
        FloatVector a14 = FloatVector.zero(Lanes.F);
        FloatVector a15 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i & MASK, ORDER);
            FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, x1 + 4L * i & MASK, ORDER);
            FloatVector u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w0 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a00 = u.fma(v0, a00);
            a10 = u.fma(v1, a10);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w1 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a01 = u.fma(v0, a01);
            a11 = u.fma(v1, a11);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w2 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a02 = u.fma(v0, a02);
            a12 = u.fma(v1, a12);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w3 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a03 = u.fma(v0, a03);
            a13 = u.fma(v1, a13);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w4 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a04 = u.fma(v0, a04);
            a14 = u.fma(v1, a14);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w5 + 2L * i & MASK, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a05 = u.fma(v0, a05);
            a15 = u.fma(v1, a15);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
        a01.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a02.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a03.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a04.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a05.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
        sums = sums + row & MASK;
        a10.intoMemorySegment(ALL, sums, ORDER);
        a11.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a12.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a13.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a14.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a15.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
    }

    private static void halves1x6(long x0, long w0, long stride, int end, long sums, long next) {
        x0 &= MASK;
        w0 &= MASK;
        sums &= MASK;
        long w1 = w0 + stride & MASK;
        long w2 = w1 + stride & MASK;
        long w3 = w2 + stride & MASK;
        long w4 = w3 + stride & MASK;
        long w5 = w4 + stride & MASK;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        FloatVector a01 = FloatVector.zero(Lanes.F);
        FloatVector a02 = FloatVector.zero(Lanes.F);
        FloatVector a03 = FloatVector.zero(Lanes.F);
        FloatVector a04 = FloatVector.zero(Lanes.F);
        FloatVector a05 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i, ORDER);
            FloatVector u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w0 + 2L * i, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a00 = u.fma(v0, a00);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w1 + 2L * i, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a01 = u.fma(v0, a01);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w2 + 2L * i, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a02 = u.fma(v0, a02);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w3 + 2L * i, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a03 = u.fma(v0, a03);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w4 + 2L * i, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a04 = u.fma(v0, a04);
            u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w5 + 2L * i, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a05 = u.fma(v0, a05);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
        a01.intoMemorySegment(ALL, sums + next & MASK, ORDER);
        a02.intoMemorySegment(ALL, sums + 2 * next & MASK, ORDER);
        a03.intoMemorySegment(ALL, sums + 3 * next & MASK, ORDER);
        a04.intoMemorySegment(ALL, sums + 4 * next & MASK, ORDER);
        a05.intoMemorySegment(ALL, sums + 5 * next & MASK, ORDER);
    }

    private static void halves1x1(long x0, long w0, int end, long sums) {
        x0 &= MASK;
        w0 &= MASK;
        sums &= MASK;
        FloatVector a00 = FloatVector.zero(Lanes.F);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, x0 + 4L * i, ORDER);
            FloatVector u = ((IntVector) ShortVector.fromMemorySegment(S, ALL, w0 + 2L * i, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)).lanewise(VectorOperators.LSHL, 16)
                    .reinterpretAsFloats();
            a00 = u.fma(v0, a00);
        }
        a00.intoMemorySegment(ALL, sums, ORDER);
    }

    private static void floatsRest(long x, long w, int n, long sum) {
        VectorMask<Float> mask = Lanes.first(n);
        FloatVector.fromMemorySegment(F, ALL, w, ORDER, mask).fma(FloatVector.fromMemorySegment(F, ALL, x, ORDER, mask),
                FloatVector.fromMemorySegment(F, ALL, sum, ORDER)).intoMemorySegment(ALL, sum, ORDER);
    }

    private static void halvesRest(long x, long w, int n, long sum) {
        Lanes.loadBf16(w, n).fma(FloatVector.fromMemorySegment(F, ALL, x, ORDER, Lanes.first(n)),
                FloatVector.fromMemorySegment(F, ALL, sum, ORDER)).intoMemorySegment(ALL, sum, ORDER);
    }
}
