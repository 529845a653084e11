package io.omni.backend.cpu;

import io.omni.api.Activation;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

/** Functions of rows of floats, by address and number of elements. Results may overwrite arguments. */
final class Rows {
    private Rows() {}

    static void fill(float value, long y, int n) {
        FloatVector v = Lanes.broadcast(value);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(v, y + 4L * i);
        if (end < n)
            Lanes.store(v, y + 4L * end, Lanes.first(n - end));
    }

    static void add(long a, long b, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(a + 4L * i).add(Lanes.load(b + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.load(a + 4L * end, mask).add(Lanes.load(b + 4L * end, mask)), y + 4L * end, mask);
        }
    }

    static void multiply(long a, long b, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(a + 4L * i).mul(Lanes.load(b + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.load(a + 4L * end, mask).mul(Lanes.load(b + 4L * end, mask)), y + 4L * end, mask);
        }
    }

    static void scale(float factor, long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).mul(factor), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, mask).mul(factor), y + 4L * end, mask);
        }
    }

    static void divide(long x, float divisor, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).div(divisor), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, mask).div(divisor), y + 4L * end, mask);
        }
    }

    /** y += factor · x. */
    static void addScaled(float factor, long x, long y, int n) {
        FloatVector f = Lanes.broadcast(factor);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).fma(f, Lanes.load(y + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, mask).fma(f, Lanes.load(y + 4L * end, mask)), y + 4L * end, mask);
        }
    }

    /** y = residual + x · scale. */
    static void multiplyAdd(long residual, long x, long scale, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).fma(Lanes.load(scale + 4L * i), Lanes.load(residual + 4L * i)),
                    y + 4L * i);
        if (end < n) {
            VectorMask<Float> m = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, m).fma(Lanes.load(scale + 4L * end, m),
                    Lanes.load(residual + 4L * end, m)), y + 4L * end, m);
        }
    }

    static void clamp(long x, float min, float max, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).max(min).min(max), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, mask).max(min).min(max), y + 4L * end, mask);
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
            Lanes.store(Lanes.gelu(Lanes.load(x + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.gelu(Lanes.load(x + 4L * end, mask)), y + 4L * end, mask);
        }
    }

    private static void geluTanh(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.geluTanh(Lanes.load(x + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.geluTanh(Lanes.load(x + 4L * end, mask)), y + 4L * end, mask);
        }
    }

    private static void silu(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.silu(Lanes.load(x + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.silu(Lanes.load(x + 4L * end, mask)), y + 4L * end, mask);
        }
    }

    private static void sigmoid(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.sigmoid(Lanes.load(x + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.sigmoid(Lanes.load(x + 4L * end, mask)), y + 4L * end, mask);
        }
    }

    private static void relu(long x, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).max(0f), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, mask).max(0f), y + 4L * end, mask);
        }
    }

    /** y = silu(gate) · up. */
    static void swiglu(long gate, long up, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.silu(Lanes.load(gate + 4L * i)).mul(Lanes.load(up + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            Lanes.store(Lanes.silu(Lanes.load(gate + 4L * end, mask)).mul(Lanes.load(up + 4L * end, mask)),
                    y + 4L * end, mask);
        }
    }

    /** frequency and damping are e^alpha and 1 / (e^beta + 1e-9). */
    static void snake(long x, long frequency, long damping, long y, int n) {
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector v = Lanes.load(x + 4L * i);
            FloatVector s = Lanes.sineSquared(v.mul(Lanes.load(frequency + 4L * i)));
            Lanes.store(s.fma(Lanes.load(damping + 4L * i), v), y + 4L * i);
        }
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector v = Lanes.load(x + 4L * end, mask);
            FloatVector s = Lanes.sineSquared(v.mul(Lanes.load(frequency + 4L * end, mask)));
            Lanes.store(s.fma(Lanes.load(damping + 4L * end, mask), v), y + 4L * end, mask);
        }
    }

    static float sum(long x, int n) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            a = a.add(Lanes.load(x + 4L * i));
        if (end < n)
            a = a.add(Lanes.load(x + 4L * end, Lanes.first(n - end)));
        return Lanes.sum(a);
    }

    /** Σ (x − mean)². */
    private static float squares(long x, float mean, int n) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector d = Lanes.load(x + 4L * i).sub(mean);
            a = d.fma(d, a);
        }
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector d = Lanes.load(x + 4L * end, mask).sub(Lanes.broadcast(mean), mask);
            a = d.fma(d, a);
        }
        return Lanes.sum(a);
    }

    static void rmsNorm(long x, long weight, float eps, long y, int n) {
        float scale = (float) (1 / Math.sqrt((double) squares(x, 0, n) / n + eps));
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).mul(scale).mul(Lanes.load(weight + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> m = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, m).mul(scale).mul(Lanes.load(weight + 4L * end, m)), y + 4L * end,
                    m);
        }
    }

    static void layerNorm(long x, long weight, long bias, float eps, long y, int n) {
        float mean = sum(x, n) / n;
        float scale = (float) (1 / Math.sqrt((double) squares(x, mean, n) / n + eps));
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES)
            Lanes.store(Lanes.load(x + 4L * i).sub(mean).mul(scale).fma(Lanes.load(weight + 4L * i),
                    Lanes.load(bias + 4L * i)), y + 4L * i);
        if (end < n) {
            VectorMask<Float> m = Lanes.first(n - end);
            Lanes.store(Lanes.load(x + 4L * end, m).sub(mean).mul(scale).fma(Lanes.load(weight + 4L * end, m),
                    Lanes.load(bias + 4L * end, m)), y + 4L * end, m);
        }
    }

    /** One head of 2 · pairs features, turned by the cosines and sines at {@code table}. */
    static void turn(long x, long table, long y, int pairs) {
        int end = Lanes.F.loopBound(pairs);
        long second = 4L * pairs;
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector a = Lanes.load(x + 4L * i);
            FloatVector b = Lanes.load(x + second + 4L * i);
            FloatVector cos = Lanes.load(table + 4L * i);
            FloatVector sin = Lanes.load(table + second + 4L * i);
            Lanes.store(a.fma(cos, b.mul(sin).neg()), y + 4L * i);
            Lanes.store(b.fma(cos, a.mul(sin)), y + second + 4L * i);
        }
        if (end < pairs) {
            VectorMask<Float> m = Lanes.first(pairs - end);
            FloatVector a = Lanes.load(x + 4L * end, m);
            FloatVector b = Lanes.load(x + second + 4L * end, m);
            FloatVector cos = Lanes.load(table + 4L * end, m);
            FloatVector sin = Lanes.load(table + second + 4L * end, m);
            Lanes.store(a.fma(cos, b.mul(sin).neg()), y + 4L * end, m);
            Lanes.store(b.fma(cos, a.mul(sin)), y + second + 4L * end, m);
        }
    }

    /** The largest element, NaN if there is one. */
    static float max(long x, int n) {
        float max = Float.NEGATIVE_INFINITY;
        int end = Lanes.F.loopBound(n);
        if (end > 0) {
            FloatVector a = Lanes.broadcast(max);
            for (int i = 0; i < end; i += Lanes.LANES)
                a = a.max(Lanes.load(x + 4L * i));
            // the order does not matter for a maximum
            max = a.reduceLanes(VectorOperators.MAX);
        }
        for (int i = end; i < n; i++)
            max = Math.max(max, Lanes.get(x + 4L * i));
        return max;
    }

    /** y = e^(x − max); their sum. */
    static float exp(long x, float max, long y, int n) {
        FloatVector a = FloatVector.zero(Lanes.F);
        int end = Lanes.F.loopBound(n);
        for (int i = 0; i < end; i += Lanes.LANES) {
            FloatVector e = Lanes.exp(Lanes.load(x + 4L * i).sub(max));
            Lanes.store(e, y + 4L * i);
            a = a.add(e);
        }
        if (end < n) {
            VectorMask<Float> mask = Lanes.first(n - end);
            FloatVector e = Lanes.exp(Lanes.load(x + 4L * end, mask).sub(max));
            Lanes.store(e, y + 4L * end, mask);
            a = a.add(e, mask);
        }
        return Lanes.sum(a);
    }

    /** The index of the largest element of those above {@code least}, the first of equals; −1 if none is. */
    static int argMax(long x, int from, int to, float least) {
        FloatVector a = Lanes.broadcast(least);
        int i = from;
        for (; i <= to - Lanes.LANES; i += Lanes.LANES) {
            FloatVector v = Lanes.load(x + 4L * i);
            // false for NaN, which is never drawn
            a = a.blend(v, v.compare(VectorOperators.GT, a));
        }
        float max = a.reduceLanes(VectorOperators.MAX);
        for (; i < to; i++)
            if (Lanes.get(x + 4L * i) > max)
            max = Lanes.get(x + 4L * i);
        if (!(max > least))
            return -1;
        for (i = from; i <= to - Lanes.LANES; i += Lanes.LANES) {
            VectorMask<Float> equal = Lanes.load(x + 4L * i).compare(VectorOperators.EQ, max);
            if (equal.anyTrue())
                return i + equal.firstTrue();
        }
        while (Lanes.get(x + 4L * i) != max)
            i++;
        return i;
    }
}
