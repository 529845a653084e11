package io.omni.processor;

/**
 * The log-mel spectrogram of one sound, as {@code WhisperFeatureExtractor} makes it, without padding.
 *
 * @param mel [melBins][frames], row-major; 100 frames to a second
 */
public record AudioFeatures(float[] mel, int melBins, int frames) {}
