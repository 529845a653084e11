package io.omni.processor;

/**
 * The patches of one image or video, as {@code Qwen2VLImageProcessor} and {@code Qwen2VLVideoProcessor} make them.
 *
 * @param pixelValues [gridT · gridH · gridW, channels · temporalPatch · patch · patch], row-major and normalised; the
 *        patches of a frame go in blocks of merge × merge
 * @param gridT patches in time
 * @param gridH patches from top to bottom
 * @param gridW patches from left to right
 * @param secondsPerGrid seconds of video to a step of gridT; 0 for an image
 */
public record VisualFeatures(float[] pixelValues, int gridT, int gridH, int gridW, double secondsPerGrid) {

    /** Rows of {@link #pixelValues}. */
    public int patches() {
        return gridT * gridH * gridW;
    }
}
