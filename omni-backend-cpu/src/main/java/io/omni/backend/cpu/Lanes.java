package io.omni.backend.cpu;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * Vectors of the width chosen, to and from raw addresses, and functions of them. Every function is a fixed sequence of
 * IEEE operations with explicit fused multiply-adds, so that interpreted and compiled code give the same bits.
 */
final class Lanes {
    static final VectorSpecies<Float> F = VectorSpecies.of(float.class, VectorShape.forBitSize(VectorWidth.choose()));
    static final VectorSpecies<Integer> I = F.withLanes(int.class);
    /** As many lanes of half the width. */
    static final VectorSpecies<Short> S = VectorSpecies.of(short.class,
            VectorShape.forBitSize(F.vectorBitSize() / 2));
    static final int LANES = F.length();
    static final int BYTES = 4 * LANES;

    static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED;
    static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final MemorySegment ALL = Memory.ALL;
    private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;
    // lane l and lane l ^ h change places; the lanes of l with bit h
    private static final VectorShuffle<Float> SWAP_8 = swap(8);
    private static final VectorShuffle<Float> SWAP_4 = swap(4);
    private static final VectorShuffle<Float> SWAP_2 = swap(2);
    private static final VectorShuffle<Float> SWAP_1 = swap(1);
    private static final VectorMask<Float> WITH_8 = with(8);
    private static final VectorMask<Float> WITH_4 = with(4);
    private static final VectorMask<Float> WITH_2 = with(2);
    private static final VectorMask<Float> WITH_1 = with(1);

    private Lanes() {}

    private static VectorShuffle<Float> swap(int h) {
        return VectorShuffle.fromOp(F, i -> (i ^ h) % LANES);
    }

    private static VectorMask<Float> with(int h) {
        boolean[] bits = new boolean[LANES];
        for (int i = 0; i < LANES; i++)
            bits[i] = (i & h) != 0;
        return VectorMask.fromArray(F, bits, 0);
    }

    static float get(long address) {
        return ALL.get(FLOAT, address);
    }

    static void put(long address, float value) {
        ALL.set(FLOAT, address, value);
    }

    static int getInt(long address) {
        return ALL.get(INT, address);
    }

    static void putInt(long address, int value) {
        ALL.set(INT, address, value);
    }

    static short getShort(long address) {
        return ALL.get(SHORT, address);
    }

    static void putShort(long address, short value) {
        ALL.set(SHORT, address, value);
    }

    static void copy(long from, long to, long bytes) {
        MemorySegment.copy(ALL, from, ALL, to, bytes);
    }

    static FloatVector load(long address) {
        return FloatVector.fromMemorySegment(F, ALL, address, ORDER);
    }

    static void store(FloatVector v, long address) {
        v.intoMemorySegment(ALL, address, ORDER);
    }

    /** Lanes {@code n}, counted from 0, and beyond are off. */
    static VectorMask<Float> first(int n) {
        return F.indexInRange(0, n);
    }

    static FloatVector loadBf16(long address) {
        return bf16(ShortVector.fromMemorySegment(S, ALL, address, ORDER));
    }

    static FloatVector loadBf16(long address, int n) {
        return bf16(ShortVector.fromMemorySegment(S, ALL, address, ORDER, S.indexInRange(0, n)));
    }

    static FloatVector loadF16(long address) {
        return f16(ShortVector.fromMemorySegment(S, ALL, address, ORDER));
    }

    private static FloatVector bf16(ShortVector bits) {
        return widen(bits).lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
    }

    private static FloatVector f16(ShortVector bits) {
        IntVector wide = widen(bits);
        IntVector sign = wide.and(0x8000).lanewise(VectorOperators.LSHL, 16);
        IntVector magnitude = wide.and(0x7fff).lanewise(VectorOperators.LSHL, 13);
        // the product moves the exponent to its new bias, subnormal numbers included; infinities and NaN need all ones
        IntVector value = magnitude.reinterpretAsFloats().mul(0x1p112f).reinterpretAsInts();
        IntVector special = magnitude.or(0x7f800000);
        return value.blend(special, magnitude.compare(VectorOperators.GE, 0x7c00 << 13)).or(sign)
                .reinterpretAsFloats();
    }

    private static IntVector widen(ShortVector bits) {
        return (IntVector) bits.convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0);
    }

    /** The sum of all lanes: halves first, then quarters and so on. */
    static float sum(FloatVector v) {
        if (LANES >= 16)
            v = v.add(v.rearrange(SWAP_8));
        if (LANES >= 8)
            v = v.add(v.rearrange(SWAP_4));
        v = v.add(v.rearrange(SWAP_2));
        v = v.add(v.rearrange(SWAP_1));
        return v.lane(0);
    }

    /**
     * The sums of as many vectors as there are lanes, one after another in memory. Two vectors become one by adding
     * halves of their lanes, the first's sums in the lanes without a bit, the second's in those with it; and so on.
     */
    static void sumsTo(long vectors, long y) {
        if (LANES == 16)
            sums16(vectors, y);
        else if (LANES == 8)
            sums8(vectors, y);
        else
            sums4(vectors, y);
    }

    private static void sums16(long v, long y) {
        FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, v, ORDER);
        FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, v + BYTES, ORDER);
        FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, v + 2 * BYTES, ORDER);
        FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, v + 3 * BYTES, ORDER);
        FloatVector v4 = FloatVector.fromMemorySegment(F, ALL, v + 4 * BYTES, ORDER);
        FloatVector v5 = FloatVector.fromMemorySegment(F, ALL, v + 5 * BYTES, ORDER);
        FloatVector v6 = FloatVector.fromMemorySegment(F, ALL, v + 6 * BYTES, ORDER);
        FloatVector v7 = FloatVector.fromMemorySegment(F, ALL, v + 7 * BYTES, ORDER);
        FloatVector v8 = FloatVector.fromMemorySegment(F, ALL, v + 8 * BYTES, ORDER);
        FloatVector v9 = FloatVector.fromMemorySegment(F, ALL, v + 9 * BYTES, ORDER);
        FloatVector v10 = FloatVector.fromMemorySegment(F, ALL, v + 10 * BYTES, ORDER);
        FloatVector v11 = FloatVector.fromMemorySegment(F, ALL, v + 11 * BYTES, ORDER);
        FloatVector v12 = FloatVector.fromMemorySegment(F, ALL, v + 12 * BYTES, ORDER);
        FloatVector v13 = FloatVector.fromMemorySegment(F, ALL, v + 13 * BYTES, ORDER);
        FloatVector v14 = FloatVector.fromMemorySegment(F, ALL, v + 14 * BYTES, ORDER);
        FloatVector v15 = FloatVector.fromMemorySegment(F, ALL, v + 15 * BYTES, ORDER);
        v0 = v0.blend(v8, WITH_8).add(v8.blend(v0, WITH_8).rearrange(SWAP_8));
        v1 = v1.blend(v9, WITH_8).add(v9.blend(v1, WITH_8).rearrange(SWAP_8));
        v2 = v2.blend(v10, WITH_8).add(v10.blend(v2, WITH_8).rearrange(SWAP_8));
        v3 = v3.blend(v11, WITH_8).add(v11.blend(v3, WITH_8).rearrange(SWAP_8));
        v4 = v4.blend(v12, WITH_8).add(v12.blend(v4, WITH_8).rearrange(SWAP_8));
        v5 = v5.blend(v13, WITH_8).add(v13.blend(v5, WITH_8).rearrange(SWAP_8));
        v6 = v6.blend(v14, WITH_8).add(v14.blend(v6, WITH_8).rearrange(SWAP_8));
        v7 = v7.blend(v15, WITH_8).add(v15.blend(v7, WITH_8).rearrange(SWAP_8));
        v0 = v0.blend(v4, WITH_4).add(v4.blend(v0, WITH_4).rearrange(SWAP_4));
        v1 = v1.blend(v5, WITH_4).add(v5.blend(v1, WITH_4).rearrange(SWAP_4));
        v2 = v2.blend(v6, WITH_4).add(v6.blend(v2, WITH_4).rearrange(SWAP_4));
        v3 = v3.blend(v7, WITH_4).add(v7.blend(v3, WITH_4).rearrange(SWAP_4));
        v0 = v0.blend(v2, WITH_2).add(v2.blend(v0, WITH_2).rearrange(SWAP_2));
        v1 = v1.blend(v3, WITH_2).add(v3.blend(v1, WITH_2).rearrange(SWAP_2));
        v0 = v0.blend(v1, WITH_1).add(v1.blend(v0, WITH_1).rearrange(SWAP_1));
        v0.intoMemorySegment(ALL, y, ORDER);
    }

    private static void sums8(long v, long y) {
        FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, v, ORDER);
        FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, v + BYTES, ORDER);
        FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, v + 2 * BYTES, ORDER);
        FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, v + 3 * BYTES, ORDER);
        FloatVector v4 = FloatVector.fromMemorySegment(F, ALL, v + 4 * BYTES, ORDER);
        FloatVector v5 = FloatVector.fromMemorySegment(F, ALL, v + 5 * BYTES, ORDER);
        FloatVector v6 = FloatVector.fromMemorySegment(F, ALL, v + 6 * BYTES, ORDER);
        FloatVector v7 = FloatVector.fromMemorySegment(F, ALL, v + 7 * BYTES, ORDER);
        v0 = v0.blend(v4, WITH_4).add(v4.blend(v0, WITH_4).rearrange(SWAP_4));
        v1 = v1.blend(v5, WITH_4).add(v5.blend(v1, WITH_4).rearrange(SWAP_4));
        v2 = v2.blend(v6, WITH_4).add(v6.blend(v2, WITH_4).rearrange(SWAP_4));
        v3 = v3.blend(v7, WITH_4).add(v7.blend(v3, WITH_4).rearrange(SWAP_4));
        v0 = v0.blend(v2, WITH_2).add(v2.blend(v0, WITH_2).rearrange(SWAP_2));
        v1 = v1.blend(v3, WITH_2).add(v3.blend(v1, WITH_2).rearrange(SWAP_2));
        v0 = v0.blend(v1, WITH_1).add(v1.blend(v0, WITH_1).rearrange(SWAP_1));
        v0.intoMemorySegment(ALL, y, ORDER);
    }

    private static void sums4(long v, long y) {
        FloatVector v0 = FloatVector.fromMemorySegment(F, ALL, v, ORDER);
        FloatVector v1 = FloatVector.fromMemorySegment(F, ALL, v + BYTES, ORDER);
        FloatVector v2 = FloatVector.fromMemorySegment(F, ALL, v + 2 * BYTES, ORDER);
        FloatVector v3 = FloatVector.fromMemorySegment(F, ALL, v + 3 * BYTES, ORDER);
        v0 = v0.blend(v2, WITH_2).add(v2.blend(v0, WITH_2).rearrange(SWAP_2));
        v1 = v1.blend(v3, WITH_2).add(v3.blend(v1, WITH_2).rearrange(SWAP_2));
        v0 = v0.blend(v1, WITH_1).add(v1.blend(v0, WITH_1).rearrange(SWAP_1));
        v0.intoMemorySegment(ALL, y, ORDER);
    }

    /** eˣ, by 2ⁿ · eʳ with |r| ≤ ln 2 / 2 and a Taylor polynomial. */
    static FloatVector exp(FloatVector x) {
        FloatVector magic = FloatVector.broadcast(F, 0x1.8p23f);
        FloatVector shifted = x.fma(FloatVector.broadcast(F, 1.442695041f), magic);
        FloatVector n = shifted.sub(magic);
        FloatVector p = expReduced(x, n);
        // two steps, so that neither power of two leaves the range of normal numbers
        IntVector power = shifted.reinterpretAsInts().sub(0x4b400000);
        IntVector half = power.lanewise(VectorOperators.ASHR, 1);
        p = p.mul(half.add(127).lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats())
                .mul(power.sub(half).add(127).lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats());
        p = p.blend(Float.POSITIVE_INFINITY, x.compare(VectorOperators.GT, 88.73f));
        return p.blend(0f, x.compare(VectorOperators.LT, -104f));
    }

    /** eˣ of numbers that are 0 or less, in fewer steps; 0 where it is no normal number. */
    static FloatVector expNonPositive(FloatVector x) {
        // the exponent's bias in the lowest bits, which then are the exponent
        FloatVector magic = FloatVector.broadcast(F, 0x1.8p23f + 127);
        FloatVector shifted = x.fma(FloatVector.broadcast(F, 1.442695041f), magic);
        FloatVector n = shifted.sub(magic);
        FloatVector p = expReduced(x, n);
        p = p.mul(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats());
        return p.blend(0f, x.compare(VectorOperators.LT, -87f));
    }

    /** e^(x − n · ln 2) for the n nearest to x / ln 2: the rest in two steps, and its Taylor polynomial. */
    private static FloatVector expReduced(FloatVector x, FloatVector n) {
        FloatVector r = n.fma(FloatVector.broadcast(F, -0x1.62e4p-1f), x);
        r = n.fma(FloatVector.broadcast(F, -0x1.7f7d1cp-20f), r);
        FloatVector p = FloatVector.broadcast(F, 1f / 5040);
        p = p.fma(r, FloatVector.broadcast(F, 1f / 720));
        p = p.fma(r, FloatVector.broadcast(F, 1f / 120));
        p = p.fma(r, FloatVector.broadcast(F, 1f / 24));
        p = p.fma(r, FloatVector.broadcast(F, 1f / 6));
        p = p.fma(r, FloatVector.broadcast(F, 0.5f));
        p = p.fma(r, FloatVector.broadcast(F, 1f));
        p = p.fma(r, FloatVector.broadcast(F, 1f));
        return p;
    }

    static float exp(float x) {
        return exp(FloatVector.broadcast(F, x)).lane(0);
    }

    static FloatVector broadcast(float value) {
        return FloatVector.broadcast(F, value);
    }

    static FloatVector sigmoid(FloatVector x) {
        return FloatVector.broadcast(F, 1f).div(exp(x.neg()).add(1f));
    }

    static FloatVector silu(FloatVector x) {
        return x.div(exp(x.neg()).add(1f));
    }

    /** x · sigmoid(2u) = x · (1 + tanh u) / 2 without cancellation. */
    static FloatVector geluTanh(FloatVector x) {
        FloatVector u = x.mul(x).fma(FloatVector.broadcast(F, 0.044715f), FloatVector.broadcast(F, 1f)).mul(x)
                .mul(FloatVector.broadcast(F, 1.5957691216057308f));
        return x.div(exp(u.neg()).add(1f));
    }

    /** x · Φ(x) from the complementary error function of |x| / √2, so that the left tail has no cancellation. */
    static FloatVector gelu(FloatVector x) {
        FloatVector a = x.abs().mul(0.70710678f);
        FloatVector square = x.mul(x);
        // what rounding the square lost would be multiplied by it in the exponential
        FloatVector rest = x.fma(x, square.neg()).mul(0.5f);
        FloatVector t = FloatVector.broadcast(F, 1f)
                .div(a.fma(FloatVector.broadcast(F, 0.5f), FloatVector.broadcast(F, 1f)));
        FloatVector p = tail(t);
        FloatVector e = exp(square.mul(-0.5f));
        e = e.sub(e.mul(rest));
        FloatVector tail = x.mul(e.mul(p.mul(t)).mul(0.5f));
        // an infinity's tail is 0, where the formula has infinity times 0
        tail = tail.blend(x.mul(0f), a.compare(VectorOperators.GT, 10f));
        FloatVector right = x.sub(tail);
        FloatVector y = right.blend(tail, x.compare(VectorOperators.LT, 0f));
        return y.blend(Float.POSITIVE_INFINITY, x.compare(VectorOperators.EQ, Float.POSITIVE_INFINITY));
    }

    /** p of erfc(a) = e^(−a²) · t · p(t), t = 1 / (1 + a / 2), fitted to the lowest relative error for a from 0 to 10.5. */
    private static FloatVector tail(FloatVector t) {
        FloatVector p = FloatVector.broadcast(F, 0.0053589633f);
        p = p.fma(t, FloatVector.broadcast(F, -0.08874638f));
        p = p.fma(t, FloatVector.broadcast(F, 0.3550601f));
        p = p.fma(t, FloatVector.broadcast(F, -0.5811396f));
        p = p.fma(t, FloatVector.broadcast(F, 0.35522616f));
        p = p.fma(t, FloatVector.broadcast(F, -0.06698062f));
        p = p.fma(t, FloatVector.broadcast(F, 0.21607526f));
        p = p.fma(t, FloatVector.broadcast(F, 0.24039663f));
        p = p.fma(t, FloatVector.broadcast(F, 0.2826771f));
        p = p.fma(t, FloatVector.broadcast(F, 0.2820723f));
        return p;
    }

    /** sin² x: x less the nearest multiple of π, in three parts, and the sine's Taylor polynomial. */
    static FloatVector sineSquared(FloatVector x) {
        FloatVector magic = FloatVector.broadcast(F, 0x1.8p23f);
        FloatVector n = x.fma(FloatVector.broadcast(F, 0.318309886f), magic).sub(magic);
        FloatVector r = n.fma(FloatVector.broadcast(F, -0x1.921fb6p1f), x);
        r = n.fma(FloatVector.broadcast(F, 0x1.777a5cp-24f), r);
        r = n.fma(FloatVector.broadcast(F, 0x1.ee59dap-49f), r);
        FloatVector s = r.mul(r);
        FloatVector p = FloatVector.broadcast(F, 1f / 6227020800f);
        p = p.fma(s, FloatVector.broadcast(F, -1f / 39916800));
        p = p.fma(s, FloatVector.broadcast(F, 1f / 362880));
        p = p.fma(s, FloatVector.broadcast(F, -1f / 5040));
        p = p.fma(s, FloatVector.broadcast(F, 1f / 120));
        p = p.fma(s, FloatVector.broadcast(F, -1f / 6));
        FloatVector sine = p.mul(s).fma(r, r);
        VectorMask<Float> far = x.abs().compare(VectorOperators.GT, 30_000f);
        if (far.anyTrue())
            for (int i = 0; i < LANES; i++)
                if (far.laneIsSet(i))
                sine = sine.withLane(i, (float) Math.sin(x.lane(i)));
        return sine.mul(sine);
    }
}
