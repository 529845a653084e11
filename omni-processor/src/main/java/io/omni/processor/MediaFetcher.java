package io.omni.processor;

import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.channels.UnresolvedAddressException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Function;

/** Brings the bytes of a media source here: as an array, or as a file for FFmpeg. */
final class MediaFetcher {
    private final long maxBytes;
    private final Duration timeout;

    MediaFetcher(ProcessorOptions options) {
        this.maxBytes = options.maxDownloadBytes();
        this.timeout = options.downloadTimeout();
    }

    /** The encoded file of a source that is not decoded already. */
    byte[] bytes(MediaSource source) {
        return switch (source) {
            case MediaSource.Encoded encoded -> encoded.bytes();
            case MediaSource.Remote remote -> download(remote.uri());
            case MediaSource.File file -> {
                try {
                    yield Files.readAllBytes(readable(file.path()));
                } catch (IOException e) {
                    throw new ProcessorException(file + ": cannot be read: " + e, e);
                }
            }
            default -> throw new ProcessorException(source + ": is no encoded file");
        };
    }

    /** Calls {@code use} with a file that holds the source, a temporary one unless the source is a file. */
    <T> T withFile(MediaSource source, Function<Path, T> use) {
        if (source instanceof MediaSource.File file)
            return use.apply(readable(file.path()));
        byte[] bytes = bytes(source);
        try {
            Path file = Files.createTempFile("omni-media", "");
            try {
                Files.write(file, bytes);
                return use.apply(file);
            } finally {
                Files.deleteIfExists(file);
            }
        } catch (IOException e) {
            throw new ProcessorException(source + ": no temporary file for it: " + e, e);
        }
    }

    private static Path readable(Path file) {
        if (!Files.exists(file))
            throw new ProcessorException(file + ": no such file");
        if (!Files.isRegularFile(file))
            throw new ProcessorException(file + ": is not a regular file");
        if (!Files.isReadable(file))
            throw new ProcessorException(file + ": cannot be read");
        return file;
    }

    private byte[] download(URI uri) {
        try (HttpClient client = HttpClient.newBuilder().connectTimeout(timeout)
                .followRedirects(HttpClient.Redirect.NORMAL).build()) {
            CompletableFuture<byte[]> body = CompletableFuture.supplyAsync(() -> get(client, uri));
            try {
                return body.get(timeout.toMillis(), TimeUnit.MILLISECONDS);
            } finally {
                client.shutdownNow();
            }
        } catch (TimeoutException e) {
            throw new ProcessorException(uri + ": not fetched within " + timeout.toMillis() + " ms", e);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof ProcessorException known)
                throw known;
            throw new ProcessorException(uri + ": " + e.getCause(), e.getCause());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new ProcessorException(uri + ": interrupted while fetching", e);
        }
    }

    private byte[] get(HttpClient client, URI uri) {
        try {
            HttpRequest request = HttpRequest.newBuilder(uri).timeout(timeout).GET().build();
            HttpResponse<InputStream> response = client.send(request, HttpResponse.BodyHandlers.ofInputStream());
            try (InputStream in = response.body()) {
                if (response.statusCode() != 200) {
                    throw new ProcessorException(
                            uri + ": found HTTP status " + response.statusCode() + ", expected 200");
                }
                byte[] bytes = in.readNBytes(Math.toIntExact(Math.min(maxBytes + 1, Integer.MAX_VALUE - 8)));
                if (bytes.length > maxBytes) {
                    throw new ProcessorException(uri + ": larger than the limit of " + maxBytes + " bytes");
                }
                return bytes;
            }
        } catch (ConnectException e) {
            String problem = isUnresolved(e) ? "unknown host " + uri.getHost() : "connection refused";
            throw new ProcessorException(uri + ": cannot be fetched: " + problem, e);
        } catch (IOException | IllegalArgumentException e) {
            String problem = e.getMessage() == null ? e.toString() : e.getMessage();
            throw new ProcessorException(uri + ": cannot be fetched: " + problem, e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new ProcessorException(uri + ": interrupted while fetching", e);
        }
    }

    private static boolean isUnresolved(Throwable e) {
        return e != null && (e instanceof UnresolvedAddressException || isUnresolved(e.getCause()));
    }
}
