package io.omni.processor;

import java.awt.image.BufferedImage;
import java.net.URI;
import java.nio.file.Path;
import java.util.Objects;

/** A piece of a message's content. Null is refused everywhere with a NullPointerException that names the argument. */
public sealed interface Part {
    /**
     * Text, put into the prompt as it is; special tokens in it count as such.
     *
     * @param text any text, the empty one included
     */
    record Text(String text) implements Part {
        /** @throws NullPointerException for null */
        public Text {
            Objects.requireNonNull(text, "text");
        }
    }

    /**
     * A still image.
     *
     * @param source where it comes from
     */
    record Image(MediaSource source) implements Part {
        /** @throws NullPointerException for null */
        public Image {
            Objects.requireNonNull(source, "source");
        }
    }

    /**
     * A sound.
     *
     * @param source where it comes from
     */
    record Audio(MediaSource source) implements Part {
        /** @throws NullPointerException for null */
        public Audio {
            Objects.requireNonNull(source, "source");
        }
    }

    /**
     * A video; its own sound is heard with {@link ProcessorOptions#useAudioInVideo}.
     *
     * @param source where it comes from
     */
    record Video(MediaSource source) implements Part {
        /** @throws NullPointerException for null */
        public Video {
            Objects.requireNonNull(source, "source");
        }
    }

    /** Text; see {@link Text}. */
    static Part text(String text) {
        return new Text(text);
    }

    /** @param file an image file, read when the conversation is processed */
    static Part image(Path file) {
        return new Image(new MediaSource.File(Objects.requireNonNull(file, "file")));
    }

    /**
     * @param uri a {@code file:}, {@code http:}, {@code https:} or base64 {@code data:} address
     * @throws ProcessorException for another scheme or bad base64
     */
    static Part image(URI uri) {
        return new Image(MediaSource.of(uri));
    }

    /** @param image a decoded image, read when the conversation is processed and not copied */
    static Part image(BufferedImage image) {
        return new Image(new MediaSource.Pixels(image));
    }

    /** @param file a sound file, or a video file for its sound, read when the conversation is processed */
    static Part audio(Path file) {
        return new Audio(new MediaSource.File(Objects.requireNonNull(file, "file")));
    }

    /**
     * @param uri a {@code file:}, {@code http:}, {@code https:} or base64 {@code data:} address
     * @throws ProcessorException for another scheme or bad base64
     */
    static Part audio(URI uri) {
        return new Audio(MediaSource.of(uri));
    }

    /**
     * @param samples mono, full scale at -1 and 1; not copied
     * @param sampleRate in hertz
     */
    static Part audio(float[] samples, int sampleRate) {
        return new Audio(new MediaSource.Samples(samples, sampleRate));
    }

    /** @param file a video file, read when the conversation is processed */
    static Part video(Path file) {
        return new Video(new MediaSource.File(Objects.requireNonNull(file, "file")));
    }

    /**
     * @param uri a {@code file:}, {@code http:}, {@code https:} or base64 {@code data:} address
     * @throws ProcessorException for another scheme or bad base64
     */
    static Part video(URI uri) {
        return new Video(MediaSource.of(uri));
    }
}
