package io.omni.core;

/**
 * When things happened, in seconds since the request; NaN for what did not happen.
 *
 * @param prefill
 *            the prompt has been read, media included
 * @param firstText
 *            the first text token is there
 * @param textDone
 *            the last one is
 * @param firstAudio
 *            the first samples are there
 * @param audioDone
 *            the last ones are
 */
public record Timings(double prefill, double firstText, double textDone, double firstAudio, double audioDone) {}
