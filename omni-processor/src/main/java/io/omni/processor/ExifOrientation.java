package io.omni.processor;

import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Finds EXIF's orientation in JPEG, PNG and WebP files. */
final class ExifOrientation {
    private static final int TAG = 0x0112;
    private static final byte[] EXIF = "Exif\0\0".getBytes(StandardCharsets.ISO_8859_1);

    private ExifOrientation() {}

    /** 1 to 8; 1, which is upright, where the file does not say. */
    static int of(byte[] file) {
        try {
            ByteBuffer exif = find(ByteBuffer.wrap(file));
            return exif == null ? 1 : orientation(exif);
        } catch (BufferUnderflowException | IndexOutOfBoundsException | IllegalArgumentException e) {
            return 1; // broken EXIF data do not spoil the picture
        }
    }

    private static ByteBuffer find(ByteBuffer file) {
        if (text(file, 0, 4).equals("RIFF"))
            return chunk(file.order(ByteOrder.LITTLE_ENDIAN), 12, "EXIF", 0, 4, 0);
        if (text(file, 1, 3).equals("PNG"))
            return chunk(file.order(ByteOrder.BIG_ENDIAN), 8, "eXIf", 4, 0, 4);
        for (JpegSegments.Segment segment : JpegSegments.of(file.array())) {
            if (segment.marker() == 0xe1 && segment.length() > EXIF.length
                    && text(file, segment.at(), 4).equals("Exif")) {
                return file.slice(segment.at() + EXIF.length, segment.length() - EXIF.length);
            }
        }
        return null;
    }

    /** Walks chunks of 8 bytes of name and length, then data, then {@code tail} bytes; RIFF data have an even length. */
    private static ByteBuffer chunk(ByteBuffer file, int at, String name, int nameAt, int lengthAt, int tail) {
        while (at + 8 <= file.limit()) {
            int length = file.getInt(at + lengthAt);
            if (text(file, at + nameAt, 4).equals(name)) {
                ByteBuffer data = file.slice(at + 8, length);
                boolean prefixed = length > 6 && text(data, 0, 4).equals("Exif");
                return prefixed ? data.slice(6, length - 6) : data;
            }
            if (length < 0)
                return null;
            at += 8 + length + tail + (tail == 0 ? length & 1 : 0);
        }
        return null;
    }

    private static int orientation(ByteBuffer tiff) {
        tiff.order(tiff.get(0) == 'I' ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        int directory = tiff.getInt(4);
        int entries = tiff.getShort(directory) & 0xffff;
        for (int i = 0; i < entries; i++) {
            int entry = directory + 2 + 12 * i;
            if ((tiff.getShort(entry) & 0xffff) == TAG)
                return tiff.getShort(entry + 8) & 0xffff;
        }
        return 1;
    }

    private static String text(ByteBuffer bytes, int at, int length) {
        byte[] chars = new byte[length];
        bytes.get(at, chars);
        return new String(chars, StandardCharsets.ISO_8859_1);
    }
}
