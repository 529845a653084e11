package io.omni.api;

import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Checks the arguments of each operation, by the operation's name, and tells the shape of its result. Backends call these
 * first, so that every backend refuses the same arguments with the same message, of an {@link IllegalArgumentException}.
 * The tensors of a call must be of one backend, and its activations floats; each method below names the shapes that it
 * takes and, behind the colon, the one that it returns.
 */
public final class Shapes {
    /** What every backend takes for all roles but {@link WeightRole#MATRIX}. */
    private static final Set<DType> PLAIN_TYPES = EnumSet.of(DType.F32, DType.F16, DType.BF16);

    private Shapes() {}

    /** The tensor, if it is this backend's; the checks of operations compare tensors with each other only. */
    static Tensor own(Tensor x, Backend backend) {
        if (x.backend() != backend)
            throw new IllegalArgumentException("a tensor of another backend, " + x.backend().name()
                    + ", than this one, " + backend.name());
        return x;
    }

    /** The shape of a tensor of {@code count} values. */
    public static int[] tensor(int count, int... shape) {
        for (int n : shape)
            if (n < 0)
            throw new IllegalArgumentException("shape " + Arrays.toString(shape));
        if (HostTensor.size(shape) != count)
            throw new IllegalArgumentException(count + " values for shape " + Arrays.toString(shape));
        return shape.clone();
    }

    /** The shape of a weight, if a backend whose matrices may be of {@code matrixTypes} takes it. */
    public static int[] weight(HostTensor host, WeightRole role, Set<DType> matrixTypes) {
        Set<DType> types = role == WeightRole.MATRIX ? matrixTypes : PLAIN_TYPES;
        if (!types.contains(host.dtype()))
            throw new IllegalArgumentException(
                    host.name() + " of type " + host.dtype() + " as " + role + ", expected one of " + types);
        int rank = switch (role) {
            case VECTOR -> 1;
            case MATRIX, EMBEDDING -> 2;
            case CONV1D, CONV_TRANSPOSE1D -> 3;
            case CONV2D -> 4;
            case CONV3D -> 5;
        };
        if (host.shape().length != rank)
            throw new IllegalArgumentException(host.name() + " of shape " + Arrays.toString(host.shape()) + " as "
                    + role + ": expected " + rank + " dimensions");
        return host.shape().clone();
    }

    /** x [..., in], weight [out, in], bias [out] or null: [..., out]. */
    public static int[] linear(Tensor x, Tensor weight, Tensor bias) {
        sameBackend(x, weight, bias);
        floating(x, "x");
        rank(weight, 2, "weight");
        last(x, weight.dim(1), "x");
        if (bias != null)
            exactly(bias, "bias", weight.dim(0));
        return withLast(x, weight.dim(0));
    }

    /** x [..., hidden], gate and up [intermediate, hidden], down [hidden, intermediate]: [..., hidden]. */
    public static int[] gatedMlp(Tensor x, Tensor gate, Tensor up, Tensor down) {
        sameBackend(x, gate, up, down);
        floating(x, "x");
        rank(gate, 2, "gate");
        last(x, gate.dim(1), "x");
        exactly(up, "up", gate.shape());
        exactly(down, "down", gate.dim(1), gate.dim(0));
        return x.shape();
    }

    /** x [..., features], vector [features], called {@code name} in messages: x's shape. For norms and scales. */
    public static int[] vector(Tensor x, Tensor vector, String name) {
        sameBackend(x, vector);
        floating(x, "x");
        exactly(vector, name, x.dim(x.shape().length - 1));
        return x.shape();
    }

    /** a [..., features], b of a's shape or [features]: a's shape. */
    public static int[] elementwise(Tensor a, Tensor b) {
        sameBackend(a, b);
        floating(a, "a");
        floating(b, "b");
        if (!Arrays.equals(a.shape(), b.shape()))
            exactly(b, "b", a.dim(a.shape().length - 1));
        return a.shape();
    }

    /** a and b of one shape: that shape. */
    public static int[] same(Tensor a, Tensor b) {
        sameBackend(a, b);
        floating(a, "a");
        floating(b, "b");
        exactly(b, "b", a.shape());
        return a.shape();
    }

    /** table [entries, features], ids I32 of any shape: the ids' shape with features appended. Ids are not looked at. */
    public static int[] embedding(Tensor table, Tensor ids) {
        sameBackend(table, ids);
        rank(table, 2, "table");
        floating(table, "table");
        integers(ids, "ids");
        int[] shape = Arrays.copyOf(ids.shape(), ids.shape().length + 1);
        shape[shape.length - 1] = table.dim(1);
        return shape;
    }

    /** table [entries, features], ids I32 [bags, n], weights [bags, n] or null: [bags, features]. */
    public static int[] embeddingBag(Tensor table, Tensor ids, Tensor weights) {
        sameBackend(table, ids, weights);
        rank(table, 2, "table");
        floating(table, "table");
        rank(ids, 2, "ids");
        integers(ids, "ids");
        if (weights != null) {
            floating(weights, "weights");
            exactly(weights, "weights", ids.shape());
        }
        return new int[]{ids.dim(0), table.dim(1)};
    }

    /** x [rows, ...] of any type, 0 ≤ from ≤ to ≤ rows: [to − from, ...]. */
    public static int[] slice(Tensor x, int from, int to) {
        sameBackend(x);
        if (x.shape().length == 0 || from < 0 || to < from || to > x.dim(0))
            throw new IllegalArgumentException("rows " + from + " to " + to + " of " + Arrays.toString(x.shape()));
        return withFirst(x, to - from);
    }

    /** At least one part, all [rows, ...] of one type, alike but in rows: [sum of rows, ...]. */
    public static int[] concat(List<Tensor> parts) {
        if (parts.isEmpty())
            throw new IllegalArgumentException("nothing to concatenate");
        sameBackend(parts.toArray(Tensor[]::new));
        Tensor first = parts.getFirst();
        int rows = 0;
        for (Tensor part : parts) {
            exactly(part, "part", withFirst(first, part.dim(0)));
            if (part.dtype() != first.dtype())
                throw new IllegalArgumentException("parts of type " + first.dtype() + " and " + part.dtype());
            rows += part.dim(0);
        }
        return withFirst(first, rows);
    }

    /** x of any shape: that shape. */
    public static int[] activation(Tensor x) {
        floating(x, "x");
        return x.shape();
    }

    /** x of any type and as many elements as {@code shape}, which has no negative dimension: {@code shape}. */
    public static int[] reshape(Tensor x, int... shape) {
        sameBackend(x);
        if (HostTensor.size(shape) != x.size() || Arrays.stream(shape).anyMatch(n -> n < 0))
            throw new IllegalArgumentException(Arrays.toString(x.shape()) + " as " + Arrays.toString(shape));
        return shape;
    }

    /** x, and axes that name each of its dimensions once: its shape in that order. */
    public static int[] permute(Tensor x, int... axes) {
        sameBackend(x);
        floating(x, "x");
        if (axes.length != x.shape().length)
            throw new IllegalArgumentException("axes " + Arrays.toString(axes) + " of " + Arrays.toString(x.shape()));
        int[] sorted = axes.clone();
        Arrays.sort(sorted);
        int[] shape = new int[axes.length];
        for (int i = 0; i < axes.length; i++) {
            if (sorted[i] != i)
                throw new IllegalArgumentException(
                        "axes " + Arrays.toString(axes) + " of " + Arrays.toString(x.shape()));
            shape[i] = x.dim(axes[i]);
        }
        return shape;
    }

    /** base [n, features], index I32 [rows], rows [rows, features]: the base's shape. */
    public static int[] scatter(Tensor base, Tensor index, Tensor rows) {
        sameBackend(base, index, rows);
        rank(base, 2, "base");
        floating(base, "base");
        floating(rows, "rows");
        rank(index, 1, "index");
        integers(index, "index");
        exactly(rows, "rows", index.dim(0), base.dim(1));
        return base.shape();
    }

    /** logits [sequences, vocabulary], one sampler a sequence: [sequences]. */
    public static int[] sample(Tensor logits, List<Sampler> samplers) {
        sameBackend(logits);
        rank(logits, 2, "logits");
        floating(logits, "logits");
        if (logits.dim(0) != samplers.size())
            throw new IllegalArgumentException(logits.dim(0) + " rows of logits, " + samplers.size() + " samplers");
        return new int[]{samplers.size()};
    }

    /** positions [rows, tokens], with every row that the embedding reads: [tokens, 2, pairs]. */
    public static int[] rotaryTable(Tensor positions, Rope rope) {
        sameBackend(positions);
        rank(positions, 2, "positions");
        for (int row : rope.row())
            if (row >= positions.dim(0))
            throw new IllegalArgumentException(
                    positions.dim(0) + " rows of positions, the embedding reads row " + row);
        return new int[]{positions.dim(1), 2, rope.pairs()};
    }

    /** x [tokens, heads · 2 · pairs], norm [2 · pairs] or null, table [tokens, 2, pairs]: x's shape. */
    public static int[] rotary(Tensor x, Tensor norm, Tensor table) {
        sameBackend(x, norm, table);
        rank(x, 2, "x");
        floating(x, "x");
        rank(table, 3, "table");
        floating(table, "table");
        int headDim = 2 * table.dim(2);
        if (x.dim(0) != table.dim(0) || x.dim(1) % headDim != 0)
            throw new IllegalArgumentException("x " + Arrays.toString(x.shape()) + " does not go with a table of "
                    + table.dim(0) + " tokens and heads of " + headDim);
        if (norm != null)
            exactly(norm, "norm", headDim);
        return x.shape();
    }

    /** q [tokens, heads · headDim], k and v [tokens, kvHeads · headDim], tokens as packed: q's shape. */
    public static int[] attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention attention) {
        sameBackend(q, k, v);
        floating(q, "q");
        floating(k, "k");
        floating(v, "v");
        exactly(q, "q", packed.tokens(), attention.heads() * attention.headDim());
        exactly(k, "k", packed.tokens(), attention.kvHeads() * attention.headDim());
        exactly(v, "v", packed.tokens(), attention.kvHeads() * attention.headDim());
        return q.shape();
    }

    /** k and v [tokens, kvHeads · headDim], tokens as packed, one cache a sequence, none twice, each with the layer. */
    public static void append(List<KvCache> caches, int layer, Tensor k, Tensor v, Packed packed) {
        sameBackend(k, v);
        floating(k, "k");
        floating(v, "v");
        oneEach(caches, layer, packed);
        for (KvCache cache : caches) {
            int width = cache.spec().kvHeads() * cache.spec().headDim();
            exactly(k, "k", packed.tokens(), width);
            exactly(v, "v", packed.tokens(), width);
        }
    }

    /**
     * q [tokens, heads · headDim], tokens as packed; one cache a sequence, none twice, of the attention's heads, with the
     * layer, no shorter than the sequence's queries and with a window no smaller than the attention's: q's shape.
     */
    public static int[] attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention attention) {
        sameBackend(q);
        floating(q, "q");
        oneEach(caches, layer, packed);
        exactly(q, "q", packed.tokens(), attention.heads() * attention.headDim());
        for (int i = 0; i < caches.size(); i++) {
            CacheSpec spec = caches.get(i).spec();
            if (spec.kvHeads() != attention.kvHeads() || spec.headDim() != attention.headDim())
                throw new IllegalArgumentException(attention + " over a cache of " + spec);
            if (spec.window() > 0 && (attention.window() == 0 || attention.window() > spec.window()))
                throw new IllegalArgumentException(
                        "window " + attention.window() + " over a cache that keeps " + spec.window());
            if (caches.get(i).length(layer) < packed.length(i))
                throw new IllegalArgumentException(packed.length(i) + " queries over " + caches.get(i).length(layer)
                        + " cached tokens: append their keys first");
        }
        return q.shape();
    }

    /** x [tokens, hidden], weights of that hidden size, topK from 1 to the number of experts: x's shape. */
    public static int[] moe(Tensor x, MoeWeights weights, int topK) {
        sameBackend(x, weights.router());
        rank(x, 2, "x");
        floating(x, "x");
        exactly(weights.router(), "router", weights.router().dim(0), x.dim(1));
        int intermediate = weights.gate().getFirst().dim(0);
        for (int i = 0; i < weights.gate().size(); i++) {
            sameBackend(x, weights.gate().get(i), weights.up().get(i), weights.down().get(i));
            exactly(weights.gate().get(i), "gate " + i, intermediate, x.dim(1));
            exactly(weights.up().get(i), "up " + i, intermediate, x.dim(1));
            exactly(weights.down().get(i), "down " + i, x.dim(1), intermediate);
        }
        if (topK < 1 || topK > weights.gate().size())
            throw new IllegalArgumentException("top " + topK + " of " + weights.gate().size() + " experts");
        if (weights.shared() != null) {
            gatedMlp(x, weights.shared().gate(), weights.shared().up(), weights.shared().down());
            sameBackend(x, weights.shared().scale());
            exactly(weights.shared().scale(), "shared scale", 1, x.dim(1));
        }
        return x.shape();
    }

    /**
     * x [time, in], weight [out, in / groups, kernel], bias [out] or null, in and out multiples of groups:
     * [outputLength, out].
     */
    public static int[] conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d conv) {
        sameBackend(x, weight, bias);
        rank(x, 2, "x");
        floating(x, "x");
        rank(weight, 3, "weight");
        if (x.dim(1) % conv.groups() != 0 || weight.dim(0) % conv.groups() != 0
                || weight.dim(1) * conv.groups() != x.dim(1))
            throw new IllegalArgumentException("x " + Arrays.toString(x.shape()) + ", weight "
                    + Arrays.toString(weight.shape()) + ", " + conv.groups() + " groups");
        if (bias != null)
            exactly(bias, "bias", weight.dim(0));
        return new int[]{conv.outputLength(x.dim(0), weight.dim(2)), weight.dim(0)};
    }

    /**
     * x [time, in], weight [in, out, kernel], bias [out] or null, stride at least 1, trims at least 0:
     * [max(0, (time − 1) · stride + kernel − trimLeft − trimRight), out], with no time for no input.
     */
    public static int[] convTranspose1d(Tensor x, Tensor weight, Tensor bias, int stride, int trimLeft, int trimRight) {
        sameBackend(x, weight, bias);
        rank(x, 2, "x");
        floating(x, "x");
        rank(weight, 3, "weight");
        last(x, weight.dim(0), "x");
        if (bias != null)
            exactly(bias, "bias", weight.dim(1));
        if (stride < 1 || trimLeft < 0 || trimRight < 0)
            throw new IllegalArgumentException("stride " + stride + ", trim " + trimLeft + " and " + trimRight);
        int length = x.dim(0) == 0
                ? 0
                : Math.max(0, (x.dim(0) - 1) * stride + weight.dim(2) - trimLeft - trimRight);
        return new int[]{length, weight.dim(1)};
    }

    /**
     * x [batch, height, width, in], weight [out, in, kernelHeight, kernelWidth], bias [out] or null:
     * [batch, outHeight, outWidth, out].
     */
    public static int[] conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d conv) {
        sameBackend(x, weight, bias);
        rank(x, 4, "x");
        floating(x, "x");
        rank(weight, 4, "weight");
        last(x, weight.dim(1), "x");
        if (bias != null)
            exactly(bias, "bias", weight.dim(0));
        return new int[]{x.dim(0), conv.outputLength(x.dim(1), weight.dim(2)),
                conv.outputLength(x.dim(2), weight.dim(3)), weight.dim(0)};
    }

    /**
     * x [patches, channels · frames · height · width], weight [out, channels, frames, height, width], bias [out] or null:
     * [patches, out].
     */
    public static int[] conv3dPatches(Tensor x, Tensor weight, Tensor bias) {
        sameBackend(x, weight, bias);
        rank(x, 2, "x");
        floating(x, "x");
        rank(weight, 5, "weight");
        last(x, (int) (weight.size() / weight.dim(0)), "x");
        if (bias != null)
            exactly(bias, "bias", weight.dim(0));
        return new int[]{x.dim(0), weight.dim(0)};
    }

    private static void oneEach(List<KvCache> caches, int layer, Packed packed) {
        if (caches.size() != packed.sequences())
            throw new IllegalArgumentException(packed.sequences() + " sequences, " + caches.size() + " caches");
        if (caches.stream().distinct().count() != caches.size())
            throw new IllegalArgumentException("one cache for several sequences");
        for (KvCache cache : caches)
            if (layer < 0 || layer >= cache.spec().layers())
            throw new IllegalArgumentException("layer " + layer + " of a cache of " + cache.spec().layers());
    }

    private static void sameBackend(Tensor... tensors) {
        for (Tensor tensor : tensors)
            if (tensor != null && tensor.backend() != tensors[0].backend())
            throw new IllegalArgumentException("a tensor of backend " + tensor.backend().name()
                    + " with one of another, " + tensors[0].backend().name());
    }

    private static void floating(Tensor x, String name) {
        if (!x.dtype().isFloating())
            throw new IllegalArgumentException(name + " of type " + x.dtype() + ", expected floats");
    }

    private static void integers(Tensor x, String name) {
        if (x.dtype() != DType.I32)
            throw new IllegalArgumentException(name + " of type " + x.dtype() + ", expected I32");
    }

    private static void rank(Tensor x, int rank, String name) {
        if (x.shape().length != rank)
            throw new IllegalArgumentException(
                    name + " " + Arrays.toString(x.shape()) + ", expected " + rank + " dimensions");
    }

    private static void last(Tensor x, int features, String name) {
        if (x.shape().length == 0 || x.dim(x.shape().length - 1) != features)
            throw new IllegalArgumentException(
                    name + " " + Arrays.toString(x.shape()) + ", expected " + features + " features");
    }

    private static void exactly(Tensor x, String name, int... shape) {
        if (!Arrays.equals(x.shape(), shape))
            throw new IllegalArgumentException(
                    name + " " + Arrays.toString(x.shape()) + ", expected " + Arrays.toString(shape));
    }

    private static int[] withLast(Tensor x, int features) {
        int[] shape = x.shape().clone();
        shape[shape.length - 1] = features;
        return shape;
    }

    private static int[] withFirst(Tensor x, int rows) {
        int[] shape = x.shape().clone();
        shape[0] = rows;
        return shape;
    }
}
