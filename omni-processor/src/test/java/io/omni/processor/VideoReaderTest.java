package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.MissingNode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class VideoReaderTest {
    private static final VisionConfig CONFIG = ProcessorFiles.read(Reference.MODEL).video();

    /** From Qwen2VLVideoProcessor.sample_frames. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {"24|8|1|0,6,12,18", "24|8|2|0,4,8,12,16,20", "9|5|1|0,2,4,6", "7|5|2|0,1,3,5",
            "3|30|1|0,1", "300|29.97|1|0,30,60,90,120,150,180,210,240,270"})
    void samplesAsUpstream(int total, double rate, double fps, String expected) {
        int[] indexes = VideoReader.sample(total, rate, fps, CONFIG);
        assertThat(java.util.Arrays.stream(indexes).boxed().map(String::valueOf).toList())
                .containsExactly(expected.split(","));
    }

    @Test
    void keepsWithinTheMostFrames() {
        VisionConfig config = CONFIG.withFrames(4, 11);
        assertThat(VideoReader.sample(10_000, 25, 1, config)).hasSize(10);
        assertThat(VideoReader.sample(1, 25, 1, config)).containsExactly(0);
    }

    /** PyAV's to_ndarray(format="rgb24"), as sums of each frame's values. */
    @ParameterizedTest
    @ValueSource(strings = {"clip.mkv", "clip.webm", "interlaced.mkv"})
    void framesEqualPyAv(String name) {
        JsonNode expected = JsonFiles.read(Reference.resource("video/videos.json")).get(name);
        double rate = expected.get("rate").doubleValue();
        int total = expected.get("total").intValue();
        VisionConfig asStored = new VisionConfig(16, 1, 1, 1, 1 << 20, new double[3], new double[]{1, 1, 1}, 1, 4, 768);
        VisualFeatures video = VideoReader.read(Reference.resource("video/" + name), name, asStored, rate);
        assertThat(new int[]{video.gridT(), video.gridH(), video.gridW()}).containsExactly(total, 3, 4);
        int size = 3 * 48 * 64;
        for (int frame = 0; frame < total; frame++) {
            long sum = 0;
            for (int i = 0; i < size; i++) sum += (long) video.pixelValues()[frame * size + i];
            assertThat(sum).as("frame " + frame).isEqualTo(expected.get("sum").get(frame).longValue());
        }
    }

    @ParameterizedTest
    @CsvSource({"clip.mkv,1,2", "clip.mkv,4,2", "clip.webm,5,4", "one.mp4,1,1"})
    void readsContainers(String name, double fps, int gridT) {
        VisualFeatures video = VideoReader.read(Reference.resource("video/" + name), name, CONFIG, fps);
        assertThat(video.gridT()).isEqualTo(gridT);
        assertThat(video.secondsPerGrid()).isEqualTo(2 / fps);
        assertThat(video.pixelValues()).hasSize(video.patches() * 3 * 2 * 16 * 16);
        assertThat(video.gridH() * video.gridW() * 256).isBetween(128 * 1024, 768 * 1024);
    }

    @Test
    void saysWhatIsWrongWithAFile() {
        assertThatThrownBy(() -> VideoReader.read(Reference.MEDIA.resolve("speech.flac"), "speech.flac", CONFIG, 1))
                .isInstanceOf(ProcessorException.class).hasMessageContaining("no video track");
        assertThatThrownBy(() -> AudioReader.readTrack(Reference.resource("video/one.mp4"), "one.mp4", 16000))
                .isInstanceOf(ProcessorException.class).hasMessageContaining("no audio track");
    }

    @Test
    void pixelLimitsOfVideosAreThoseOfUpstreamsProcessor() {
        assertThat(VisionConfig.video(MissingNode.getInstance(), "none").minPixels()).isEqualTo(128 * 32 * 32);
        assertThat(CONFIG.maxPixels()).isEqualTo(768 * 32 * 32);
        assertThat(CONFIG.withPixels(4096, null).minPixels()).isEqualTo(4096);
    }
}
