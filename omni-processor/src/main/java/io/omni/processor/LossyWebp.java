package io.omni.processor;

import static org.bytedeco.ffmpeg.global.avutil.AVMEDIA_TYPE_VIDEO;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.bytedeco.ffmpeg.avutil.AVFrame;

/**
 * Lossy WebP. FFmpeg decodes it, and the conversion to RGB is that of libwebp, which PIL uses: chroma interpolated with
 * weights 9, 3, 3 and 1, then whole-number arithmetic. TwelveMonkeys does not interpolate, which shows.
 */
final class LossyWebp {
    private LossyWebp() {}

    /** Whether the file is one lossy picture, not an animation. */
    static boolean is(byte[] file) {
        if (file.length < 16 || !text(file, 0).equals("RIFF") || !text(file, 8).equals("WEBP"))
            return false;
        for (int at = 12; at >= 0 && at + 8 <= file.length; at += 8 + length(file, at) + (length(file, at) & 1)) {
            if (text(file, at).equals("VP8 "))
                return true;
            if (text(file, at).equals("ANIM") || length(file, at) < 0)
                return false;
        }
        return false;
    }

    private static String text(byte[] file, int at) {
        return new String(file, at, 4, StandardCharsets.ISO_8859_1);
    }

    private static int length(byte[] file, int at) {
        return file[at + 4] & 0xff | (file[at + 5] & 0xff) << 8 | (file[at + 6] & 0xff) << 16 | file[at + 7] << 24;
    }

    static RgbImage read(byte[] bytes, String name) throws IOException {
        Path file = Files.createTempFile("omni-image", ".webp");
        RgbImage[] image = {null};
        try {
            Files.write(file, bytes);
            try (MediaFile media = new MediaFile(file, name, AVMEDIA_TYPE_VIDEO)) {
                media.decode(frame -> {
                    image[0] = rgb(frame);
                    return false;
                });
            }
        } finally {
            Files.deleteIfExists(file);
        }
        if (image[0] == null)
            throw new ProcessorException(name + ": holds no picture");
        return image[0];
    }

    private static RgbImage rgb(AVFrame frame) {
        int width = frame.width();
        int height = frame.height();
        byte[] luma = plane(frame, 0, width, height);
        int w = (width + 1) / 2;
        int h = (height + 1) / 2;
        byte[] blue = plane(frame, 1, w, h);
        byte[] red = plane(frame, 2, w, h);
        byte[] out = new byte[3 * width * height];
        for (int y = 0; y < height; y++) {
            int near = y / 2;
            int far = Math.clamp(near + (y % 2 == 0 ? -1 : 1), 0, h - 1);
            for (int x = 0; x < width; x++) {
                int besides = Math.clamp(x / 2 + (x % 2 == 0 ? -1 : 1), 0, w - 1);
                int u = chroma(blue, w * near, w * far, x / 2, besides);
                int v = chroma(red, w * near, w * far, x / 2, besides);
                int light = (luma[y * width + x] & 0xff) * 19077 >> 8;
                int at = 3 * (y * width + x);
                out[at] = level(light + (v * 26149 >> 8) - 14234);
                out[at + 1] = level(light - (u * 6419 >> 8) - (v * 13320 >> 8) + 8708);
                out[at + 2] = level(light + (u * 33050 >> 8) - 17685);
            }
        }
        return new RgbImage(out, width, height);
    }

    private static byte[] plane(AVFrame frame, int plane, int width, int height) {
        byte[] out = new byte[width * height];
        for (int y = 0; y < height; y++) {
            frame.data(plane).position((long) y * frame.linesize(plane)).get(out, y * width, width);
        }
        return out;
    }

    private static int chroma(byte[] plane, int nearRow, int farRow, int nearColumn, int farColumn) {
        int a = plane[nearRow + nearColumn] & 0xff;
        int b = plane[nearRow + farColumn] & 0xff;
        int c = plane[farRow + nearColumn] & 0xff;
        int d = plane[farRow + farColumn] & 0xff;
        return (a + 3 * b + 3 * c + d + 8 >> 3) + a >> 1;
    }

    private static byte level(int value) {
        return (byte) Math.clamp(value >> 6, 0, 255);
    }
}
