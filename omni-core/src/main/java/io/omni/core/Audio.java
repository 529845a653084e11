package io.omni.core;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import javax.sound.sampled.AudioFileFormat;
import javax.sound.sampled.AudioFormat;
import javax.sound.sampled.AudioInputStream;
import javax.sound.sampled.AudioSystem;

/**
 * Mono sound.
 *
 * @param samples
 *            in [−1, 1]
 * @param sampleRate
 *            samples a second
 */
public record Audio(float[] samples, int sampleRate) {
    /** Length in seconds. */
    public double seconds() {
        return (double) samples.length / sampleRate;
    }

    /**
     * Writes a WAV file of 16-bit samples.
     *
     * @throws UncheckedIOException
     *             if the file cannot be written
     */
    public void write(Path file) {
        byte[] bytes = new byte[2 * samples.length];
        for (int i = 0; i < samples.length; i++) {
            int value = Math.clamp(Math.round(samples[i] * 32767.0), Short.MIN_VALUE, Short.MAX_VALUE);
            bytes[2 * i] = (byte) value;
            bytes[2 * i + 1] = (byte) (value >> 8);
        }
        AudioFormat format = new AudioFormat(sampleRate, 16, 1, true, false);
        try (AudioInputStream stream = new AudioInputStream(new ByteArrayInputStream(bytes), format, samples.length)) {
            AudioSystem.write(stream, AudioFileFormat.Type.WAVE, file.toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(file + ": cannot be written: " + e.getMessage(), e);
        }
    }
}
