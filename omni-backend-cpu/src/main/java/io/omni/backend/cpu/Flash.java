package io.omni.backend.cpu;

import io.omni.api.Attention;
import io.omni.api.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * softmax(q · kᵀ) · v without the matrix of scores (Dao et al., FlashAttention): keys go by in spans of a few blocks, each
 * query keeps its maximum, sum and weighted values. Spans, and the chunks after which partial results are merged, start
 * at fixed positions of the sequence, so a query's result does not depend on which others are computed with it or on
 * how chunks are spread over threads. All query heads of a key head are computed together, so that keys and values are
 * read once.
 */
final class Flash {
    /** Keys in a block. */
    static final int BLOCK = 64;
    // keys whose scores become weights at once, as a row's maximum and sum take as long as some exponentials
    private static final int SPAN = 4 * BLOCK;
    private static final int CHUNK = 16 * BLOCK;
    private static final long ROW = 4L * SPAN;
    // keys and values of a long sequence come from the last-level cache: once for so many queries
    private static final int TILE_ROWS = 256;
    private static final int VECTOR = Lanes.BYTES;

    // kernels call the Vector API itself: the compiler inlines it at any size of the method, but not functions of ours
    private static final VectorSpecies<Float> F = Lanes.F;
    // as many bytes as there are lanes; with the shortest vectors half of those read are left alone
    private static final VectorSpecies<Byte> B = VectorSpecies.of(byte.class,
            VectorShape.forBitSize(Math.max(64, 8 * Lanes.LANES)));
    private static final MemorySegment ALL = Memory.ALL;
    private static final long MASK = Memory.MASK;
    private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;

    /**
     * One sequence's keys and values.
     *
     * @param type
     *            F32 or I8
     * @param blocks
     *            the address of each block, as {@link #store} writes it
     * @param length
     *            number of tokens
     * @param dropped
     *            how many of them are gone
     */
    record Keys(DType type, long[] blocks, int length, int dropped) {}

    /** Queries {@code from} to {@code to} of a sequence whose first is row {@code row}, with the heads of one key head. */
    private record Tile(int row, int from, int to, int position, int kvHead, Keys keys) {}

    private final CpuBackend backend;
    private final Attention attention;
    private final long q;
    private long y;
    private final int group;
    private final int dim;
    // of a row of weighted values: whole vectors, as a mask costs more than what it saves
    private final int wide;
    private final List<Tile> tiles = new ArrayList<>();

    Flash(CpuBackend backend, Attention attention, long q, long y) {
        this.backend = backend;
        this.attention = attention;
        this.q = q;
        this.y = y;
        group = attention.heads() / attention.kvHeads();
        dim = attention.headDim();
        wide = padded(dim);
    }

    /** The numbers that whole vectors take for a row of {@code dim}; those after {@code dim} are read, and count for nothing. */
    private static int padded(int dim) {
        return (dim + Lanes.LANES - 1) / Lanes.LANES * Lanes.LANES;
    }

    /**
     * Bytes of a block: [heads, dim, BLOCK] keys, then [heads, BLOCK, dim] values with each row padded to whole vectors; of
     * type I8, after these, [heads, BLOCK] scales of keys and as many of values.
     */
    static long blockBytes(DType type, int heads, int dim) {
        return scalesAt(type, heads, dim) + (type == DType.I8 ? 2 * 4L * BLOCK * heads : 0);
    }

    private static long valuesAt(DType type, int heads, int dim) {
        return type.bytes((long) BLOCK * heads * dim);
    }

    private static long scalesAt(DType type, int heads, int dim) {
        return valuesAt(type, heads, dim) + type.bytes((long) BLOCK * heads * padded(dim));
    }

    Flash to(long result) {
        y = result;
        return this;
    }

    /**
     * Writes {@code n} tokens into a block, from its token {@code first} on. A head's values lie together, as they would
     * share a few sets of the first-level cache if they lay a token's heads apart.
     *
     * @param k
     *            [n, heads, dim]
     * @param v
     *            [n, heads, dim]
     */
    static void store(DType type, long k, long v, int n, int heads, int dim, long block, int first) {
        long values = block + valuesAt(type, heads, dim);
        long scales = block + scalesAt(type, heads, dim);
        long size = type.bytes(1);
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < n; i++) {
                long from = 4L * dim * ((long) heads * i + h);
                int token = first + i;
                long key = block + size * ((long) BLOCK * dim * h + token);
                long value = values + size * padded(dim) * ((long) BLOCK * h + token);
                if (type == DType.I8) {
                    long scale = scales + 4L * (BLOCK * h + token);
                    Lanes.put(scale, toBytes(k + from, dim, key, BLOCK));
                    Lanes.put(scale + 4L * BLOCK * heads, toBytes(v + from, dim, value, 1));
                } else {
                    for (int d = 0; d < dim; d++)
                        Lanes.putInt(key + 4L * BLOCK * d, Lanes.getInt(k + from + 4L * d));
                    Lanes.copy(v + from, value, 4L * dim);
                }
            }
    }

    /** Writes a head's numbers as eight-bit integers, {@code step} bytes apart; returns their scale. */
    private static float toBytes(long x, int dim, long to, int step) {
        float largest = 0;
        for (int d = 0; d < dim; d++)
            largest = Math.max(largest, Math.abs(Lanes.get(x + 4L * d)));
        float scale = largest / 127;
        for (int d = 0; d < dim; d++)
            ALL.set(ValueLayout.JAVA_BYTE, to + (long) step * d,
                    (byte) (scale == 0 ? 0 : Math.rint(Lanes.get(x + 4L * d) / scale)));
        return scale;
    }

    /** Widens {@code n} eight-bit integers, whole vectors. */
    private static void widen(long from, int n, long to) {
        for (int i = 0; i < n; i += Lanes.LANES)
            ((FloatVector) ByteVector.fromMemorySegment(B, ALL, from + i, ORDER).convertShape(VectorOperators.B2F, F,
                    0))
                    .intoMemorySegment(ALL, to + 4L * i, ORDER);
    }

    /** Adds the {@code n} last queries of a sequence, from row {@code row} of q on. */
    void sequence(int row, int n, Keys keys) {
        int each = Math.max(1, TILE_ROWS / group);
        for (int from = 0; from < n; from += each)
            for (int head = 0; head < attention.kvHeads(); head++)
                tiles.add(new Tile(row, from, Math.min(n, from + each), keys.length() - n, head, keys));
    }

    void run() {
        int chunks = 0;
        for (Tile tile : tiles)
            chunks += lastChunk(tile) - firstChunk(tile);
        if (tiles.size() < 4 * backend.workers.threads() && chunks > tiles.size())
            runSplit(chunks);
        else
            backend.workers.run(tiles.size(), i -> runWhole(tiles.get(i)));
    }

    private void runWhole(Tile tile) {
        int rows = rows(tile);
        long state = stateBytes(rows);
        long total = backend.memory.take(2 * state);
        try {
            clear(total, rows);
            for (int chunk = firstChunk(tile); chunk < lastChunk(tile); chunk++) {
                chunk(tile, chunk, total + state);
                merge(total, total + state, rows);
            }
            finish(tile, total);
        } finally {
            backend.memory.give(total, 2 * state);
        }
    }

    /** Every chunk of every tile a task of its own, then every tile's chunks merged in order. */
    private void runSplit(int chunks) {
        long[] states = new long[chunks];
        Tile[] owners = new Tile[chunks];
        int[] numbers = new int[chunks];
        int[] first = new int[tiles.size() + 1];
        int n = 0;
        long bytes = 0;
        for (int i = 0; i < tiles.size(); i++) {
            Tile tile = tiles.get(i);
            first[i] = n;
            for (int chunk = firstChunk(tile); chunk < lastChunk(tile); chunk++) {
                owners[n] = tile;
                numbers[n] = chunk;
                states[n++] = bytes;
                bytes += stateBytes(rows(tile));
            }
        }
        first[tiles.size()] = n;
        long all = backend.memory.take(bytes);
        try {
            backend.workers.run(chunks, i -> chunk(owners[i], numbers[i], all + states[i]));
            for (int i = 0; i < tiles.size(); i++) {
                int rows = rows(tiles.get(i));
                long total = backend.memory.take(stateBytes(rows));
                try {
                    clear(total, rows);
                    for (int j = first[i]; j < first[i + 1]; j++)
                        merge(total, all + states[j], rows);
                    finish(tiles.get(i), total);
                } finally {
                    backend.memory.give(total, stateBytes(rows));
                }
            }
        } finally {
            backend.memory.give(all, bytes);
        }
    }

    private int rows(Tile tile) {
        return (tile.to - tile.from) * group;
    }

    private int start(Tile tile, int row) {
        int position = tile.position + tile.from + row / group;
        return attention.window() > 0 ? Math.max(0, position - attention.window() + 1) : 0;
    }

    private int end(Tile tile, int row) {
        return attention.causal() ? tile.position + tile.from + row / group + 1 : tile.keys.length();
    }

    private int firstChunk(Tile tile) {
        return start(tile, 0) / CHUNK;
    }

    private int lastChunk(Tile tile) {
        return CpuTensorOps.parts(Math.max(0, end(tile, rows(tile) - 1)), CHUNK);
    }

    // a state is [rows] maxima, [rows] sums, [rows, wide] weighted values
    private long stateBytes(int rows) {
        return 4L * rows * (wide + 2);
    }

    private void clear(long state, int rows) {
        // the least number rather than −∞, so that scores of −∞ do not give NaN
        Rows.fill(-Float.MAX_VALUE, state, rows);
        Rows.fill(0, state + 4L * rows, rows * (wide + 1));
    }

    /** The state after the keys of one chunk alone. */
    private void chunk(Tile tile, int chunk, long state) {
        int rows = rows(tile);
        long sums = state + 4L * rows;
        long weighted = sums + 4L * rows;
        clear(state, rows);
        int lo = Math.max(start(tile, 0), chunk * CHUNK);
        int hi = Math.min(end(tile, rows - 1), (chunk + 1) * CHUNK);
        Keys keys = tile.keys;
        boolean eight = keys.type == DType.I8;
        long bytes = ROW * rows + 4L * (rows * dim + (eight ? BLOCK * (dim + wide) : 0));
        long scaled = backend.memory.take(bytes);
        long scores = scaled + 4L * rows * dim;
        long wideKeys = scores + ROW * rows;
        long wideValues = wideKeys + 4L * BLOCK * dim;
        try {
            for (int r = 0; r < rows; r++)
                Rows.scale(attention.scale(), query(tile, r, q), scaled + 4L * dim * r, dim);
            int[] from = new int[rows];
            int[] to = new int[rows];
            float[] fade = new float[rows];
            int head = tile.kvHead * BLOCK;
            long scalesAt = scalesAt(keys.type, attention.kvHeads(), dim) + 4L * head;
            for (int span = lo / SPAN * SPAN; span < hi; span += SPAN) {
                int first = Math.max(lo, span) / BLOCK;
                int end = CpuTensorOps.parts(Math.min(hi, span + SPAN), BLOCK);
                for (int block = first; block < end; block++) {
                    long k = keys.blocks[block] + keys.type.bytes((long) head * dim);
                    if (eight) {
                        widen(k, BLOCK * dim, wideKeys);
                        k = wideKeys;
                    }
                    long part = scores + 4L * (block * BLOCK - span);
                    score(rows, scaled, k, Math.min(hi - block * BLOCK, BLOCK), part);
                    for (int r = 0; eight && r < rows; r++)
                        Rows.multiply(part + ROW * r, keys.blocks[block] + scalesAt, part + ROW * r, BLOCK);
                }
                for (int r = 0; r < rows; r++) {
                    from[r] = Math.max(start(tile, r) - span, 0);
                    to[r] = Math.min(end(tile, r) - span, SPAN);
                    if (from[r] >= to[r])
                        continue;
                    long s = scores + ROW * r + 4L * from[r];
                    int n = to[r] - from[r];
                    float before = Lanes.get(state + 4L * r);
                    float max = Math.max(before, Rows.max(s, n));
                    fade[r] = Lanes.exp(before - max);
                    float sum = Rows.exp(s, max, s, n);
                    Lanes.put(state + 4L * r, max);
                    Lanes.put(sums + 4L * r, Math.fma(Lanes.get(sums + 4L * r), fade[r], sum));
                }
                for (int block = first; block < end; block++) {
                    long v = keys.blocks[block] + valuesAt(keys.type, attention.kvHeads(), dim)
                            + keys.type.bytes((long) head * wide);
                    long p = scores + 4L * (block * BLOCK - span);
                    if (eight) {
                        widen(v, BLOCK * wide, wideValues);
                        v = wideValues;
                        long valueScales = keys.blocks[block] + scalesAt + 4L * BLOCK * attention.kvHeads();
                        for (int r = 0; r < rows; r++)
                            Rows.multiply(p + ROW * r, valueScales, p + ROW * r, BLOCK);
                    }
                    weigh(rows, from, to, block * BLOCK - span, fade, p, v, weighted);
                }
            }
        } finally {
            backend.memory.give(scaled, bytes);
        }
    }

    private void merge(long total, long part, int rows) {
        for (int r = 0; r < rows; r++) {
            float before = Lanes.get(total + 4L * r);
            float here = Lanes.get(part + 4L * r);
            float max = Math.max(before, here);
            float fade = Lanes.exp(before - max);
            float share = Lanes.exp(here - max);
            Lanes.put(total + 4L * r, max);
            long sum = total + 4L * (rows + r);
            Lanes.put(sum, Math.fma(Lanes.get(sum), fade, Lanes.get(part + 4L * (rows + r)) * share));
            long weighted = 4L * (2 * rows + (long) wide * r);
            Rows.scale(fade, total + weighted, total + weighted, dim);
            Rows.addScaled(share, part + weighted, total + weighted, dim);
        }
    }

    private void finish(Tile tile, long state) {
        int rows = rows(tile);
        for (int r = 0; r < rows; r++) {
            long to = query(tile, r, y);
            if (start(tile, r) >= end(tile, r))
                Rows.fill(0, to, dim);
            else
                Rows.divide(state + 4L * (2 * rows + (long) wide * r), Lanes.get(state + 4L * (rows + r)), to, dim);
        }
    }

    private long query(Tile tile, int r, long base) {
        long token = tile.row + tile.from + r / group;
        return base + 4L * dim * (token * attention.heads() + tile.kvHead * group + r % group);
    }

    /** scores[r, key] = Σ q[r, d] · k[d, key] for the first {@code n} keys of a block, and some more. */
    private void score(int rows, long queries, long k, int n, long scores) {
        long query = 4L * dim;
        long row = 4L * BLOCK;
        for (int r = 0; r < rows; r++)
            Rows.fill(0, scores + ROW * r, BLOCK);
        if (n <= Lanes.LANES) {
            // little of the block is filled, and what is not may have to come from memory
            int r = 0;
            for (; r + 4 <= rows; r += 4)
                combine4Narrow(queries + query * r, query, 0, dim, 1, 1, 1, 1, k, row, scores + ROW * r, ROW);
            for (; r < rows; r++)
                combine1Narrow(queries + query * r, 0, dim, 1, k, row, scores + ROW * r);
            return;
        }
        for (int c = 0; c < n; c += 4 * Lanes.LANES) {
            int r = 0;
            for (; r + 4 <= rows; r += 4)
                combine4(queries + query * r, query, 0, dim, 1, 1, 1, 1, k + 4L * c, row, scores + ROW * r + 4L * c,
                        ROW);
            for (; r < rows; r++)
                combine1(queries + query * r, 0, dim, 1, k + 4L * c, row, scores + ROW * r + 4L * c);
        }
    }

    /**
     * weighted[r] = weighted[r] · fade[r] + Σ p[r, j] · v[j], over the keys of a block that row r sees, in their order; a row
     * that saw some has faded.
     */
    private void weigh(int rows, int[] from, int[] to, int skip, float[] fade, long p, long v, long weighted) {
        long row = 4L * wide;
        for (int r = 0; r < rows;) {
            int lo = Math.max(from[r] - skip, 0);
            int hi = Math.min(to[r] - skip, BLOCK);
            if (lo >= hi) {
                r++;
                continue;
            }
            boolean four = r + 4 <= rows;
            for (int i = 1; four && i < 4; i++)
                four = Math.max(from[r + i] - skip, 0) == lo && Math.min(to[r + i] - skip, BLOCK) == hi;
            long at = weighted + row * r;
            long weights = p + ROW * r;
            int d = 0;
            for (; four && (wide - d) / Lanes.LANES % 4 > 0 && d + 5 * Lanes.LANES <= wide; d += 5 * Lanes.LANES)
                combine4x5(weights, ROW, lo, hi, fade[r], fade[r + 1], fade[r + 2], fade[r + 3], v + 4L * d, row,
                        at + 4L * d, row);
            for (; d + 4 * Lanes.LANES <= wide; d += 4 * Lanes.LANES)
                if (four)
                combine4(weights, ROW, lo, hi, fade[r], fade[r + 1], fade[r + 2], fade[r + 3], v + 4L * d, row,
                        at + 4L * d, row);
                else
                combine1(weights, lo, hi, fade[r], v + 4L * d, row, at + 4L * d);
            for (; d < wide; d += Lanes.LANES)
                if (four)
                combine4Narrow(weights, ROW, lo, hi, fade[r], fade[r + 1], fade[r + 2], fade[r + 3], v + 4L * d, row,
                        at + 4L * d, row);
                else
                combine1Narrow(weights, lo, hi, fade[r], v + 4L * d, row, at + 4L * d);
            for (int i = 0; i < (four ? 4 : 1); i++)
                fade[r++] = 1;
        }
    }

    // y = y · fade + Σ p[j] · v[j], for one or four rows, four vectors or one

    private static void combine4(long p, long pRow, int from, int to, float f0, float f1, float f2, float f3, long v,
            long stride, long y, long row) {
        y &= MASK;
        long y1 = y + row & MASK;
        long y2 = y1 + row & MASK;
        long y3 = y2 + row & MASK;
        long p1 = p + pRow;
        long p2 = p1 + pRow;
        long p3 = p2 + pRow;
        FloatVector a00 = FloatVector.fromMemorySegment(F, ALL, y, ORDER).mul(f0);
        FloatVector a01 = FloatVector.fromMemorySegment(F, ALL, y + VECTOR, ORDER).mul(f0);
        FloatVector a02 = FloatVector.fromMemorySegment(F, ALL, y + 2 * VECTOR, ORDER).mul(f0);
        FloatVector a03 = FloatVector.fromMemorySegment(F, ALL, y + 3 * VECTOR, ORDER).mul(f0);
        FloatVector a10 = FloatVector.fromMemorySegment(F, ALL, y1, ORDER).mul(f1);
        FloatVector a11 = FloatVector.fromMemorySegment(F, ALL, y1 + VECTOR, ORDER).mul(f1);
        FloatVector a12 = FloatVector.fromMemorySegment(F, ALL, y1 + 2 * VECTOR, ORDER).mul(f1);
        FloatVector a13 = FloatVector.fromMemorySegment(F, ALL, y1 + 3 * VECTOR, ORDER).mul(f1);
        FloatVector a20 = FloatVector.fromMemorySegment(F, ALL, y2, ORDER).mul(f2);
        FloatVector a21 = FloatVector.fromMemorySegment(F, ALL, y2 + VECTOR, ORDER).mul(f2);
        FloatVector a22 = FloatVector.fromMemorySegment(F, ALL, y2 + 2 * VECTOR, ORDER).mul(f2);
        FloatVector a23 = FloatVector.fromMemorySegment(F, ALL, y2 + 3 * VECTOR, ORDER).mul(f2);
        FloatVector a30 = FloatVector.fromMemorySegment(F, ALL, y3, ORDER).mul(f3);
        FloatVector a31 = FloatVector.fromMemorySegment(F, ALL, y3 + VECTOR, ORDER).mul(f3);
        FloatVector a32 = FloatVector.fromMemorySegment(F, ALL, y3 + 2 * VECTOR, ORDER).mul(f3);
        FloatVector a33 = FloatVector.fromMemorySegment(F, ALL, y3 + 3 * VECTOR, ORDER).mul(f3);
        for (int j = from; j < to; j++) {
            long at = v + j * stride & MASK;
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, at, ORDER);
            FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, at + VECTOR, ORDER);
            FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, at + 2 * VECTOR, ORDER);
            FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, at + 3 * VECTOR, ORDER);
            FloatVector w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p + 4L * j & MASK));
            a00 = v0.fma(w, a00);
            a01 = v1.fma(w, a01);
            a02 = v2.fma(w, a02);
            a03 = v3.fma(w, a03);
            w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p1 + 4L * j & MASK));
            a10 = v0.fma(w, a10);
            a11 = v1.fma(w, a11);
            a12 = v2.fma(w, a12);
            a13 = v3.fma(w, a13);
            w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p2 + 4L * j & MASK));
            a20 = v0.fma(w, a20);
            a21 = v1.fma(w, a21);
            a22 = v2.fma(w, a22);
            a23 = v3.fma(w, a23);
            w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p3 + 4L * j & MASK));
            a30 = v0.fma(w, a30);
            a31 = v1.fma(w, a31);
            a32 = v2.fma(w, a32);
            a33 = v3.fma(w, a33);
        }
        a00.intoMemorySegment(ALL, y, ORDER);
        a01.intoMemorySegment(ALL, y + VECTOR, ORDER);
        a02.intoMemorySegment(ALL, y + 2 * VECTOR, ORDER);
        a03.intoMemorySegment(ALL, y + 3 * VECTOR, ORDER);
        a10.intoMemorySegment(ALL, y1, ORDER);
        a11.intoMemorySegment(ALL, y1 + VECTOR, ORDER);
        a12.intoMemorySegment(ALL, y1 + 2 * VECTOR, ORDER);
        a13.intoMemorySegment(ALL, y1 + 3 * VECTOR, ORDER);
        a20.intoMemorySegment(ALL, y2, ORDER);
        a21.intoMemorySegment(ALL, y2 + VECTOR, ORDER);
        a22.intoMemorySegment(ALL, y2 + 2 * VECTOR, ORDER);
        a23.intoMemorySegment(ALL, y2 + 3 * VECTOR, ORDER);
        a30.intoMemorySegment(ALL, y3, ORDER);
        a31.intoMemorySegment(ALL, y3 + VECTOR, ORDER);
        a32.intoMemorySegment(ALL, y3 + 2 * VECTOR, ORDER);
        a33.intoMemorySegment(ALL, y3 + 3 * VECTOR, ORDER);
    }

    /** The same with five vectors, which leave none over more often than four do. */
    private static void combine4x5(long p, long pRow, int from, int to, float f0, float f1, float f2, float f3, long v,
            long stride, long y, long row) {
        y &= MASK;
        long y1 = y + row & MASK;
        long y2 = y1 + row & MASK;
        long y3 = y2 + row & MASK;
        long p1 = p + pRow;
        long p2 = p1 + pRow;
        long p3 = p2 + pRow;
        FloatVector a00 = FloatVector.fromMemorySegment(F, ALL, y, ORDER).mul(f0);
        FloatVector a01 = FloatVector.fromMemorySegment(F, ALL, y + VECTOR, ORDER).mul(f0);
        FloatVector a02 = FloatVector.fromMemorySegment(F, ALL, y + 2 * VECTOR, ORDER).mul(f0);
        FloatVector a03 = FloatVector.fromMemorySegment(F, ALL, y + 3 * VECTOR, ORDER).mul(f0);
        FloatVector a04 = FloatVector.fromMemorySegment(F, ALL, y + 4 * VECTOR, ORDER).mul(f0);
        FloatVector a10 = FloatVector.fromMemorySegment(F, ALL, y1, ORDER).mul(f1);
        FloatVector a11 = FloatVector.fromMemorySegment(F, ALL, y1 + VECTOR, ORDER).mul(f1);
        FloatVector a12 = FloatVector.fromMemorySegment(F, ALL, y1 + 2 * VECTOR, ORDER).mul(f1);
        FloatVector a13 = FloatVector.fromMemorySegment(F, ALL, y1 + 3 * VECTOR, ORDER).mul(f1);
        FloatVector a14 = FloatVector.fromMemorySegment(F, ALL, y1 + 4 * VECTOR, ORDER).mul(f1);
        FloatVector a20 = FloatVector.fromMemorySegment(F, ALL, y2, ORDER).mul(f2);
        FloatVector a21 = FloatVector.fromMemorySegment(F, ALL, y2 + VECTOR, ORDER).mul(f2);
        FloatVector a22 = FloatVector.fromMemorySegment(F, ALL, y2 + 2 * VECTOR, ORDER).mul(f2);
        FloatVector a23 = FloatVector.fromMemorySegment(F, ALL, y2 + 3 * VECTOR, ORDER).mul(f2);
        FloatVector a24 = FloatVector.fromMemorySegment(F, ALL, y2 + 4 * VECTOR, ORDER).mul(f2);
        FloatVector a30 = FloatVector.fromMemorySegment(F, ALL, y3, ORDER).mul(f3);
        FloatVector a31 = FloatVector.fromMemorySegment(F, ALL, y3 + VECTOR, ORDER).mul(f3);
        FloatVector a32 = FloatVector.fromMemorySegment(F, ALL, y3 + 2 * VECTOR, ORDER).mul(f3);
        FloatVector a33 = FloatVector.fromMemorySegment(F, ALL, y3 + 3 * VECTOR, ORDER).mul(f3);
        FloatVector a34 = FloatVector.fromMemorySegment(F, ALL, y3 + 4 * VECTOR, ORDER).mul(f3);
        for (int j = from; j < to; j++) {
            long at = v + j * stride & MASK;
            FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, at, ORDER);
            FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, at + VECTOR, ORDER);
            FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, at + 2 * VECTOR, ORDER);
            FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, at + 3 * VECTOR, ORDER);
            FloatVector v4 = FloatVector.fromMemorySegment(F, ALL, at + 4 * VECTOR, ORDER);
            FloatVector w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p + 4L * j & MASK));
            a00 = v0.fma(w, a00);
            a01 = v1.fma(w, a01);
            a02 = v2.fma(w, a02);
            a03 = v3.fma(w, a03);
            a04 = v4.fma(w, a04);
            w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p1 + 4L * j & MASK));
            a10 = v0.fma(w, a10);
            a11 = v1.fma(w, a11);
            a12 = v2.fma(w, a12);
            a13 = v3.fma(w, a13);
            a14 = v4.fma(w, a14);
            w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p2 + 4L * j & MASK));
            a20 = v0.fma(w, a20);
            a21 = v1.fma(w, a21);
            a22 = v2.fma(w, a22);
            a23 = v3.fma(w, a23);
            a24 = v4.fma(w, a24);
            w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p3 + 4L * j & MASK));
            a30 = v0.fma(w, a30);
            a31 = v1.fma(w, a31);
            a32 = v2.fma(w, a32);
            a33 = v3.fma(w, a33);
            a34 = v4.fma(w, a34);
        }
        a00.intoMemorySegment(ALL, y, ORDER);
        a01.intoMemorySegment(ALL, y + VECTOR, ORDER);
        a02.intoMemorySegment(ALL, y + 2 * VECTOR, ORDER);
        a03.intoMemorySegment(ALL, y + 3 * VECTOR, ORDER);
        a04.intoMemorySegment(ALL, y + 4 * VECTOR, ORDER);
        a10.intoMemorySegment(ALL, y1, ORDER);
        a11.intoMemorySegment(ALL, y1 + VECTOR, ORDER);
        a12.intoMemorySegment(ALL, y1 + 2 * VECTOR, ORDER);
        a13.intoMemorySegment(ALL, y1 + 3 * VECTOR, ORDER);
        a14.intoMemorySegment(ALL, y1 + 4 * VECTOR, ORDER);
        a20.intoMemorySegment(ALL, y2, ORDER);
        a21.intoMemorySegment(ALL, y2 + VECTOR, ORDER);
        a22.intoMemorySegment(ALL, y2 + 2 * VECTOR, ORDER);
        a23.intoMemorySegment(ALL, y2 + 3 * VECTOR, ORDER);
        a24.intoMemorySegment(ALL, y2 + 4 * VECTOR, ORDER);
        a30.intoMemorySegment(ALL, y3, ORDER);
        a31.intoMemorySegment(ALL, y3 + VECTOR, ORDER);
        a32.intoMemorySegment(ALL, y3 + 2 * VECTOR, ORDER);
        a33.intoMemorySegment(ALL, y3 + 3 * VECTOR, ORDER);
        a34.intoMemorySegment(ALL, y3 + 4 * VECTOR, ORDER);
    }

    private static void combine1(long p, int from, int to, float fade, long v, long stride, long y) {
        FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, y, ORDER).mul(fade);
        FloatVector a1 = FloatVector.fromMemorySegment(F, ALL, y + VECTOR, ORDER).mul(fade);
        FloatVector a2 = FloatVector.fromMemorySegment(F, ALL, y + 2 * VECTOR, ORDER).mul(fade);
        FloatVector a3 = FloatVector.fromMemorySegment(F, ALL, y + 3 * VECTOR, ORDER).mul(fade);
        for (int j = from; j < to; j++) {
            long at = v + j * stride & MASK;
            FloatVector w = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p + 4L * j & MASK));
            a0 = FloatVector.fromMemorySegment(F, ALL, at, ORDER).fma(w, a0);
            a1 = FloatVector.fromMemorySegment(F, ALL, at + VECTOR, ORDER).fma(w, a1);
            a2 = FloatVector.fromMemorySegment(F, ALL, at + 2 * VECTOR, ORDER).fma(w, a2);
            a3 = FloatVector.fromMemorySegment(F, ALL, at + 3 * VECTOR, ORDER).fma(w, a3);
        }
        a0.intoMemorySegment(ALL, y, ORDER);
        a1.intoMemorySegment(ALL, y + VECTOR, ORDER);
        a2.intoMemorySegment(ALL, y + 2 * VECTOR, ORDER);
        a3.intoMemorySegment(ALL, y + 3 * VECTOR, ORDER);
    }

    private static void combine4Narrow(long p, long pRow, int from, int to, float f0, float f1, float f2, float f3,
            long v,
            long stride, long y, long row) {
        long p1 = p + pRow;
        long p2 = p1 + pRow;
        long p3 = p2 + pRow;
        FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, y, ORDER).mul(f0);
        FloatVector a1 = FloatVector.fromMemorySegment(F, ALL, y + row, ORDER).mul(f1);
        FloatVector a2 = FloatVector.fromMemorySegment(F, ALL, y + 2 * row, ORDER).mul(f2);
        FloatVector a3 = FloatVector.fromMemorySegment(F, ALL, y + 3 * row, ORDER).mul(f3);
        for (int j = from; j < to; j++) {
            FloatVector u = FloatVector.fromMemorySegment(F, ALL, v + j * stride, ORDER);
            a0 = u.fma(FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p + 4L * j & MASK)), a0);
            a1 = u.fma(FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p1 + 4L * j & MASK)), a1);
            a2 = u.fma(FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p2 + 4L * j & MASK)), a2);
            a3 = u.fma(FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p3 + 4L * j & MASK)), a3);
        }
        a0.intoMemorySegment(ALL, y, ORDER);
        a1.intoMemorySegment(ALL, y + row, ORDER);
        a2.intoMemorySegment(ALL, y + 2 * row, ORDER);
        a3.intoMemorySegment(ALL, y + 3 * row, ORDER);
    }

    private static void combine1Narrow(long p, int from, int to, float fade, long v, long stride, long y) {
        FloatVector a = FloatVector.fromMemorySegment(F, ALL, y, ORDER).mul(fade);
        for (int j = from; j < to; j++)
            a = FloatVector.fromMemorySegment(F, ALL, v + j * stride, ORDER)
                    .fma(FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, p + 4L * j & MASK)), a);
        a.intoMemorySegment(ALL, y, ORDER);
    }
}
