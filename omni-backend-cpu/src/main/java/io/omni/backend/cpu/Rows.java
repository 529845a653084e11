package io.omni.backend.cpu;

import io.omni.api.Activation;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/** Functions of rows of floats, by address and number of elements. Results may overwrite arguments. */
final class Rows {
    // kernels call the Vector API itself: the compiler inlines it at any size of the method, but not functions of ours
    private static final VectorSpecies<Float> F = Lanes.F;
    private static final MemorySegment ALL = Memory.ALL;
    private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;

    private Rows() {}

    static void fill(float value, long y, int n) {
        FloatVector v = FloatVector.broadcast(F, value);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            v.intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n)
            v.intoMemorySegment(ALL, y + 4L * end, ORDER, Lanes.first(n - end));
    }

    static void add(long a, long b, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, a + 4L * i, ORDER)
                    .add(FloatVector.fromMemorySegment(F, ALL, b + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, a + 4L * end, ORDER, mask)
                    .add(FloatVector.fromMemorySegment(F, ALL, b + 4L * end, ORDER, mask))
                    .intoMemorySegment(ALL, y + 4L * end, ORDER, mask);
        }
    }

    static void multiply(long a, long b, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, a + 4L * i, ORDER)
                    .mul(FloatVector.fromMemorySegment(F, ALL, b + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, a + 4L * end, ORDER, mask)
                    .mul(FloatVector.fromMemorySegment(F, ALL, b + 4L * end, ORDER, mask))
                    .intoMemorySegment(ALL, y + 4L * end, ORDER, mask);
        }
    }

    static void scale(float factor, long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).mul(factor).intoMemorySegment(ALL, y + 4L * i,
                    ORDER);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, mask).mul(factor).intoMemorySegment(ALL,
                    y + 4L * end, ORDER, mask);
        }
    }

    static void divide(long x, float divisor, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).div(divisor).intoMemorySegment(ALL, y + 4L * i,
                    ORDER);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, mask).div(divisor).intoMemorySegment(ALL,
                    y + 4L * end, ORDER, mask);
        }
    }

    /** y += factor · x. */
    static void addScaled(float factor, long x, long y, int n) {
        FloatVector f = FloatVector.broadcast(F, factor);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER)
                    .fma(f, FloatVector.fromMemorySegment(F, ALL, y + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, mask)
                    .fma(f, FloatVector.fromMemorySegment(F, ALL, y + 4L * end, ORDER, mask))
                    .intoMemorySegment(ALL, y + 4L * end, ORDER, mask);
        }
    }

    /** y = residual + x · scale. */
    static void multiplyAdd(long residual, long x, long scale, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER)
                    .fma(FloatVector.fromMemorySegment(F, ALL, scale + 4L * i, ORDER),
                            FloatVector.fromMemorySegment(F, ALL, residual + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> m = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, m)
                    .fma(FloatVector.fromMemorySegment(F, ALL, scale + 4L * end, ORDER, m),
                            FloatVector.fromMemorySegment(F, ALL, residual + 4L * end, ORDER, m))
                    .intoMemorySegment(ALL, y + 4L * end, ORDER, m);
        }
    }

    static void clamp(long x, float min, float max, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).max(min).min(max).intoMemorySegment(ALL,
                    y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, mask).max(min).min(max).intoMemorySegment(ALL,
                    y + 4L * end, ORDER, mask);
        }
    }

    static void activate(Activation f, long x, long y, int n) {
        switch (f) {
            case NONE -> {
                if (x != y)
                    Lanes.copy(x, y, 4L * n);
            }
            case GELU -> gelu(x, y, n);
            case GELU_TANH -> geluTanh(x, y, n);
            case SILU -> silu(x, y, n);
            case RELU -> relu(x, y, n);
            case SIGMOID -> sigmoid(x, y, n);
        }
    }

    private static void gelu(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.gelu(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER)).intoMemorySegment(ALL, y + 4L * i,
                    ORDER);
        if (end < n)
            geluRest(x + 4L * end, y + 4L * end, n - end);
    }

    private static void geluRest(long x, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        Lanes.gelu(FloatVector.fromMemorySegment(F, ALL, x, ORDER, mask)).intoMemorySegment(ALL, y, ORDER, mask);
    }

    private static void geluTanh(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.geluTanh(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER)).intoMemorySegment(ALL, y + 4L * i,
                    ORDER);
        if (end < n)
            geluTanhRest(x + 4L * end, y + 4L * end, n - end);
    }

    private static void geluTanhRest(long x, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        Lanes.geluTanh(FloatVector.fromMemorySegment(F, ALL, x, ORDER, mask)).intoMemorySegment(ALL, y, ORDER, mask);
    }

    private static void silu(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.silu(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER)).intoMemorySegment(ALL, y + 4L * i,
                    ORDER);
        if (end < n)
            siluRest(x + 4L * end, y + 4L * end, n - end);
    }

    private static void siluRest(long x, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        Lanes.silu(FloatVector.fromMemorySegment(F, ALL, x, ORDER, mask)).intoMemorySegment(ALL, y, ORDER, mask);
    }

    private static void sigmoid(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.sigmoid(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER)).intoMemorySegment(ALL, y + 4L * i,
                    ORDER);
        if (end < n)
            sigmoidRest(x + 4L * end, y + 4L * end, n - end);
    }

    private static void sigmoidRest(long x, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        Lanes.sigmoid(FloatVector.fromMemorySegment(F, ALL, x, ORDER, mask)).intoMemorySegment(ALL, y, ORDER, mask);
    }

    private static void relu(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).max(0f).intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, mask).max(0f).intoMemorySegment(ALL,
                    y + 4L * end, ORDER, mask);
        }
    }

    /** y = silu(gate) · up. */
    static void swiglu(long gate, long up, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.silu(FloatVector.fromMemorySegment(F, ALL, gate + 4L * i, ORDER))
                    .mul(FloatVector.fromMemorySegment(F, ALL, up + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n)
            swigluRest(gate + 4L * end, up + 4L * end, y + 4L * end, n - end);
    }

    private static void swigluRest(long gate, long up, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        Lanes.silu(FloatVector.fromMemorySegment(F, ALL, gate, ORDER, mask))
                .mul(FloatVector.fromMemorySegment(F, ALL, up, ORDER, mask)).intoMemorySegment(ALL, y, ORDER, mask);
    }

    /** frequency and damping are e^alpha and 1 / (e^beta + 1e-9). */
    static void snake(long x, long frequency, long damping, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER);
            FloatVector s = Lanes.sineSquared(v.mul(FloatVector.fromMemorySegment(F, ALL, frequency + 4L * i, ORDER)));
            s.fma(FloatVector.fromMemorySegment(F, ALL, damping + 4L * i, ORDER), v).intoMemorySegment(ALL, y + 4L * i,
                    ORDER);
        }
        if (end < n)
            snakeRest(x + 4L * end, frequency + 4L * end, damping + 4L * end, y + 4L * end, n - end);
    }

    private static void snakeRest(long x, long frequency, long damping, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        FloatVector v = FloatVector.fromMemorySegment(F, ALL, x, ORDER, mask);
        FloatVector s = Lanes.sineSquared(v.mul(FloatVector.fromMemorySegment(F, ALL, frequency, ORDER, mask)));
        s.fma(FloatVector.fromMemorySegment(F, ALL, damping, ORDER, mask), v).intoMemorySegment(ALL, y, ORDER, mask);
    }

    static float sum(long x, int n) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            a = a.add(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER));
        if (end < n)
            a = a.add(FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, Lanes.first(n - end)));
        return Lanes.sum(a);
    }

    /** Σ (x − mean)². */
    private static float squares(long x, float mean, int n) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector d = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).sub(mean);
            a = d.fma(d, a);
        }
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector d = FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, mask)
                    .sub(FloatVector.broadcast(F, mean), mask);
            a = d.fma(d, a);
        }
        return Lanes.sum(a);
    }

    static void rmsNorm(long x, long weight, float eps, long y, int n) {
        float scale = (float) (1 / Math.sqrt((double) squares(x, 0, n) / n + eps));
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).mul(scale)
                    .mul(FloatVector.fromMemorySegment(F, ALL, weight + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> m = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, m).mul(scale)
                    .mul(FloatVector.fromMemorySegment(F, ALL, weight + 4L * end, ORDER, m))
                    .intoMemorySegment(ALL, y + 4L * end, ORDER, m);
        }
    }

    static void layerNorm(long x, long weight, long bias, float eps, long y, int n) {
        float mean = sum(x, n) / n;
        float scale = (float) (1 / Math.sqrt((double) squares(x, mean, n) / n + eps));
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).sub(mean).mul(scale)
                    .fma(FloatVector.fromMemorySegment(F, ALL, weight + 4L * i, ORDER),
                            FloatVector.fromMemorySegment(F, ALL, bias + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        if (end < n) {
            VectorMask<Float> m = Lanes.first(n - end);
            FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, m).sub(mean).mul(scale)
                    .fma(FloatVector.fromMemorySegment(F, ALL, weight + 4L * end, ORDER, m),
                            FloatVector.fromMemorySegment(F, ALL, bias + 4L * end, ORDER, m))
                    .intoMemorySegment(ALL, y + 4L * end, ORDER, m);
        }
    }

    /** One head of 2 · pairs features, turned by the cosines and sines at {@code table}. */
    static void turn(long x, long table, long y, int pairs) {
        int end = Lanes.F.loopBound(pairs);
        long second = 4L * pairs;
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector a = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER);
            FloatVector b = FloatVector.fromMemorySegment(F, ALL, x + second + 4L * i, ORDER);
            FloatVector cos = FloatVector.fromMemorySegment(F, ALL, table + 4L * i, ORDER);
            FloatVector sin = FloatVector.fromMemorySegment(F, ALL, table + second + 4L * i, ORDER);
            a.fma(cos, b.mul(sin).neg()).intoMemorySegment(ALL, y + 4L * i, ORDER);
            b.fma(cos, a.mul(sin)).intoMemorySegment(ALL, y + second + 4L * i, ORDER);
        }
        if (end < pairs) {
            VectorMask<Float> m = Lanes.first(pairs - end);
            FloatVector a = FloatVector.fromMemorySegment(F, ALL, x + 4L * end, ORDER, m);
            FloatVector b = FloatVector.fromMemorySegment(F, ALL, x + second + 4L * end, ORDER, m);
            FloatVector cos = FloatVector.fromMemorySegment(F, ALL, table + 4L * end, ORDER, m);
            FloatVector sin = FloatVector.fromMemorySegment(F, ALL, table + second + 4L * end, ORDER, m);
            a.fma(cos, b.mul(sin).neg()).intoMemorySegment(ALL, y + 4L * end, ORDER, m);
            b.fma(cos, a.mul(sin)).intoMemorySegment(ALL, y + second + 4L * end, ORDER, m);
        }
    }

    /** The largest element that is not NaN, −∞ if there is none. */
    static float max(long x, int n) {
        FloatVector a = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        FloatVector b = a;
        int i = 0;
        // comparing and choosing takes two instructions, a maximum that keeps NaN six
        for (; i <= n - 2 * Lanes.LANES; i += 2 * Lanes.LANES) {
            FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER);
            a = a.blend(v, v.compare(VectorOperators.GT, a));
            v = FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + Lanes.LANES), ORDER);
            b = b.blend(v, v.compare(VectorOperators.GT, b));
        }
        a = a.blend(b, b.compare(VectorOperators.GT, a));
        float max = a.reduceLanes(VectorOperators.MAX);
        for (; i < n; i++) {
            float value = ALL.get(Lanes.FLOAT, x + 4L * i);
            if (value > max)
                max = value;
        }
        return max;
    }

    /** y = e^(x − max), of a maximum that nothing is above; their sum. */
    static float exp(long x, float max, long y, int n) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector e = Lanes.expNonPositive(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).sub(max));
            e.intoMemorySegment(ALL, y + 4L * i, ORDER);
            a = a.add(e);
        }
        float sum = Lanes.sum(a);
        return end < n ? sum + expRest(x + 4L * end, max, y + 4L * end, n - end) : sum;
    }

    private static float expRest(long x, float max, long y, int n) {
        VectorMask<Float> mask = Lanes.first(n);
        FloatVector e = Lanes.expNonPositive(FloatVector.fromMemorySegment(F, ALL, x, ORDER, mask).sub(max));
        e.intoMemorySegment(ALL, y, ORDER, mask);
        return Lanes.sum(FloatVector.zero(Lanes.F).blend(e, mask));
    }

    /** The index of the largest element of those above {@code least}, the first of equals; −1 if none is. */
    static int argMax(long x, int from, int to, float least) {
        FloatVector a = FloatVector.broadcast(F, least);
        int i = from;
        for (; i <= to - Lanes.LANES; i += Lanes.LANES) {
            FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER);
            // false for NaN, which is never drawn
            a = a.blend(v, v.compare(VectorOperators.GT, a));
        }
        float max = a.reduceLanes(VectorOperators.MAX);
        for (; i < to; i++)
            if (ALL.get(Lanes.FLOAT, x + 4L * i) > max)
            max = ALL.get(Lanes.FLOAT, x + 4L * i);
        if (!(max > least))
            return -1;
        for (i = from; i <= to - Lanes.LANES; i += Lanes.LANES) {
            VectorMask<Float> equal = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER)
                    .compare(VectorOperators.EQ, max);
            if (equal.anyTrue())
                return i + equal.firstTrue();
        }
        while (ALL.get(Lanes.FLOAT, x + 4L * i) != max)
            i++;
        return i;
    }
}
