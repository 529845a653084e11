package io.omni.api;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The cache of a backend that has none of its own: float arrays on the heap that double as they grow. */
public class HostKvCache implements KvCache {
    private final Backend backend;
    private final CacheSpec spec;
    private final float[][] keys;
    private final float[][] values;
    private final int[] lengths;
    private boolean closed;

    /** An empty cache for the default operations of this backend. */
    public HostKvCache(Backend backend, CacheSpec spec) {
        this.backend = backend;
        this.spec = spec;
        keys = new float[spec.layers()][0];
        values = new float[spec.layers()][0];
        lengths = new int[spec.layers()];
    }

    /** These caches, if all are open and of this backend. */
    static List<HostKvCache> of(Backend backend, List<KvCache> caches) {
        List<HostKvCache> own = new ArrayList<>();
        for (KvCache cache : caches) {
            if (!(cache instanceof HostKvCache host) || host.backend != backend)
                throw new IllegalArgumentException("a cache of another backend");
            host.checkOpen();
            own.add(host);
        }
        return own;
    }

    @Override
    public CacheSpec spec() {
        return spec;
    }

    @Override
    public int length(int layer) {
        return lengths[layer];
    }

    /** Adds {@code n} tokens, from token {@code from} of the arrays on. */
    void append(int layer, float[] k, float[] v, int from, int n) {
        int width = width();
        int needed = (lengths[layer] + n) * width;
        if (needed > keys[layer].length) {
            int capacity = Math.max(needed, 2 * keys[layer].length);
            keys[layer] = Arrays.copyOf(keys[layer], capacity);
            values[layer] = Arrays.copyOf(values[layer], capacity);
        }
        System.arraycopy(kept(k), from * width, keys[layer], lengths[layer] * width, n * width);
        System.arraycopy(kept(v), from * width, values[layer], lengths[layer] * width, n * width);
        lengths[layer] += n;
    }

    private float[] kept(float[] x) {
        return spec.type() == DType.I8 ? Definitions.eightBits(x, spec.headDim()) : x;
    }

    /** [length, kvHeads · headDim]. */
    double[] keys(int layer) {
        return Definitions.doubles(Arrays.copyOf(keys[layer], lengths[layer] * width()));
    }

    /** [length, kvHeads · headDim]. */
    double[] values(int layer) {
        return Definitions.doubles(Arrays.copyOf(values[layer], lengths[layer] * width()));
    }

    @Override
    public void truncate(int length) {
        checkOpen();
        for (int current : lengths)
            if (length < 0 || length > current)
            throw new IllegalArgumentException("length " + length + " of a cache of " + current);
        Arrays.fill(lengths, length);
    }

    @Override
    public long bytes() {
        long bytes = 0;
        for (int i = 0; i < keys.length; i++)
            bytes += 4L * (keys[i].length + values[i].length);
        return bytes;
    }

    @Override
    public void close() {
        closed = true;
        Arrays.fill(keys, new float[0]);
        Arrays.fill(values, new float[0]);
    }

    private void checkOpen() {
        if (closed)
            throw new IllegalStateException("the cache is closed");
    }

    private int width() {
        return spec.kvHeads() * spec.headDim();
    }
}
