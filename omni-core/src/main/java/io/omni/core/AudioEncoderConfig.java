package io.omni.core;

import io.omni.api.Activation;

/**
 * The audio encoder's shape, with upstream's defaults ({@code Qwen3OmniMoeAudioEncoderConfig}).
 *
 * @param nWindow
 *            half the mel frames that the convolutions read as one chunk
 * @param nWindowInfer
 *            mel frames that attend to each other
 */
public record AudioEncoderConfig(int numMelBins, int encoderLayers, int encoderAttentionHeads, int encoderFfnDim,
        int dModel, Activation activation, int maxSourcePositions, int nWindow, int outputDim, int nWindowInfer,
        int downsampleHiddenSize, double initializerRange) {
    static AudioEncoderConfig of(Fields f) {
        return new AudioEncoderConfig(f.integer("num_mel_bins", 128), f.integer("encoder_layers", 32),
                f.integer("encoder_attention_heads", 20), f.integer("encoder_ffn_dim", 5120),
                f.integer("d_model", 1280),
                Activation.of(f.string("activation_function", "gelu")), f.integer("max_source_positions", 1500),
                f.integer("n_window", 50), f.integer("output_dim", 3584), f.integer("n_window_infer", 800),
                f.integer("downsample_hidden_size", 480), f.number("initializer_range", 0.02));
    }

    /** Frames after three convolutions of stride 2 and padding 1. */
    static int downsampled(int frames) {
        return (((frames + 1) / 2 + 1) / 2 + 1) / 2;
    }

    /**
     * Audio tokens for {@code frames} mel frames: whole chunks give a fixed number, the rest is halved three times rounding
     * up. Upstream: {@code _get_feat_extract_output_lengths}.
     */
    public int tokens(int frames) {
        int chunk = 2 * nWindow;
        return frames / chunk * downsampled(chunk) + downsampled(frames % chunk);
    }
}
