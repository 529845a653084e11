package io.omni.processor;

import static org.bytedeco.ffmpeg.global.avutil.AVMEDIA_TYPE_VIDEO;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.bytedeco.ffmpeg.avutil.AVFrame;

/**
 * Lossy WebP. FFmpeg decodes it, and the conversion to RGB is that of libwebp, which PIL uses: chroma interpolated with
 * weights 9, 3, 3 and 1, then whole-number arithmetic. TwelveMonkeys does not interpolate, which shows.
 */
final class LossyWebp {
    private static final int FRAME_HEADER = 16; // bytes of place, size, duration and flags

    private LossyWebp() {}

    /** The lossy picture of a file or, of an animation, the first frame; null if the file is not lossy WebP. */
    static RgbImage read(byte[] file, String name) throws IOException {
        List<WebpChunks.Chunk> chunks = WebpChunks.of(file);
        for (WebpChunks.Chunk chunk : chunks) {
            if (chunk.name().equals("VP8 "))
                return decode(file, chunk, name);
            if (!chunk.name().equals("ANMF") || chunk.length() < FRAME_HEADER)
                continue;
            int content = chunk.at() + FRAME_HEADER;
            for (WebpChunks.Chunk inner : WebpChunks.between(file, content, chunk.at() + chunk.length())) {
                if (inner.name().equals("VP8 "))
                    return onCanvas(decode(file, inner, name), file, chunks.getFirst(), chunk, name);
            }
            return null;
        }
        return null;
    }

    /** An animation's frame may be smaller than the canvas, whose size the extended header tells. */
    private static RgbImage onCanvas(RgbImage frame, byte[] file, WebpChunks.Chunk header, WebpChunks.Chunk place,
            String name) {
        int width = WebpChunks.number(file, header.at() + 4, 3) + 1;
        int height = WebpChunks.number(file, header.at() + 7, 3) + 1;
        ImageReader.checkSize(width, height, name);
        int left = 2 * WebpChunks.number(file, place.at(), 3);
        int top = 2 * WebpChunks.number(file, place.at() + 3, 3);
        return frame.placed(left, top, new RgbImage(new byte[3 * width * height], width, height));
    }

    private static RgbImage decode(byte[] bytes, WebpChunks.Chunk chunk, String name) throws IOException {
        ByteBuffer simple = ByteBuffer.allocate(20 + chunk.length() + (chunk.length() & 1))
                .order(ByteOrder.LITTLE_ENDIAN);
        simple.put("RIFF".getBytes(StandardCharsets.ISO_8859_1)).putInt(simple.capacity() - 8);
        simple.put("WEBPVP8 ".getBytes(StandardCharsets.ISO_8859_1)).putInt(chunk.length());
        simple.put(bytes, chunk.at(), chunk.length());
        Path file = Files.createTempFile("omni-image", ".webp");
        RgbImage[] image = {null};
        try {
            Files.write(file, simple.array());
            try (MediaFile media = new MediaFile(file, name, AVMEDIA_TYPE_VIDEO)) {
                media.decode(frame -> {
                    ImageReader.checkSize(frame.width(), frame.height(), name);
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
