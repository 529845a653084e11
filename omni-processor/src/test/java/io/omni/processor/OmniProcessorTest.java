package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class OmniProcessorTest {
    private static final ProcessorOptions DEFAULTS = ProcessorOptions.defaults();
    private static OmniProcessor processor;

    @BeforeAll
    static void load() {
        processor = OmniProcessor.load(Reference.MODEL);
    }

    @AfterAll
    static void close() {
        processor.close();
    }

    private static ModelInputs process(ProcessorOptions options, Part... parts) {
        return processor.process(List.of(List.of(Message.user(parts))), options).getFirst();
    }

    private static Part media(String name) {
        Path file = Reference.MEDIA.resolve(name);
        return name.endsWith(".mp4") ? Part.video(file) : name.endsWith("wav") ? Part.audio(file) : Part.image(file);
    }

    @Test
    void pixelLimitsCanBeSetForACall() {
        ProcessorOptions options = ProcessorOptions.builder().imagePixels(1024, 4 * 1024)
                .videoPixels(4 * 1024, 24 * 1024)
                .frames(2, 2).build();
        ModelInputs inputs = process(options, media("scene.png"), media("clip.mp4"));
        VisualFeatures image = inputs.images().getFirst();
        assertThat(image.gridH() * image.gridW()).isLessThanOrEqualTo(16);
        VisualFeatures video = inputs.videos().getFirst();
        assertThat(new int[]{video.gridT(), video.gridH(), video.gridW()}).containsExactly(1, 6, 8);
    }

    @Test
    void aConversationDoesNotDependOnTheOthers() {
        List<Message> brief = List.of(Message.user(media("count_16k.wav")));
        List<Message> lengthy = List.of(Message.user(media("speech_16k.wav")));
        ModelInputs alone = processor.process(List.of(brief), DEFAULTS).getFirst();
        ModelInputs together = processor.process(List.of(brief, lengthy), DEFAULTS).getFirst();
        assertThat(together.inputIds()).containsExactly(alone.inputIds());
        assertThat(together.audios().getFirst().mel()).containsExactly(alone.audios().getFirst().mel());
    }

    @Test
    void severalThreadsMayProcess() {
        Part[] parts = {media("scene.png"), media("clip.mp4"), media("count_16k.wav"), Part.text("What?")};
        ModelInputs expected = process(DEFAULTS, parts);
        List<ModelInputs> all = java.util.stream.IntStream.range(0, 8).parallel()
                .mapToObj(_ -> process(DEFAULTS, parts))
                .toList();
        for (ModelInputs inputs : all) {
            assertThat(inputs.inputIds()).isEqualTo(expected.inputIds());
            assertThat(inputs.audios().getFirst().mel()).isEqualTo(expected.audios().getFirst().mel());
            assertThat(inputs.videos().getFirst().pixelValues()).isEqualTo(expected.videos().getFirst().pixelValues());
        }
    }

    @Test
    void samplesGivenInMemoryEqualTheirFile() {
        float[] samples = AudioReader.read(Reference.MEDIA.resolve("count_16k.wav"), "count", 16000);
        assertThat(process(DEFAULTS, Part.audio(samples, 16000)).audios().getFirst().mel())
                .containsExactly(process(DEFAULTS, media("count_16k.wav")).audios().getFirst().mel());
    }

    @Test
    void soundAndFramesOfAVideoAreInOrderOfTimeFramesFirst() {
        ModelInputs inputs = process(ProcessorOptions.builder().fps(2).useAudioInVideo(true).build(),
                media("clip.mp4"));
        String text = processor.decode(inputs.inputIds(), false).replaceAll("<\\|(audio|video)_pad\\|>", "$1 ")
                .replaceAll("(audio )+", "a").replaceAll("(video )+", "v");
        assertThat(text).contains("<|vision_start|><|audio_start|>vavava<|audio_end|><|vision_end|>");
        assertThat(inputs.prompt()).contains("<|vision_start|><|video_pad|><|vision_end|>");
    }

    @Test
    void batchesArePaddedOnTheLeft() {
        List<List<Message>> conversations = List.of(List.of(Message.user("hi")),
                List.of(Message.user("hello there, you")));
        Batch batch = processor.pad(processor.process(conversations, DEFAULTS));
        assertThat(batch.inputIds()[0]).hasSameSizeAs(batch.inputIds()[1]);
        assertThat(batch.inputIds()[0][0]).isEqualTo(processor.tokenizer().id("<|endoftext|>"));
        assertThat(batch.attentionMask()[0][0]).isZero();
        assertThat(batch.attentionMask()[1]).containsOnly(1);
        assertThat(batch.inputFeatures()).isEmpty();
    }

    @Test
    void toolsAndThinkingReachTheTemplate() {
        ProcessorOptions options = ProcessorOptions.builder().enableThinking(false)
                .tools(List.of(Map.of("type", "function"))).build();
        assertThat(processor.render(List.of(Message.user("hi")), options))
                .contains("<tools>\n{\"type\": \"function\"}\n</tools>")
                .endsWith("<think>\n\n</think>\n\n");
    }

    @Test
    void postProcessingLeavesOutPromptAndSpecialTokens() {
        int[] ids = processor.tokenizer().encode("hi there<|im_end|>");
        assertThat(processor.postProcess(List.of(ids), 0)).containsExactly("hi there");
        assertThat(processor.postProcess(List.of(ids), ids.length)).containsExactly("");
    }

    @Test
    void chunksOfPositions() {
        assertThat(OmniProcessor.getChunkedIndex(new double[]{0, 5, 9, 10, 12, 25}, 10))
                .containsExactly(new int[]{0, 3}, new int[]{3, 5}, new int[]{5, 6});
        assertThat(OmniProcessor.getChunkedIndex(new double[0], 10)).containsExactly(new int[]{0, 0});
    }

    /** From _get_feat_extract_output_lengths. */
    @ParameterizedTest
    @CsvSource({"1,1", "8,1", "9,2", "99,13", "100,13", "101,14", "502,66", "3000,390"})
    void tokensOfAudioFrames(int frames, int tokens) {
        assertThat(ProcessorFiles.read(Reference.MODEL).audio().tokens(frames)).isEqualTo(tokens);
    }

    @Test
    void readsNewerAndOlderFiles(@TempDir Path dir) throws IOException {
        for (String name : List.of("tokenizer.json", "tokenizer_config.json", "config.json")) {
            Files.copy(Reference.MODEL.resolve(name), dir.resolve(name));
        }
        assertThatThrownBy(() -> OmniProcessor.load(dir)).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("preprocessor_config.json");
        ObjectNode nested = JsonFiles.JSON.createObjectNode();
        nested.putObject("image_processor").put("patch_size", 16).putObject("size").put("shortest_edge", 5000)
                .put("longest_edge", 60000);
        nested.putObject("feature_extractor").put("feature_size", 80);
        Files.writeString(dir.resolve("processor_config.json"), nested.toString());
        assertThatThrownBy(() -> OmniProcessor.load(dir)).hasMessageContaining("chat template");
        Files.writeString(dir.resolve("chat_template.jinja"), "{{ messages[0].content }}");
        try (OmniProcessor loaded = OmniProcessor.load(dir)) {
            assertThat(loaded.render(List.of(Message.user("hi")), DEFAULTS)).isEqualTo("hi");
        }
        ProcessorFiles files = ProcessorFiles.read(dir);
        assertThat(files.image().minPixels()).isEqualTo(5000);
        assertThat(files.image().maxPixels()).isEqualTo(60000);
        assertThat(files.audio().melBins()).isEqualTo(80);
    }
}
