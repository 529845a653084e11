package io.omni.processor;

import static org.bytedeco.ffmpeg.global.avutil.*;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.bytedeco.ffmpeg.avutil.AVFrame;

/**
 * WebP, of an animation the first frame. FFmpeg decodes; the conversion of lossy pictures to RGB is that of libwebp, which
 * PIL uses: chroma interpolated with weights 9, 3, 3 and 1, then whole-number arithmetic.
 */
final class WebpReader {
    private static final int FRAME_HEADER = 16; // bytes of place, size, duration and flags

    private WebpReader() {}

    static RgbImage read(byte[] file, String name) throws IOException {
        List<WebpChunks.Chunk> chunks = WebpChunks.of(file);
        for (WebpChunks.Chunk chunk : chunks) {
            if (isPicture(chunk))
                return decode(file, chunk, name);
            if (!chunk.name().equals("ANMF") || chunk.length() < FRAME_HEADER)
                continue;
            int content = chunk.at() + FRAME_HEADER;
            for (WebpChunks.Chunk inner : WebpChunks.between(file, content, chunk.at() + chunk.length())) {
                if (isPicture(inner))
                    return onCanvas(decode(file, inner, name), file, chunks.getFirst(), chunk, name);
            }
        }
        throw new ProcessorException(name + ": holds no picture");
    }

    private static boolean isPicture(WebpChunks.Chunk chunk) {
        return (chunk.name().equals("VP8 ") || chunk.name().equals("VP8L")) && chunk.length() >= 10;
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
        checkSize(bytes, chunk, name);
        ByteBuffer simple = ByteBuffer.allocate(20 + chunk.length() + (chunk.length() & 1))
                .order(ByteOrder.LITTLE_ENDIAN);
        simple.put("RIFF".getBytes(StandardCharsets.ISO_8859_1)).putInt(simple.capacity() - 8);
        simple.put(("WEBP" + chunk.name()).getBytes(StandardCharsets.ISO_8859_1)).putInt(chunk.length());
        simple.put(bytes, chunk.at(), chunk.length());
        Path file = Files.createTempFile("omni-image", ".webp");
        RgbImage[] image = {null};
        try {
            Files.write(file, simple.array());
            try (MediaFile media = new MediaFile(file, name, AVMEDIA_TYPE_VIDEO)) {
                media.decode(frame -> {
                    image[0] = frame.format() == AV_PIX_FMT_ARGB ? stored(frame) : converted(frame);
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

    private static void checkSize(byte[] file, WebpChunks.Chunk chunk, String name) {
        boolean lossless = chunk.name().equals("VP8L");
        int lossy = WebpChunks.number(file, chunk.at() + 6, 4); // 16 bits each, 14 of them size
        int packed = WebpChunks.number(file, chunk.at() + 1, 4); // 14 bits each, less one
        int width = lossless ? (packed & 0x3fff) + 1 : lossy & 0x3fff;
        int height = lossless ? (packed >> 14 & 0x3fff) + 1 : lossy >> 16 & 0x3fff;
        ImageReader.checkSize(width, height, name);
    }

    /** A lossless picture: alpha, red, green, blue. */
    private static RgbImage stored(AVFrame frame) {
        int width = frame.width();
        int height = frame.height();
        byte[] argb = plane(frame, 0, 4 * width, height);
        byte[] out = new byte[3 * width * height];
        for (int i = 0; i < width * height; i++) System.arraycopy(argb, 4 * i + 1, out, 3 * i, 3);
        return new RgbImage(out, width, height);
    }

    /** A lossy picture: luma and two chroma planes of half the size. */
    private static RgbImage converted(AVFrame frame) {
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
