package io.omni.core;

/** What a stream tells while an answer is made. {@code conversation} is the place in the batch, 0 for a single one. */
public sealed interface Event {
    /** Which conversation of the batch it is about, from 0. */
    int conversation();

    /** More text; never half a character. */
    record TextDelta(int conversation, String text) implements Event {}

    /** The whole text; more sound may come. */
    record TextDone(int conversation, String text) implements Event {}

    /** More sound, at {@link Code2WavConfig#SAMPLE_RATE}. */
    record Sound(int conversation, float[] samples) implements Event {}

    /** The whole answer; nothing of this conversation follows. */
    record Done(int conversation, Reply reply) implements Event {}
}
