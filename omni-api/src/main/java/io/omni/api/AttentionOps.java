package io.omni.api;

import java.util.Arrays;
import java.util.List;

/**
 * Rotary embedding, attention over packed sequences, and attention over caches. A sequence never sees another one.
 */
public interface AttentionOps {
    /** The backend whose tensors these operations take and make. */
    Backend backend();

    /**
     * The cosines and sines by which {@link #rotary} turns, shared by all layers of a step.
     *
     * @param positions
     *            {@code [rows, tokens]}, not necessarily whole numbers
     * @return {@code [tokens, 2, pairs]}: cosines, then sines, of position · inverse frequency, the product rounded to
     *         float32 as upstream does
     */
    default Tensor rotaryTable(Tensor positions, Rope rope) {
        int[] shape = Shapes.rotaryTable(positions, rope);
        return make(Definitions.rotaryTable(Shapes.own(positions, backend()).toFloats(), positions.dim(1), rope),
                shape);
    }

    /**
     * Normalises each head, if there is a norm, and turns it: features i and i + pairs of a head are a pair.
     *
     * @param x
     *            {@code [tokens, heads · 2 · pairs]}
     * @param norm
     *            {@code [2 · pairs]}, the RMS norm's weight, or null for no norm
     * @param eps
     *            the norm's
     * @param table
     *            from {@link #rotaryTable}
     * @return x's shape
     */
    default Tensor rotary(Tensor x, Tensor norm, float eps, Tensor table) {
        int[] shape = Shapes.rotary(x, norm, table);
        int pairs = table.dim(2);
        double[] heads = doubles(x);
        if (norm != null)
            heads = Definitions.rmsNorm(heads, doubles(norm), eps);
        return make(Definitions.rotary(heads, doubles(table), x.dim(0), pairs), shape);
    }

    /**
     * softmax(scale · q · kᵀ) · v within each sequence.
     *
     * @param q
     *            {@code [tokens, heads · headDim]}
     * @param k
     *            {@code [tokens, kvHeads · headDim]}
     * @param v
     *            {@code [tokens, kvHeads · headDim]}
     * @return {@code [tokens, heads · headDim]}
     */
    default Tensor attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention attention) {
        int[] shape = Shapes.attend(q, k, v, packed, attention);
        return make(Definitions.attend(doubles(q), doubles(k),
                doubles(v), packed, packed, attention), shape);
    }

    /**
     * Adds tokens to one layer of the sequences' caches.
     *
     * @param caches
     *            one a sequence
     * @param k
     *            {@code [tokens, kvHeads · headDim]}, already turned
     * @param v
     *            {@code [tokens, kvHeads · headDim]}
     */
    default void append(List<KvCache> caches, int layer, Tensor k, Tensor v, Packed packed) {
        Shapes.append(caches, layer, k, v, packed);
        List<HostKvCache> own = HostKvCache.of(backend(), caches);
        float[] keys = Shapes.own(k, backend()).toFloats();
        float[] values = Shapes.own(v, backend()).toFloats();
        for (int i = 0; i < packed.sequences(); i++)
            own.get(i).append(layer, keys, values, packed.offsets()[i], packed.length(i));
    }

    /**
     * Attention of the last tokens of each sequence, those in q, over everything in its cache, themselves included. Query
     * j of n stands at position {@code length − n + j}; with {@link Attention#causal} it sees keys up to its own position.
     *
     * @param q
     *            {@code [tokens, heads · headDim]}
     * @param caches
     *            one a sequence, at least as long as its queries
     * @return {@code [tokens, heads · headDim]}
     */
    default Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention attention) {
        int[] shape = Shapes.attend(q, caches, layer, packed, attention);
        List<HostKvCache> own = HostKvCache.of(backend(), caches);
        double[] queries = doubles(q);
        double[] result = new double[queries.length];
        int row = attention.heads() * attention.headDim();
        for (int i = 0; i < packed.sequences(); i++) {
            if (packed.length(i) == 0)
                continue;
            HostKvCache cache = own.get(i);
            int from = packed.offsets()[i] * row;
            int to = packed.offsets()[i + 1] * row;
            double[] part = Definitions.attend(Arrays.copyOfRange(queries, from, to), cache.keys(layer),
                    cache.values(layer), new Packed(0, packed.length(i)), new Packed(0, cache.length(layer)),
                    attention);
            System.arraycopy(part, 0, result, from, part.length);
        }
        return make(result, shape);
    }

    private Tensor make(double[] values, int... shape) {
        return backend().tensor(Definitions.round(values), shape);
    }

    private double[] doubles(Tensor x) {
        return Definitions.doubles(Shapes.own(x, backend()).toFloats());
    }
}
