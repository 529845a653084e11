package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class AudioReaderTest {
    private static final int RATE = 16000;
    /** What soundfile and, for other rates, soxr's high quality make of the files; of a track, the ffmpeg command. */
    private static final JsonNode EXPECTED = JsonFiles.read(Reference.resource("audio/audio.json"));

    @Test
    void sixteenBitSamplesAreOver32768() throws IOException {
        Path file = Reference.MEDIA.resolve("speech_16k.wav");
        assertThat(AudioReader.read(file, "speech", RATE)).containsExactly(pcm("speech_16k.wav"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"stereo_pcm_u8.wav", "stereo_pcm_24.wav", "stereo_pcm_32.wav", "stereo_float.wav",
            "stereo_double.wav"})
    void channelsAreAveragedExactly(String name) {
        assertThat(worstDifference(AudioReader.read(Reference.resource("audio/" + name), name, RATE), name)).isZero();
    }

    @Test
    void readsVorbis() {
        float[] samples = AudioReader.read(Reference.resource("audio/mono.ogg"), "mono.ogg", RATE);
        // FFmpeg does not cut the padding at the end of an Ogg file of one page.
        assertThat(worstDifference(Arrays.copyOf(samples, 4000), "mono.ogg")).isLessThan(1e-4f);
    }

    @ParameterizedTest
    @CsvSource({"mono.m4a,4000,1200", "mono_opus.opus,4000,400"})
    void readsLossyFormats(String name, int length, int slack) {
        float[] samples = AudioReader.read(Reference.resource("audio/" + name), name, RATE);
        assertThat(samples.length).isCloseTo(length, within(slack));
        double energy = 0;
        for (float sample : samples) energy += sample * sample;
        assertThat(energy / samples.length).isBetween(1e-6, 0.1);
    }

    @ParameterizedTest
    @ValueSource(strings = {"speech_22k.wav", "speech_44k_stereo.wav", "speech.flac", "speech.mp3"})
    void otherRatesAreConvertedAsSoxrDoes(String name) {
        float[] samples = AudioReader.read(Reference.MEDIA.resolve(name), name, RATE);
        assertThat(worstDifference(samples, name)).isLessThan(name.endsWith("mp3") ? 1e-4f : 1e-6f);
    }

    /** Rates that take one stage and several, in a simple ratio and not; all samples, those at the ends included. */
    @ParameterizedTest
    @ValueSource(ints = {1000, 3000, 8000, 11025, 12000, 16001, 22050, 24000, 28000, 32000, 44100, 44101, 48000, 64000,
            88200, 192000})
    void allRatesAreConvertedAsSoxrDoes(int rate) {
        float[] noise = new float[rate / 50 + 3];
        for (int i = 0; i < noise.length; i++) noise[i] = (float) ((i * 7919 % 2003 - 1001) / 1001.0);
        float[] converted = Resampler.resample(noise, rate, RATE);
        assertThat(worstDifference(converted, "noise, " + rate + " Hz")).isLessThan(rate == 16001 ? 1e-5f : 1e-6f);
    }

    @Test
    void aToneSurvivesAChangeOfRate() {
        float[] tone = new float[48000];
        for (int i = 0; i < tone.length; i++) tone[i] = (float) Math.sin(2 * Math.PI * 1000 * i / 48000);
        float[] converted = Resampler.resample(tone, 48000, RATE);
        assertThat(converted).hasSize(16000);
        for (int i = 500; i < 15500; i++) {
            assertThat(converted[i]).isCloseTo((float) Math.sin(2 * Math.PI * 1000 * i / 16000), within(1e-5f));
        }
        assertThat(Resampler.resample(tone, 44100, RATE)).hasSize((int) Math.ceil(48000 * 16000 / 44100.0));
    }

    /** As librosa, which appends silence where soxr's length, rounded, is less than its own, rounded up. */
    @Test
    void aLastSampleThatIsMostlyMissingIsSilent() {
        float[] constant = new float[302];
        Arrays.fill(constant, 1);
        assertThat(Resampler.resample(Arrays.copyOf(constant, 301), 48000, RATE)).hasSize(101).endsWith(0);
        assertThat(Resampler.resample(constant, 48000, RATE)[100]).isGreaterThan(0.5f);
    }

    /** What soxr leaves of a tone of amplitude 1 between the frequencies that pass and those that do not. */
    @ParameterizedTest
    @CsvSource({"48000, 7400, 0.9981776, 1e-6", "48000, 7600, 0.7173527, 1e-6", "48000, 7800, 0.0607663, 1e-6",
            "24000, 7600, 0.7173527, 1e-6", "32000, 7600, 0.7181942, 1e-6", "8000, 3800, 0.7181942, 1e-6",
            "44100, 7400, 0.9974196, 1e-6", "44100, 7600, 0.7212647, 1e-6", "44100, 7800, 0.0560752, 1e-6",
            "96000, 7600, 0.7217532, 1e-6"})
    void theTransitionIsThatOfSoxr(int rate, int hertz, double left, double within) {
        float[] tone = new float[rate];
        for (int i = 0; i < rate; i++) tone[i] = (float) Math.cos(2 * Math.PI * hertz * i / rate);
        float[] converted = Resampler.resample(tone, rate, RATE);
        double re = 0;
        double im = 0;
        for (int i = 4000; i < 12000; i++) { // half a second in the middle: whole periods
            re += converted[i] * Math.cos(2 * Math.PI * hertz * i / RATE) / 4000;
            im += converted[i] * Math.sin(2 * Math.PI * hertz * i / RATE) / 4000;
        }
        assertThat(re).isCloseTo(left, within(within));
        assertThat(im).isCloseTo(0, within(1e-5));
    }

    /** Where versions of FFmpeg decode AAC differently, by one step of 16 bits in a few samples. */
    @Test
    void theTrackOfAVideoIsThatOfTheFfmpegCommand() throws IOException {
        float[] track = AudioReader.readTrack(Reference.MEDIA.resolve("clip.mp4"), "clip.mp4", RATE);
        float[] expected = pcm("clip_16k.wav");
        assertThat(track).hasSameSizeAs(expected);
        int different = 0;
        for (int i = 0; i < track.length; i++) {
            assertThat(track[i]).isCloseTo(expected[i], within(1.001f * 0x1p-15f));
            if (track[i] != expected[i])
                different++;
        }
        assertThat(different).isLessThan(track.length / 1000);
    }

    /** Two channels, one, two of another rate, one again. */
    @Test
    void theFormatOfATrackMayChange() {
        float[] track = AudioReader.readTrack(Reference.resource("audio/changing.aac"), "changing.aac", RATE);
        assertThat(worstDifference(track, "changing.aac")).isLessThan(1.001f * 0x1p-15f);
    }

    /** As librosa: what is no sound is passed over. */
    @Test
    void tagsAndCutsAtTheEndSpoilNothing(@TempDir Path dir) throws IOException {
        byte[] tag = Arrays.copyOf("TAG".getBytes(StandardCharsets.US_ASCII), 128);
        for (String name : List.of("speech.flac", "speech.mp3")) {
            byte[] file = Files.readAllBytes(Reference.MEDIA.resolve(name));
            Path tagged = dir.resolve(name);
            Files.write(tagged, file);
            Files.write(tagged, new byte[2000], StandardOpenOption.APPEND);
            Files.write(tagged, tag, StandardOpenOption.APPEND);
            assertThat(AudioReader.read(tagged, name, RATE))
                    .containsExactly(AudioReader.read(Reference.MEDIA.resolve(name), name, RATE));
        }
        byte[] wav = Files.readAllBytes(Reference.MEDIA.resolve("speech_16k.wav"));
        Path cut = Files.write(dir.resolve("cut.wav"), Arrays.copyOf(wav, 44 + 2 * 1000 + 1));
        assertThat(AudioReader.read(cut, "cut.wav", RATE)).containsExactly(Arrays.copyOf(pcm("speech_16k.wav"), 1000));
    }

    @Test
    void refusesImpossibleRates() {
        for (int rate : new int[]{-1, 0, 999, 2_000_000}) {
            assertThatThrownBy(() -> Resampler.resample(new float[10], rate, RATE))
                    .isInstanceOf(ProcessorException.class)
                    .hasMessageContaining(rate + " Hz");
        }
    }

    @Test
    void saysWhatIsWrongWithAFile() {
        assertThatThrownBy(() -> AudioReader.read(Reference.MEDIA.resolve("scene.png"), "scene.png", RATE))
                .isInstanceOf(ProcessorException.class)
                .hasMessage("scene.png: is no sound or video of a known format");
        assertThatThrownBy(() -> AudioReader.read(Reference.resource("audio/changing.aac"), "changing.aac", RATE))
                .isInstanceOf(ProcessorException.class).hasMessageContaining("its sampling rate changes midway");
        assertThatThrownBy(() -> AudioReader.read(Reference.resource("video/clip.webm"), "clip.webm", RATE))
                .isInstanceOf(ProcessorException.class).hasMessageContaining("no audio track");
    }

    private static float worstDifference(float[] samples, String name) {
        JsonNode expected = EXPECTED.get(name);
        assertThat(samples).hasSize(expected.get("length").intValue());
        var values = ByteBuffer.wrap(Base64.getDecoder().decode(expected.get("samples").asText()))
                .order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        float worst = 0;
        for (int i = expected.get("at").intValue(); values.hasRemaining(); i++) {
            worst = Math.max(worst, Math.abs(samples[i] - values.get()));
        }
        return worst;
    }

    private static float[] pcm(String name) throws IOException {
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(Reference.MEDIA.resolve(name)))
                .order(ByteOrder.LITTLE_ENDIAN);
        int at = 12;
        while (file.getInt(at) != 0x61746164)
            at += 8 + file.getInt(at + 4); // "data"
        float[] samples = new float[Math.min(file.getInt(at + 4), file.capacity() - at - 8) / 2];
        for (int i = 0; i < samples.length; i++) samples[i] = file.getShort(at + 8 + 2 * i) / 32768f;
        return samples;
    }
}
