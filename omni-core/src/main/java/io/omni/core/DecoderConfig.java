package io.omni.core;

import io.omni.api.Activation;
import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.Rope;
import java.util.Arrays;

/**
 * The shape of a causal decoder: the Thinker's, the Talker's, the code predictor's and Code2Wav's transformer, which
 * differ in which parts they have.
 *
 * @param headDim
 *            features of one head; hidden size over heads if the file has none
 * @param mropeSection
 *            pairs of a head that turn by time, height and width; empty for plain positions
 * @param mlpOnlyLayers
 *            layers with a dense feed-forward layer instead of experts
 * @param sharedExpertIntermediateSize
 *            width of the expert that every token visits; 0 for none
 * @param numExperts
 *            0 if all layers are dense
 * @param slidingWindow
 *            0 for none
 * @param qkNorm
 *            whether queries and keys are normalised for each head
 * @param layerScale
 *            whether both branches of a layer are scaled for each feature
 */
public record DecoderConfig(int vocabSize, int hiddenSize, int intermediateSize, int numHiddenLayers,
        int numAttentionHeads, int numKeyValueHeads, int headDim, Activation activation, int maxPositionEmbeddings,
        double rmsNormEps, double ropeTheta, int[] mropeSection, boolean attentionBias, int decoderSparseStep,
        int[] mlpOnlyLayers, int moeIntermediateSize, int sharedExpertIntermediateSize, int numExperts,
        int numExpertsPerTok, boolean normTopkProb, double routerAuxLossCoef, int slidingWindow, boolean qkNorm,
        boolean layerScale, double initializerRange) {

    /** {@code Qwen3OmniMoeTextConfig}. */
    static DecoderConfig thinker(Fields f) {
        return of(f, 3584, 2048, 18944, 28, 28, 4, 0, 1e-6, 1e6, new int[]{24, 20, 20}, 768, 0, 128, true, true, false,
                true);
    }

    /** {@code Qwen3OmniMoeTalkerTextConfig}. As upstream, every layer has experts, whatever the file says. */
    static DecoderConfig talker(Fields f) {
        return of(f, 3072, 1024, 2048, 20, 16, 2, 0, 1e-6, 1e4, new int[]{24, 20, 20}, 384,
                f.integer("shared_expert_intermediate_size", 0), 128, false, true, false, false);
    }

    /** {@code Qwen3OmniMoeTalkerCodePredictorConfig}. */
    static DecoderConfig codePredictor(Fields f) {
        return of(f, 2048, 1024, 3072, 5, 16, 8, 128, 1e-6, 1e4, new int[0], 0, 0, 0, false, true, false, false);
    }

    /** The transformer's part of {@code Qwen3OmniMoeCode2WavConfig}. */
    static DecoderConfig code2Wav(Fields f) {
        return of(f, 2048, 1024, 3072, 8, 16, 16, 0, 1e-5, 1e4, new int[0], 0, 0, 0, false, false, true, false);
    }

    private static DecoderConfig of(Fields f, int vocab, int hidden, int intermediate, int layers, int heads,
            int kvHeads,
            int headDim, double eps, double theta, int[] sections, int moeIntermediate, int shared, int experts,
            boolean normTopk, boolean qkNorm, boolean layerScale, boolean someDense) {
        int hiddenSize = f.integer("hidden_size", hidden);
        int numHeads = f.integer("num_attention_heads", heads);
        Fields rope = f.at(f.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
        String type = rope.string("rope_type", rope.string("type", "default"));
        if (!type.equals("default") && !type.equals("mrope"))
            throw new CheckpointException(rope.where() + ": rope_type is '" + type + "', expected default");
        boolean moe = experts > 0;
        return new DecoderConfig(f.integer("vocab_size", vocab), hiddenSize,
                f.integer("intermediate_size", intermediate),
                f.integer("num_hidden_layers", layers), numHeads, f.integer("num_key_value_heads", kvHeads),
                f.integer("head_dim", headDim > 0 ? headDim : hiddenSize / numHeads),
                Activation.of(f.string("hidden_act", "silu")),
                f.integer("max_position_embeddings", layerScale ? 8000 : 32768),
                f.number("rms_norm_eps", eps), rope.number("rope_theta", f.number("rope_theta", theta)),
                sections.length == 0 ? sections : rope.integers("mrope_section", sections),
                f.bool("attention_bias", false), someDense ? f.integer("decoder_sparse_step", 1) : 1,
                someDense ? f.integers("mlp_only_layers") : new int[0],
                f.integer("moe_intermediate_size", moeIntermediate), shared,
                moe ? f.integer("num_experts", f.integer("num_local_experts", experts)) : 0,
                f.integer("num_experts_per_tok", 8), f.bool("norm_topk_prob", normTopk),
                f.number("router_aux_loss_coef", 0.001),
                // upstream's other decoders shorten their cache by it, but not their prefill; released ones have none
                layerScale ? f.integer("sliding_window", 72) : 0, qkNorm,
                layerScale, f.number("initializer_range", 0.02));
    }

    /** Whether layer {@code layer} has experts rather than one dense feed-forward layer. */
    public boolean isSparse(int layer) {
        return numExperts > 0 && (layer + 1) % decoderSparseStep == 0
                && Arrays.stream(mlpOnlyLayers).noneMatch(i -> i == layer);
    }

    Rope rope() {
        return mropeSection.length == 0
                ? Rope.standard(headDim, ropeTheta)
                : Rope.multimodal(headDim, ropeTheta, mropeSection);
    }

    CacheSpec cacheSpec(DType type) {
        return new CacheSpec(numHiddenLayers, numKeyValueHeads, headDim, slidingWindow, type);
    }
}
