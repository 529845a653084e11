package io.omni.backend.cpu;

import io.omni.api.Attention;
import java.util.ArrayList;
import java.util.List;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/**
 * softmax(q · kᵀ) · v without the matrix of scores (Dao et al., FlashAttention): keys go by in blocks, each query keeps
 * its maximum, sum and weighted values. Blocks, and the chunks of blocks after which partial results are merged, start
 * at fixed positions of the sequence, so a query's result does not depend on which others are computed with it or on
 * how chunks are spread over threads. All query heads of a key head are computed together, so that keys and values are
 * read once.
 */
final class Flash {
    /** Keys in a block. */
    static final int BLOCK = 64;
    private static final int CHUNK = 16 * BLOCK;
    private static final int TILE_ROWS = 64;

    /**
     * One sequence's keys and values.
     *
     * @param k
     *            the address of each block's keys
     * @param v
     *            the address of each block's values
     * @param headStride
     *            bytes from one head to the next
     * @param stride
     *            bytes from one token to the next
     * @param length
     *            number of tokens
     * @param dropped
     *            how many of them are gone
     */
    record Keys(long[] k, long[] v, long headStride, long stride, int length, int dropped) {}

    /** Queries {@code from} to {@code to} of a sequence whose first is row {@code row}, with the heads of one key head. */
    private record Tile(int row, int from, int to, int position, int kvHead, Keys keys) {}

    private final CpuBackend backend;
    private final Attention attention;
    private final long q;
    private long y;
    private final int group;
    private final int dim;
    private final List<Tile> tiles = new ArrayList<>();

    Flash(CpuBackend backend, Attention attention, long q, long y) {
        this.backend = backend;
        this.attention = attention;
        this.q = q;
        this.y = y;
        group = attention.heads() / attention.kvHeads();
        dim = attention.headDim();
    }

    Flash to(long result) {
        y = result;
        return this;
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

    // a state is [rows] maxima, [rows] sums, [rows, dim] weighted values
    private long stateBytes(int rows) {
        return 4L * rows * (dim + 2);
    }

    private void clear(long state, int rows) {
        // the least number rather than −∞, so that scores of −∞ do not give NaN
        Rows.fill(-Float.MAX_VALUE, state, rows);
        Rows.fill(0, state + 4L * rows, rows * (dim + 1));
    }

    /** The state after the keys of one chunk alone. */
    private void chunk(Tile tile, int chunk, long state) {
        int rows = rows(tile);
        long sums = state + 4L * rows;
        long weighted = sums + 4L * rows;
        clear(state, rows);
        int lo = Math.max(start(tile, 0), chunk * CHUNK);
        int hi = Math.min(end(tile, rows - 1), (chunk + 1) * CHUNK);
        long bytes = 4L * rows * (dim + BLOCK);
        long scaled = backend.memory.take(bytes);
        long scores = scaled + 4L * rows * dim;
        try {
            long[] queries = Product.addresses(scaled, 4L * dim, rows);
            for (int r = 0; r < rows; r++)
                Rows.scale(attention.scale(), query(tile, r, q), queries[r], dim);
            int[] from = new int[rows];
            int[] to = new int[rows];
            float[] fade = new float[rows];
            Keys keys = tile.keys;
            for (int block = lo / BLOCK; block * BLOCK < hi; block++) {
                int base = block * BLOCK;
                int a = Math.max(lo - base, 0);
                int e = Math.min(hi - base, BLOCK);
                long k = keys.k[block] + keys.headStride * tile.kvHead;
                long v = keys.v[block] + keys.headStride * tile.kvHead;
                Product.floats(queries, 0, rows, k + keys.stride * a, keys.stride, dim, e - a, scores + 4L * a,
                        4L * BLOCK, false);
                for (int r = 0; r < rows; r++) {
                    from[r] = Math.max(start(tile, r) - base, 0);
                    to[r] = Math.min(end(tile, r) - base, BLOCK);
                    if (from[r] >= to[r])
                        continue;
                    long s = scores + 4L * (BLOCK * r + from[r]);
                    int n = to[r] - from[r];
                    float before = Lanes.get(state + 4L * r);
                    float max = Math.max(before, Rows.max(s, n));
                    fade[r] = Lanes.exp(before - max);
                    float sum = Rows.exp(s, max, s, n);
                    Lanes.put(state + 4L * r, max);
                    Lanes.put(sums + 4L * r, Math.fma(Lanes.get(sums + 4L * r), fade[r], sum));
                }
                weigh(rows, from, to, fade, scores, v, keys.stride, weighted);
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
            long weighted = 4L * (2 * rows + (long) dim * r);
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
                Rows.divide(state + 4L * (2 * rows + (long) dim * r), Lanes.get(state + 4L * (rows + r)), to, dim);
        }
    }

    private long query(Tile tile, int r, long base) {
        long token = tile.row + tile.from + r / group;
        return base + 4L * dim * (token * attention.heads() + tile.kvHead * group + r % group);
    }

    /** weighted[r] = weighted[r] · fade[r] + Σ p[r, j] · v[j], over the keys that row r sees, in their order. */
    private void weigh(int rows, int[] from, int[] to, float[] fade, long p, long v, long stride, long weighted) {
        long row = 4L * dim;
        for (int r = 0; r < rows;) {
            if (from[r] >= to[r]) {
                r++;
                continue;
            }
            boolean four = r + 4 <= rows;
            for (int i = 1; four && i < 4; i++)
                four = from[r + i] == from[r] && to[r + i] == to[r];
            long at = weighted + row * r;
            long weights = p + 4L * BLOCK * r;
            int d = 0;
            for (; d + 4 * Lanes.LANES <= dim; d += 4 * Lanes.LANES)
                if (four)
                weigh4(weights, from[r], to[r], fade[r], fade[r + 1], fade[r + 2], fade[r + 3], v + 4L * d, stride,
                        at + 4L * d, row);
                else
                weigh1(weights, from[r], to[r], fade[r], v + 4L * d, stride, at + 4L * d);
            for (; d < dim; d += Lanes.LANES)
                for (int i = 0; i < (four ? 4 : 1); i++)
                    weighRest(weights + 4L * BLOCK * i, from[r], to[r], fade[r + i], v + 4L * d, stride,
                            at + row * i + 4L * d, dim - d);
            r += four ? 4 : 1;
        }
    }

    private static void weigh4(long p, int from, int to, float f0, float f1, float f2, float f3, long v, long stride,
            long y, long row) {
        long y1 = y + row;
        long y2 = y + 2 * row;
        long y3 = y + 3 * row;
        FloatVector a00 = Lanes.load(y).mul(f0);
        FloatVector a01 = Lanes.load(y + Lanes.BYTES).mul(f0);
        FloatVector a02 = Lanes.load(y + 2 * Lanes.BYTES).mul(f0);
        FloatVector a03 = Lanes.load(y + 3 * Lanes.BYTES).mul(f0);
        FloatVector a10 = Lanes.load(y1).mul(f1);
        FloatVector a11 = Lanes.load(y1 + Lanes.BYTES).mul(f1);
        FloatVector a12 = Lanes.load(y1 + 2 * Lanes.BYTES).mul(f1);
        FloatVector a13 = Lanes.load(y1 + 3 * Lanes.BYTES).mul(f1);
        FloatVector a20 = Lanes.load(y2).mul(f2);
        FloatVector a21 = Lanes.load(y2 + Lanes.BYTES).mul(f2);
        FloatVector a22 = Lanes.load(y2 + 2 * Lanes.BYTES).mul(f2);
        FloatVector a23 = Lanes.load(y2 + 3 * Lanes.BYTES).mul(f2);
        FloatVector a30 = Lanes.load(y3).mul(f3);
        FloatVector a31 = Lanes.load(y3 + Lanes.BYTES).mul(f3);
        FloatVector a32 = Lanes.load(y3 + 2 * Lanes.BYTES).mul(f3);
        FloatVector a33 = Lanes.load(y3 + 3 * Lanes.BYTES).mul(f3);
        for (int j = from; j < to; j++) {
            long at = v + j * stride;
            long weight = p + 4L * j;
            FloatVector v0 = Lanes.load(at);
            FloatVector v1 = Lanes.load(at + Lanes.BYTES);
            FloatVector v2 = Lanes.load(at + 2 * Lanes.BYTES);
            FloatVector v3 = Lanes.load(at + 3 * Lanes.BYTES);
            FloatVector w = Lanes.broadcast(Lanes.get(weight));
            a00 = v0.fma(w, a00);
            a01 = v1.fma(w, a01);
            a02 = v2.fma(w, a02);
            a03 = v3.fma(w, a03);
            w = Lanes.broadcast(Lanes.get(weight + 4L * BLOCK));
            a10 = v0.fma(w, a10);
            a11 = v1.fma(w, a11);
            a12 = v2.fma(w, a12);
            a13 = v3.fma(w, a13);
            w = Lanes.broadcast(Lanes.get(weight + 2 * 4L * BLOCK));
            a20 = v0.fma(w, a20);
            a21 = v1.fma(w, a21);
            a22 = v2.fma(w, a22);
            a23 = v3.fma(w, a23);
            w = Lanes.broadcast(Lanes.get(weight + 3 * 4L * BLOCK));
            a30 = v0.fma(w, a30);
            a31 = v1.fma(w, a31);
            a32 = v2.fma(w, a32);
            a33 = v3.fma(w, a33);
        }
        Lanes.store(a00, y);
        Lanes.store(a01, y + Lanes.BYTES);
        Lanes.store(a02, y + 2 * Lanes.BYTES);
        Lanes.store(a03, y + 3 * Lanes.BYTES);
        Lanes.store(a10, y1);
        Lanes.store(a11, y1 + Lanes.BYTES);
        Lanes.store(a12, y1 + 2 * Lanes.BYTES);
        Lanes.store(a13, y1 + 3 * Lanes.BYTES);
        Lanes.store(a20, y2);
        Lanes.store(a21, y2 + Lanes.BYTES);
        Lanes.store(a22, y2 + 2 * Lanes.BYTES);
        Lanes.store(a23, y2 + 3 * Lanes.BYTES);
        Lanes.store(a30, y3);
        Lanes.store(a31, y3 + Lanes.BYTES);
        Lanes.store(a32, y3 + 2 * Lanes.BYTES);
        Lanes.store(a33, y3 + 3 * Lanes.BYTES);
    }

    private static void weigh1(long p, int from, int to, float fade, long v, long stride, long y) {
        FloatVector a0 = Lanes.load(y).mul(fade);
        FloatVector a1 = Lanes.load(y + Lanes.BYTES).mul(fade);
        FloatVector a2 = Lanes.load(y + 2 * Lanes.BYTES).mul(fade);
        FloatVector a3 = Lanes.load(y + 3 * Lanes.BYTES).mul(fade);
        for (int j = from; j < to; j++) {
            long at = v + j * stride;
            FloatVector w = Lanes.broadcast(Lanes.get(p + 4L * j));
            a0 = Lanes.load(at).fma(w, a0);
            a1 = Lanes.load(at + Lanes.BYTES).fma(w, a1);
            a2 = Lanes.load(at + 2 * Lanes.BYTES).fma(w, a2);
            a3 = Lanes.load(at + 3 * Lanes.BYTES).fma(w, a3);
        }
        Lanes.store(a0, y);
        Lanes.store(a1, y + Lanes.BYTES);
        Lanes.store(a2, y + 2 * Lanes.BYTES);
        Lanes.store(a3, y + 3 * Lanes.BYTES);
    }

    private static void weighRest(long p, int from, int to, float fade, long v, long stride, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        FloatVector a = Lanes.load(y, mask).mul(fade);
        for (int j = from; j < to; j++)
            a = Lanes.load(v + j * stride, mask).fma(Lanes.broadcast(Lanes.get(p + 4L * j)), a);
        Lanes.store(a, y, mask);
    }
}
