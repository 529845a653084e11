package io.omni.processor;

import java.util.stream.IntStream;

/**
 * Bicubic, antialiased resizing of 8-bit pixels in whole numbers, as Pillow and torchvision do it on a CPU: first along
 * the rows, then along the columns, 8 bits between, weights in 16-bit fixed point with as many fraction bits as fit.
 */
final class ImageResize {
    private static final double SUPPORT = 2;
    private static final double A = -0.5;

    /** For each output position the first input position and the weights from there on. */
    private record Weights(int[] first, short[][] values, int fractionBits) {}

    private ImageResize() {}

    static RgbImage resize(RgbImage image, int width, int height) {
        RgbImage result = image;
        if (width != image.width())
            result = rows(result, width);
        if (height != image.height())
            result = columns(result, height);
        return result;
    }

    /**
     * The size to resize to: multiples of {@code factor}, within the limits of pixels, about the same aspect ratio;
     * upstream's {@code smart_resize}.
     *
     * @return {height, width}
     */
    static int[] targetSize(int height, int width, int factor, long minPixels, long maxPixels, String name) {
        double ratio = (double) Math.max(height, width) / Math.min(height, width);
        if (ratio > 200) {
            throw new ProcessorException(
                    name + ": aspect ratio of " + width + " x " + height + " is " + ratio + ", expected at most 200");
        }
        long h = (long) Math.rint((double) height / factor) * factor;
        long w = (long) Math.rint((double) width / factor) * factor;
        if (h * w > maxPixels) {
            double beta = Math.sqrt((double) ((long) height * width) / maxPixels);
            h = Math.max(factor, (long) Math.floor(height / beta / factor) * factor);
            w = Math.max(factor, (long) Math.floor(width / beta / factor) * factor);
        } else if (h * w < minPixels) {
            double beta = Math.sqrt((double) minPixels / ((long) height * width));
            h = (long) Math.ceil(height * beta / factor) * factor;
            w = (long) Math.ceil(width * beta / factor) * factor;
        }
        return new int[]{(int) h, (int) w};
    }

    private static RgbImage rows(RgbImage image, int width) {
        Weights weights = weights(image.width(), width);
        byte[] in = image.data();
        byte[] out = new byte[3 * width * image.height()];
        IntStream.range(0, image.height()).parallel().forEach(y -> {
            for (int x = 0; x < width; x++) {
                short[] w = weights.values[x];
                int from = 3 * (y * image.width() + weights.first[x]);
                for (int c = 0; c < 3; c++) {
                    int sum = 1 << (weights.fractionBits - 1);
                    for (int k = 0; k < w.length; k++) sum += w[k] * (in[from + 3 * k + c] & 0xff);
                    out[3 * (y * width + x) + c] = (byte) Math.clamp(sum >> weights.fractionBits, 0, 255);
                }
            }
        });
        return new RgbImage(out, width, image.height());
    }

    private static RgbImage columns(RgbImage image, int height) {
        Weights weights = weights(image.height(), height);
        byte[] in = image.data();
        int row = 3 * image.width();
        byte[] out = new byte[row * height];
        IntStream.range(0, height).parallel().forEach(y -> {
            short[] w = weights.values[y];
            int from = weights.first[y] * row;
            for (int x = 0; x < row; x++) {
                int sum = 1 << (weights.fractionBits - 1);
                for (int k = 0; k < w.length; k++) sum += w[k] * (in[from + k * row + x] & 0xff);
                out[y * row + x] = (byte) Math.clamp(sum >> weights.fractionBits, 0, 255);
            }
        });
        return new RgbImage(out, image.width(), height);
    }

    private static Weights weights(int in, int out) {
        double scale = (double) in / out;
        double stretch = Math.max(scale, 1); // antialiasing widens the filter when shrinking
        int[] first = new int[out];
        double[][] exact = new double[out][];
        double largest = 0;
        for (int i = 0; i < out; i++) {
            double center = scale * (i + 0.5);
            first[i] = Math.max((int) (center - SUPPORT * stretch + 0.5), 0);
            int end = Math.min((int) (center + SUPPORT * stretch + 0.5), in);
            double[] w = new double[end - first[i]];
            double total = 0;
            for (int k = 0; k < w.length; k++) {
                w[k] = cubic((k + first[i] - center + 0.5) / stretch);
                total += w[k];
            }
            for (int k = 0; k < w.length; k++) {
                if (total != 0)
                    w[k] /= total;
                largest = Math.max(largest, w[k]);
            }
            exact[i] = w;
        }
        int bits = 0;
        while (bits < 22 && (int) (0.5 + largest * (1 << (bits + 1))) < 1 << 15)
            bits++;
        short[][] values = new short[out][];
        for (int i = 0; i < out; i++) {
            values[i] = new short[exact[i].length];
            for (int k = 0; k < values[i].length; k++) {
                double w = exact[i][k] * (1 << bits);
                values[i][k] = (short) (w < 0 ? w - 0.5 : w + 0.5);
            }
        }
        return new Weights(first, values, bits);
    }

    private static double cubic(double x) {
        double d = Math.abs(x);
        if (d < 1)
            return ((A + 2) * d - (A + 3)) * d * d + 1;
        if (d < 2)
            return (((d - 5) * d + 8) * d - 4) * A;
        return 0;
    }
}
