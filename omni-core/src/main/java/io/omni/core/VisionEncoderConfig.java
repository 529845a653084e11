package io.omni.core;

import io.omni.api.Activation;

/** The vision encoder's shape, with upstream's defaults ({@code Qwen3OmniMoeVisionEncoderConfig}). */
public record VisionEncoderConfig(int depth, int hiddenSize, Activation activation, int intermediateSize, int numHeads,
        int inChannels, int patchSize, int spatialMergeSize, int temporalPatchSize, int outHiddenSize,
        int numPositionEmbeddings, int[] deepstackVisualIndexes, double ropeTheta, double initializerRange) {
    static VisionEncoderConfig of(Fields f) {
        return new VisionEncoderConfig(f.integer("depth", 27), f.integer("hidden_size", 1152),
                Activation.of(f.string("hidden_act", "gelu_pytorch_tanh")), f.integer("intermediate_size", 4304),
                f.integer("num_heads", f.integer("num_attention_heads", 16)), f.integer("in_channels", 3),
                f.integers("patch_size", 16)[0], f.integer("spatial_merge_size", 2),
                f.integers("temporal_patch_size", 2)[0], f.integer("out_hidden_size", 3584),
                f.integer("num_position_embeddings", 2304), f.integers("deepstack_visual_indexes", 8, 16, 24),
                f.at("rope_parameters").number("rope_theta", f.number("rope_theta", 10000)),
                f.number("initializer_range", 0.02));
    }
}
