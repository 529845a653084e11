package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.bytedeco.javacpp.Pointer;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Media that are missing, broken, too large or in the wrong place. */
class MediaFailuresTest {
    private static OmniProcessor processor;

    @TempDir
    Path dir;

    @BeforeAll
    static void load() {
        processor = OmniProcessor.load(Reference.MODEL);
    }

    @AfterAll
    static void close() {
        processor.close();
    }

    private static ModelInputs process(Part part) {
        return process(part, ProcessorOptions.defaults());
    }

    private static ModelInputs process(Part part, ProcessorOptions options) {
        return processor.process(List.of(List.of(Message.user(part))), options).getFirst();
    }

    private static void assertRefuses(Part part, String... words) {
        assertThatThrownBy(() -> process(part)).isInstanceOf(ProcessorException.class).hasMessageContainingAll(words)
                .message().doesNotContain("\n");
    }

    @Test
    void missingFiles() {
        assertRefuses(Part.image(dir.resolve("no.png")), "no.png", "no such file");
        assertRefuses(Part.audio(dir.resolve("no.wav")), "no.wav", "no such file");
        assertRefuses(Part.video(dir.resolve("no.mp4")), "no.mp4", "no such file");
        assertRefuses(Part.video(dir), "not a regular file");
    }

    @Test
    void brokenFiles() throws IOException {
        Path junk = Files.write(dir.resolve("junk.mp4"), new byte[5000]);
        assertRefuses(Part.video(junk), "junk.mp4");
        assertRefuses(Part.audio(junk), "junk.mp4");
        assertRefuses(Part.image(junk), "junk.mp4");
        byte[] clip = Files.readAllBytes(Reference.MEDIA.resolve("clip.mp4"));
        assertRefuses(Part.video(Files.write(dir.resolve("cut.mp4"), Arrays.copyOf(clip, 60_000))), "cut.mp4");
        assertRefuses(Part.image(Files.write(dir.resolve("empty.png"), new byte[0])), "empty.png");
    }

    @Test
    void emptyAndShortSounds() throws IOException {
        assertRefuses(Part.audio(new float[0], 16000), "no samples");
        assertRefuses(Part.audio(new float[200], 16000), "200 samples", "201");
        byte[] wav = Files.readAllBytes(Reference.MEDIA.resolve("sweep_16k.wav"));
        byte[] brief = Arrays.copyOf(wav, 44 + 2 * 150);
        brief[40] = (byte) 0x2c; // 300 bytes
        brief[41] = 1;
        Arrays.fill(brief, 42, 44, (byte) 0);
        assertRefuses(Part.audio(Files.write(dir.resolve("brief.wav"), brief)),
                "brief.wav: too short, found 150 samples");
        byte[] header = Arrays.copyOf(wav, 44);
        Arrays.fill(header, 40, 44, (byte) 0);
        assertRefuses(Part.audio(Files.write(dir.resolve("empty.wav"), header)), "empty.wav");
        assertThat(process(Part.audio(new float[201], 16000)).audios().getFirst().frames()).isEqualTo(1);
    }

    @Test
    void mediaWithoutAnAddressAreNamedByTheirPlace() {
        Part junk = Part.image(URI.create("data:image/png;base64,AQID"));
        assertRefuses(junk, "messages[0].content[0], media of 3 bytes: ");
        List<Message> hi = List.of(Message.user("hi"));
        for (Part part : List.of(junk, Part.audio(URI.create("data:audio/wav;base64,AQID")),
                Part.video(URI.create("data:video/mp4;base64,AQID")), Part.audio(new float[0], 16000)))
            assertThatThrownBy(() -> processor.process(
                    List.of(hi, List.of(Message.system("hi"), Message.user(Part.text("hi"), part))),
                    ProcessorOptions.defaults())).isInstanceOf(ProcessorException.class)
                    .hasMessageStartingWith("messages[1][1].content[1], ");
    }

    @Test
    void playlistsAreNotFollowed() throws IOException {
        Path list = dir.resolve("list.m3u8");
        Files.writeString(list, "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n" + Reference.MEDIA.resolve("clip.mp4")
                + "\n#EXT-X-ENDLIST\n");
        assertRefuses(Part.video(list), "list.m3u8");
    }

    @Test
    void aVideoWithoutSoundCannotBeHeard() {
        ProcessorOptions options = ProcessorOptions.builder().useAudioInVideo(true).build();
        assertThatThrownBy(() -> process(Part.video(Reference.resource("video/clip.webm")), options))
                .isInstanceOf(ProcessorException.class).hasMessageContainingAll("clip.webm", "no audio track");
    }

    @Test
    void mediaThatTheTemplateGivesNoPlace() {
        Message system = new Message("assistant", List.of(Part.text("<|image_pad|>")));
        assertThatThrownBy(() -> processor.process(List.of(List.of(system)), ProcessorOptions.defaults()))
                .isInstanceOf(ProcessorException.class)
                .hasMessageContainingAll("<|image_pad|>", "found 1", "expected 0");
    }

    @Test
    void addresses() throws IOException {
        byte[] png = Files.readAllBytes(Reference.MEDIA.resolve("scene.png"));
        VisualFeatures expected = process(Part.image(Reference.MEDIA.resolve("scene.png"))).images().getFirst();
        URI data = URI.create("data:image/png;base64," + Base64.getEncoder().encodeToString(png));
        assertThat(process(Part.image(data)).images().getFirst().pixelValues()).isEqualTo(expected.pixelValues());
        URI file = Reference.MEDIA.resolve("scene.png").toUri();
        assertThat(process(Part.image(file)).images().getFirst().pixelValues()).isEqualTo(expected.pixelValues());
        assertThatThrownBy(() -> Part.image(URI.create("ftp://host/x.png"))).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("ftp:");
        assertThatThrownBy(() -> Part.image(URI.create("data:image/png,xyz"))).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("base64");
    }

    @Test
    void downloadsWithinLimits() throws IOException {
        byte[] png = Files.readAllBytes(Reference.MEDIA.resolve("scene.png"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/scene.png", exchange -> {
            exchange.sendResponseHeaders(200, 0);
            try (var body = exchange.getResponseBody()) {
                body.write(png);
            }
        });
        server.createContext("/slow", exchange -> {
            try {
                Thread.sleep(3000);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            exchange.close();
        });
        server.start();
        try {
            String host = "http://127.0.0.1:" + server.getAddress().getPort();
            Part image = Part.image(URI.create(host + "/scene.png"));
            assertThat(process(image).images()).hasSize(1);
            ProcessorOptions small = ProcessorOptions.builder().maxDownloadBytes(100).build();
            assertThatThrownBy(() -> process(image, small)).isInstanceOf(ProcessorException.class)
                    .hasMessageContaining("larger than the limit of 100 bytes");
            assertRefuses(Part.image(URI.create(host + "/none")), "404");
            ProcessorOptions hasty = ProcessorOptions.builder().downloadTimeout(Duration.ofMillis(200)).build();
            assertThatThrownBy(() -> process(Part.image(URI.create(host + "/slow")), hasty))
                    .isInstanceOf(ProcessorException.class).hasMessageContaining("/slow");
        } finally {
            server.stop(0);
        }
    }

    @Test
    void hostsThatDoNotAnswer() throws IOException {
        int free;
        try (ServerSocket socket = new ServerSocket(0)) {
            free = socket.getLocalPort();
        }
        assertRefuses(Part.image(URI.create("http://127.0.0.1:" + free + "/a.png")),
                "cannot be fetched: connection refused");
        assertRefuses(Part.image(URI.create("http://no.invalid/a.png")), "cannot be fetched: unknown host no.invalid");
        assertRefuses(Part.image(URI.create("http:///a.png")), "cannot be fetched: unsupported URI http:///a.png");
    }

    @Test
    void failuresLeaveNoNativeMemoryBehind() throws IOException {
        byte[] clip = Files.readAllBytes(Reference.MEDIA.resolve("clip.mp4"));
        Path cut = Files.write(dir.resolve("cut.mp4"), Arrays.copyOf(clip, 60_000));
        byte[] spoilt = clip.clone();
        for (int i = 5_000; i < 60_000; i += 7) spoilt[i] ^= 0x55;
        Path noise = Files.write(dir.resolve("noise.mp4"), spoilt);
        Path junk = Files.write(dir.resolve("junk.wav"), new byte[3000]);
        Runnable round = () -> {
            for (Part part : List.of(Part.video(cut), Part.video(noise), Part.audio(noise), Part.audio(junk),
                    Part.audio(Reference.MEDIA.resolve("scene.png")),
                    Part.video(Reference.MEDIA.resolve("speech.flac")))) {
                try {
                    process(part);
                } catch (ProcessorException expected) {
                    assertThat(expected).hasMessageNotContaining("\n");
                }
            }
        };
        for (int i = 0; i < 30; i++) round.run();
        System.gc();
        long tracked = Pointer.totalBytes();
        // the JVM grows too, but not all the time, as a leak would
        long least = Long.MAX_VALUE;
        for (int span = 0; span < 3; span++) {
            long before = Pointer.physicalBytes();
            for (int i = 0; i < 50; i++) round.run();
            System.gc();
            least = Math.min(least, Pointer.physicalBytes() - before);
        }
        assertThat(Pointer.totalBytes()).isLessThanOrEqualTo(tracked + 4096);
        assertThat(least).isLessThan(33L << 20);
    }
}
