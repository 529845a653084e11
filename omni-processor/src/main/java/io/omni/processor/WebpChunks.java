package io.omni.processor;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** The chunks of a WebP file. */
final class WebpChunks {
    /** @param at where the content begins, behind name and length */
    record Chunk(String name, int at, int length) {}

    private WebpChunks() {}

    static boolean isWebp(byte[] file) {
        return file.length >= 16 && text(file, 0).equals("RIFF") && text(file, 8).equals("WEBP");
    }

    static List<Chunk> of(byte[] file) {
        return isWebp(file) ? between(file, 12, file.length) : List.of();
    }

    /** The chunks in file[begin, end); an animation's frame holds chunks of its own. */
    static List<Chunk> between(byte[] file, int begin, int end) {
        List<Chunk> chunks = new ArrayList<>();
        int at = begin;
        while (at + 8 <= end) {
            int length = number(file, at + 4, 3) | file[at + 7] << 24;
            if (length < 0 || length > end - at - 8)
                break;
            chunks.add(new Chunk(text(file, at), at + 8, length));
            at += 8 + length + (length & 1);
        }
        return chunks;
    }

    /** An unsigned little-endian number. */
    static int number(byte[] file, int at, int bytes) {
        int number = 0;
        for (int i = 0; i < bytes; i++) number |= (file[at + i] & 0xff) << 8 * i;
        return number;
    }

    private static String text(byte[] file, int at) {
        return new String(file, at, 4, StandardCharsets.ISO_8859_1);
    }
}
