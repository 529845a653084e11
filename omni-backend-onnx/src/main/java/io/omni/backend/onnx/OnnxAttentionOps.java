package io.omni.backend.onnx;

import static io.omni.backend.onnx.Recording.constant;
import static io.omni.backend.onnx.Recording.integers;
import static io.omni.backend.onnx.Recording.with;

import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.backend.onnx.Graph.Attribute;
import io.omni.backend.onnx.Graph.Output;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;

final class OnnxAttentionOps implements AttentionOps {
    /** Scores, query rows times keys times heads, that a run may hold: 16 MB of them. */
    private static final long SCORES = 1 << 22;

    private final OnnxBackend backend;
    private final long scores;

    OnnxAttentionOps(OnnxBackend backend) {
        this(backend, SCORES);
    }

    OnnxAttentionOps(OnnxBackend backend, long scores) {
        this.backend = backend;
        this.scores = scores;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor rotaryTable(Tensor positions, Rope rope) {
        int[] shape = Shapes.rotaryTable(positions, rope);
        return backend.record(shape, r -> {
            Value rows = r.node("Gather", with("axis", 0), r.floats((OnnxArray) positions),
                    integers(Recording.longs(rope.row())));
            Value angles = r.node("Mul", r.transpose(rows, 1, 0), constant(rope.inverseFrequency()));
            Value both = r.node("Concat", with("axis", 1), r.node("Cos", angles), r.node("Sin", angles));
            return r.reshape(both, -1, 2, rope.pairs());
        }, positions);
    }

    @Override
    public Tensor rotary(Tensor x, Tensor norm, float eps, Tensor table) {
        int[] shape = Shapes.rotary(x, norm, table);
        int pairs = table.dim(2);
        int heads = pairs == 0 ? 0 : x.dim(1) / (2 * pairs);
        return backend.record(shape, r -> {
            Value value = r.floats((OnnxArray) x);
            if (norm != null)
                value = r.rmsNorm(r.reshape(value, -1, heads, 2 * pairs), r.floats((OnnxArray) norm), eps);
            // [tokens, 1, pairs] each
            Value[] turn = r.split(r.floats((OnnxArray) table), 1, 2);
            if (backend.fuses(Fused.ROTARY)) {
                // one batch entry a token, so that each has its own row of the table
                Value y = r.node("RotaryEmbedding", with("num_heads", heads),
                        r.reshape(value, -1, 1, 2L * heads * pairs), turn[0], turn[1]);
                return r.reshape(y, -1, 2L * heads * pairs);
            }
            Value[] half = r.split(r.reshape(value, -1, heads, 2 * pairs), 2, 2);
            Value first = r.node("Sub", r.node("Mul", half[0], turn[0]), r.node("Mul", half[1], turn[1]));
            Value second = r.node("Add", r.node("Mul", half[1], turn[0]), r.node("Mul", half[0], turn[1]));
            return r.reshape(r.node("Concat", with("axis", 2), first, second), -1, 2L * heads * pairs);
        }, x, norm, table);
    }

    /**
     * Sequences of one length are a batch. Others are padded to the longest through an index, so that the graph is the
     * same however tokens are spread.
     */
    @Override
    public Tensor attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention attention) {
        int[] shape = Shapes.attend(q, k, v, packed, attention);
        int[] lengths = new int[packed.sequences()];
        int[] padded = new int[0];
        for (int i = 0; i < lengths.length; i++)
            lengths[i] = packed.length(i);
        int[] some = Arrays.stream(lengths).filter(n -> n > 0).toArray();
        int longest = Arrays.stream(some).max().orElse(0);
        boolean equal = Arrays.stream(some).allMatch(n -> n == longest);
        if ((long) attention.heads() * some.length * longest * longest > scores && areFloats(q, k, v))
            return backend.compute(shape, result -> {
                for (int s = 0; s < packed.sequences(); s++)
                    attendInPieces((OnnxArray) q, packed.offsets()[s], packed.length(s), 0, packed.length(s),
                            rows((OnnxArray) k, packed.offsets()[s]), rows((OnnxArray) v, packed.offsets()[s]),
                            attention, result);
            }, q, k, v);
        int[] spread = equal ? padded : new int[some.length * longest];
        int[] back = equal ? padded : new int[packed.tokens()];
        if (!equal) {
            int token = 0;
            for (int s = 0; s < some.length; s++)
                for (int i = 0; i < longest; i++)
                    if (i < some[s]) {
                        spread[s * longest + i] = token;
                        back[token++] = s * longest + i;
                    }
        }
        return backend.record(shape, r -> {
            Value index = equal ? null : r.indexes(spread);
            Value[] operand = new Value[3];
            for (int i = 0; i < 3; i++) {
                operand[i] = r.floats((OnnxArray) (i == 0 ? q : i == 1 ? k : v));
                if (!equal)
                    operand[i] = r.node("Gather", with("axis", 0), operand[i], index);
                operand[i] = r.reshape(operand[i], r.numbers(some.length, longest, -1));
            }
            Value mask = null;
            if (!equal) {
                float[] all = new float[some.length * longest * longest];
                for (int s = 0; s < some.length; s++)
                    fillMask(all, s * longest * longest, longest, longest, some[s], 0, attention);
                mask = r.floats(all, some.length, 1, longest, longest);
            } else if (longest > 1 && (attention.causal() || attention.window() > 0 && attention.window() < longest)) {
                mask = mask(r, longest, longest, 0, attention);
            }
            Value y = r.reshape(attend(r, operand[0], operand[1], operand[2], mask, attention), -1,
                    (long) attention.heads() * attention.headDim());
            return equal ? y : r.node("Gather", with("axis", 0), y, r.indexes(back));
        }, q, k, v);
    }

    /** 0 where query row i, at position {@code offset + i}, sees a key, and −∞ elsewhere; rows past the end see all. */
    private static void fillMask(float[] mask, int from, int queries, int keys, int length, int offset,
            Attention attention) {
        for (int i = 0; i < queries; i++) {
            int position = offset + i;
            if (position >= length)
                continue;
            int end = attention.causal() ? position + 1 : length;
            int start = attention.window() > 0 ? Math.max(0, position - attention.window() + 1) : 0;
            int row = from + i * keys;
            Arrays.fill(mask, row, row + start, Float.NEGATIVE_INFINITY);
            Arrays.fill(mask, row + end, row + keys, Float.NEGATIVE_INFINITY);
        }
    }

    /**
     * q [batch, n, heads · headDim], k and v [batch, m, kvHeads · headDim], mask broadcast to [batch, heads, n, m] or
     * null: [batch, n, heads · headDim].
     */
    private Value attend(Recording r, Value q, Value k, Value v, Value mask, Attention a) {
        if (backend.fuses(Fused.ATTENTION))
            return r.node("Attention", "", new Attribute[]{with("q_num_heads", a.heads()),
                    with("kv_num_heads", a.kvHeads()), with("scale", a.scale())}, q, k, v, mask);
        long group = a.heads() / a.kvHeads();
        // [batch, kvHeads, group, n, headDim] against one key head for each group
        Value queries = r.transpose(r.reshape(q, 0, 0, a.kvHeads(), group, a.headDim()), 0, 2, 3, 1, 4);
        Value keys = r.transpose(r.reshape(k, 0, 0, a.kvHeads(), 1, a.headDim()), 0, 2, 3, 4, 1);
        Value values = r.transpose(r.reshape(v, 0, 0, a.kvHeads(), 1, a.headDim()), 0, 2, 3, 1, 4);
        Value scores = r.node("MatMul", r.node("Mul", queries, constant(a.scale())), keys);
        if (mask != null)
            // [.., n, m] or [batch, 1, n, m]: one axis more for the groups
            scores = r.node("Add", scores, r.reshape(mask, r.node("Concat", "", new Attribute[]{with("axis", 0)},
                    OnnxType.INT64, integers(-1L, 1, 1), lastTwo(r, mask))));
        Value y = r.node("MatMul", r.node("Softmax", with("axis", -1), scores), values);
        return r.reshape(r.transpose(y, 0, 3, 1, 2, 4), 0, 0, (long) a.heads() * a.headDim());
    }

    /**
     * The same for a batch of one, q [1, n, heads · headDim] and k and v [1, m, kvHeads · headDim]. For few queries heads
     * are read where they lie: the operator lays keys and values out anew, which takes longer than all else while scores
     * are fewer.
     */
    private Value attend(Recording r, Value q, Value k, Value v, Value mask, int n, int m, Attention a) {
        if (!backend.fuses(Fused.MATMUL) || n * a.heads() > 2 * a.kvHeads() * a.headDim())
            return attend(r, q, k, v, mask, a);
        long group = a.heads() / a.kvHeads();
        Value queries = n == 1
                ? r.reshape(q, a.kvHeads(), group, a.headDim())
                : r.reshape(r.transpose(r.reshape(q, -1, a.kvHeads(), group, a.headDim()), 1, 0, 2, 3), a.kvHeads(), -1,
                        a.headDim());
        // [kvHeads, n · group, m]
        Value scores = r.node("FusedMatMul", Recording.MICROSOFT,
                new Attribute[]{with("transBatchB", 1), with("transB", 1), with("alpha", a.scale())}, queries,
                r.reshape(k, -1, a.kvHeads(), a.headDim()));
        if (mask != null)
            scores = r.reshape(
                    r.node("Add", r.reshape(scores, r.numbers(a.kvHeads(), n, group, m)),
                            r.node("Unsqueeze", mask, integers(1L))),
                    r.numbers(a.kvHeads(), n * group, m));
        Value y = r.node("FusedMatMul", Recording.MICROSOFT, new Attribute[]{with("transBatchB", 1)},
                r.node("Softmax", with("axis", -1), scores), r.reshape(v, -1, a.kvHeads(), a.headDim()));
        return n == 1 ? y : r.transpose(r.reshape(y, a.kvHeads(), -1, group, a.headDim()), 1, 0, 2, 3);
    }

    private static Value lastTwo(Recording r, Value mask) {
        return r.node("Shape", "", new Attribute[]{with("start", -2)}, OnnxType.INT64, mask);
    }

    private static boolean areFloats(Tensor... tensors) {
        return Arrays.stream(tensors).allMatch(t -> t.dtype() == DType.F32);
    }

    /** Rows from (inclusive) to (exclusive) of keys or values, [1, n, kvHeads · headDim]. */
    private interface Rows {
        Storage between(int from, int to);
    }

    private static Rows rows(OnnxArray x, int first) {
        return (from, to) -> rows(x.storage().memory, first + from, first + to, x.dim(1));
    }

    private static Storage rows(MemorySegment memory, int from, int to, int width) {
        return Storage.borrow(memory.asSlice(4L * from * width, 4L * (to - from) * width), OnnxType.FLOAT, 1,
                to - from, width);
    }

    /**
     * Few rows of queries at a time, over the keys that they see: the runtime keeps the scores of all rows of a run, and
     * those of a long prompt or a large image have no room. The runs have one structure, so one session does them all.
     *
     * @param first
     *            the sequence's first row of q, whose position is {@code keys − n}
     * @param start
     *            the first position whose keys are there
     * @param result
     *            as large as q
     */
    private void attendInPieces(OnnxArray q, int first, int n, int start, int keys, Rows k, Rows v, Attention a,
            MemorySegment result) {
        Storage queries = q.storage().retain();
        int width = q.dim(1);
        int each = Math.clamp(scores / a.heads() / Math.max(1, keys - start), 1, Integer.MAX_VALUE);
        try {
            for (int i = 0; i < n; i += each) {
                int rows = Math.min(each, n - i);
                int position = keys - n + i;
                int from = a.window() > 0 ? Math.max(start, position - a.window() + 1) : start;
                int to = a.causal() ? position + rows : keys;
                var r = new Recording(backend);
                Storage target = Storage.borrow(result.asSlice(4L * (first + i) * width, 4L * rows * width),
                        OnnxType.FLOAT, rows, width);
                try {
                    Value mask = rows > 1 && (a.causal() || a.window() > 0)
                            ? mask(r, rows, to - from, position - from, a)
                            : null;
                    Value y = attend(r, r.transientInput(rows(queries.memory, first + i, first + i + rows, width)),
                            r.transientInput(k.between(from, to)), r.transientInput(v.between(from, to)), mask, rows,
                            to - from, a);
                    r.run(List.of((Output) r.reshape(y, -1, width)), List.of(target));
                } finally {
                    target.release();
                    r.clear();
                }
            }
        } finally {
            queries.release();
        }
    }

    /** The first query stands at position {@code offset} of the keys. */
    private static Value mask(Recording r, int queries, int keys, int offset, Attention attention) {
        float[] all = new float[queries * keys];
        fillMask(all, 0, queries, keys, keys, offset, attention);
        return r.floats(all, queries, keys);
    }

    /** The pending graph ends here: the keys go from its results into the cache's memory. */
    @Override
    public void append(List<KvCache> caches, int layer, Tensor k, Tensor v, Packed packed) {
        Shapes.append(caches, layer, k, v, packed);
        for (KvCache cache : caches)
            OnnxKvCache.of(cache, backend);
        var keys = (OnnxArray) k;
        var values = (OnnxArray) v;
        keys.materialize();
        values.materialize();
        for (int i = 0; i < caches.size(); i++)
            ((OnnxKvCache) caches.get(i)).reserve(layer, packed.length(i));
        Storage keyRows = keys.storage().retain();
        Storage valueRows = values.storage().retain();
        for (int i = 0; i < caches.size(); i++)
            if (packed.length(i) > 0)
            ((OnnxKvCache) caches.get(i)).append(layer, keyRows.memory, valueRows.memory, packed.offsets()[i],
                    packed.length(i));
        keyRows.release();
        valueRows.release();
    }

    @Override
    public Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention attention) {
        for (KvCache cache : caches)
            OnnxKvCache.of(cache, backend);
        int[] shape = Shapes.attend(q, caches, layer, packed, attention);
        boolean many = false;
        for (int i = 0; i < packed.sequences(); i++) {
            var cache = (OnnxKvCache) caches.get(i);
            cache.settle(layer, backend.recording());
            many |= (long) attention.heads() * packed.length(i)
                    * (cache.length(layer) - first(cache, layer, packed.length(i), attention)) > scores;
        }
        if (many && areFloats(q))
            return backend.compute(shape, result -> {
                for (int i = 0; i < packed.sequences(); i++) {
                    var cache = (OnnxKvCache) caches.get(i);
                    attendInPieces((OnnxArray) q, packed.offsets()[i], packed.length(i), cache.start(layer),
                            cache.length(layer), (from, to) -> cache.keys(layer, from, to),
                            (from, to) -> cache.values(layer, from, to), attention, result);
                }
            }, q);
        return backend.record(shape, r -> {
            Value queries = r.floats((OnnxArray) q);
            Value[] parts = new Value[packed.sequences()];
            int n = 0;
            for (int i = 0; i < packed.sequences(); i++)
                if (packed.length(i) > 0)
                parts[n++] = attend(r, queries, (OnnxKvCache) caches.get(i), layer, packed, i, attention);
            return n == 1 ? parts[0] : r.node("Concat", with("axis", 0), Arrays.copyOf(parts, n));
        }, q);
    }

    /** The first position that any of the last {@code n} queries sees. */
    private static int first(OnnxKvCache cache, int layer, int n, Attention attention) {
        int start = cache.start(layer);
        return attention.window() > 0 ? Math.max(start, cache.length(layer) - n - attention.window() + 1) : start;
    }

    private Value attend(Recording r, Value queries, OnnxKvCache cache, int layer, Packed packed, int sequence,
            Attention attention) {
        int n = packed.length(sequence);
        int length = cache.length(layer);
        int from = first(cache, layer, n, attention);
        cache.readBy(layer, r);
        // the last query sees all keys that were kept: alone, it needs no mask
        Value mask = n > 1 && (attention.causal() || attention.window() > 0)
                ? mask(r, n, length - from, length - n - from, attention)
                : null;
        Value q = n == packed.tokens()
                ? queries
                : r.slice(queries, OnnxType.FLOAT, packed.offsets()[sequence], packed.offsets()[sequence + 1]);
        Value y = attend(r, r.node("Unsqueeze", q, integers(0L)), r.transientInput(cache.keys(layer, from, length)),
                r.transientInput(cache.values(layer, from, length)), mask, n, length - from, attention);
        // not Squeeze: the features that shape inference finds for an Attention over open dimensions are 0
        return r.reshape(y, -1, (long) attention.heads() * attention.headDim());
    }
}
