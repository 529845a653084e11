package io.omni.backend.onnx;

import io.omni.api.CacheSpec;
import io.omni.api.KvCache;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;

/**
 * Keys and values of each layer as rows [token, kvHeads · headDim], so that any range of tokens is a tensor without a
 * copy and appending copies only what is new.
 */
final class OnnxKvCache implements KvCache {
    private static final int BLOCK = 64;

    private final OnnxBackend backend;
    private final CacheSpec spec;
    private final Layer[] layers;
    private boolean closed;

    /** One layer: memory for rows of positions {@code start} and on. */
    private static final class Layer {
        MemorySegment keys;
        MemorySegment values;
        int capacity;
        int start;
        int length;
        /** The graph that reads this memory when it runs, which must be before the memory changes. */
        Recording reader;
    }

    OnnxKvCache(OnnxBackend backend, CacheSpec spec) {
        this.backend = backend;
        this.spec = spec;
        layers = new Layer[spec.layers()];
        for (int i = 0; i < layers.length; i++)
            layers[i] = new Layer();
    }

    @Override
    public CacheSpec spec() {
        return spec;
    }

    @Override
    public int length(int layer) {
        return layers[layer].length;
    }

    /** An open cache of {@code user}, or a refusal. */
    static OnnxKvCache of(KvCache cache, OnnxBackend user) {
        if (!(cache instanceof OnnxKvCache own) || own.backend != user)
            throw new IllegalArgumentException("a cache of another backend");
        if (own.closed)
            throw new IllegalStateException("the cache is closed");
        return own;
    }

    /** Makes room for {@code n} more tokens; what the window has left behind goes first. */
    void reserve(int index, int n) {
        Layer layer = layers[index];
        settle(layer);
        int needed = layer.length - layer.start + n;
        if (needed <= layer.capacity)
            return;
        int keepFrom = spec.window() > 0 ? Math.max(layer.start, layer.length - spec.window() + 1) : layer.start;
        long row = rowBytes();
        long dropped = (keepFrom - layer.start) * row;
        long kept = (layer.length - keepFrom) * row;
        needed = layer.length - keepFrom + n;
        if (needed > layer.capacity) {
            int grown = Math.max(needed, layer.capacity + layer.capacity / 2);
            grown = (grown + BLOCK - 1) / BLOCK * BLOCK;
            MemorySegment keys = backend.memory().allocate(grown * row);
            MemorySegment values;
            try {
                values = backend.memory().allocate(grown * row);
            } catch (RuntimeException e) {
                backend.memory().release(keys);
                throw e;
            }
            if (layer.capacity > 0) {
                MemorySegment.copy(layer.keys, dropped, keys, 0, kept);
                MemorySegment.copy(layer.values, dropped, values, 0, kept);
                backend.memory().release(layer.keys);
                backend.memory().release(layer.values);
            }
            layer.keys = keys;
            layer.values = values;
            layer.capacity = grown;
        } else if (dropped > 0) {
            MemorySegment.copy(layer.keys, dropped, layer.keys, 0, kept);
            MemorySegment.copy(layer.values, dropped, layer.values, 0, kept);
        }
        layer.start = keepFrom;
    }

    /** Adds {@code n} rows that {@link #reserve} made room for, from row {@code from} of k and v. */
    void append(int index, MemorySegment k, MemorySegment v, int from, int n) {
        Layer layer = layers[index];
        long row = rowBytes();
        long at = (layer.length - layer.start) * row;
        MemorySegment.copy(k, from * row, layer.keys, at, n * row);
        MemorySegment.copy(v, from * row, layer.values, at, n * row);
        layer.length += n;
    }

    /** The first position that is still there. */
    int start(int layer) {
        return layers[layer].start;
    }

    /** {@code reader} reads the layer's memory when it runs. */
    void readBy(int layer, Recording reader) {
        layers[layer].reader = reader;
    }

    /** Keys of positions {@code from} (inclusive) to {@code to} (exclusive), [1, n, kvHeads · headDim]. */
    Storage keys(int layer, int from, int to) {
        return view(layers[layer], layers[layer].keys, from, to);
    }

    /** Values of positions {@code from} (inclusive) to {@code to} (exclusive). */
    Storage values(int layer, int from, int to) {
        return view(layers[layer], layers[layer].values, from, to);
    }

    private Storage view(Layer layer, MemorySegment rows, int from, int to) {
        int n = to - from;
        return Storage.borrow(rows.asSlice((from - layer.start) * rowBytes(), n * rowBytes()), OnnxType.FLOAT, 1, n,
                (long) spec.kvHeads() * spec.headDim());
    }

    /** Runs what another thread has recorded on this layer; no recording's monitor may be held, or two could wait. */
    void settle(int index, Recording reader) {
        if (layers[index].reader != reader)
            settle(layers[index]);
    }

    private static void settle(Layer layer) {
        if (layer.reader != null)
            layer.reader.flush();
        layer.reader = null;
    }

    @Override
    public void truncate(int length) {
        of(this, backend);
        for (Layer layer : layers) {
            if (length < 0 || length > layer.length)
                throw new IllegalArgumentException("length " + length + " of a cache of " + layer.length);
            if (length > 0 && length < layer.length && layer.start > 0
                    && layer.start > Math.max(0, length - spec.window() + 1))
                throw new IllegalArgumentException(
                        "length " + length + ": the window has dropped keys before " + layer.start);
        }
        for (Layer layer : layers) {
            layer.length = length;
            // what a window of an emptied cache has dropped is not missed
            if (length < layer.start)
                layer.start = length;
        }
    }

    @Override
    public long bytes() {
        long bytes = 0;
        for (Layer layer : layers)
            bytes += 2 * layer.capacity * rowBytes();
        return bytes;
    }

    @Override
    public void close() {
        if (closed)
            return;
        closed = true;
        for (Layer layer : layers) {
            settle(layer);
            if (layer.capacity > 0) {
                backend.memory().release(layer.keys);
                backend.memory().release(layer.values);
            }
            layer.capacity = 0;
        }
        backend.forget(this);
    }

    private long rowBytes() {
        return 4L * spec.kvHeads() * spec.headDim();
    }
}
