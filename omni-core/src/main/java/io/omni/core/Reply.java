package io.omni.core;

/**
 * The answer to one conversation.
 *
 * @param text
 *            without special tokens
 * @param sequence
 *            prompt and generated tokens, up to and including the one that ended it
 * @param promptTokens
 *            how many of them are the prompt
 * @param codes
 *            {@code [groups][frames]} of the speech, or null without speech
 * @param talkerSequence
 *            the first codes as drawn, up to and including the one that ended the speech, or null without speech
 * @param audio
 *            the speech, or null without speech
 */
public record Reply(String text, int[] sequence, int promptTokens, int[][] codes, int[] talkerSequence,
        Audio audio, Timings timings) {}
