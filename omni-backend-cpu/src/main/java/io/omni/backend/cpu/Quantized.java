package io.omni.backend.cpu;

import io.omni.api.DType;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * Products with block-quantised weights, read where they lie ({@link io.omni.api.Quantization} tells how). Lanes are rows
 * of the weight matrix, so that a vector takes an integer's bits from sixteen rows at once, and nothing is added across
 * lanes. Of each block and row, the products of 32 columns are added up in the order of the columns, and what comes out,
 * times the scale, to the blocks before: one order, for one row of x and for many, with vectors of any width.
 *
 * <p>
 * Many rows share blocks that were unpacked to floats. For a row alone, bits are masked where they are rather than shifted
 * down, one instruction an element less: what is 2ᵏ times too large is multiplied by an activation 2ᵏ times smaller, exactly.
 * As q + 8 and q + 128 are stored, a sum starts at −8 or −128
 * times the sum of the 32 activations.
 */
final class Quantized {
    /** Rows and columns of a block. */
    static final int BLOCK = 32;
    /** Rows from which on each block of weights is unpacked, once for all of them. */
    static final int MANY = 4;

    private static final int TILE_ROWS = 6;
    // blocks that stay unpacked in the first-level cache while all rows of a chunk pass by
    private static final int UNPACKED = 4;
    // activations that stay in the second-level cache while blocks pass by
    private static final long CHUNK_BYTES = 512 << 10;
    private static final int SCALES = 2 * BLOCK;
    private static final int VECTOR = Lanes.BYTES;
    // 32 floats, and two vectors of them
    private static final int ROW = 4 * BLOCK;
    private static final int PAIR = 2 * VECTOR;
    private static final long UNPACKED_BYTES = ROW * (BLOCK + 1);
    // a scale's bits moved to a float's, sign included, are the scale times 2⁻¹¹², as exponents count from elsewhere
    private static final int SIGN_AND_REST = 0x8fffe000;
    private static final float HALF_BIAS = 0x1p112f;
    // of four elements where they lie in a lane or its upper half; only the highest is shifted down
    private static final float[] Q8_FACTORS = factors(0, 8);
    private static final float[] Q4_FACTORS = factors(16, 4);

    private static final VectorSpecies<Float> F = Lanes.F;
    private static final VectorSpecies<Integer> I = Lanes.I;
    private static final VectorSpecies<Short> S = Lanes.S;
    private static final MemorySegment ALL = Memory.ALL;
    private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;

    private Quantized() {}

    private static float[] factors(int first, int bits) {
        float[] factors = new float[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            factors[i] = i % 4 == 3 ? 1 : Math.scalb(1f, -first - bits * (i % 4));
        return factors;
    }

    /**
     * Outputs that a task of fewer rows than {@link #MANY} should take: such a product waits for memory, which gives a
     * fifth more when a task's bands lie in one long piece. So there are but two tasks for each thread.
     */
    static int outputsPerTask(int out, int threads) {
        int step = 2 * BLOCK;
        return Math.clamp(Math.ceilDiv(out, 2 * threads * step) * step, step, 512);
    }

    /**
     * As {@link Product#rows}, in place of what is there; outputs are whole blocks.
     */
    static void rows(Memory memory, long[] x, long[] blockSums, int from, int to, Matrix w, int firstOut, int endOut,
            long y, long yStride) {
        int in = w.in();
        int blocks = in / BLOCK;
        // a start for each block's sum
        long startsRow = BlockSums.rowBytes(blocks);
        float offset = w.dtype() == DType.Q8 ? -128 : -8;
        int chunk = Math.min(to - from, (int) Math.clamp(CHUNK_BYTES / (4L * in), 2 * MANY, 64));
        long bytes = chunk * startsRow + BlockSums.LANES_BYTES + 4L * in + ROW + UNPACKED * UNPACKED_BYTES;
        long scratch = memory.take(bytes);
        try {
            long sums = scratch + chunk * startsRow;
            long scaled = sums + BlockSums.LANES_BYTES;
            long nowhere = scaled + 4L * in;
            long wide = nowhere + ROW;
            for (int first = from; first < to;) {
                int n = Math.min(chunk, to - first);
                // no fewer than a tile takes are left for last
                if (to - first > n && to - first - n < MANY)
                    n -= MANY;
                for (int r = 0; r < n; r++) {
                    Rows.fill(0, y + (first + r) * yStride + 4L * firstOut, endOut - firstOut);
                    long starts = scratch + r * startsRow;
                    if (blockSums == null)
                        BlockSums.of(x[first + r], blocks, sums, starts);
                    Rows.scale(offset, blockSums == null ? starts : blockSums[first + r], starts, blocks);
                }
                // seven are six and one, as there is no tile of three
                int many = n < MANY ? 0 : n == TILE_ROWS + 1 ? TILE_ROWS : n;
                long touched = 0;
                for (int o = firstOut; many > 0 && o < endOut; o += BLOCK)
                    touched |= band(x, first, many, scratch, startsRow, w, o, w.row(endOut),
                            y + first * yStride + 4L * o, yStride, wide);
                for (int r = many; r < n; r++) {
                    scale(w.dtype(), x[first + r], in, scaled);
                    row(scaled, scratch + r * startsRow, blocks, w, firstOut, endOut, y + (first + r) * yStride, sums,
                            nowhere);
                }
                // what was read for its own sake must look as if somebody needed it
                ALL.set(Lanes.LONG, sums, touched);
                first += n;
            }
        } finally {
            memory.give(scratch, bytes);
        }
    }

    /** Activations for integers whose bits stay where they are. */
    private static void scale(DType type, long x, int in, long to) {
        float[] factors = type == DType.Q8 ? Q8_FACTORS : Q4_FACTORS;
        for (int i = 0; i < in; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).mul(FloatVector.fromArray(F, factors, i % BLOCK))
                    .intoMemorySegment(ALL, to + 4L * i, ORDER);
    }

    /**
     * One row by two bands of 32 weight rows at a time, one of the first half and one of the second: these are two streams
     * for the processor to fetch ahead, which go on from band to band.
     */
    private static void row(long x, long starts, int blocks, Matrix w, int firstOut, int endOut, long y, long sums,
            long nowhere) {
        int half = (endOut - firstOut + 2 * BLOCK - 1) / (2 * BLOCK) * BLOCK;
        for (int o = firstOut; o < firstOut + half; o += BLOCK) {
            boolean both = o + half < endOut;
            long y0 = y + 4L * o;
            long y1 = both ? y0 + 4L * half : nowhere;
            long w0 = w.row(o);
            long w1 = both ? w.row(o + half) : w0;
            for (int b = 0; b < blocks; b++) {
                long from = x + (long) ROW * b;
                float start = Lanes.get(starts + 4L * b);
                for (int lane = 0; lane < ROW; lane += PAIR) {
                    if (w.dtype() == DType.Q8)
                        q8(from, start, w0 + lane, w1 + lane, sums);
                    else
                        q4(from, start, w0 + lane, w1 + lane, sums);
                    addScaled(w0 + lane / 2, sums, y0 + lane);
                    addScaled(w1 + lane / 2, sums + PAIR, y1 + lane);
                }
                w0 += w.dtype().blockBytes();
                w1 += w.dtype().blockBytes();
            }
        }
    }

    /**
     * Many rows by 32 weight rows: blocks are unpacked once, a few at a time. On their way all tiles read the next blocks, so
     * that memory works while numbers are multiplied.
     *
     * @param end
     *            of the weights that may be read
     */
    private static long band(long[] x, int first, int n, long starts, long startsRow, Matrix w, int o, long end, long y,
            long yStride, long wide) {
        int blocks = w.in() / BLOCK;
        int blockBytes = w.dtype().blockBytes();
        int tiles = (n + TILE_ROWS - 1) / TILE_ROWS;
        int each = blockBytes / BLOCK / tiles;
        long block = w.row(o);
        long touched = 0;
        for (int b = 0; b < blocks; b += UNPACKED) {
            int count = Math.min(UNPACKED, blocks - b);
            for (int i = 0; i < count; i++) {
                unpack(w.dtype(), block, wide + UNPACKED_BYTES * i);
                block += blockBytes;
            }
            int step = block + (long) UNPACKED * blockBytes <= end ? each : 0;
            long ahead = step == 0 ? wide : block;
            for (int i = 0, r = 0; i < tiles; i++) {
                int rows = (n - r + tiles - i - 1) / (tiles - i);
                for (int lane = 0; lane < ROW; lane += PAIR) {
                    long sums = starts + r * startsRow + 4L * b;
                    long to = y + r * yStride + lane;
                    long at = (long) ROW * b;
                    touched |= switch (rows) {
                        case 6 ->
                            tile6(x, first + r, at, sums, startsRow, wide + lane, count, to, yStride, ahead, step);
                        case 5 ->
                            tile5(x, first + r, at, sums, startsRow, wide + lane, count, to, yStride, ahead, step);
                        default ->
                            tile4(x, first + r, at, sums, startsRow, wide + lane, count, to, yStride, ahead, step);
                    };
                }
                ahead += (long) step * BLOCK * count;
                r += rows;
            }
        }
        return touched;
    }

    /**
     * A block's integers as floats, 32 rows of a column after another, and its scales. Two vectors are taken in turn, so that
     * what is written lies together.
     */
    private static void unpack(DType type, long block, long wide) {
        for (int lane = 0; lane < ROW; lane += PAIR)
            if (type == DType.Q8)
            unpack8(block + SCALES + lane, wide + lane);
            else
            unpack4(block + SCALES + lane, wide + lane);
        long from = block & Memory.MASK;
        long to = wide + ROW * BLOCK & Memory.MASK;
        for (int lane = 0; lane < ROW; lane += VECTOR)
            ((IntVector) ShortVector.fromMemorySegment(S, ALL, from + lane / 2, ORDER)
                    .convertShape(VectorOperators.S2I, I, 0)).lanewise(VectorOperators.LSHL, 13).and(SIGN_AND_REST)
                    .reinterpretAsFloats().mul(HALF_BIAS).intoMemorySegment(ALL, to + lane, ORDER);
    }

    private static void unpack8(long from, long to) {
        long end = to + ROW * BLOCK;
        while (to != end) {
            long in = from & Memory.MASK;
            long out = to & Memory.MASK;
            IntVector n = IntVector.fromMemorySegment(I, ALL, in, ORDER);
            IntVector m = IntVector.fromMemorySegment(I, ALL, in + VECTOR, ORDER);
            ((FloatVector) n.and(255).convertShape(VectorOperators.I2F, F, 0)).intoMemorySegment(ALL, out, ORDER);
            ((FloatVector) m.and(255).convertShape(VectorOperators.I2F, F, 0)).intoMemorySegment(ALL, out + VECTOR,
                    ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 8).and(255).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 8).and(255).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 16).and(255).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 2 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 16).and(255).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 2 * ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 24).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 3 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 24).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 3 * ROW + VECTOR, ORDER);
            from += ROW;
            to += 4 * ROW;
        }
    }

    private static void unpack4(long from, long to) {
        long end = to + ROW * BLOCK;
        while (to != end) {
            long in = from & Memory.MASK;
            long out = to & Memory.MASK;
            IntVector n = IntVector.fromMemorySegment(I, ALL, in, ORDER);
            IntVector m = IntVector.fromMemorySegment(I, ALL, in + VECTOR, ORDER);
            ((FloatVector) n.and(15).convertShape(VectorOperators.I2F, F, 0)).intoMemorySegment(ALL, out, ORDER);
            ((FloatVector) m.and(15).convertShape(VectorOperators.I2F, F, 0)).intoMemorySegment(ALL, out + VECTOR,
                    ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 4).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 4).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 8).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 2 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 8).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 2 * ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 12).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 3 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 12).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 3 * ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 16).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 4 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 16).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 4 * ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 20).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 5 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 20).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 5 * ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 24).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 6 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 24).and(15).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 6 * ROW + VECTOR, ORDER);
            ((FloatVector) n.lanewise(VectorOperators.LSHR, 28).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 7 * ROW, ORDER);
            ((FloatVector) m.lanewise(VectorOperators.LSHR, 28).convertShape(VectorOperators.I2F, F, 0))
                    .intoMemorySegment(ALL, out + 7 * ROW + VECTOR, ORDER);
            from += ROW;
            to += 8 * ROW;
        }
    }

    /** y += scale · sum for two vectors of weight rows. */
    private static void addScaled(long scales, long sums, long y) {
        FloatVector s = ((IntVector) ShortVector.fromMemorySegment(S, ALL, scales, ORDER)
                .convertShape(VectorOperators.S2I, I, 0)).lanewise(VectorOperators.LSHL, 13).and(SIGN_AND_REST)
                .reinterpretAsFloats().mul(HALF_BIAS);
        s.fma(FloatVector.fromMemorySegment(F, ALL, sums, ORDER), FloatVector.fromMemorySegment(F, ALL, y, ORDER))
                .intoMemorySegment(ALL, y, ORDER);
        s = ((IntVector) ShortVector.fromMemorySegment(S, ALL, scales + VECTOR / 2, ORDER)
                .convertShape(VectorOperators.S2I, I, 0)).lanewise(VectorOperators.LSHL, 13).and(SIGN_AND_REST)
                .reinterpretAsFloats().mul(HALF_BIAS);
        s.fma(FloatVector.fromMemorySegment(F, ALL, sums + VECTOR, ORDER),
                FloatVector.fromMemorySegment(F, ALL, y + VECTOR, ORDER)).intoMemorySegment(ALL, y + VECTOR, ORDER);
    }

    /** A row's sums of 32 products with two vectors of weight rows, of each of two blocks; what scales them is apart, as the compiler gives up on larger methods. */
    private static void q8(long from, float start, long w, long w1, long sums) {
        FloatVector d0 = FloatVector.broadcast(F, start);
        FloatVector d1 = d0;
        FloatVector d2 = d0;
        FloatVector d3 = d0;
        long piece = SCALES;
        long end = from + ROW;
        // no counted loop, which would be cut in three, with a dozen limits to work out for each block
        while (from != end) {
            IntVector n0 = IntVector.fromMemorySegment(I, ALL, w + piece, ORDER);
            IntVector n1 = IntVector.fromMemorySegment(I, ALL, w + piece + VECTOR, ORDER);
            IntVector n2 = IntVector.fromMemorySegment(I, ALL, w1 + piece, ORDER);
            IntVector n3 = IntVector.fromMemorySegment(I, ALL, w1 + piece + VECTOR, ORDER);
            FloatVector v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from));
            d0 = ((FloatVector) n0.and(255).convertShape(VectorOperators.I2F, F, 0)).fma(v, d0);
            d1 = ((FloatVector) n1.and(255).convertShape(VectorOperators.I2F, F, 0)).fma(v, d1);
            d2 = ((FloatVector) n2.and(255).convertShape(VectorOperators.I2F, F, 0)).fma(v, d2);
            d3 = ((FloatVector) n3.and(255).convertShape(VectorOperators.I2F, F, 0)).fma(v, d3);
            v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from + 4));
            d0 = ((FloatVector) n0.and(255 << 8).convertShape(VectorOperators.I2F, F, 0)).fma(v, d0);
            d1 = ((FloatVector) n1.and(255 << 8).convertShape(VectorOperators.I2F, F, 0)).fma(v, d1);
            d2 = ((FloatVector) n2.and(255 << 8).convertShape(VectorOperators.I2F, F, 0)).fma(v, d2);
            d3 = ((FloatVector) n3.and(255 << 8).convertShape(VectorOperators.I2F, F, 0)).fma(v, d3);
            v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from + 8));
            d0 = ((FloatVector) n0.and(255 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d0);
            d1 = ((FloatVector) n1.and(255 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d1);
            d2 = ((FloatVector) n2.and(255 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d2);
            d3 = ((FloatVector) n3.and(255 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d3);
            v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from + 12));
            d0 = ((FloatVector) n0.lanewise(VectorOperators.LSHR, 24).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d0);
            d1 = ((FloatVector) n1.lanewise(VectorOperators.LSHR, 24).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d1);
            d2 = ((FloatVector) n2.lanewise(VectorOperators.LSHR, 24).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d2);
            d3 = ((FloatVector) n3.lanewise(VectorOperators.LSHR, 24).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d3);
            piece += ROW;
            from += 16;
        }
        // stored themselves, the sums would be objects in some runs: the compiler learns too late of which class they are
        FloatVector one = FloatVector.broadcast(F, 1f);
        one.mul(d0).intoMemorySegment(ALL, sums, ORDER);
        one.mul(d1).intoMemorySegment(ALL, sums + VECTOR, ORDER);
        one.mul(d2).intoMemorySegment(ALL, sums + 2 * VECTOR, ORDER);
        one.mul(d3).intoMemorySegment(ALL, sums + 3 * VECTOR, ORDER);
    }

    /**
     * As {@link #q8}, half a piece at a time. The lower halves are read two bytes early, so that their bits too lie in the
     * upper half of a lane.
     */
    private static void q4(long from, float start, long w, long w1, long sums) {
        FloatVector d0 = FloatVector.broadcast(F, start);
        FloatVector d1 = d0;
        FloatVector d2 = d0;
        FloatVector d3 = d0;
        long piece = SCALES - 2;
        int step = 2;
        long end = from + ROW;
        while (from != end) {
            IntVector n0 = IntVector.fromMemorySegment(I, ALL, w + piece, ORDER);
            IntVector n1 = IntVector.fromMemorySegment(I, ALL, w + piece + VECTOR, ORDER);
            IntVector n2 = IntVector.fromMemorySegment(I, ALL, w1 + piece, ORDER);
            IntVector n3 = IntVector.fromMemorySegment(I, ALL, w1 + piece + VECTOR, ORDER);
            FloatVector v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from));
            d0 = ((FloatVector) n0.and(15 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d0);
            d1 = ((FloatVector) n1.and(15 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d1);
            d2 = ((FloatVector) n2.and(15 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d2);
            d3 = ((FloatVector) n3.and(15 << 16).convertShape(VectorOperators.I2F, F, 0)).fma(v, d3);
            v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from + 4));
            d0 = ((FloatVector) n0.and(15 << 20).convertShape(VectorOperators.I2F, F, 0)).fma(v, d0);
            d1 = ((FloatVector) n1.and(15 << 20).convertShape(VectorOperators.I2F, F, 0)).fma(v, d1);
            d2 = ((FloatVector) n2.and(15 << 20).convertShape(VectorOperators.I2F, F, 0)).fma(v, d2);
            d3 = ((FloatVector) n3.and(15 << 20).convertShape(VectorOperators.I2F, F, 0)).fma(v, d3);
            v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from + 8));
            d0 = ((FloatVector) n0.and(15 << 24).convertShape(VectorOperators.I2F, F, 0)).fma(v, d0);
            d1 = ((FloatVector) n1.and(15 << 24).convertShape(VectorOperators.I2F, F, 0)).fma(v, d1);
            d2 = ((FloatVector) n2.and(15 << 24).convertShape(VectorOperators.I2F, F, 0)).fma(v, d2);
            d3 = ((FloatVector) n3.and(15 << 24).convertShape(VectorOperators.I2F, F, 0)).fma(v, d3);
            v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, from + 12));
            d0 = ((FloatVector) n0.lanewise(VectorOperators.LSHR, 28).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d0);
            d1 = ((FloatVector) n1.lanewise(VectorOperators.LSHR, 28).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d1);
            d2 = ((FloatVector) n2.lanewise(VectorOperators.LSHR, 28).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d2);
            d3 = ((FloatVector) n3.lanewise(VectorOperators.LSHR, 28).convertShape(VectorOperators.I2F, F, 0))
                    .fma(v, d3);
            piece += step;
            step = ROW - step;
            from += 16;
        }
        FloatVector one = FloatVector.broadcast(F, 1f);
        one.mul(d0).intoMemorySegment(ALL, sums, ORDER);
        one.mul(d1).intoMemorySegment(ALL, sums + VECTOR, ORDER);
        one.mul(d2).intoMemorySegment(ALL, sums + 2 * VECTOR, ORDER);
        one.mul(d3).intoMemorySegment(ALL, sums + 3 * VECTOR, ORDER);
    }

    /**
     * Six rows' products with unpacked blocks, two vectors of weight rows, added to {@code y}. As it is no counted loop,
     * the compiler has to be told that addresses are within bounds.
     *
     * @param at
     *            byte offset in each row of {@code x}
     * @param ahead
     *            what is read {@code step} bytes apart, so that memory works meanwhile
     */
    private static long tile6(long[] x, int r, long at, long starts, long startsRow, long wide, int count, long y,
            long yStride, long ahead, int step) {
        long x0 = x[r] & Memory.MASK;
        long x1 = x[r + 1] & Memory.MASK;
        long x2 = x[r + 2] & Memory.MASK;
        long x3 = x[r + 3] & Memory.MASK;
        long x4 = x[r + 4] & Memory.MASK;
        long x5 = x[r + 5] & Memory.MASK;
        long y1 = y + yStride;
        long y2 = y1 + yStride;
        long y3 = y2 + yStride;
        long y4 = y3 + yStride;
        long y5 = y4 + yStride;
        FloatVector c0 = FloatVector.fromMemorySegment(F, ALL, y, ORDER);
        FloatVector d0 = FloatVector.fromMemorySegment(F, ALL, y + VECTOR, ORDER);
        FloatVector c1 = FloatVector.fromMemorySegment(F, ALL, y1, ORDER);
        FloatVector d1 = FloatVector.fromMemorySegment(F, ALL, y1 + VECTOR, ORDER);
        FloatVector c2 = FloatVector.fromMemorySegment(F, ALL, y2, ORDER);
        FloatVector d2 = FloatVector.fromMemorySegment(F, ALL, y2 + VECTOR, ORDER);
        FloatVector c3 = FloatVector.fromMemorySegment(F, ALL, y3, ORDER);
        FloatVector d3 = FloatVector.fromMemorySegment(F, ALL, y3 + VECTOR, ORDER);
        FloatVector c4 = FloatVector.fromMemorySegment(F, ALL, y4, ORDER);
        FloatVector d4 = FloatVector.fromMemorySegment(F, ALL, y4 + VECTOR, ORDER);
        FloatVector c5 = FloatVector.fromMemorySegment(F, ALL, y5, ORDER);
        FloatVector d5 = FloatVector.fromMemorySegment(F, ALL, y5 + VECTOR, ORDER);
        long touched = 0;
        for (int block = 0; block < count; block++) {
            FloatVector a0 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts));
            FloatVector b0 = a0;
            FloatVector a1 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + startsRow));
            FloatVector b1 = a1;
            FloatVector a2 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 2 * startsRow));
            FloatVector b2 = a2;
            FloatVector a3 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 3 * startsRow));
            FloatVector b3 = a3;
            FloatVector a4 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 4 * startsRow));
            FloatVector b4 = a4;
            FloatVector a5 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 5 * startsRow));
            FloatVector b5 = a5;
            long end = wide + ROW * BLOCK;
            while (wide != end) {
                touched |= ALL.get(Lanes.LONG, ahead & Memory.MASK);
                ahead += step;
                long from = wide & Memory.MASK;
                FloatVector u = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector t = FloatVector.fromMemorySegment(F, ALL, from + VECTOR, ORDER);
                wide += ROW;
                long column = at & Memory.MASK;
                at += 4;
                FloatVector v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x0 + column));
                a0 = u.fma(v, a0);
                b0 = t.fma(v, b0);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x1 + column));
                a1 = u.fma(v, a1);
                b1 = t.fma(v, b1);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x2 + column));
                a2 = u.fma(v, a2);
                b2 = t.fma(v, b2);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x3 + column));
                a3 = u.fma(v, a3);
                b3 = t.fma(v, b3);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x4 + column));
                a4 = u.fma(v, a4);
                b4 = t.fma(v, b4);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x5 + column));
                a5 = u.fma(v, a5);
                b5 = t.fma(v, b5);
            }
            FloatVector s = FloatVector.fromMemorySegment(F, ALL, wide, ORDER);
            c0 = s.fma(a0, c0);
            c1 = s.fma(a1, c1);
            c2 = s.fma(a2, c2);
            c3 = s.fma(a3, c3);
            c4 = s.fma(a4, c4);
            c5 = s.fma(a5, c5);
            s = FloatVector.fromMemorySegment(F, ALL, wide + VECTOR, ORDER);
            d0 = s.fma(b0, d0);
            d1 = s.fma(b1, d1);
            d2 = s.fma(b2, d2);
            d3 = s.fma(b3, d3);
            d4 = s.fma(b4, d4);
            d5 = s.fma(b5, d5);
            wide += ROW;
            starts += 4;
        }
        c0.intoMemorySegment(ALL, y, ORDER);
        d0.intoMemorySegment(ALL, y + VECTOR, ORDER);
        c1.intoMemorySegment(ALL, y1, ORDER);
        d1.intoMemorySegment(ALL, y1 + VECTOR, ORDER);
        c2.intoMemorySegment(ALL, y2, ORDER);
        d2.intoMemorySegment(ALL, y2 + VECTOR, ORDER);
        c3.intoMemorySegment(ALL, y3, ORDER);
        d3.intoMemorySegment(ALL, y3 + VECTOR, ORDER);
        c4.intoMemorySegment(ALL, y4, ORDER);
        d4.intoMemorySegment(ALL, y4 + VECTOR, ORDER);
        c5.intoMemorySegment(ALL, y5, ORDER);
        d5.intoMemorySegment(ALL, y5 + VECTOR, ORDER);
        return touched;
    }

    private static long tile5(long[] x, int r, long at, long starts, long startsRow, long wide, int count, long y,
            long yStride, long ahead, int step) {
        long x0 = x[r] & Memory.MASK;
        long x1 = x[r + 1] & Memory.MASK;
        long x2 = x[r + 2] & Memory.MASK;
        long x3 = x[r + 3] & Memory.MASK;
        long x4 = x[r + 4] & Memory.MASK;
        long y1 = y + yStride;
        long y2 = y1 + yStride;
        long y3 = y2 + yStride;
        long y4 = y3 + yStride;
        FloatVector c0 = FloatVector.fromMemorySegment(F, ALL, y, ORDER);
        FloatVector d0 = FloatVector.fromMemorySegment(F, ALL, y + VECTOR, ORDER);
        FloatVector c1 = FloatVector.fromMemorySegment(F, ALL, y1, ORDER);
        FloatVector d1 = FloatVector.fromMemorySegment(F, ALL, y1 + VECTOR, ORDER);
        FloatVector c2 = FloatVector.fromMemorySegment(F, ALL, y2, ORDER);
        FloatVector d2 = FloatVector.fromMemorySegment(F, ALL, y2 + VECTOR, ORDER);
        FloatVector c3 = FloatVector.fromMemorySegment(F, ALL, y3, ORDER);
        FloatVector d3 = FloatVector.fromMemorySegment(F, ALL, y3 + VECTOR, ORDER);
        FloatVector c4 = FloatVector.fromMemorySegment(F, ALL, y4, ORDER);
        FloatVector d4 = FloatVector.fromMemorySegment(F, ALL, y4 + VECTOR, ORDER);
        long touched = 0;
        for (int block = 0; block < count; block++) {
            FloatVector a0 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts));
            FloatVector b0 = a0;
            FloatVector a1 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + startsRow));
            FloatVector b1 = a1;
            FloatVector a2 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 2 * startsRow));
            FloatVector b2 = a2;
            FloatVector a3 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 3 * startsRow));
            FloatVector b3 = a3;
            FloatVector a4 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 4 * startsRow));
            FloatVector b4 = a4;
            long end = wide + ROW * BLOCK;
            while (wide != end) {
                touched |= ALL.get(Lanes.LONG, ahead & Memory.MASK);
                ahead += step;
                long from = wide & Memory.MASK;
                FloatVector u = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector t = FloatVector.fromMemorySegment(F, ALL, from + VECTOR, ORDER);
                wide += ROW;
                long column = at & Memory.MASK;
                at += 4;
                FloatVector v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x0 + column));
                a0 = u.fma(v, a0);
                b0 = t.fma(v, b0);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x1 + column));
                a1 = u.fma(v, a1);
                b1 = t.fma(v, b1);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x2 + column));
                a2 = u.fma(v, a2);
                b2 = t.fma(v, b2);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x3 + column));
                a3 = u.fma(v, a3);
                b3 = t.fma(v, b3);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x4 + column));
                a4 = u.fma(v, a4);
                b4 = t.fma(v, b4);
            }
            FloatVector s = FloatVector.fromMemorySegment(F, ALL, wide, ORDER);
            c0 = s.fma(a0, c0);
            c1 = s.fma(a1, c1);
            c2 = s.fma(a2, c2);
            c3 = s.fma(a3, c3);
            c4 = s.fma(a4, c4);
            s = FloatVector.fromMemorySegment(F, ALL, wide + VECTOR, ORDER);
            d0 = s.fma(b0, d0);
            d1 = s.fma(b1, d1);
            d2 = s.fma(b2, d2);
            d3 = s.fma(b3, d3);
            d4 = s.fma(b4, d4);
            wide += ROW;
            starts += 4;
        }
        c0.intoMemorySegment(ALL, y, ORDER);
        d0.intoMemorySegment(ALL, y + VECTOR, ORDER);
        c1.intoMemorySegment(ALL, y1, ORDER);
        d1.intoMemorySegment(ALL, y1 + VECTOR, ORDER);
        c2.intoMemorySegment(ALL, y2, ORDER);
        d2.intoMemorySegment(ALL, y2 + VECTOR, ORDER);
        c3.intoMemorySegment(ALL, y3, ORDER);
        d3.intoMemorySegment(ALL, y3 + VECTOR, ORDER);
        c4.intoMemorySegment(ALL, y4, ORDER);
        d4.intoMemorySegment(ALL, y4 + VECTOR, ORDER);
        return touched;
    }

    private static long tile4(long[] x, int r, long at, long starts, long startsRow, long wide, int count, long y,
            long yStride, long ahead, int step) {
        long x0 = x[r] & Memory.MASK;
        long x1 = x[r + 1] & Memory.MASK;
        long x2 = x[r + 2] & Memory.MASK;
        long x3 = x[r + 3] & Memory.MASK;
        long y1 = y + yStride;
        long y2 = y1 + yStride;
        long y3 = y2 + yStride;
        FloatVector c0 = FloatVector.fromMemorySegment(F, ALL, y, ORDER);
        FloatVector d0 = FloatVector.fromMemorySegment(F, ALL, y + VECTOR, ORDER);
        FloatVector c1 = FloatVector.fromMemorySegment(F, ALL, y1, ORDER);
        FloatVector d1 = FloatVector.fromMemorySegment(F, ALL, y1 + VECTOR, ORDER);
        FloatVector c2 = FloatVector.fromMemorySegment(F, ALL, y2, ORDER);
        FloatVector d2 = FloatVector.fromMemorySegment(F, ALL, y2 + VECTOR, ORDER);
        FloatVector c3 = FloatVector.fromMemorySegment(F, ALL, y3, ORDER);
        FloatVector d3 = FloatVector.fromMemorySegment(F, ALL, y3 + VECTOR, ORDER);
        long touched = 0;
        for (int block = 0; block < count; block++) {
            FloatVector a0 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts));
            FloatVector b0 = a0;
            FloatVector a1 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + startsRow));
            FloatVector b1 = a1;
            FloatVector a2 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 2 * startsRow));
            FloatVector b2 = a2;
            FloatVector a3 = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, starts + 3 * startsRow));
            FloatVector b3 = a3;
            long end = wide + ROW * BLOCK;
            while (wide != end) {
                touched |= ALL.get(Lanes.LONG, ahead & Memory.MASK);
                ahead += step;
                long from = wide & Memory.MASK;
                FloatVector u = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector t = FloatVector.fromMemorySegment(F, ALL, from + VECTOR, ORDER);
                wide += ROW;
                long column = at & Memory.MASK;
                at += 4;
                FloatVector v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x0 + column));
                a0 = u.fma(v, a0);
                b0 = t.fma(v, b0);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x1 + column));
                a1 = u.fma(v, a1);
                b1 = t.fma(v, b1);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x2 + column));
                a2 = u.fma(v, a2);
                b2 = t.fma(v, b2);
                v = FloatVector.broadcast(F, ALL.get(Lanes.FLOAT, x3 + column));
                a3 = u.fma(v, a3);
                b3 = t.fma(v, b3);
            }
            FloatVector s = FloatVector.fromMemorySegment(F, ALL, wide, ORDER);
            c0 = s.fma(a0, c0);
            c1 = s.fma(a1, c1);
            c2 = s.fma(a2, c2);
            c3 = s.fma(a3, c3);
            s = FloatVector.fromMemorySegment(F, ALL, wide + VECTOR, ORDER);
            d0 = s.fma(b0, d0);
            d1 = s.fma(b1, d1);
            d2 = s.fma(b2, d2);
            d3 = s.fma(b3, d3);
            wide += ROW;
            starts += 4;
        }
        c0.intoMemorySegment(ALL, y, ORDER);
        d0.intoMemorySegment(ALL, y + VECTOR, ORDER);
        c1.intoMemorySegment(ALL, y1, ORDER);
        d1.intoMemorySegment(ALL, y1 + VECTOR, ORDER);
        c2.intoMemorySegment(ALL, y2, ORDER);
        d2.intoMemorySegment(ALL, y2 + VECTOR, ORDER);
        c3.intoMemorySegment(ALL, y3, ORDER);
        d3.intoMemorySegment(ALL, y3 + VECTOR, ORDER);
        return touched;
    }
}
