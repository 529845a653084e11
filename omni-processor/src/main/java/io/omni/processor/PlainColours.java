package io.omni.processor;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;

/** Takes embedded colour profiles out of JPEG and WebP files: ImageIO converts by them, PIL's convert("RGB") does not. */
final class PlainColours {
    private static final int APP2 = 0xe2;
    private static final int VP8X_FLAGS = 20; // offset of the extended header's flags
    private static final int VP8X_PROFILE = 0x20;

    private PlainColours() {}

    static byte[] of(byte[] file) {
        return WebpChunks.isWebp(file) ? webp(file) : jpeg(file);
    }

    private static byte[] jpeg(byte[] file) {
        ByteArrayOutputStream out = new ByteArrayOutputStream(file.length);
        int kept = 0;
        for (JpegSegments.Segment segment : JpegSegments.of(file)) {
            if (segment.marker() != APP2)
                continue;
            int begin = segment.at() - 4; // marker and length
            out.write(file, kept, begin - kept);
            kept = segment.at() + segment.length();
        }
        if (kept == 0)
            return file;
        out.write(file, kept, file.length - kept);
        return out.toByteArray();
    }

    private static byte[] webp(byte[] file) {
        byte[] out = file;
        for (WebpChunks.Chunk chunk : WebpChunks.of(file)) {
            if (!chunk.name().equals("ICCP"))
                continue;
            out = file.clone();
            Arrays.fill(out, chunk.at() - 8, chunk.at() - 4, (byte) 'X'); // an unknown chunk, which readers skip
            out[VP8X_FLAGS] &= ~VP8X_PROFILE;
        }
        return out;
    }
}
