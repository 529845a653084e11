package io.omni.processor;

import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Finds EXIF's orientation in JPEG, PNG, TIFF and WebP files. */
final class ExifOrientation {
    private static final int TAG = 0x0112;
    private static final int LONG = 4;
    private static final int APP1 = 0xe1;

    private ExifOrientation() {}

    /** 1 to 8; 1, which is upright, where the file does not say. */
    static int of(byte[] file) {
        try {
            ByteBuffer exif = find(file);
            return exif == null ? 1 : orientation(exif);
        } catch (BufferUnderflowException | IndexOutOfBoundsException | IllegalArgumentException e) {
            return 1; // broken EXIF data do not spoil the picture
        }
    }

    private static ByteBuffer find(byte[] file) {
        String start = text(file, 0, 4);
        if (start.equals("II*\0") || start.equals("MM\0*")) // a TIFF file, the structure that EXIF has, too
            return ByteBuffer.wrap(file);
        for (WebpChunks.Chunk chunk : WebpChunks.of(file)) {
            if (chunk.name().equals("EXIF"))
                return content(file, chunk.at(), chunk.length());
        }
        for (JpegSegments.Segment segment : JpegSegments.of(file)) {
            if (segment.marker() == APP1 && text(file, segment.at(), 4).equals("Exif")) {
                return content(file, segment.at(), segment.length());
            }
        }
        return text(file, 1, 3).equals("PNG") ? findInPng(file) : null;
    }

    private static ByteBuffer findInPng(byte[] file) {
        ByteBuffer chunks = ByteBuffer.wrap(file);
        int length;
        for (int at = 8; at + 12 <= file.length && (length = chunks.getInt(at)) >= 0; at += 12 + length) {
            if (text(file, at + 4, 4).equals("eXIf"))
                return content(file, at + 8, length);
        }
        return null;
    }

    /** The TIFF structure, behind the "Exif" that JPEG puts before it. */
    private static ByteBuffer content(byte[] file, int at, int length) {
        int prefix = text(file, at, 4).equals("Exif") ? 6 : 0;
        return ByteBuffer.wrap(file).slice(at + prefix, length - prefix);
    }

    private static int orientation(ByteBuffer tiff) {
        tiff.order(tiff.get(0) == 'I' ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        int directory = tiff.getInt(4);
        int entries = tiff.getShort(directory) & 0xffff;
        for (int i = 0; i < entries; i++) {
            int entry = directory + 2 + 12 * i;
            if ((tiff.getShort(entry) & 0xffff) == TAG)
                return tiff.getShort(entry + 2) == LONG ? tiff.getInt(entry + 8) : tiff.getShort(entry + 8) & 0xffff;
        }
        return 1;
    }

    private static String text(byte[] file, int at, int length) {
        return new String(file, at, length, StandardCharsets.ISO_8859_1);
    }
}
