package io.omni.backend.cuda;

import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.KvCache;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * A cache in blocks of {@value #TOKENS} tokens, keys and then values, in the compute type. The card has, for each layer,
 * a table of blocks and the length (CacheLayer in attention.cu); the host knows the same lengths, so that it can give out
 * blocks before they are needed.
 */
final class CudaKvCache implements KvCache {
    static final int TOKENS = 64;
    private static final int LAYER_BYTES = 16;
    private static final int FIRST_TABLE = 16;

    private final CudaBackend backend;
    private final CacheSpec spec;
    private final Block layers;
    private final Layer[] state;
    private boolean closed;

    private static final class Layer {
        int length;
        /** Blocks that the window has dropped, null in the list. */
        int dropped;
        final List<Block> blocks = new ArrayList<>();
        Block table;
        int capacity;
    }

    CudaKvCache(CudaBackend backend, CacheSpec spec) {
        this.backend = backend;
        this.spec = spec;
        state = new Layer[spec.layers()];
        for (int i = 0; i < state.length; i++)
            state[i] = new Layer();
        layers = backend.withStream(stream -> {
            Block made = backend.allocate((long) LAYER_BYTES * state.length, stream);
            stream.clear(made.address, made.bytes);
            made.written = stream.issued();
            return made;
        });
    }

    @Override
    public CacheSpec spec() {
        return spec;
    }

    @Override
    public int length(int layer) {
        return state[layer].length;
    }

    boolean belongsTo(CudaBackend other) {
        return backend == other;
    }

    /** Where the layers are on the card, for the stream's next operation. */
    long address(Stream stream) {
        if (closed)
            throw new IllegalStateException("a closed cache");
        stream.claim(layers);
        return layers.address;
    }

    void changed(Stream stream) {
        layers.written = stream.issued();
        layers.used = layers.written;
    }

    private long blockBytes() {
        DType type = backend.compute();
        return type.bytes(2L * TOKENS * spec.kvHeads() * spec.headDim());
    }

    /** Makes room for tokens that the next operation appends. */
    void grow(Stream stream, int index, int tokens) {
        Layer layer = state[index];
        address(stream);
        dropBefore(layer, layer.length - spec.window() + 1);
        int needed = Math.ceilDiv(layer.length + tokens, TOKENS);
        if (needed == 0)
            return;
        if (needed > layer.capacity)
            enlarge(stream, index, needed);
        int had = layer.blocks.size();
        try {
            while (layer.blocks.size() < needed)
                layer.blocks.add(backend.allocate(blockBytes(), stream));
        } catch (RuntimeException e) {
            while (layer.blocks.size() > had)
                backend.free(layer.blocks.removeLast());
            throw e;
        }
        stream.claim(layer.table);
        if (needed == had + 1) {
            stream.kernel("cache_block").out(layer.table).i32(had).u64(layer.blocks.get(had).address)
                    .launch(1, 1, 1, 32, 0);
        } else if (needed > had) {
            long[] added = new long[needed - had];
            for (int i = 0; i < added.length; i++)
                added[i] = layer.blocks.get(had + i).address;
            stream.upload(layer.table, layer.table.address + 8L * had, MemorySegment.ofArray(added));
        }
    }

    /** The appending operation was issued. */
    void appended(int index, int tokens) {
        state[index].length += tokens;
    }

    private void enlarge(Stream stream, int index, int needed) {
        Layer layer = state[index];
        int capacity = Math.max(FIRST_TABLE, Integer.highestOneBit(Math.max(1, needed - 1)) * 2);
        Block table = backend.allocate(8L * capacity, stream);
        stream.kernel("cache_table").u64(layers.address + (long) LAYER_BYTES * index).out(table)
                .i32(layer.blocks.size()).launch(1, 1, 1, 128, 0);
        if (layer.table != null) {
            stream.claim(layer.table);
            layer.table.used = stream.issued();
            backend.free(layer.table);
        }
        layer.table = table;
        layer.capacity = capacity;
    }

    private void dropBefore(Layer layer, int position) {
        if (spec.window() == 0)
            return;
        while ((layer.dropped + 1) * TOKENS <= position) {
            free(layer.blocks.set(layer.dropped, null));
            layer.dropped++;
        }
    }

    /** Blocks are read and written by whoever has claimed the layers. */
    private void free(Block block) {
        if (block.home != layers.home)
            block.readBy(layers.home);
        else
            block.used = layers.used;
        backend.free(block);
    }

    @Override
    public void truncate(int length) {
        for (Layer layer : state) {
            if (length < 0 || length > layer.length)
                throw new IllegalArgumentException("length " + length + " of a cache of " + layer.length);
            // an empty prefix needs no keys
            if (length > 0 && layer.dropped * TOKENS > Math.max(0, length - spec.window() + 1))
                throw new IllegalArgumentException(
                        "length " + length + " needs keys that the window of " + spec.window() + " has dropped");
        }
        backend.withStream(stream -> {
            stream.kernel("cache_length").u64(address(stream)).i32(state.length).i32(length).launch(1, 1, 1, 128, 0);
            changed(stream);
            return null;
        });
        for (Layer layer : state) {
            layer.length = length;
            if (layer.dropped == 0 || length > 0)
                continue;
            layer.blocks.stream().filter(block -> block != null).forEach(this::free);
            layer.blocks.clear();
            layer.dropped = 0;
        }
    }

    @Override
    public long bytes() {
        if (closed)
            return 0;
        long bytes = layers.bytes;
        for (Layer layer : state) {
            bytes += (layer.blocks.size() - layer.dropped) * blockBytes();
            bytes += layer.table == null ? 0 : layer.table.bytes;
        }
        return bytes;
    }

    @Override
    public void close() {
        if (closed)
            return;
        closed = true;
        for (Layer layer : state) {
            for (Block block : layer.blocks)
                if (block != null)
                free(block);
            if (layer.table != null)
                free(layer.table);
        }
        backend.free(layers);
    }
}
