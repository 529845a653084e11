package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class AudioReaderTest {
    private static final int RATE = 16000;

    @Test
    void sixteenBitSamplesAreOver32768() throws IOException {
        assertThat(read("speech_16k.wav")).containsExactly(pcm("speech_16k.wav"));
    }

    @Test
    void theTrackOfAVideoIsThatOfTheFfmpegCommand() throws IOException {
        Path clip = Reference.MEDIA.resolve("clip.mp4");
        float[] track = AudioReader.readTrack(clip, "clip.mp4", RATE);
        float[] expected = pcm("clip_16k.wav");
        assertThat(track).hasSameSizeAs(expected);
        int differ = 0;
        float worst = 0;
        for (int i = 0; i < track.length; i++) {
            if (track[i] != expected[i])
                differ++;
            worst = Math.max(worst, Math.abs(track[i] - expected[i]));
        }
        System.out.println("track: differ " + differ + " worst " + worst * 32768);
        assertThat(worst).isLessThanOrEqualTo(0x1p-15f);
    }

    private static float[] read(String name) {
        return AudioReader.read(Reference.MEDIA.resolve(name), name, RATE);
    }

    /** The samples of a 16-bit WAV file with a 44- or 78-byte header. */
    private static float[] pcm(String name) throws IOException {
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(Reference.MEDIA.resolve(name)))
                .order(ByteOrder.LITTLE_ENDIAN);
        int at = 12;
        while (file.getInt(at) != 0x61746164)
            at += 8 + file.getInt(at + 4); // "data"
        int size = Math.min(file.getInt(at + 4), file.capacity() - at - 8);
        float[] samples = new float[size / 2];
        for (int i = 0; i < samples.length; i++) samples[i] = file.getShort(at + 8 + 2 * i) / 32768f;
        return samples;
    }
}
