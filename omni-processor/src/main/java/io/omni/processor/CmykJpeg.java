package io.omni.processor;

import java.awt.image.Raster;

/** JPEG files of four inks, which ImageIO reads only as they are stored. */
final class CmykJpeg {
    static final int NOT_CMYK = -1;

    private CmykJpeg() {}

    /** Adobe's transform flag of a file with four components: 0 for CMYK, 2 for YCCK; or NOT_CMYK. */
    static int transform(byte[] file) {
        int adobe = 0;
        for (JpegSegments.Segment segment : JpegSegments.of(file)) {
            if (segment.isFrame())
                return segment.length() > 5 && file[segment.at() + 5] == 4 ? adobe : NOT_CMYK;
            boolean app14 = segment.marker() == 0xee && segment.length() >= 12 && file[segment.at()] == 'A';
            if (app14)
                adobe = file[segment.at() + 11];
        }
        return NOT_CMYK;
    }

    /** PIL's plain conversion. Adobe stores inks inverted, so the stored values are brightnesses. */
    static RgbImage rgb(Raster raster, int transform) {
        int width = raster.getWidth();
        int height = raster.getHeight();
        byte[] out = new byte[3 * width * height];
        int[] row = new int[4 * width];
        for (int y = 0; y < height; y++) {
            raster.getPixels(raster.getMinX(), raster.getMinY() + y, width, 1, row);
            for (int x = 0; x < width; x++) {
                int[] ink = transform == 2 // libjpeg turns YCC to RGB and calls that inks
                        ? Jpeg440.rgb(row[4 * x], row[4 * x + 1] - 128, row[4 * x + 2] - 128)
                        : new int[]{255 - row[4 * x], 255 - row[4 * x + 1], 255 - row[4 * x + 2]};
                int light = row[4 * x + 3];
                for (int c = 0; c < 3; c++) out[3 * (y * width + x) + c] = shade(ink[c], light);
            }
        }
        return new RgbImage(out, width, height);
    }

    /**
     * What an ink leaves of the light.
     *
     * @param light 255 less black ink
     */
    static byte shade(int ink, int light) {
        int product = ink * light + 128;
        return (byte) Math.clamp(light - ((product >> 8) + product >> 8), 0, 255);
    }
}
