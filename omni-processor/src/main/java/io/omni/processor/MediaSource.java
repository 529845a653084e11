package io.omni.processor;

import static io.omni.processor.ProcessorException.quoted;

import java.awt.image.BufferedImage;
import java.net.URI;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Locale;
import java.util.Objects;

/** Where an image, a sound or a video comes from. */
public sealed interface MediaSource {

    /**
     * A file of the local file system.
     *
     * @param path read when the conversation is processed
     */
    record File(Path path) implements MediaSource {
        /** @throws NullPointerException for null */
        public File {
            Objects.requireNonNull(path, "path");
        }

        @Override
        public String toString() {
            return path.toString();
        }
    }

    /**
     * An address, fetched within the limits of {@link ProcessorOptions}, redirects followed.
     *
     * @param uri {@code http:} or {@code https:}
     */
    record Remote(URI uri) implements MediaSource {
        /** @throws NullPointerException for null */
        public Remote {
            Objects.requireNonNull(uri, "uri");
        }

        @Override
        public String toString() {
            return uri.toString();
        }
    }

    /**
     * An encoded file in memory.
     *
     * @param bytes a file of any format that can be read; not copied
     */
    record Encoded(byte[] bytes) implements MediaSource {
        /** @throws NullPointerException for null */
        public Encoded {
            Objects.requireNonNull(bytes, "bytes");
        }

        @Override
        public String toString() {
            return "media of " + bytes.length + " bytes";
        }
    }

    /**
     * A decoded image.
     *
     * @param image of any type; not copied
     */
    record Pixels(BufferedImage image) implements MediaSource {
        /** @throws NullPointerException for null */
        public Pixels {
            Objects.requireNonNull(image, "image");
        }

        @Override
        public String toString() {
            return "image of " + image.getWidth() + " x " + image.getHeight();
        }
    }

    /**
     * A decoded sound.
     *
     * @param samples mono, full scale at -1 and 1; not copied
     * @param sampleRate in hertz
     */
    record Samples(float[] samples, int sampleRate) implements MediaSource {
        /** @throws NullPointerException for null */
        public Samples {
            Objects.requireNonNull(samples, "samples");
        }

        @Override
        public String toString() {
            return samples.length + " samples at " + sampleRate + " Hz";
        }
    }

    /**
     * A source for a {@code file:}, {@code http:}, {@code https:} or base64 {@code data:} address.
     *
     * @throws ProcessorException for another scheme or bad base64
     */
    static MediaSource of(URI uri) {
        Objects.requireNonNull(uri, "uri");
        String scheme = uri.getScheme() == null ? "" : uri.getScheme().toLowerCase(Locale.ROOT);
        return switch (scheme) {
            case "file" -> file(uri);
            case "http", "https" -> new Remote(uri);
            case "data" -> new Encoded(data(uri.getRawSchemeSpecificPart()));
            default -> throw new ProcessorException(
                    "media address '" + quoted(uri.toString()) + "': expected file:, http:, https: or data:");
        };
    }

    private static File file(URI uri) {
        try {
            return new File(Path.of("localhost".equalsIgnoreCase(uri.getAuthority())
                    ? URI.create("file:" + uri.getRawPath())
                    : uri));
        } catch (IllegalArgumentException e) {
            throw new ProcessorException("media address '" + quoted(uri.toString()) + "': " + e.getMessage(), e);
        }
    }

    /** The bytes of {@code image/png;base64,…}, the part of a data URI behind its scheme. */
    static byte[] data(String content) {
        int comma = content.indexOf(',');
        if (comma < 0 || !content.substring(0, comma).endsWith(";base64")) {
            throw new ProcessorException("data URI '" + quoted(content) + "': expected ';base64,' and base64 text");
        }
        try {
            return Base64.getMimeDecoder().decode(content.substring(comma + 1).replace("%2B", "+").replace("%2F", "/")
                    .replace("%3D", "="));
        } catch (IllegalArgumentException e) {
            throw new ProcessorException("data URI '" + quoted(content) + "': " + e.getMessage(), e);
        }
    }
}
