package io.omni.processor;

/** 8-bit pixels. {@code data} is [height][width][3], red first. */
record RgbImage(byte[] data, int width, int height) {

    /**
     * The image as PIL's {@code exif_transpose} turns it.
     *
     * @param orientation EXIF's, 1 to 8; others leave the image as it is
     */
    RgbImage turned(int orientation) {
        if (orientation < 2 || orientation > 8)
            return this;
        boolean swap = orientation >= 5;
        int w = swap ? height : width;
        int h = swap ? width : height;
        byte[] out = new byte[data.length];
        for (int y = 0; y < h; y++) {
            for (int x = 0; x < w; x++) {
                int sx = swap ? y : x;
                int sy = swap ? x : y;
                if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
                    sx = width - 1 - sx;
                if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7)
                    sy = height - 1 - sy;
                System.arraycopy(data, 3 * (sy * width + sx), out, 3 * (y * w + x), 3);
            }
        }
        return new RgbImage(out, w, h);
    }

    /** This image on a canvas, cut where it sticks out; the canvas's pixels are written to. */
    RgbImage placed(int left, int top, RgbImage canvas) {
        int run = Math.min(width, canvas.width - left);
        for (int y = 0; run > 0 && y < Math.min(height, canvas.height - top); y++) {
            System.arraycopy(data, 3 * y * width, canvas.data, 3 * ((y + top) * canvas.width + left), 3 * run);
        }
        return canvas;
    }
}
