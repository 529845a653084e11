package io.omni.processor;

import java.util.List;

/** Cuts resized frames into normalised patches, in the order the vision encoder merges them. */
final class Patches {
    private static final int CHANNELS = 3;
    private static final int MOST_VALUES = Integer.MAX_VALUE - 8;

    private Patches() {}

    /**
     * @param frames of one size; the last repeats until the temporal patch is full
     * @return [gridT, gridH / merge, gridW / merge, merge, merge] patches of [channel, time, height, width] values
     */
    static VisualFeatures cut(List<RgbImage> frames, VisionConfig config, double secondsPerGrid) {
        int p = config.patchSize();
        int m = config.mergeSize();
        int t = config.temporalPatchSize();
        int width = frames.getFirst().width();
        int gridT = Math.ceilDiv(frames.size(), t);
        int gridH = frames.getFirst().height() / p;
        int gridW = width / p;
        float[][] levels = levels(config);
        long size = (long) gridT * gridH * gridW * CHANNELS * t * p * p;
        if (size > MOST_VALUES) {
            throw new ProcessorException(
                    frames.size() + " frames of " + gridH * p + " x " + width + " are too much for one array");
        }
        float[] out = new float[(int) size];
        int at = 0;
        for (int g = 0; g < gridT; g++) {
            for (int block = 0; block < gridH / m * (gridW / m); block++) {
                for (int inner = 0; inner < m * m; inner++) {
                    int row = (block / (gridW / m) * m + inner / m) * p;
                    int column = (block % (gridW / m) * m + inner % m) * p;
                    for (int c = 0; c < CHANNELS; c++) {
                        for (int f = g * t; f < (g + 1) * t; f++) {
                            byte[] pixels = frames.get(Math.min(f, frames.size() - 1)).data();
                            for (int y = row; y < row + p; y++) {
                                int from = CHANNELS * (y * width + column) + c;
                                for (int x = 0; x < p; x++) out[at++] = levels[c][pixels[from + CHANNELS * x] & 0xff];
                            }
                        }
                    }
                }
            }
        }
        return new VisualFeatures(out, gridT, gridH, gridW, secondsPerGrid);
    }

    /** What each of the 256 levels becomes, by channel; upstream multiplies mean and deviation by 255 instead. */
    private static float[][] levels(VisionConfig config) {
        float[][] levels = new float[CHANNELS][256];
        for (int c = 0; c < CHANNELS; c++) {
            float mean = (float) ((float) config.mean()[c] * (1 / config.rescaleFactor()));
            float deviation = (float) ((float) config.deviation()[c] * (1 / config.rescaleFactor()));
            for (int v = 0; v < 256; v++) levels[c][v] = (v - mean) / deviation;
        }
        return levels;
    }
}
