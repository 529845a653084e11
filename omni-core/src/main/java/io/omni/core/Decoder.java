package io.omni.core;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import java.util.ArrayList;
import java.util.List;

/**
 * A causal decoder of pre-norm layers, over packed sequences with a cache each. The Thinker, the Talker, the code
 * predictor and Code2Wav's transformer are this with different parts. Upstream: {@code Qwen3OmniMoeThinkerTextModel} and
 * its siblings.
 */
final class Decoder {
    private final Backend backend;
    private final DecoderConfig config;
    private final Rope rope;
    private final List<Layer> layers = new ArrayList<>();
    private final Tensor norm;

    Decoder(DecoderConfig config, Weights weights) {
        backend = weights.backend();
        this.config = config;
        rope = config.rope();
        for (int i = 0; i < config.numHiddenLayers(); i++)
            layers.add(new Layer(config, i, weights.at("layers").at(i)));
        norm = weights.at("norm").vector("weight", config.hiddenSize());
    }

    /** Sees, and may replace, what goes into each layer. */
    interface Tap {
        /** The hidden states that layer {@code layer} reads; returns them, or others in their place. */
        Tensor before(int layer, Tensor hidden);

        /** Whether what {@link #before} was given for this layer goes to the caller's scope rather than being freed. */
        default boolean keeps(int layer) {
            return false;
        }

        /** The normalised hidden states that layer {@code layer}'s router reads, if it has one. */
        default void routed(int layer, Tensor hidden, Tensor router) {}

        /** What {@link #routed} has made so far, which goes to the caller's scope. */
        default List<Tensor> made() {
            return List.of();
        }

        Tap NONE = (layer, hidden) -> hidden;
    }

    DecoderConfig config() {
        return config;
    }

    /** A new cache for one sequence. */
    KvCache newCache(DType type) {
        return backend.cache(config.cacheSpec(type));
    }

    /**
     * Runs tokens through all layers and adds them to the caches.
     *
     * @param hidden
     *            {@code [tokens, hidden]}
     * @param positions
     *            {@code [rows, tokens]}: time, height and width, or one row for plain positions
     * @return {@code [tokens, hidden]}, normalised
     */
    Tensor forward(Tensor hidden, float[][] positions, List<KvCache> caches, Packed packed, Tap tap) {
        try (Tensor table = rotaryTable(positions)) {
            return forward(hidden, table, caches, packed, tap);
        }
    }

    /** The angles of positions {@code [rows, tokens]}, for {@link #forward(Tensor, Tensor, List, Packed, Tap)}. */
    Tensor rotaryTable(float[][] positions) {
        int tokens = positions[0].length;
        float[] flat = new float[positions.length * tokens];
        for (int i = 0; i < positions.length; i++)
            System.arraycopy(positions[i], 0, flat, i * tokens, tokens);
        return backend.attentionOps().rotaryTable(backend.tensor(flat, positions.length, tokens), rope);
    }

    /** The same with the tokens' angles, {@code [tokens, 2, pairs]}. */
    Tensor forward(Tensor hidden, Tensor table, List<KvCache> caches, Packed packed, Tap tap) {
        try (Scope scope = backend.scope()) {
            Tensor state = hidden;
            for (int i = 0; i < layers.size(); i++) {
                Cancellation.checkCurrent();
                // a long prompt's states are large: each goes as soon as it was read, unless somebody wants it
                boolean owned = state != hidden && !tap.keeps(i);
                if (tap.keeps(i))
                    scope.keep(state);
                Tensor input = tap.before(i, state);
                if (input != state && owned)
                    state.close();
                Tensor output = layers.get(i).forward(input, table, caches, packed, tap);
                if (input != state || owned)
                    input.close();
                state = output;
            }
            state = backend.tensorOps().rmsNorm(tap.before(layers.size(), state), norm, (float) config.rmsNormEps());
            tap.made().forEach(scope::keep);
            return scope.keep(state);
        }
    }

    private static final class Layer {
        private final Backend backend;
        private final int index;
        private final float eps;
        private final Tensor inputNorm;
        private final SelfAttention attention;
        private final Tensor attentionScale;
        private final Tensor postAttentionNorm;
        private final FeedForward mlp;
        private final Tensor mlpScale;

        Layer(DecoderConfig config, int index, Weights weights) {
            backend = weights.backend();
            this.index = index;
            eps = (float) config.rmsNormEps();
            int hidden = config.hiddenSize();
            inputNorm = weights.vector("input_layernorm.weight", hidden);
            attention = new SelfAttention(config, index, weights.at("self_attn"));
            attentionScale = weights.vectorIf(config.layerScale(), "self_attn_layer_scale.scale", hidden);
            postAttentionNorm = weights.vector("post_attention_layernorm.weight", hidden);
            mlp = config.isSparse(index)
                    ? new SparseMoe(config, index, weights.at("mlp"))
                    : new DenseMlp(config, weights.at("mlp"));
            mlpScale = weights.vectorIf(config.layerScale(), "mlp_layer_scale.scale", hidden);
        }

        Tensor forward(Tensor x, Tensor table, List<KvCache> caches, Packed packed, Tap tap) {
            TensorOps ops = backend.tensorOps();
            try (Scope scope = backend.scope()) {
                x = residual(x, attention.forward(ops.rmsNorm(x, inputNorm, eps), table, caches, packed),
                        attentionScale);
                x = residual(x, mlp.forward(ops.rmsNorm(x, postAttentionNorm, eps), tap), mlpScale);
                tap.made().forEach(scope::keep);
                return scope.keep(x);
            }
        }

        private Tensor residual(Tensor x, Tensor branch, Tensor scale) {
            TensorOps ops = backend.tensorOps();
            return scale == null ? ops.add(x, branch) : ops.addScaled(x, branch, scale);
        }
    }

    private static final class SelfAttention {
        private final Backend backend;
        private final int index;
        private final Attention attention;
        private final float eps;
        private final Tensor q;
        private final Tensor k;
        private final Tensor v;
        private final Tensor o;
        private final Tensor qBias;
        private final Tensor kBias;
        private final Tensor vBias;
        private final Tensor oBias;
        private final Tensor qNorm;
        private final Tensor kNorm;

        SelfAttention(DecoderConfig config, int index, Weights weights) {
            backend = weights.backend();
            this.index = index;
            int hidden = config.hiddenSize();
            int queries = config.numAttentionHeads() * config.headDim();
            int keys = config.numKeyValueHeads() * config.headDim();
            attention = new Attention(config.numAttentionHeads(), config.numKeyValueHeads(), config.headDim(), true,
                    config.slidingWindow());
            eps = (float) config.rmsNormEps();
            q = weights.matrix("q_proj.weight", queries, hidden);
            k = weights.matrix("k_proj.weight", keys, hidden);
            v = weights.matrix("v_proj.weight", keys, hidden);
            o = weights.matrix("o_proj.weight", hidden, queries);
            qBias = weights.vectorIf(config.attentionBias(), "q_proj.bias", queries);
            kBias = weights.vectorIf(config.attentionBias(), "k_proj.bias", keys);
            vBias = weights.vectorIf(config.attentionBias(), "v_proj.bias", keys);
            oBias = weights.vectorIf(config.attentionBias(), "o_proj.bias", hidden);
            qNorm = weights.vectorIf(config.qkNorm(), "q_norm.weight", config.headDim());
            kNorm = weights.vectorIf(config.qkNorm(), "k_norm.weight", config.headDim());
        }

        Tensor forward(Tensor x, Tensor table, List<KvCache> caches, Packed packed) {
            TensorOps ops = backend.tensorOps();
            AttentionOps attend = backend.attentionOps();
            Tensor queries = attend.rotary(ops.linear(x, q, qBias), qNorm, eps, table);
            Tensor keys = attend.rotary(ops.linear(x, k, kBias), kNorm, eps, table);
            attend.append(caches, index, keys, ops.linear(x, v, vBias), packed);
            return ops.linear(attend.attend(queries, caches, index, packed, attention), o, oBias);
        }
    }

    private interface FeedForward {
        Tensor forward(Tensor x, Tap tap);
    }

    private static final class DenseMlp implements FeedForward {
        private final Backend backend;
        private final Tensor gate;
        private final Tensor up;
        private final Tensor down;

        DenseMlp(DecoderConfig config, Weights weights) {
            if (config.activation() != Activation.SILU)
                throw new CheckpointException("hidden_act is " + config.activation() + ", expected silu");
            backend = weights.backend();
            gate = weights.matrix("gate_proj.weight", config.intermediateSize(), config.hiddenSize());
            up = weights.matrix("up_proj.weight", config.intermediateSize(), config.hiddenSize());
            down = weights.matrix("down_proj.weight", config.hiddenSize(), config.intermediateSize());
        }

        @Override
        public Tensor forward(Tensor x, Tap tap) {
            return backend.tensorOps().gatedMlp(x, gate, up, down);
        }
    }

    private static final class SparseMoe implements FeedForward {
        private final Backend backend;
        private final int index;
        private final MoeWeights experts;
        private final int topK;
        private final boolean normalise;

        SparseMoe(DecoderConfig config, int index, Weights weights) {
            if (config.activation() != Activation.SILU)
                throw new CheckpointException("hidden_act is " + config.activation() + ", expected silu");
            backend = weights.backend();
            this.index = index;
            topK = config.numExpertsPerTok();
            normalise = config.normTopkProb();
            int hidden = config.hiddenSize();
            int width = config.moeIntermediateSize();
            int n = config.numExperts();
            experts = new MoeWeights(weights.matrix("gate.weight", n, hidden),
                    weights.experts("gate_proj", n, width, hidden), weights.experts("up_proj", n, width, hidden),
                    weights.experts("down_proj", n, hidden, width), shared(config, weights));
        }

        private static MoeWeights.SharedExpert shared(DecoderConfig config, Weights weights) {
            int width = config.sharedExpertIntermediateSize();
            int hidden = config.hiddenSize();
            if (width == 0)
                return null;
            Weights expert = weights.at("shared_expert");
            return new MoeWeights.SharedExpert(expert.matrix("gate_proj.weight", width, hidden),
                    expert.matrix("up_proj.weight", width, hidden), expert.matrix("down_proj.weight", hidden, width),
                    weights.matrix("shared_expert_gate.weight", 1, hidden));
        }

        @Override
        public Tensor forward(Tensor x, Tap tap) {
            tap.routed(index, x, experts.router());
            return backend.moeOps().moe(x, experts, topK, normalise);
        }
    }
}
