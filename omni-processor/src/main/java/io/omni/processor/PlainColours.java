package io.omni.processor;

import java.io.ByteArrayOutputStream;

/** Takes the embedded colour profile out of a JPEG file: ImageIO converts by it, PIL's convert("RGB") does not. */
final class PlainColours {
    private static final int APP2 = 0xe2;

    private PlainColours() {}

    static byte[] of(byte[] file) {
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
}
