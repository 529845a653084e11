package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Every reference conversation against what upstream's processor returned for it. */
class GoldenCasesTest {
    /** FFmpeg 8 decodes 12 of the clip's 48128 AAC samples one 16-bit step away from the FFmpeg behind the golden. */
    private static final float TRACK_TOLERANCE = 3e-3f;

    private static OmniProcessor processor;

    @BeforeAll
    static void load() {
        processor = OmniProcessor.load(Reference.MODEL);
    }

    @AfterAll
    static void close() {
        processor.close();
    }

    @ParameterizedTest
    @ValueSource(strings = {"text", "text_multi_turn", "image", "images_two", "audio", "audio_short", "audio_two",
            "video",
            "video_with_audio", "mixed", "batch_text_and_audio", "batch_mixed_text_only"})
    void equalsUpstream(String name) {
        JsonNode testCase = JsonFiles.read(Reference.CASES.resolve(name + ".json"));
        List<List<Message>> conversations = Conversations.read(testCase.get("conversations").toString(),
                Reference.MEDIA);
        JsonNode arguments = testCase.get("arguments");
        ProcessorOptions options = ProcessorOptions.builder().fps(arguments.path("fps").asDouble(1))
                .useAudioInVideo(arguments.path("use_audio_in_video").asBoolean()).build();
        List<ModelInputs> inputs = processor.process(conversations, options);
        assertThat(inputs.stream().map(ModelInputs::prompt))
                .containsExactlyElementsOf(JsonFiles.JSON.convertValue(testCase.get("rendered"), Strings.TYPE));
        Batch batch = processor.pad(inputs);
        SafetensorsFile golden = Reference.golden(name);
        assertThat(flat(batch.inputIds())).containsExactly(golden.ints("processor.input_ids"));
        assertThat(flat(batch.attentionMask())).containsExactly(golden.ints("processor.attention_mask"));
        if (golden.has("processor.input_features")) {
            assertThat(flat(batch.featureAttentionMask()))
                    .containsExactly(golden.ints("processor.feature_attention_mask"));
            assertClose(name + " mel", batch.inputFeatures(), golden.floats("processor.input_features"),
                    name.equals("video_with_audio") ? TRACK_TOLERANCE : 1e-4f);
        }
        if (golden.has("processor.pixel_values")) {
            assertThat(flat(batch.imageGridThw())).containsExactly(golden.ints("processor.image_grid_thw"));
            assertClose(name + " pixels", batch.pixelValues(), golden.floats("processor.pixel_values"), 0);
        }
        if (golden.has("processor.video_grid_thw")) {
            assertThat(flat(batch.videoGridThw())).containsExactly(golden.ints("processor.video_grid_thw"));
            float[] seconds = golden.floats("processor.video_second_per_grid");
            for (int i = 0; i < seconds.length; i++)
                assertThat((float) batch.videoSecondPerGrid()[i]).isEqualTo(seconds[i]);
        }
        if (golden.has("processor.pixel_values_videos")) {
            assertClose(name + " frames", batch.pixelValuesVideos(), golden.floats("processor.pixel_values_videos"), 0);
        }
    }

    @Test
    void theSpectrogramOfTheGoldenTrackEqualsUpstream() {
        List<Message> messages = List.of(Message.user(Part.audio(Reference.MEDIA.resolve("clip_16k.wav"))));
        AudioFeatures audio = processor.process(List.of(messages), ProcessorOptions.defaults()).getFirst().audios()
                .getFirst();
        float[] expected = Reference.golden("video_with_audio").floats("processor.input_features");
        assertClose("track mel", audio.mel(), expected, 1e-4f);
    }

    private static int[] flat(int[][] rows) {
        return Stream.of(rows).flatMapToInt(Arrays::stream).toArray();
    }

    private static void assertClose(String what, float[] actual, float[] expected, float tolerance) {
        assertThat(actual).hasSameSizeAs(expected);
        float worst = 0;
        for (int i = 0; i < actual.length; i++) {
            float d = Math.abs(actual[i] - expected[i]);
            worst = Math.max(worst, d);
        }
        assertThat(worst).as(what).isLessThanOrEqualTo(tolerance);
    }
}
