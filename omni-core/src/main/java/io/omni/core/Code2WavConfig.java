package io.omni.core;

import java.util.Arrays;

/**
 * Code2Wav's shape, with upstream's defaults ({@code Qwen3OmniMoeCode2WavConfig}).
 *
 * @param numQuantizers
 *            codes of a frame
 * @param upsampleRates
 *            steps that each decoder block makes of one
 * @param upsamplingRatios
 *            steps that each stage before the decoder makes of one
 */
public record Code2WavConfig(DecoderConfig transformer, int codebookSize, int numQuantizers, int[] upsampleRates,
        int[] upsamplingRatios, int decoderDim) {
    /** Samples a second; upstream's constant. */
    public static final int SAMPLE_RATE = 24_000;

    static Code2WavConfig of(Fields f) {
        return new Code2WavConfig(DecoderConfig.code2Wav(f), f.integer("codebook_size", 2048),
                f.integer("num_quantizers", 16), f.integers("upsample_rates", 8, 5, 4, 3),
                f.integers("upsampling_ratios", 2, 2), f.integer("decoder_dim", 1536));
    }

    /** Samples that one frame of codes becomes. */
    public int totalUpsample() {
        return Arrays.stream(upsampleRates).reduce(1, (a, b) -> a * b)
                * Arrays.stream(upsamplingRatios).reduce(1, (a, b) -> a * b);
    }
}
