package io.omni.backend.cpu;

import io.omni.api.DType;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/**
 * Matrix products x · wᵀ. Each element of the result is one dot product, summed in the same order wherever it lies: lane
 * l takes features l, l + lanes, ..., one after another, and {@link Lanes#sum} adds the lanes. So a row's result does
 * not depend on how many rows there are, and which tile or thread computes it.
 */
final class Product {
    private static final int TILE_ROWS = 4;
    private static final int TILE_OUTS = 6;
    // a block of weight rows as floats stays in the second-level cache while all rows of x pass by
    private static final long BLOCK_BYTES = 384 << 10;

    private Product() {}

    /** Outputs that a task should take together, a multiple of the tile. */
    static int outputsPerBlock(int in) {
        long rows = BLOCK_BYTES / Math.max(1, 4L * in);
        return (int) Math.clamp(rows / TILE_OUTS * TILE_OUTS, TILE_OUTS, 8 * TILE_OUTS);
    }

    /**
     * Products of some rows with some outputs: element (r, o) goes to {@code y + r · yStride + 4 · o}.
     *
     * @param x
     *            the address of each row, of which {@code from} to {@code to} are taken
     * @param add
     *            whether to add to what is there
     */
    static void rows(Memory memory, long[] x, int from, int to, Matrix w, int firstOut, int endOut, long y,
            long yStride, boolean add) {
        if (w.dtype() == DType.F32) {
            floats(x, from, to, w.row(firstOut), w.rowBytes(), w.in(), endOut - firstOut, y + 4L * firstOut, yStride,
                    add);
            return;
        }
        if (w.dtype() == DType.BF16 && to - from < TILE_ROWS) {
            halves(x, from, to, w, firstOut, endOut, y, yStride, add);
            return;
        }
        int in = w.in();
        int block = Math.min(outputsPerBlock(in), endOut - firstOut);
        long bytes = 4L * in * block;
        long scratch = memory.take(bytes);
        try {
            for (int o = firstOut; o < endOut; o += block) {
                int n = Math.min(block, endOut - o);
                for (int i = 0; i < n; i++)
                    toFloats(w.dtype(), w.row(o + i), scratch + 4L * in * i, in);
                floats(x, from, to, scratch, 4L * in, in, n, y + 4L * o, yStride, add);
            }
        } finally {
            memory.give(scratch, bytes);
        }
    }

    private static void halves(long[] x, int from, int to, Matrix w, int firstOut, int endOut, long y, long yStride,
            boolean add) {
        int o = firstOut;
        for (; o + 8 <= endOut; o += 8)
            for (int r = from; r < to; r++)
                halves8(x[r], w.row(o), w.rowBytes(), w.in(), y + r * yStride + 4L * o, add);
        for (; o < endOut; o++)
            for (int r = from; r < to; r++)
                put(y + r * yStride + 4L * o, halves1(x[r], w.row(o), w.in()), add);
    }

    /** Products with weight rows of floats; output 0 of row r goes to {@code y + r · yStride}. */
    static void floats(long[] x, int from, int to, long w, long wStride, int in, int outs, long y, long yStride,
            boolean add) {
        int r = from;
        for (; r + TILE_ROWS <= to; r += TILE_ROWS) {
            long at = y + r * yStride;
            int o = 0;
            for (; o + TILE_OUTS <= outs; o += TILE_OUTS)
                tile(x[r], x[r + 1], x[r + 2], x[r + 3], w + o * wStride, wStride, in, at + 4L * o, yStride, add);
            for (; o < outs; o++)
                column(x[r], x[r + 1], x[r + 2], x[r + 3], w + o * wStride, in, at + 4L * o, yStride, add);
        }
        for (; r < to; r++) {
            int o = 0;
            for (; o + 8 <= outs; o += 8)
                floats8(x[r], w + o * wStride, wStride, in, y + r * yStride + 4L * o, add);
            for (; o < outs; o++)
                put(y + r * yStride + 4L * o, floats1(x[r], w + o * wStride, in), add);
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

    private static void put(long address, float value, boolean add) {
        Lanes.put(address, add ? Lanes.get(address) + value : value);
    }

    private static void halves8(long x, long w, long wStride, int in, long y, boolean add) {
        long w1 = w + wStride;
        long w2 = w + 2 * wStride;
        long w3 = w + 3 * wStride;
        long w4 = w + 4 * wStride;
        long w5 = w + 5 * wStride;
        long w6 = w + 6 * wStride;
        long w7 = w + 7 * wStride;
        FloatVector a0 = FloatVector.zero(Lanes.F);
        FloatVector a1 = FloatVector.zero(Lanes.F);
        FloatVector a2 = FloatVector.zero(Lanes.F);
        FloatVector a3 = FloatVector.zero(Lanes.F);
        FloatVector a4 = FloatVector.zero(Lanes.F);
        FloatVector a5 = FloatVector.zero(Lanes.F);
        FloatVector a6 = FloatVector.zero(Lanes.F);
        FloatVector a7 = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(in);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v = Lanes.load(x + 4L * i);
            a0 = Lanes.loadBf16(w + 2L * i).fma(v, a0);
            a1 = Lanes.loadBf16(w1 + 2L * i).fma(v, a1);
            a2 = Lanes.loadBf16(w2 + 2L * i).fma(v, a2);
            a3 = Lanes.loadBf16(w3 + 2L * i).fma(v, a3);
            a4 = Lanes.loadBf16(w4 + 2L * i).fma(v, a4);
            a5 = Lanes.loadBf16(w5 + 2L * i).fma(v, a5);
            a6 = Lanes.loadBf16(w6 + 2L * i).fma(v, a6);
            a7 = Lanes.loadBf16(w7 + 2L * i).fma(v, a7);
        }
        if (end < in) {
            VectorMask<Float> mask = Lanes.first(in - end);
            FloatVector v = Lanes.load(x + 4L * end, mask);
            a0 = Lanes.loadBf16(w + 2L * end, in - end).fma(v, a0);
            a1 = Lanes.loadBf16(w1 + 2L * end, in - end).fma(v, a1);
            a2 = Lanes.loadBf16(w2 + 2L * end, in - end).fma(v, a2);
            a3 = Lanes.loadBf16(w3 + 2L * end, in - end).fma(v, a3);
            a4 = Lanes.loadBf16(w4 + 2L * end, in - end).fma(v, a4);
            a5 = Lanes.loadBf16(w5 + 2L * end, in - end).fma(v, a5);
            a6 = Lanes.loadBf16(w6 + 2L * end, in - end).fma(v, a6);
            a7 = Lanes.loadBf16(w7 + 2L * end, in - end).fma(v, a7);
        }
        put(y, Lanes.sum(a0), add);
        put(y + 4, Lanes.sum(a1), add);
        put(y + 8, Lanes.sum(a2), add);
        put(y + 12, Lanes.sum(a3), add);
        put(y + 16, Lanes.sum(a4), add);
        put(y + 20, Lanes.sum(a5), add);
        put(y + 24, Lanes.sum(a6), add);
        put(y + 28, Lanes.sum(a7), add);
    }

    private static float halves1(long x, long w, int in) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(in);
        for (int i = 0; i < end; i += Lanes.LANES)
            a = Lanes.loadBf16(w + 2L * i).fma(Lanes.load(x + 4L * i), a);
        if (end < in) {
            VectorMask<Float> mask = Lanes.first(in - end);
            a = Lanes.loadBf16(w + 2L * end, in - end).fma(Lanes.load(x + 4L * end, mask), a);
        }
        return Lanes.sum(a);
    }

    private static void floats8(long x, long w, long wStride, int in, long y, boolean add) {
        long w1 = w + wStride;
        long w2 = w + 2 * wStride;
        long w3 = w + 3 * wStride;
        long w4 = w + 4 * wStride;
        long w5 = w + 5 * wStride;
        long w6 = w + 6 * wStride;
        long w7 = w + 7 * wStride;
        FloatVector a0 = FloatVector.zero(Lanes.F);
        FloatVector a1 = FloatVector.zero(Lanes.F);
        FloatVector a2 = FloatVector.zero(Lanes.F);
        FloatVector a3 = FloatVector.zero(Lanes.F);
        FloatVector a4 = FloatVector.zero(Lanes.F);
        FloatVector a5 = FloatVector.zero(Lanes.F);
        FloatVector a6 = FloatVector.zero(Lanes.F);
        FloatVector a7 = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(in);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v = Lanes.load(x + 4L * i);
            a0 = Lanes.load(w + 4L * i).fma(v, a0);
            a1 = Lanes.load(w1 + 4L * i).fma(v, a1);
            a2 = Lanes.load(w2 + 4L * i).fma(v, a2);
            a3 = Lanes.load(w3 + 4L * i).fma(v, a3);
            a4 = Lanes.load(w4 + 4L * i).fma(v, a4);
            a5 = Lanes.load(w5 + 4L * i).fma(v, a5);
            a6 = Lanes.load(w6 + 4L * i).fma(v, a6);
            a7 = Lanes.load(w7 + 4L * i).fma(v, a7);
        }
        if (end < in) {
            VectorMask<Float> mask = Lanes.first(in - end);
            FloatVector v = Lanes.load(x + 4L * end, mask);
            a0 = Lanes.load(w + 4L * end, mask).fma(v, a0);
            a1 = Lanes.load(w1 + 4L * end, mask).fma(v, a1);
            a2 = Lanes.load(w2 + 4L * end, mask).fma(v, a2);
            a3 = Lanes.load(w3 + 4L * end, mask).fma(v, a3);
            a4 = Lanes.load(w4 + 4L * end, mask).fma(v, a4);
            a5 = Lanes.load(w5 + 4L * end, mask).fma(v, a5);
            a6 = Lanes.load(w6 + 4L * end, mask).fma(v, a6);
            a7 = Lanes.load(w7 + 4L * end, mask).fma(v, a7);
        }
        put(y, Lanes.sum(a0), add);
        put(y + 4, Lanes.sum(a1), add);
        put(y + 8, Lanes.sum(a2), add);
        put(y + 12, Lanes.sum(a3), add);
        put(y + 16, Lanes.sum(a4), add);
        put(y + 20, Lanes.sum(a5), add);
        put(y + 24, Lanes.sum(a6), add);
        put(y + 28, Lanes.sum(a7), add);
    }

    static float floats1(long x, long w, int in) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(in);
        for (int i = 0; i < end; i += Lanes.LANES)
            a = Lanes.load(w + 4L * i).fma(Lanes.load(x + 4L * i), a);
        if (end < in) {
            VectorMask<Float> mask = Lanes.first(in - end);
            a = Lanes.load(w + 4L * end, mask).fma(Lanes.load(x + 4L * end, mask), a);
        }
        return Lanes.sum(a);
    }

    /** Four rows by six outputs: 24 sums hide the latency of the multiply-adds and need ten loads. */
    private static void tile(long x0, long x1, long x2, long x3, long w, long wStride, int in, long y, long yStride,
            boolean add) {
        long w1 = w + wStride;
        long w2 = w + 2 * wStride;
        long w3 = w + 3 * wStride;
        long w4 = w + 4 * wStride;
        long w5 = w + 5 * wStride;
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
        int end = Lanes.F.loopBound(in);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v0 = Lanes.load(x0 + 4L * i);
            FloatVector v1 = Lanes.load(x1 + 4L * i);
            FloatVector v2 = Lanes.load(x2 + 4L * i);
            FloatVector v3 = Lanes.load(x3 + 4L * i);
            FloatVector u = Lanes.load(w + 4L * i);
            a00 = u.fma(v0, a00);
            a10 = u.fma(v1, a10);
            a20 = u.fma(v2, a20);
            a30 = u.fma(v3, a30);
            u = Lanes.load(w1 + 4L * i);
            a01 = u.fma(v0, a01);
            a11 = u.fma(v1, a11);
            a21 = u.fma(v2, a21);
            a31 = u.fma(v3, a31);
            u = Lanes.load(w2 + 4L * i);
            a02 = u.fma(v0, a02);
            a12 = u.fma(v1, a12);
            a22 = u.fma(v2, a22);
            a32 = u.fma(v3, a32);
            u = Lanes.load(w3 + 4L * i);
            a03 = u.fma(v0, a03);
            a13 = u.fma(v1, a13);
            a23 = u.fma(v2, a23);
            a33 = u.fma(v3, a33);
            u = Lanes.load(w4 + 4L * i);
            a04 = u.fma(v0, a04);
            a14 = u.fma(v1, a14);
            a24 = u.fma(v2, a24);
            a34 = u.fma(v3, a34);
            u = Lanes.load(w5 + 4L * i);
            a05 = u.fma(v0, a05);
            a15 = u.fma(v1, a15);
            a25 = u.fma(v2, a25);
            a35 = u.fma(v3, a35);
        }
        if (end < in) {
            VectorMask<Float> mask = Lanes.first(in - end);
            FloatVector v0 = Lanes.load(x0 + 4L * end, mask);
            FloatVector v1 = Lanes.load(x1 + 4L * end, mask);
            FloatVector v2 = Lanes.load(x2 + 4L * end, mask);
            FloatVector v3 = Lanes.load(x3 + 4L * end, mask);
            FloatVector u = Lanes.load(w + 4L * end, mask);
            a00 = u.fma(v0, a00);
            a10 = u.fma(v1, a10);
            a20 = u.fma(v2, a20);
            a30 = u.fma(v3, a30);
            u = Lanes.load(w1 + 4L * end, mask);
            a01 = u.fma(v0, a01);
            a11 = u.fma(v1, a11);
            a21 = u.fma(v2, a21);
            a31 = u.fma(v3, a31);
            u = Lanes.load(w2 + 4L * end, mask);
            a02 = u.fma(v0, a02);
            a12 = u.fma(v1, a12);
            a22 = u.fma(v2, a22);
            a32 = u.fma(v3, a32);
            u = Lanes.load(w3 + 4L * end, mask);
            a03 = u.fma(v0, a03);
            a13 = u.fma(v1, a13);
            a23 = u.fma(v2, a23);
            a33 = u.fma(v3, a33);
            u = Lanes.load(w4 + 4L * end, mask);
            a04 = u.fma(v0, a04);
            a14 = u.fma(v1, a14);
            a24 = u.fma(v2, a24);
            a34 = u.fma(v3, a34);
            u = Lanes.load(w5 + 4L * end, mask);
            a05 = u.fma(v0, a05);
            a15 = u.fma(v1, a15);
            a25 = u.fma(v2, a25);
            a35 = u.fma(v3, a35);
        }
        put(y, Lanes.sum(a00), add);
        put(y + 4, Lanes.sum(a01), add);
        put(y + 8, Lanes.sum(a02), add);
        put(y + 12, Lanes.sum(a03), add);
        put(y + 16, Lanes.sum(a04), add);
        put(y + 20, Lanes.sum(a05), add);
        long y1 = y + yStride;
        put(y1, Lanes.sum(a10), add);
        put(y1 + 4, Lanes.sum(a11), add);
        put(y1 + 8, Lanes.sum(a12), add);
        put(y1 + 12, Lanes.sum(a13), add);
        put(y1 + 16, Lanes.sum(a14), add);
        put(y1 + 20, Lanes.sum(a15), add);
        long y2 = y + 2 * yStride;
        put(y2, Lanes.sum(a20), add);
        put(y2 + 4, Lanes.sum(a21), add);
        put(y2 + 8, Lanes.sum(a22), add);
        put(y2 + 12, Lanes.sum(a23), add);
        put(y2 + 16, Lanes.sum(a24), add);
        put(y2 + 20, Lanes.sum(a25), add);
        long y3 = y + 3 * yStride;
        put(y3, Lanes.sum(a30), add);
        put(y3 + 4, Lanes.sum(a31), add);
        put(y3 + 8, Lanes.sum(a32), add);
        put(y3 + 12, Lanes.sum(a33), add);
        put(y3 + 16, Lanes.sum(a34), add);
        put(y3 + 20, Lanes.sum(a35), add);
    }

    /** Four rows by one output, for outputs that fill no tile. */
    private static void column(long x0, long x1, long x2, long x3, long w, int in, long y, long yStride, boolean add) {
        FloatVector a0 = FloatVector.zero(Lanes.F);
        FloatVector a1 = FloatVector.zero(Lanes.F);
        FloatVector a2 = FloatVector.zero(Lanes.F);
        FloatVector a3 = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(in);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector u = Lanes.load(w + 4L * i);
            a0 = u.fma(Lanes.load(x0 + 4L * i), a0);
            a1 = u.fma(Lanes.load(x1 + 4L * i), a1);
            a2 = u.fma(Lanes.load(x2 + 4L * i), a2);
            a3 = u.fma(Lanes.load(x3 + 4L * i), a3);
        }
        if (end < in) {
            VectorMask<Float> mask = Lanes.first(in - end);
            FloatVector u = Lanes.load(w + 4L * end, mask);
            a0 = u.fma(Lanes.load(x0 + 4L * end, mask), a0);
            a1 = u.fma(Lanes.load(x1 + 4L * end, mask), a1);
            a2 = u.fma(Lanes.load(x2 + 4L * end, mask), a2);
            a3 = u.fma(Lanes.load(x3 + 4L * end, mask), a3);
        }
        put(y, Lanes.sum(a0), add);
        put(y + yStride, Lanes.sum(a1), add);
        put(y + 2 * yStride, Lanes.sum(a2), add);
        put(y + 3 * yStride, Lanes.sum(a3), add);
    }
}
