package io.omni.api;

import java.util.Arrays;
import java.util.List;

/**
 * Linear algebra, norms, elementwise functions, moving rows, and sampling. "Rows" are all dimensions but the last,
 * flattened. Every default is the plain definition, computed on the host in {@link Definitions} or from simpler
 * operations; results are new tensors of the backend's compute type in the innermost scope.
 */
public interface TensorOps {
    /** The backend whose tensors these operations take and make. */
    Backend backend();

    /**
     * y = activation(x · wᵀ + bias).
     *
     * @param x
     *            {@code [..., in]}
     * @param weight
     *            {@code [out, in]}, any of {@link Backend#weightTypes}
     * @param bias
     *            {@code [out]}, or null
     * @return {@code [..., out]}
     */
    default Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation activation) {
        int[] shape = Shapes.linear(x, weight, bias);
        return make(Definitions.linear(doubles(x), doubles(weight), bias == null ? null : doubles(bias), x.rowCount(),
                weight.dim(1), weight.dim(0), activation), shape);
    }

    /** {@link #linear(Tensor, Tensor, Tensor, Activation)} without bias and activation. */
    default Tensor linear(Tensor x, Tensor weight) {
        return linear(x, weight, null, Activation.NONE);
    }

    /** {@link #linear(Tensor, Tensor, Tensor, Activation)} without activation. */
    default Tensor linear(Tensor x, Tensor weight, Tensor bias) {
        return linear(x, weight, bias, Activation.NONE);
    }

    /**
     * The SwiGLU feed-forward layer: (silu(x · gateᵀ) ∘ (x · upᵀ)) · downᵀ.
     *
     * @param x
     *            {@code [..., hidden]}
     * @param gate
     *            {@code [intermediate, hidden]}
     * @param up
     *            {@code [intermediate, hidden]}
     * @param down
     *            {@code [hidden, intermediate]}
     * @return {@code [..., hidden]}
     */
    default Tensor gatedMlp(Tensor x, Tensor gate, Tensor up, Tensor down) {
        Shapes.gatedMlp(x, gate, up, down);
        return linear(multiply(linear(x, gate, null, Activation.SILU), linear(x, up)), down);
    }

    /** x / √(mean(x²) + eps) ∘ weight over the last dimension (Zhang and Sennrich, RMSNorm); weight {@code [features]}. */
    default Tensor rmsNorm(Tensor x, Tensor weight, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        return make(Definitions.rmsNorm(doubles(x), doubles(weight), eps), shape);
    }

    /** (x − mean) / √(variance + eps) ∘ weight + bias over the last dimension; weight and bias {@code [features]}. */
    default Tensor layerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        Shapes.vector(x, bias, "bias");
        return make(Definitions.layerNorm(doubles(x), doubles(weight), doubles(bias), eps), shape);
    }

    /** a + b, where b has a's shape, or is one row {@code [features]} added to every row. */
    default Tensor add(Tensor a, Tensor b) {
        int[] shape = Shapes.elementwise(a, b);
        return make(Definitions.add(doubles(a), doubles(b)), shape);
    }

    /** a ∘ b, where b has a's shape, or is one row {@code [features]} that multiplies every row. */
    default Tensor multiply(Tensor a, Tensor b) {
        int[] shape = Shapes.elementwise(a, b);
        return make(Definitions.multiply(doubles(a), doubles(b)), shape);
    }

    /** residual + x ∘ scale, with scale {@code [features]}: a layer scale with its residual connection. */
    default Tensor addScaled(Tensor residual, Tensor x, Tensor scale) {
        Shapes.same(residual, x);
        Shapes.vector(x, scale, "scale");
        return add(residual, multiply(x, scale));
    }

    /** The function of every element. */
    default Tensor activation(Tensor x, Activation activation) {
        int[] shape = Shapes.activation(x);
        return make(Definitions.activation(doubles(x), activation), shape);
    }

    /**
     * x + sin²(x · e^alpha) / (e^beta + 1e-9), alpha and beta {@code [features]}. Upstream:
     * {@code Qwen3OmniMoeSnakeBeta}, here with features last.
     */
    default Tensor snakeBeta(Tensor x, Tensor alpha, Tensor beta) {
        int[] shape = Shapes.vector(x, alpha, "alpha");
        Shapes.vector(x, beta, "beta");
        return make(Definitions.snakeBeta(doubles(x), doubles(alpha), doubles(beta)), shape);
    }

    /** Every element limited to [min, max]; NaN stays NaN. */
    default Tensor clamp(Tensor x, float min, float max) {
        int[] shape = Shapes.activation(x);
        return make(Definitions.clamp(doubles(x), min, max), shape);
    }

    /**
     * Rows of a table.
     *
     * @param table
     *            {@code [entries, features]}
     * @param ids
     *            I32, any shape; ids from 0 to entries − 1
     * @return the ids' shape with {@code features} appended
     * @throws IllegalArgumentException
     *             if an id is out of range; a device backend may return anything for that row instead
     */
    default Tensor embedding(Tensor table, Tensor ids) {
        int[] shape = Shapes.embedding(table, ids);
        return make(Definitions.embedding(doubles(table), table.dim(1), ids.toInts()), shape);
    }

    /**
     * For each bag, the weighted sum of the table's rows that it names; PyTorch's {@code EmbeddingBag}.
     *
     * @param table
     *            {@code [entries, features]}
     * @param ids
     *            I32 {@code [bags, n]}
     * @param weights
     *            {@code [bags, n]}, or null for all 1
     * @return {@code [bags, features]}
     */
    default Tensor embeddingBag(Tensor table, Tensor ids, Tensor weights) {
        int[] shape = Shapes.embeddingBag(table, ids, weights);
        if (ids.dim(1) == 0)
            return make(new double[Math.toIntExact(HostTensor.size(shape))], shape);
        return make(Definitions.embeddingBag(doubles(table), table.dim(1), ids.toInts(), ids.dim(1),
                weights == null ? null : doubles(weights)), shape);
    }

    /** Rows {@code from} (inclusive) to {@code to} (exclusive) of the outermost dimension. */
    default Tensor slice(Tensor x, int from, int to) {
        int[] shape = Shapes.slice(Shapes.own(x, backend()), from, to);
        int row = x.dim(0) == 0 ? 0 : (int) (x.size() / x.dim(0));
        if (x.dtype() == DType.I32)
            return backend().tensor(Arrays.copyOfRange(x.toInts(), from * row, to * row), shape);
        return backend().tensor(Arrays.copyOfRange(x.toFloats(), from * row, to * row), shape);
    }

    /** The tensors one after another along the outermost dimension; all others must agree. At least one tensor. */
    default Tensor concat(List<Tensor> parts) {
        int[] shape = Shapes.concat(parts);
        Shapes.own(parts.getFirst(), backend());
        if (parts.getFirst().dtype() == DType.I32) {
            var ints = parts.stream().flatMapToInt(t -> Arrays.stream(t.toInts())).toArray();
            return backend().tensor(ints, shape);
        }
        float[] all = new float[Math.toIntExact(HostTensor.size(shape))];
        int at = 0;
        for (Tensor part : parts) {
            float[] values = part.toFloats();
            System.arraycopy(values, 0, all, at, values.length);
            at += values.length;
        }
        return backend().tensor(all, shape);
    }

    /** The same elements in another shape of the same size. */
    default Tensor reshape(Tensor x, int... shape) {
        Shapes.reshape(Shapes.own(x, backend()), shape);
        return x.dtype() == DType.I32 ? backend().tensor(x.toInts(), shape) : backend().tensor(x.toFloats(), shape);
    }

    /** The dimensions in another order: dimension i of the result is dimension {@code axes[i]} of x. */
    default Tensor permute(Tensor x, int... axes) {
        int[] shape = Shapes.permute(x, axes);
        return make(Definitions.permute(doubles(x), x.shape(), axes), shape);
    }

    /** Rows of x {@code [rows, features]} by index, I32 {@code [n]}; the result is {@code [n, features]}. */
    default Tensor gather(Tensor x, Tensor index) {
        return embedding(x, index);
    }

    /** base {@code [rows, features]} with row {@code index[i]} replaced by {@code rows[i]}; no index twice. */
    default Tensor scatter(Tensor base, Tensor index, Tensor rows) {
        int[] shape = Shapes.scatter(base, index, rows);
        return make(Definitions.scatter(doubles(base), index.toInts(), doubles(rows), false), shape);
    }

    /** base {@code [rows, features]} with {@code rows[i]} added to row {@code index[i]}; repeated indexes add up. */
    default Tensor scatterAdd(Tensor base, Tensor index, Tensor rows) {
        int[] shape = Shapes.scatter(base, index, rows);
        return make(Definitions.scatter(doubles(base), index.toInts(), doubles(rows), true), shape);
    }

    /**
     * A sampler for one sequence. The caller owns it.
     *
     * @param vocabulary
     *            number of logits
     * @param history
     *            tokens that the sequence holds already, for the repetition penalty
     * @throws IllegalArgumentException
     *             if a suppressed token or a token of the history is not in the vocabulary
     */
    default Sampler sampler(Sampling sampling, int vocabulary, int[] history) {
        return new HostSampler(sampling, vocabulary, history);
    }

    /**
     * Draws the next token of each sequence and notes it in its sampler. NaN logits are never drawn; if a row has
     * nothing to draw, it gives token 0.
     *
     * @param logits
     *            {@code [sequences, vocabulary]}
     * @param samplers
     *            one a row, made by {@link #sampler} of this backend
     * @return I32 {@code [sequences]}
     * @throws IllegalArgumentException
     *             if a sampler is of another backend, or was made for another vocabulary
     */
    default Tensor sample(Tensor logits, List<Sampler> samplers) {
        Shapes.sample(logits, samplers);
        float[] values = Shapes.own(logits, backend()).toFloats();
        int vocabulary = logits.dim(1);
        // all of them before the first draw, as a draw changes its sampler
        for (Sampler sampler : samplers)
            if (!(sampler instanceof HostSampler host) || host.vocabulary() != vocabulary)
            throw new IllegalArgumentException(vocabulary + " logits for a sampler made for another vocabulary or"
                    + " by another backend");
        int[] tokens = new int[samplers.size()];
        for (int i = 0; i < tokens.length; i++)
            tokens[i] = ((HostSampler) samplers.get(i)).next(values, i * vocabulary);
        return backend().tensor(tokens, tokens.length);
    }

    private Tensor make(double[] values, int... shape) {
        return backend().tensor(Definitions.round(values), shape);
    }

    private double[] doubles(Tensor x) {
        return Definitions.doubles(Shapes.own(x, backend()).toFloats());
    }
}
