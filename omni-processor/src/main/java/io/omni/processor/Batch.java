package io.omni.processor;

/**
 * Several conversations in upstream's layout: what {@code Qwen3OmniMoeProcessor} returns for a batch. Arrays are
 * row-major; what no conversation holds has length 0.
 *
 * @param inputIds [batch][length], padded on the left
 * @param attentionMask [batch][length], 1 for a token, 0 for padding
 * @param inputFeatures [audios, melBins, audioFrames], padded on the right with what silence gives
 * @param featureAttentionMask [audios][audioFrames]
 * @param melBins mel bins, 0 without audio
 * @param audioFrames frames of the longest sound
 * @param pixelValues [patches, values], all images one after another
 * @param imageGridThw [images][3]
 * @param pixelValuesVideos [patches, values], all videos one after another
 * @param videoGridThw [videos][3]
 * @param videoSecondPerGrid [videos]
 */
public record Batch(int[][] inputIds, int[][] attentionMask, float[] inputFeatures, int[][] featureAttentionMask,
        int melBins, int audioFrames, float[] pixelValues, int[][] imageGridThw, float[] pixelValuesVideos,
        int[][] videoGridThw, double[] videoSecondPerGrid) {}
