package io.omni.backend.cpu;

import io.omni.api.CacheSpec;
import io.omni.api.KvCache;
import java.util.Arrays;

/** Keys and values in {@link Flash}'s blocks. Blocks that the window has passed are given back. */
final class CpuKvCache implements KvCache {
    private final CpuBackend backend;
    private final CacheSpec spec;
    private final long blockBytes;
    // the address of each layer's blocks, 0 for those dropped
    private final long[][] blocks;
    private final int[] lengths;
    private final int[] dropped;
    private int held;
    private boolean closed;

    CpuKvCache(CpuBackend backend, CacheSpec spec) {
        if (spec.layers() < 0 || spec.kvHeads() <= 0 || spec.headDim() <= 0 || spec.window() < 0)
            throw new IllegalArgumentException("a cache of " + spec);
        this.backend = backend;
        this.spec = spec;
        blockBytes = Flash.blockBytes(spec.kvHeads(), spec.headDim());
        blocks = new long[spec.layers()][0];
        lengths = new int[spec.layers()];
        dropped = new int[spec.layers()];
    }

    @Override
    public CacheSpec spec() {
        return spec;
    }

    @Override
    public int length(int layer) {
        checkOpen();
        return lengths[layer];
    }

    CpuBackend backend() {
        return backend;
    }

    /** Makes room for {@code n} more tokens; changes nothing that can be seen. */
    void reserve(int layer, int n) {
        checkOpen();
        int have = blockCount(lengths[layer]);
        int need = blockCount(Math.addExact(lengths[layer], n));
        if (need > blocks[layer].length)
            blocks[layer] = Arrays.copyOf(blocks[layer], Math.max(need, 2 * blocks[layer].length));
        // blocks from an append that failed are still there
        for (int i = have; i < need; i++)
            if (blocks[layer][i] == 0) {
                blocks[layer][i] = backend.memory.take(blockBytes);
                held++;
            }
    }

    /** Adds {@code n} tokens of [kvHeads · headDim] keys and values, for which there is room. */
    void append(int layer, long k, long v, int n) {
        if (n == 0)
            return;
        // no query to come stands before the first new token
        drop(layer, lengths[layer]);
        int heads = spec.kvHeads();
        int dim = spec.headDim();
        long token = 4L * heads * dim;
        for (int done = 0; done < n;) {
            int position = lengths[layer] + done;
            int first = position % Flash.BLOCK;
            int count = Math.min(n - done, Flash.BLOCK - first);
            Flash.store(k + token * done, v + token * done, count, heads, dim, blocks[layer][position / Flash.BLOCK],
                    first);
            done += count;
        }
        lengths[layer] += n;
    }

    private void drop(int layer, int position) {
        if (spec.window() == 0)
            return;
        int end = Math.max(0, position - spec.window() + 1) / Flash.BLOCK;
        for (int i = dropped[layer]; i < end; i++)
            give(layer, i);
        dropped[layer] = Math.max(dropped[layer], end);
    }

    Flash.Keys keys(int layer) {
        checkOpen();
        return new Flash.Keys(Arrays.copyOf(blocks[layer], blockCount(lengths[layer])), lengths[layer],
                dropped[layer] * Flash.BLOCK);
    }

    @Override
    public void truncate(int length) {
        checkOpen();
        for (int layer = 0; layer < lengths.length; layer++) {
            if (length < 0 || length > lengths[layer])
                throw new IllegalArgumentException("length " + length + " of a cache of " + lengths[layer]);
            int needed = spec.window() == 0 ? 0 : Math.max(0, length - spec.window() + 1);
            // an empty prefix needs no keys
            if (length > 0 && length < lengths[layer] && needed < dropped[layer] * Flash.BLOCK)
                throw new IllegalArgumentException("length " + length + " needs keys from " + needed
                        + " on, of which the window has dropped those before " + dropped[layer] * Flash.BLOCK);
        }
        for (int layer = 0; layer < lengths.length; layer++) {
            for (int i = blockCount(length); i < blocks[layer].length; i++)
                give(layer, i);
            lengths[layer] = length;
            if (length == 0)
                dropped[layer] = 0;
        }
    }

    @Override
    public long bytes() {
        return held * blockBytes;
    }

    @Override
    public void close() {
        if (closed)
            return;
        closed = true;
        for (int layer = 0; layer < blocks.length; layer++)
            for (int i = 0; i < blocks[layer].length; i++)
                give(layer, i);
    }

    private void give(int layer, int i) {
        if (blocks[layer][i] == 0)
            return;
        backend.memory.give(blocks[layer][i], blockBytes);
        blocks[layer][i] = 0;
        held--;
    }

    private static int blockCount(int tokens) {
        return (int) (((long) tokens + Flash.BLOCK - 1) / Flash.BLOCK);
    }

    private void checkOpen() {
        if (closed)
            throw new IllegalStateException("the cache is closed");
        backend.checkOpen();
    }
}
