package io.omni.processor;

import java.util.Arrays;

/**
 * Text from token ids as they come. What it returns, one after another, is what decoding all ids at once gives; a
 * character whose bytes have not all come is held back.
 */
public final class TextStream {
    private static final int LONGEST_CHARACTER = 4; // bytes of UTF-8, and so tokens

    private final Tokenizer tokenizer;
    private final boolean skipSpecialTokens;
    private int[] ids = new int[16];
    private int size;
    private int shown; // characters of the pending ids' text that are out

    TextStream(Tokenizer tokenizer, boolean skipSpecialTokens) {
        this.tokenizer = tokenizer;
        this.skipSpecialTokens = skipSpecialTokens;
    }

    /** Takes the next id and returns the text that it completes, often that of the id, sometimes nothing. */
    public String push(int id) {
        if (size == ids.length)
            ids = Arrays.copyOf(ids, size * 2);
        ids[size++] = id;
        String text = pendingText();
        if (text.endsWith("\uFFFD")) {
            // Either an unfinished character or bytes that are none; the last few may still become one.
            if (size > 4 * LONGEST_CHARACTER)
                return settle(text, heldBack(text));
            return "";
        }
        return settle(text, 0);
    }

    /** Returns what was held back; the stream starts anew after that. */
    public String finish() {
        String text = size == 0 ? "" : pendingText();
        String rest = text.substring(Math.min(shown, text.length()));
        size = 0;
        shown = 0;
        return rest;
    }

    private String pendingText() {
        return tokenizer.decode(Arrays.copyOf(ids, size), skipSpecialTokens);
    }

    private static int heldBack(String text) {
        int held = 0;
        while (held < text.length() && held < LONGEST_CHARACTER && text.charAt(text.length() - 1 - held) == '\uFFFD')
            held++;
        return held;
    }

    private String settle(String text, int held) {
        int end = text.length() - held;
        String out = end > shown ? text.substring(shown, end) : "";
        if (held == 0) {
            size = 0;
            shown = 0;
        } else {
            shown = Math.max(shown, end);
        }
        return out;
    }
}
