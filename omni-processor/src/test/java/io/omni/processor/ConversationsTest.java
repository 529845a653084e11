package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.net.URI;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ConversationsTest {
    private static final Path MEDIA = Path.of("/media");

    private static Message message(String json) {
        return Conversations.read("[" + json + "]", MEDIA).getFirst().getFirst();
    }

    private static MediaSource source(String part) {
        return switch (message("{\"role\": \"user\", \"content\": [" + part + "]}").content().getFirst()) {
            case Part.Image image -> image.source();
            case Part.Audio audio -> audio.source();
            case Part.Video video -> video.source();
            case Part.Text text -> throw new AssertionError(text);
        };
    }

    @Test
    void oneConversationOrMany() {
        String one = "[{\"role\": \"user\", \"content\": \"hi\"}]";
        assertThat(Conversations.read(one, MEDIA)).hasSize(1);
        assertThat(Conversations.read("[" + one + "," + one + "]", MEDIA)).hasSize(2);
        Message message = Conversations.read(one, MEDIA).getFirst().getFirst();
        assertThat(message.role()).isEqualTo("user");
        assertThat(message.content()).containsExactly(Part.text("hi"));
    }

    @Test
    void mediaInAllTheirSpellings() {
        MediaSource file = new MediaSource.File(Path.of("/media/a.bin"));
        for (String kind : List.of("image", "audio", "video")) {
            assertThat(source("{\"type\": \"" + kind + "\", \"" + kind + "\": \"a.bin\"}")).isEqualTo(file);
            assertThat(source("{\"type\": \"" + kind + "\", \"path\": \"/media/a.bin\"}")).isEqualTo(file);
            assertThat(source("{\"type\": \"" + kind + "_url\", \"" + kind + "_url\": {\"url\": \"a.bin\"}}"))
                    .isEqualTo(file);
            assertThat(source("{\"" + kind + "\": \"file:///media/a.bin\"}")).isEqualTo(file);
        }
        assertThat(source("{\"type\": \"image\", \"url\": \"https://host/a.png\"}"))
                .isInstanceOf(MediaSource.Remote.class);
        assertThat(source("{\"type\": \"image\", \"image\": \"data:image/png;base64,AQID\"}"))
                .isInstanceOfSatisfying(MediaSource.Encoded.class,
                        encoded -> assertThat(encoded.bytes()).containsExactly(1, 2, 3));
    }

    @Test
    void mediaOfAnySizeInTheJson() {
        String data = "AAAA".repeat(5_000_001);
        assertThat(source("{\"type\": \"image\", \"image\": \"data:image/png;base64," + data + "\"}"))
                .isInstanceOfSatisfying(MediaSource.Encoded.class,
                        encoded -> assertThat(encoded.bytes()).hasSize(15_000_003));
    }

    @Test
    void jsonThatIsNestedTooDeeplyOrCut() {
        assertThatThrownBy(() -> Conversations.read("[".repeat(2000) + "]".repeat(2000), MEDIA))
                .isInstanceOf(ProcessorException.class)
                .hasMessageMatching(
                        "messages.*: Document nesting depth \\(1001\\) exceeds the maximum allowed \\(1000\\)");
        assertThatThrownBy(() -> Conversations.read("[{", MEDIA)).isInstanceOf(ProcessorException.class).hasMessage(
                "messages, line 1, column 3: Unexpected end-of-input: expected close marker for Object");
    }

    @Test
    void textBehindTheJson() {
        String one = "[{\"role\": \"user\", \"content\": \"hi\"}]";
        assertThat(Conversations.read(one + " \n", MEDIA)).hasSize(1);
        assertThatThrownBy(() -> Conversations.read(one + "\n" + one, MEDIA)).isInstanceOf(ProcessorException.class)
                .hasMessage("messages, line 2, column 1: found more behind the end of the JSON, expected nothing");
        assertThatThrownBy(() -> Conversations.read(one + "]", MEDIA)).hasMessageContaining("Unexpected close marker");
    }

    @Test
    void schemesInAnyCaseAndNoOthers() {
        assertThat(image("HTTPS://host/a b.png"))
                .isEqualTo(new MediaSource.Remote(URI.create("HTTPS://host/a%20b.png")));
        assertThat(image("Data:image/png;base64,AQID")).isInstanceOf(MediaSource.Encoded.class);
        assertThat(image("FILE:/media/a.png")).isEqualTo(new MediaSource.File(Path.of("/media/a.png")));
        assertThat(image("12:30.png")).isEqualTo(new MediaSource.File(Path.of("/media/12:30.png")));
        assertThatThrownBy(() -> image("ftp://host/a.png")).isInstanceOf(ProcessorException.class)
                .hasMessage("messages[0].content[0].image: media address 'ftp://host/a.png': expected file:, http:,"
                        + " https: or data:");
        assertThatThrownBy(() -> image("http://host/a|b")).isInstanceOf(ProcessorException.class).hasMessage(
                "messages[0].content[0].image: found 'http://host/a|b', expected a path or an address");
    }

    @Test
    void addressesOfFilesAreDecodedUnlessTheyAreThere(@TempDir Path dir) throws IOException {
        Path spaced = Files.createFile(dir.resolve("a b+.png"));
        Path percent = Files.createFile(dir.resolve("100%20.png"));
        for (String start : List.of("file://", "file:", "file://localhost")) {
            assertThat(image(start + dir + "/a%20b+.png")).isEqualTo(new MediaSource.File(spaced));
            assertThat(image(start + dir + "/100%20.png")).isEqualTo(new MediaSource.File(percent));
            assertThat(image(start + dir + "/100%.png")).isEqualTo(new MediaSource.File(dir.resolve("100%.png")));
        }
        assertThat(image("file://a.png")).isEqualTo(new MediaSource.File(Path.of("/media/a.png")));
        assertThat(MediaSource.of(URI.create("file://localhost/a%20b.png")))
                .isEqualTo(new MediaSource.File(Path.of("/a b.png")));
    }

    private static MediaSource image(String address) {
        return source("{\"type\": \"image\", \"image\": \"" + address + "\"}");
    }

    @Test
    void messagesQuoteLittle() {
        String base64 = "iVBORw0KGgo/".repeat(10_000);
        for (String image : List.of(base64, base64 + "\\u0000", "data:" + base64, "http://host/|" + base64))
            assertThatThrownBy(() -> image(image)).isInstanceOf(ProcessorException.class)
                    .hasMessageContaining("iVBORw0KGgo/iVBOR").message().hasSizeLessThan(250);
        assertThatThrownBy(() -> image(base64)).hasMessageContaining("base64 needs data:;base64, before it");
        assertThatThrownBy(() -> MediaSource.of(URI.create("file://host/" + base64))).message().hasSizeLessThan(250);
    }

    @Test
    void filesInUtf8WithOrWithoutItsMark(@TempDir Path dir) throws IOException {
        Path file = dir.resolve("talk.json");
        String json = "[{\"role\": \"user\", \"content\": \"grüß\"}]";
        Files.writeString(file, "\uFEFF" + json);
        assertThat(Conversations.read(file, dir).getFirst().getFirst().content()).containsExactly(Part.text("grüß"));
        for (Charset other : List.of(StandardCharsets.ISO_8859_1, StandardCharsets.UTF_16)) {
            Files.writeString(file, json, other);
            assertThatThrownBy(() -> Conversations.read(file, dir)).isInstanceOf(ProcessorException.class)
                    .hasMessage(file + ": is no text in UTF-8");
        }
    }

    @Test
    void theTemplateSeesTheJsonAsItIs() {
        String json = "{\"role\": \"assistant\", \"content\": \"\", \"reasoning_content\": \"hm\", \"name\": \"x\","
                + " \"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, null]}}}]}";
        Message message = message(json);
        assertThat(PythonValues.json(message.templateView(), null, false)).isEqualTo(json);
        assertThat(message.reasoningContent()).isEqualTo("hm");
        assertThat(message.toolCalls().getFirst().name()).isEqualTo("f");
    }

    @ParameterizedTest
    @CsvSource(textBlock = """
            image, '"type": "image_url", '
            video, '"type": "video_url", '
            video, ''
            """)
    void addressesOfImagesAndVideosGetAPlaceInTheTemplate(String kind, String type) {
        Message message = message("{\"role\": \"user\", \"content\": [{" + type + "\"" + kind
                + "_url\": {\"url\": \"a.bin\"}}]}");
        assertThat(message.templateView()).containsEntry("content", List.of(Map.of("type", kind, "url", "a.bin")));
    }

    @Test
    void stringsAmongThePartsAreText() {
        Message message = message(
                "{\"role\": \"user\", \"content\": [\"hi\", {\"type\": \"text\", \"text\": \"you\"}]}");
        assertThat(message.content()).containsExactly(Part.text("hi"), Part.text("you"));
        assertThat(message.templateView()).containsEntry("content",
                List.of(Map.of("type", "text", "text", "hi"), Map.of("type", "text", "text", "you")));
    }

    @Test
    void onlyAnAssistantsToolCallsStandWithoutContent() {
        for (String role : List.of("user", "system", "tool", "assistant"))
            assertThatThrownBy(() -> message("{\"role\": \"" + role + "\"}")).isInstanceOf(ProcessorException.class)
                    .hasMessage("messages[0].content: found nothing, expected a string or a list of parts");
        assertThatThrownBy(() -> message("{\"role\": \"user\", \"content\": null}"))
                .hasMessage("messages[0].content: found null, expected a string or a list of parts");
        String call = "{\"role\": \"assistant\", \"tool_calls\": [{\"name\": \"f\", \"arguments\": {}}]";
        for (String turn : List.of(call + "}", call + ", \"content\": null}")) {
            assertThat(message(turn).content()).isEmpty();
            assertThat(message(turn).templateView()).doesNotContainKey("content");
        }
        assertThatThrownBy(() -> message(call.replace("assistant", "user") + "}"))
                .hasMessageContaining("messages[0].content: found nothing");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            fps            | found 2, expected no such option of a single part; for all videos: --fps or ProcessorOptions.fps
            nframes        | found 2, expected no such option of a single part; for all videos: ProcessorOptions.minFrames and maxFrames
            min_frames     | ProcessorOptions.minFrames
            max_frames     | ProcessorOptions.maxFrames
            min_pixels     | ProcessorOptions.imageMinPixels and videoMinPixels
            max_pixels     | ProcessorOptions.imageMaxPixels and videoMaxPixels
            total_pixels   | found 2, expected no such option of a single part
            resized_height | found 2, expected no such option of a single part
            resized_width  | found 2, expected no such option of a single part
            video_start    | found 2, expected no such option of a single part
            video_end      | found 2, expected no such option of a single part
            audio_start    | found 2, expected no such option of a single part
            audio_end      | found 2, expected no such option of a single part
            """)
    void optionsOfSinglePartsAreRefused(String option, String message) {
        String part = "{\"type\": \"video\", \"video\": \"a.mp4\", \"" + option + "\": ";
        assertThatThrownBy(() -> source(part + "2}")).isInstanceOf(ProcessorException.class)
                .hasMessageStartingWith("messages[0].content[0]." + option + ": ").hasMessageEndingWith(message);
        assertThat(source(part + "null}")).isInstanceOf(MediaSource.File.class);
    }

    @Test
    void mistakesAreLocated(@TempDir Path dir) throws IOException {
        Path file = Files.writeString(dir.resolve("talk.json"), "[\n  {\"role\": }\n]");
        assertThatThrownBy(() -> Conversations.read(file, dir)).isInstanceOf(ProcessorException.class)
                .hasMessageContainingAll("talk.json", "line 2");
        assertThatThrownBy(() -> Conversations.read(dir.resolve("none.json"), dir)).hasMessageContaining("none.json");
        assertThatThrownBy(() -> Conversations.read("{}", MEDIA)).hasMessageContaining("messages: found {}");
        assertThatThrownBy(() -> message("{\"content\": \"x\"}")).hasMessageContaining("messages[0].role");
        assertThatThrownBy(() -> message("{\"role\": \"user\", \"content\": [{\"type\": \"smell\"}]}"))
                .hasMessageContaining("messages[0].content[0].type");
        assertThatThrownBy(() -> message("{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": 5}]}"))
                .hasMessageContaining("messages[0].content[0].image: found 5");
        for (String text : List.of("{\"type\": \"text\", \"text\": 5}", "{\"text\": 5}"))
            assertThatThrownBy(() -> message("{\"role\": \"user\", \"content\": [" + text + "]}"))
                    .hasMessage("messages[0].content[0].text: found 5, expected a string");
        assertThatThrownBy(() -> message("{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}"))
                .hasMessage("messages[0].content[0].text: found nothing, expected a string");
        assertThatThrownBy(() -> message("{\"role\": \"user\", \"content\": [{}]}"))
                .hasMessageContaining("messages[0].content[0].type: found nothing");
        assertThatThrownBy(() -> message("{\"role\": \"assistant\", \"tool_calls\": {\"name\": \"f\"}}"))
                .hasMessage("messages[0].tool_calls: found {\"name\":\"f\"}, expected a list");
    }
}
