package io.omni.backend.cuda;

import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import java.util.List;

final class CudaAttentionOps implements AttentionOps {
    /** Queries a sequence, on average, from which tiles of 64 pay. */
    private static final int MANY_QUERIES = 12;
    /** Keys that a block of few queries reads at least. */
    private static final int LEAST_PART = 256;
    private static final int LARGEST_HEAD = 256;
    private static final int LARGEST_FLASH = 128;

    private final CudaBackend backend;

    CudaAttentionOps(CudaBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor rotaryTable(Tensor positions, Rope rope) {
        int[] shape = Shapes.rotaryTable(positions, rope);
        CudaTensor at = backend.vector(positions);
        CudaTensor table = backend.make(DType.F32, shape);
        Stream stream = backend.stream();
        int[] frequencies = new int[rope.pairs()];
        for (int i = 0; i < frequencies.length; i++)
            frequencies[i] = Float.floatToRawIntBits(rope.inverseFrequency()[i]);
        Block frequency = stream.constant(frequencies);
        Block row = stream.constant(rope.row());
        stream.kernel("rotary_table").in(at).in(frequency).in(row).out(table).i32(positions.dim(1)).i32(rope.pairs())
                .launch(Grid.ceil((long) positions.dim(1) * rope.pairs(), 256), 1, 1, 256, 0);
        return table;
    }

    @Override
    public Tensor rotary(Tensor x, Tensor norm, float eps, Tensor table) {
        int[] shape = Shapes.rotary(x, norm, table);
        CudaTensor in = backend.activation(x);
        CudaTensor weight = backend.vector(norm);
        CudaTensor turn = backend.vector(table);
        CudaTensor y = backend.make(shape);
        int pairs = table.dim(2);
        int heads = pairs == 0 ? 0 : x.dim(1) / (2 * pairs);
        backend.stream().kernel("rotary_" + backend.type()).in(in).in(weight).f32(eps).in(turn).out(y).i32(x.dim(0))
                .i32(heads).i32(pairs).launch(Grid.ceil((long) x.dim(0) * heads, 4), 1, 1, 128, 0);
        return y;
    }

    @Override
    public Tensor attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention attention) {
        int[] shape = Shapes.attend(q, k, v, packed, attention);
        CudaTensor keys = backend.activation(k);
        CudaTensor values = backend.activation(v);
        int longest = 0;
        for (int i = 0; i < packed.sequences(); i++)
            longest = Math.max(longest, packed.length(i));
        return attend(backend.activation(q), keys, values, null, 0, packed, attention, longest, shape);
    }

    @Override
    public void append(List<KvCache> caches, int layer, Tensor k, Tensor v, Packed packed) {
        Shapes.append(caches, layer, k, v, packed);
        CudaTensor keys = backend.activation(k);
        CudaTensor values = backend.activation(v);
        Stream stream = backend.stream();
        int longest = 0;
        for (int i = 0; i < packed.sequences(); i++) {
            own(caches.get(i)).grow(stream, layer, packed.length(i));
            longest = Math.max(longest, packed.length(i));
        }
        if (longest == 0)
            return;
        Block table = table(stream, caches);
        Block offsets = stream.constant(packed.offsets());
        boolean advance = longest <= 4;
        stream.kernel("append_" + backend.type()).in(keys).in(values).in(table).i32(layer).in(offsets).i32(k.dim(1))
                .i32(advance).launch(advance ? 1 : Math.min(longest, 512), packed.sequences(), 1, 128, 0);
        if (!advance)
            stream.kernel("cache_advance").in(table).i32(layer).in(offsets).i32(packed.sequences())
                    .launch(Grid.ceil(packed.sequences(), 128), 1, 1, 128, 0);
        for (int i = 0; i < packed.sequences(); i++) {
            own(caches.get(i)).appended(layer, packed.length(i));
            own(caches.get(i)).changed(stream);
        }
    }

    @Override
    public Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention attention) {
        int[] shape = Shapes.attend(q, caches, layer, packed, attention);
        int longest = 0;
        for (KvCache cache : caches)
            longest = Math.max(longest, own(cache).length(layer));
        Stream stream = backend.stream();
        Block table = table(stream, caches);
        Tensor y = attend(backend.activation(q), null, null, table, layer, packed, attention, longest, shape);
        for (KvCache cache : caches)
            own(cache).changed(stream);
        return y;
    }

    private CudaTensor attend(CudaTensor q, CudaTensor k, CudaTensor v, Block caches, int layer, Packed packed,
            Attention a, int longest, int[] shape) {
        if (a.headDim() > LARGEST_HEAD)
            throw new IllegalArgumentException(
                    "a head of " + a.headDim() + " features, the CUDA backend takes up to " + LARGEST_HEAD);
        CudaTensor y = backend.make(shape);
        if (packed.tokens() == 0)
            return y;
        Stream stream = backend.stream();
        Block offsets = stream.constant(packed.offsets());
        boolean wide = q.wide(a.headDim()) && (k == null || k.wide(a.headDim()) && v.wide(a.headDim()));
        if (backend.compute() != DType.F32 && a.headDim() <= LARGEST_FLASH
                && packed.tokens() >= MANY_QUERIES * packed.sequences())
            flash(stream, q, k, v, caches, layer, offsets, packed, a, y, wide);
        else
            rows(stream, q, k, v, caches, layer, offsets, packed, a, longest, y, wide);
        return y;
    }

    private void flash(Stream stream, CudaTensor q, CudaTensor k, CudaTensor v, Block caches, int layer,
            Block offsets, Packed packed, Attention a, CudaTensor y, boolean wide) {
        int padded = a.headDim() <= 32 ? 32 : a.headDim() <= 64 ? 64 : a.headDim() <= 80 ? 80 : 128;
        int most = 0;
        for (int i = 0; i < packed.sequences(); i++)
            most = Math.max(most, packed.length(i));
        stream.kernel("flash_" + padded + "_" + backend.type()).in(q).in(k).in(v).in(caches).i32(layer).in(offsets)
                .i32(a.heads())
                .i32(a.kvHeads()).i32(a.headDim()).f32(a.scale()).i32(a.causal()).i32(a.window()).out(y).i32(wide)
                .launch(Grid.ceil(most, 64), a.heads(), packed.sequences(), 128, 2 * 64 * (padded + 8) * 2);
    }

    private void rows(Stream stream, CudaTensor q, CudaTensor k, CudaTensor v, Block caches, int layer, Block offsets,
            Packed packed, Attention a, int longest, CudaTensor y, boolean wide) {
        int group = a.heads() / a.kvHeads();
        boolean large = a.headDim() > 128;
        int together = group == 1 ? 1 : group == 2 && !large ? 2 : 8;
        long blocks = packed.tokens() * (long) a.kvHeads() * Grid.ceil(group, together);
        int parts = parts(blocks, a.window() > 0 ? Math.min(longest, a.window()) : longest,
                backend.multiprocessors());
        Block partials = parts == 1
                ? null
                : backend.make(DType.F32, packed.tokens(), a.heads(), parts, a.headDim() + 2).block();
        stream.kernel("attend_rows_" + together + "_" + (large ? 256 : 128) + "_" + backend.type()).in(q).in(k).in(v)
                .in(caches).i32(layer).in(offsets).i32(packed.sequences()).i32(a.heads()).i32(a.kvHeads())
                .i32(a.headDim()).f32(a.scale()).i32(a.causal()).i32(a.window()).i32(parts).out(y).out(partials)
                .i32(wide).launch((long) packed.tokens() * parts, a.kvHeads() * Grid.ceil(group, together), 1, 128, 0);
        if (parts > 1)
            stream.kernel("attend_merge_" + backend.type()).in(partials).out(y).i32(a.headDim()).i32(parts)
                    .launch((long) packed.tokens() * a.heads(), 1, 1, 128, 0);
    }

    /**
     * Parts that the keys of a query are cut into: enough to keep the card busy, of no fewer than {@value #LEAST_PART}
     * keys, and a power of two, so that it changes seldom while a sequence grows.
     */
    static int parts(long blocks, int longest, int multiprocessors) {
        long wanted = Math.min(Grid.ceil(2L * multiprocessors, Math.max(1, blocks)), longest / LEAST_PART);
        return wanted < 2 ? 1 : (int) Math.min(64, Long.highestOneBit(wanted));
    }

    private Block table(Stream stream, List<KvCache> caches) {
        long[] addresses = new long[caches.size()];
        for (int i = 0; i < addresses.length; i++)
            addresses[i] = own(caches.get(i)).address(stream);
        return stream.constant(addresses);
    }

    private CudaKvCache own(KvCache cache) {
        if (!(cache instanceof CudaKvCache own) || !own.belongsTo(backend))
            throw new IllegalArgumentException("a cache of another backend");
        return own;
    }
}
