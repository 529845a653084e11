package io.omni.processor;

import java.awt.image.Raster;

/** JPEG files whose colours have half the rows of their brightness: PIL blends such rows, ImageIO repeats them. */
final class Jpeg440 {
    private Jpeg440() {}

    static boolean is(byte[] file) {
        for (JpegSegments.Segment segment : JpegSegments.of(file)) {
            if (segment.isFrame()) {
                int at = segment.at() + 5; // number of components, then of each: its name, its sampling, its table
                return segment.length() >= 15 && file[at] == 3 && file[at + 2] == 0x12 && file[at + 5] == 0x11
                        && file[at + 8] == 0x11;
            }
        }
        return false;
    }

    /** @param raster brightness and colours, the latter's rows twice each */
    static RgbImage rgb(Raster raster) {
        int width = raster.getWidth();
        int height = raster.getHeight();
        byte[] out = new byte[3 * width * height];
        int[] near = new int[3 * width];
        int[] far = new int[3 * width];
        for (int y = 0, at = 0; y < height; y++) {
            int other = y % 2 == 0 ? Math.max(y - 1, 0) : Math.min(y + 1, height - 1);
            raster.getPixels(raster.getMinX(), raster.getMinY() + y, width, 1, near);
            raster.getPixels(raster.getMinX(), raster.getMinY() + other, width, 1, far);
            int rounding = y % 2 == 0 ? 1 : 2;
            for (int i = 0; i < near.length; i += 3) {
                int cb = 3 * near[i + 1] + far[i + 1] + rounding >> 2;
                int cr = 3 * near[i + 2] + far[i + 2] + rounding >> 2;
                for (int level : rgb(near[i], cb - 128, cr - 128)) out[at++] = (byte) level;
            }
        }
        return new RgbImage(out, width, height);
    }

    /** libjpeg's red, green and blue. */
    static int[] rgb(int y, int cb, int cr) {
        int half = 1 << 15;
        int red = y + (91881 * cr + half >> 16);
        int green = y + (-22554 * cb - 46802 * cr + half >> 16);
        int blue = y + (116130 * cb + half >> 16);
        return new int[]{Math.clamp(red, 0, 255), Math.clamp(green, 0, 255), Math.clamp(blue, 0, 255)};
    }
}
