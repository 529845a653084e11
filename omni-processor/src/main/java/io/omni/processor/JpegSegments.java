package io.omni.processor;

import java.util.ArrayList;
import java.util.List;

/** The segments of a JPEG file before its pixels. */
final class JpegSegments {
    /** @param at where the content begins, behind the length */
    record Segment(int marker, int at, int length) {
        /** Whether it tells the picture's size and components. */
        boolean isFrame() {
            return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        }
    }

    private JpegSegments() {}

    static List<Segment> of(byte[] file) {
        List<Segment> segments = new ArrayList<>();
        if (file.length < 4 || (file[0] & 0xff) != 0xff || (file[1] & 0xff) != 0xd8)
            return segments;
        for (int i = 2; i + 4 <= file.length && (file[i] & 0xff) == 0xff;) {
            int marker = file[i + 1] & 0xff;
            if (marker == 0xff) { // fill
                i++;
                continue;
            }
            if (marker == 0xda || marker == 0xd9)
                break;
            int length = (file[i + 2] & 0xff) << 8 | file[i + 3] & 0xff;
            if (length < 2 || i + 2 + length > file.length)
                break;
            segments.add(new Segment(marker, i + 4, length - 2));
            i += 2 + length;
        }
        return segments;
    }
}
