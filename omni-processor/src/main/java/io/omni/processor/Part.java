package io.omni.processor;

import java.awt.image.BufferedImage;
import java.net.URI;
import java.nio.file.Path;

/** A piece of a message's content. */
public sealed interface Part {
    record Text(String text) implements Part {}

    record Image(MediaSource source) implements Part {}

    record Audio(MediaSource source) implements Part {}

    record Video(MediaSource source) implements Part {}

    static Part text(String text) {
        return new Text(text);
    }

    static Part image(Path file) {
        return new Image(new MediaSource.File(file));
    }

    /** @param uri a {@code file:}, {@code http:}, {@code https:} or {@code data:} address */
    static Part image(URI uri) {
        return new Image(MediaSource.of(uri));
    }

    static Part image(BufferedImage image) {
        return new Image(new MediaSource.Pixels(image));
    }

    static Part audio(Path file) {
        return new Audio(new MediaSource.File(file));
    }

    /** @param uri a {@code file:}, {@code http:}, {@code https:} or {@code data:} address */
    static Part audio(URI uri) {
        return new Audio(MediaSource.of(uri));
    }

    /**
     * @param samples mono, full scale at -1 and 1
     * @param sampleRate in hertz
     */
    static Part audio(float[] samples, int sampleRate) {
        return new Audio(new MediaSource.Samples(samples, sampleRate));
    }

    static Part video(Path file) {
        return new Video(new MediaSource.File(file));
    }

    /** @param uri a {@code file:}, {@code http:}, {@code https:} or {@code data:} address */
    static Part video(URI uri) {
        return new Video(MediaSource.of(uri));
    }
}
