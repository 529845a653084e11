package io.omni.api;

import java.util.Arrays;

/** Mixture-of-experts layers. */
public interface MoeOps {
    /** The backend whose tensors these operations take and make. */
    Backend backend();

    /**
     * One expert layer: softmax of the router's logits over all experts, the largest {@code topK} probabilities (the
     * lower expert first on a tie), divided by their sum if {@code normalise}; the sum of the chosen experts' SwiGLU
     * outputs weighted by them; and the shared expert, if there is one, times sigmoid of its scale. Upstream:
     * {@code Qwen3OmniMoeThinkerTextSparseMoeBlock}, {@code Qwen3OmniMoeTalkerTextSparseMoeBlock}.
     *
     * @param x
     *            {@code [tokens, hidden]}
     * @param topK
     *            experts a token visits, from 1 to all
     * @return {@code [tokens, hidden]}
     */
    default Tensor moe(Tensor x, MoeWeights weights, int topK, boolean normalise) {
        int[] shape = Shapes.moe(x, weights, topK);
        TensorOps ops = backend().tensorOps();
        int experts = weights.router().dim(0);
        double[] probabilities = Definitions
                .softmax(Definitions.doubles(ops.linear(x, weights.router()).toFloats()), experts);
        int[] chosen = Definitions.topK(probabilities, experts, topK);
        double[] share = Definitions.shares(probabilities, experts, chosen, topK, normalise);

        Tensor result = backend().tensor(new float[Math.toIntExact(HostTensor.size(shape))], shape);
        for (int expert = 0; expert < experts; expert++) {
            int[] tokens = new int[x.dim(0)];
            float[] weight = new float[x.dim(0)];
            int n = 0;
            for (int i = 0; i < chosen.length; i++) {
                if (chosen[i] != expert)
                    continue;
                tokens[n] = i / topK;
                weight[n++] = (float) share[i];
            }
            if (n == 0)
                continue;
            Tensor index = backend().tensor(Arrays.copyOf(tokens, n), n);
            Tensor out = ops.gatedMlp(ops.gather(x, index), weights.gate().get(expert), weights.up().get(expert),
                    weights.down().get(expert));
            float[] spread = new float[n * shape[1]];
            for (int i = 0; i < spread.length; i++)
                spread[i] = weight[i / shape[1]];
            result = ops.scatterAdd(result, index, ops.multiply(out, backend().tensor(spread, n, shape[1])));
        }
        if (weights.shared() == null)
            return result;
        MoeWeights.SharedExpert shared = weights.shared();
        float[] scale = ops.linear(x, shared.scale(), null, Activation.SIGMOID).toFloats();
        float[] spread = new float[Math.toIntExact(x.size())];
        for (int i = 0; i < spread.length; i++)
            spread[i] = scale[i / shape[1]];
        return ops.add(result,
                ops.multiply(ops.gatedMlp(x, shared.gate(), shared.up(), shared.down()),
                        backend().tensor(spread, shape)));
    }
}
