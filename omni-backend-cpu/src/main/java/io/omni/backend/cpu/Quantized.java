package io.omni.backend.cpu;

import io.omni.api.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * Products of one row with block-quantised weights, and blocks as floats. An element, scale · q, is a float exactly, and
 * lanes add up in the order of {@link Product}: reading weights in place gives the bits of converting them first.
 *
 * <p>
 * A four-bit number becomes a float without a conversion. In vectors of sixteen lanes it is looked up among the sixteen
 * multiples of the scale; else, put below the exponent of 1 it makes 1 + (q + 8) / 16, and 16 · scale times that less
 * 24 · scale is scale · q, with nothing to round.
 */
final class Quantized {
    /** Whether vectors are wide enough for these kernels; vectors of four bytes do not exist. */
    static final boolean IN_PLACE = Lanes.LANES >= 8;

    private static final int BLOCK = 32;
    private static final int VECTOR = Lanes.BYTES;
    // the highest four bits below a float's exponent, and the bits of 1
    private static final int NIBBLE = 0x780000;
    private static final int ONE = 0x3f800000;

    private static final VectorSpecies<Float> F = Lanes.F;
    private static final VectorSpecies<Integer> I = Lanes.I;
    private static final VectorSpecies<Byte> B = VectorSpecies.of(byte.class,
            VectorShape.forBitSize(Math.max(64, F.vectorBitSize() / 4)));
    // what the four-bit numbers stand for; narrower vectors hold the first few and do not use them
    private static final FloatVector NUMBERS = FloatVector.fromArray(F,
            new float[]{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}, 0);
    private static final ValueLayout.OfShort SHORT = Lanes.SHORT;
    private static final MemorySegment ALL = Memory.ALL;
    private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;

    private Quantized() {}

    /** One row's products with {@code outs} rows of weights: a vector of partial sums for each at {@code sums}. */
    static void products(DType dtype, long x, long w, long stride, int in, int outs, long sums) {
        int blocks = in / BLOCK;
        // four rows far apart, and then the four after them: long streams are what processors fetch ahead
        int each = outs / 4;
        for (int o = 0; o < each; o++)
            if (dtype == DType.Q8)
            q8x4(x, w + o * stride, each * stride, blocks, sums + VECTOR * o, (long) VECTOR * each);
            else
            q4x4(x, w + o * stride, each * stride, blocks, sums + VECTOR * o, (long) VECTOR * each);
        for (int o = 4 * each; o < outs; o++)
            if (dtype == DType.Q8)
            q8x1(x, w + o * stride, blocks, sums + VECTOR * o);
            else
            q4x1(x, w + o * stride, blocks, sums + VECTOR * o);
    }

    /** Blocks of {@code n} elements in all as floats. */
    static void toFloats(DType dtype, long from, long to, int n) {
        if (!IN_PLACE)
            for (int i = 0; i < n; i++)
                Lanes.put(to + 4L * i, element(dtype, from, i));
        else if (dtype == DType.Q8)
            q8ToFloats(from, n / BLOCK, to);
        else
            q4ToFloats(from, n / BLOCK, to);
    }

    private static float element(DType dtype, long from, int i) {
        long block = from + (long) dtype.blockBytes() * (i / BLOCK);
        float scale = Float.float16ToFloat(Lanes.getShort(block));
        int j = i % BLOCK;
        if (dtype == DType.Q8)
            return scale * ALL.get(ValueLayout.JAVA_BYTE, block + 2 + j);
        int pair = ALL.get(ValueLayout.JAVA_BYTE, block + 2 + j % 16);
        return scale * ((j < 16 ? pair & 15 : pair >> 4 & 15) - 8);
    }

    private static void q8x4(long x, long w, long stride, int blocks, long sums, long step) {
        FloatVector a0 = FloatVector.zero(F);
        long w1 = w + stride;
        FloatVector a1 = FloatVector.zero(F);
        long w2 = w1 + stride;
        FloatVector a2 = FloatVector.zero(F);
        long w3 = w2 + stride;
        FloatVector a3 = FloatVector.zero(F);
        for (int b = 0; b < blocks; b++) {
            long at = 34L * b;
            long from = x + 128L * b;
            if (Lanes.LANES == 16) {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                FloatVector d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w + at)));
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a0);
                d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w1 + at)));
                a1 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a1);
                a1 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a1);
                d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w2 + at)));
                a2 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a2);
                a2 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a2);
                d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w3 + at)));
                a3 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a3);
                a3 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a3);
            } else {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 32, ORDER);
                FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, from + 96, ORDER);
                FloatVector d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w + at)));
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 10, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v2, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 26, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v3, a0);
                d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w1 + at)));
                a1 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a1);
                a1 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 10, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a1);
                a1 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v2, a1);
                a1 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 26, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v3, a1);
                d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w2 + at)));
                a2 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a2);
                a2 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 10, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a2);
                a2 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v2, a2);
                a2 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 26, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v3, a2);
                d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w3 + at)));
                a3 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a3);
                a3 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 10, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a3);
                a3 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v2, a3);
                a3 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 26, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v3, a3);
            }
        }
        a0.intoMemorySegment(ALL, sums, ORDER);
        a1.intoMemorySegment(ALL, sums + step, ORDER);
        a2.intoMemorySegment(ALL, sums + 2 * step, ORDER);
        a3.intoMemorySegment(ALL, sums + 3 * step, ORDER);
    }

    private static void q8x1(long x, long w, int blocks, long sums) {
        FloatVector a0 = FloatVector.zero(F);
        for (int b = 0; b < blocks; b++) {
            long at = 34L * b;
            long from = x + 128L * b;
            if (Lanes.LANES == 16) {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                FloatVector d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w + at)));
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a0);
            } else {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 32, ORDER);
                FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, from + 96, ORDER);
                FloatVector d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, w + at)));
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v0, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 10, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v1, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 18, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v2, a0);
                a0 = ((FloatVector) ByteVector.fromMemorySegment(B, ALL, w + at + 26, ORDER)
                        .convertShape(VectorOperators.B2F, F, 0)).mul(d).fma(v3, a0);
            }
        }
        a0.intoMemorySegment(ALL, sums, ORDER);
    }

    private static void q4x4(long x, long w, long stride, int blocks, long sums, long step) {
        FloatVector numbers = NUMBERS;
        FloatVector a0 = FloatVector.zero(F);
        long w1 = w + stride;
        FloatVector a1 = FloatVector.zero(F);
        long w2 = w1 + stride;
        FloatVector a2 = FloatVector.zero(F);
        long w3 = w2 + stride;
        FloatVector a3 = FloatVector.zero(F);
        for (int b = 0; b < blocks; b++) {
            long at = 18L * b;
            long from = x + 128L * b;
            if (Lanes.LANES == 16) {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                IntVector t = numbers.mul(Float.float16ToFloat(ALL.get(SHORT, w + at))).reinterpretAsInts();
                IntVector n = (IntVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a0 = n.selectFrom(t).reinterpretAsFloats().fma(v0, a0);
                a0 = n.lanewise(VectorOperators.LSHR, 4).selectFrom(t).reinterpretAsFloats().fma(v1, a0);
                t = numbers.mul(Float.float16ToFloat(ALL.get(SHORT, w1 + at))).reinterpretAsInts();
                n = (IntVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a1 = n.selectFrom(t).reinterpretAsFloats().fma(v0, a1);
                a1 = n.lanewise(VectorOperators.LSHR, 4).selectFrom(t).reinterpretAsFloats().fma(v1, a1);
                t = numbers.mul(Float.float16ToFloat(ALL.get(SHORT, w2 + at))).reinterpretAsInts();
                n = (IntVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a2 = n.selectFrom(t).reinterpretAsFloats().fma(v0, a2);
                a2 = n.lanewise(VectorOperators.LSHR, 4).selectFrom(t).reinterpretAsFloats().fma(v1, a2);
                t = numbers.mul(Float.float16ToFloat(ALL.get(SHORT, w3 + at))).reinterpretAsInts();
                n = (IntVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a3 = n.selectFrom(t).reinterpretAsFloats().fma(v0, a3);
                a3 = n.lanewise(VectorOperators.LSHR, 4).selectFrom(t).reinterpretAsFloats().fma(v1, a3);
            } else {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 32, ORDER);
                FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, from + 96, ORDER);
                FloatVector d = FloatVector.broadcast(F, 16 * Float.float16ToFloat(ALL.get(SHORT, w + at)));
                FloatVector e = d.mul(-1.5f);
                IntVector n0 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                IntVector n1 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w + at + 10, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a0 = n0.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v0,
                        a0);
                a0 = n1.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v1,
                        a0);
                a0 = n0.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v2,
                        a0);
                a0 = n1.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v3,
                        a0);
                d = FloatVector.broadcast(F, 16 * Float.float16ToFloat(ALL.get(SHORT, w1 + at)));
                e = d.mul(-1.5f);
                n0 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                n1 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w1 + at + 10, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a1 = n0.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v0,
                        a1);
                a1 = n1.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v1,
                        a1);
                a1 = n0.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v2,
                        a1);
                a1 = n1.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v3,
                        a1);
                d = FloatVector.broadcast(F, 16 * Float.float16ToFloat(ALL.get(SHORT, w2 + at)));
                e = d.mul(-1.5f);
                n0 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                n1 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w2 + at + 10, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a2 = n0.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v0,
                        a2);
                a2 = n1.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v1,
                        a2);
                a2 = n0.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v2,
                        a2);
                a2 = n1.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v3,
                        a2);
                d = FloatVector.broadcast(F, 16 * Float.float16ToFloat(ALL.get(SHORT, w3 + at)));
                e = d.mul(-1.5f);
                n0 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                n1 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w3 + at + 10, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a3 = n0.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v0,
                        a3);
                a3 = n1.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v1,
                        a3);
                a3 = n0.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v2,
                        a3);
                a3 = n1.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v3,
                        a3);
            }
        }
        a0.intoMemorySegment(ALL, sums, ORDER);
        a1.intoMemorySegment(ALL, sums + step, ORDER);
        a2.intoMemorySegment(ALL, sums + 2 * step, ORDER);
        a3.intoMemorySegment(ALL, sums + 3 * step, ORDER);
    }

    private static void q4x1(long x, long w, int blocks, long sums) {
        FloatVector numbers = NUMBERS;
        FloatVector a0 = FloatVector.zero(F);
        for (int b = 0; b < blocks; b++) {
            long at = 18L * b;
            long from = x + 128L * b;
            if (Lanes.LANES == 16) {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                IntVector t = numbers.mul(Float.float16ToFloat(ALL.get(SHORT, w + at))).reinterpretAsInts();
                IntVector n = (IntVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a0 = n.selectFrom(t).reinterpretAsFloats().fma(v0, a0);
                a0 = n.lanewise(VectorOperators.LSHR, 4).selectFrom(t).reinterpretAsFloats().fma(v1, a0);
            } else {
                FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, from, ORDER);
                FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, from + 32, ORDER);
                FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, from + 64, ORDER);
                FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, from + 96, ORDER);
                FloatVector d = FloatVector.broadcast(F, 16 * Float.float16ToFloat(ALL.get(SHORT, w + at)));
                FloatVector e = d.mul(-1.5f);
                IntVector n0 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w + at + 2, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                IntVector n1 = (IntVector) ByteVector.fromMemorySegment(B, ALL, w + at + 10, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                a0 = n0.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v0,
                        a0);
                a0 = n1.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v1,
                        a0);
                a0 = n0.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v2,
                        a0);
                a0 = n1.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e).fma(v3,
                        a0);
            }
        }
        a0.intoMemorySegment(ALL, sums, ORDER);
    }

    private static void q8ToFloats(long w, int blocks, long to) {
        for (int b = 0; b < blocks; b++) {
            long at = w + 34L * b;
            long y = to + 128L * b;
            FloatVector d = FloatVector.broadcast(F, Float.float16ToFloat(ALL.get(SHORT, at)));
            for (int i = 0; i < 32; i += Lanes.LANES)
                ((FloatVector) ByteVector.fromMemorySegment(B, ALL, at + 2 + i, ORDER).convertShape(VectorOperators.B2F,
                        F, 0)).mul(d).intoMemorySegment(ALL, y + 4L * i, ORDER);
        }
    }

    private static void q4ToFloats(long w, int blocks, long to) {
        for (int b = 0; b < blocks; b++) {
            long at = w + 18L * b;
            long y = to + 128L * b;
            FloatVector d = FloatVector.broadcast(F, 16 * Float.float16ToFloat(ALL.get(SHORT, at)));
            FloatVector e = d.mul(-1.5f);
            for (int i = 0; i < 16; i += Lanes.LANES) {
                IntVector n = (IntVector) ByteVector.fromMemorySegment(B, ALL, at + 2 + i, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
                n.lanewise(VectorOperators.LSHL, 19).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e)
                        .intoMemorySegment(ALL, y + 4L * i, ORDER);
                n.lanewise(VectorOperators.LSHL, 15).and(NIBBLE).or(ONE).reinterpretAsFloats().fma(d, e)
                        .intoMemorySegment(ALL, y + 64 + 4L * i, ORDER);
            }
        }
    }
}
