package io.omni.backend.cpu;

import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Rotary embedding and attention on the CPU. */
final class CpuAttentionOps implements AttentionOps {
    private final CpuBackend backend;

    CpuAttentionOps(CpuBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor rotaryTable(Tensor positions, Rope rope) {
        int[] shape = Shapes.rotaryTable(positions, rope);
        CpuTensor mine = backend.mine(positions);
        boolean whole = mine.dtype() == DType.I32;
        long from = whole ? mine.address() : CpuTensorOps.floats(backend, mine);
        CpuTensor table = backend.make(shape);
        int tokens = shape[0];
        int pairs = rope.pairs();
        int each = Math.max(1, 256 / Math.max(1, pairs));
        backend.workers.run(CpuTensorOps.parts(tokens, each), task -> {
            for (int t = task * each; t < Math.min(tokens, (task + 1) * each); t++)
                for (int i = 0; i < pairs; i++) {
                    long at = from + 4L * ((long) rope.row()[i] * tokens + t);
                    float position = whole ? Lanes.getInt(at) : Lanes.get(at);
                    float angle = position * rope.inverseFrequency()[i];
                    long to = table.address() + 8L * pairs * t + 4L * i;
                    Lanes.put(to, (float) Math.cos(angle));
                    Lanes.put(to + 4L * pairs, (float) Math.sin(angle));
                }
        });
        return table;
    }

    @Override
    public Tensor rotary(Tensor x, Tensor norm, float eps, Tensor table) {
        int[] shape = Shapes.rotary(x, norm, table);
        long from = CpuTensorOps.floats(backend, x);
        long weight = norm == null ? 0 : CpuTensorOps.floats(backend, norm);
        long turns = CpuTensorOps.floats(backend, table);
        CpuTensor y = backend.make(shape);
        int pairs = table.dim(2);
        int row = shape[1];
        int each = Math.max(1, (1 << 13) / Math.max(1, row));
        backend.workers.run(CpuTensorOps.parts(shape[0], each), task -> {
            for (int t = task * each; t < Math.min(shape[0], (task + 1) * each); t++)
                for (int head = 0; head < row; head += 2 * pairs) {
                    long at = 4L * ((long) row * t + head);
                    long to = y.address() + at;
                    if (weight != 0)
                        Rows.rmsNorm(from + at, weight, eps, to, 2 * pairs);
                    Rows.turn(weight != 0 ? to : from + at, turns + 8L * pairs * t, to, pairs);
                }
        });
        return y;
    }

    @Override
    public Tensor attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention attention) {
        int[] shape = Shapes.attend(q, k, v, packed, attention);
        long queries = CpuTensorOps.floats(backend, q);
        long keys = CpuTensorOps.floats(backend, k);
        long values = CpuTensorOps.floats(backend, v);
        CpuTensor y = backend.make(shape);
        int heads = attention.kvHeads();
        int dim = attention.headDim();
        long token = 4L * heads * dim;
        int sequences = packed.sequences();
        int[] first = new int[sequences + 1];
        for (int i = 0; i < sequences; i++)
            first[i + 1] = first[i] + CpuTensorOps.parts(packed.length(i), Flash.BLOCK);
        long blockBytes = Flash.blockBytes(heads, dim);
        long bytes = blockBytes * first[sequences];
        long stored = backend.memory.take(bytes);
        try {
            Flash flash = new Flash(backend, attention, queries, y.address());
            for (int i = 0; i < sequences; i++) {
                long[] blocks = Product.addresses(stored + blockBytes * first[i], blockBytes, first[i + 1] - first[i]);
                flash.sequence(packed.offsets()[i], packed.length(i), new Flash.Keys(blocks, packed.length(i), 0));
            }
            backend.workers.run(first[sequences], block -> {
                int i = Arrays.binarySearch(first, block);
                i = i < 0 ? -i - 2 : i;
                // an empty sequence starts where the next one does
                while (first[i + 1] == block)
                    i++;
                int from = (block - first[i]) * Flash.BLOCK;
                long skip = token * (packed.offsets()[i] + from);
                Flash.store(keys + skip, values + skip, Math.min(Flash.BLOCK, packed.length(i) - from), heads, dim,
                        stored + blockBytes * block, 0);
            });
            flash.run();
        } finally {
            backend.memory.give(stored, bytes);
        }
        return y;
    }

    @Override
    public void append(List<KvCache> caches, int layer, Tensor k, Tensor v, Packed packed) {
        Shapes.append(caches, layer, k, v, packed);
        List<CpuKvCache> mine = mine(caches);
        long keys = CpuTensorOps.floats(backend, k);
        long values = CpuTensorOps.floats(backend, v);
        for (int i = 0; i < mine.size(); i++)
            mine.get(i).reserve(layer, packed.length(i));
        for (int i = 0; i < mine.size(); i++) {
            long skip = 4L * mine.get(i).spec().kvHeads() * mine.get(i).spec().headDim() * packed.offsets()[i];
            mine.get(i).append(layer, keys + skip, values + skip, packed.length(i));
        }
    }

    @Override
    public Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention attention) {
        int[] shape = Shapes.attend(q, caches, layer, packed, attention);
        List<CpuKvCache> mine = mine(caches);
        long queries = CpuTensorOps.floats(backend, q);
        Flash flash = new Flash(backend, attention, queries, 0);
        for (int i = 0; i < mine.size(); i++) {
            Flash.Keys keys = mine.get(i).keys(layer);
            int n = packed.length(i);
            int first = attention.window() == 0 ? 0 : Math.max(0, keys.length() - n - attention.window() + 1);
            if (n > 0 && first < keys.dropped())
                throw new IllegalArgumentException(n + " queries need keys from " + first
                        + " on, of which the window has dropped those before " + keys.dropped());
            flash.sequence(packed.offsets()[i], n, keys);
        }
        CpuTensor y = backend.make(shape);
        flash.to(y.address()).run();
        return y;
    }

    private List<CpuKvCache> mine(List<KvCache> caches) {
        List<CpuKvCache> mine = new ArrayList<>(caches.size());
        for (KvCache cache : caches) {
            if (!(cache instanceof CpuKvCache own) || own.backend() != backend)
                throw new IllegalArgumentException("a cache of another backend");
            mine.add(own);
        }
        return mine;
    }
}
