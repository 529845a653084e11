package io.omni.processor;

import static org.bytedeco.ffmpeg.global.avutil.*;
import static org.bytedeco.ffmpeg.global.swresample.*;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Arrays;
import org.bytedeco.ffmpeg.avutil.AVFrame;
import org.bytedeco.ffmpeg.swresample.SwrContext;
import org.bytedeco.javacpp.BytePointer;

/** Sound files to mono samples at the model's rate. */
final class AudioReader {
    private AudioReader() {}

    /** Samples that grow. */
    private static final class Samples {
        private static final int MOST = Integer.MAX_VALUE - 8; // of an array's elements

        final String name;
        float[] values = new float[1 << 16];
        int size;
        int rate;

        Samples(String name) {
            this.name = name;
        }

        float[] room(int more) {
            long needed = (long) size + more;
            if (needed > MOST)
                throw new ProcessorException(name + ": found more than " + MOST + " samples");
            if (needed > values.length)
                values = Arrays.copyOf(values, (int) Math.clamp(2L * values.length, needed, MOST));
            return values;
        }

        float[] toArray() {
            return Arrays.copyOf(values, size);
        }
    }

    /**
     * A sound file as {@code librosa.load} gives it: integer samples over their full scale, channels averaged, the rate
     * converted by {@link Resampler}.
     */
    static float[] read(Path file, String name, int rate) {
        Samples samples = new Samples(name);
        try (MediaFile media = new MediaFile(file, name, AVMEDIA_TYPE_AUDIO)) {
            media.decode(frame -> {
                if (samples.rate != 0 && samples.rate != frame.sample_rate()) {
                    throw new ProcessorException(name + ": its sampling rate changes midway");
                }
                samples.rate = frame.sample_rate();
                appendMean(frame, samples, name);
                return true;
            });
        }
        if (samples.size == 0)
            throw new ProcessorException(name + ": holds no audio samples");
        return Resampler.resample(samples.toArray(), samples.rate, rate);
    }

    private static void appendMean(AVFrame frame, Samples samples, String name) {
        int channels = frame.ch_layout().nb_channels();
        int n = frame.nb_samples();
        int type = frame.format();
        int width = av_get_bytes_per_sample(type);
        boolean planar = av_sample_fmt_is_planar(type) == 1;
        float[] out = samples.room(n);
        Arrays.fill(out, samples.size, samples.size + n, 0);
        for (int c = 0; c < channels; c++) {
            ByteBuffer data = planar ? bytes(frame, c, n * width) : bytes(frame, 0, n * width * channels);
            int stride = planar ? width : width * channels;
            int at = planar ? 0 : c * width;
            for (int i = 0; i < n; i++, at += stride) {
                out[samples.size + i] += switch (av_get_packed_sample_fmt(type)) {
                    case AV_SAMPLE_FMT_U8 -> ((data.get(at) & 0xff) - 128) * 0x1p-7f;
                    case AV_SAMPLE_FMT_S16 -> data.getShort(at) * 0x1p-15f;
                    case AV_SAMPLE_FMT_S32 -> (float) (data.getInt(at) * 0x1p-31);
                    case AV_SAMPLE_FMT_FLT -> data.getFloat(at);
                    case AV_SAMPLE_FMT_DBL -> (float) data.getDouble(at);
                    case AV_SAMPLE_FMT_S64 -> (float) (data.getLong(at) * 0x1p-63);
                    default -> throw new ProcessorException(name + ": unknown sample format " + type);
                };
            }
        }
        if (channels > 1)
            for (int i = 0; i < n; i++) out[samples.size + i] /= channels;
        samples.size += n;
    }

    private static ByteBuffer bytes(AVFrame frame, int plane, int size) {
        BytePointer data = plane < AVFrame.AV_NUM_DATA_POINTERS
                ? frame.data(plane)
                : new BytePointer(frame.extended_data().get(plane));
        return data.capacity(size).asByteBuffer().order(ByteOrder.nativeOrder());
    }

    /**
     * The sound of a video as {@code ffmpeg -ac 1 -ar RATE -c:a pcm_s16le} gives it, over 32768: libswresample mixes,
     * converts the rate and rounds to 16 bits.
     */
    static float[] readTrack(Path file, String name, int rate) {
        Samples samples = new Samples(name);
        try (MediaFile media = new MediaFile(file, name, AVMEDIA_TYPE_AUDIO);
                Converter converter = new Converter(rate)) {
            media.decode(frame -> {
                converter.convert(frame, samples, media);
                return true;
            });
            converter.flush(samples, media);
        }
        if (samples.size == 0)
            throw new ProcessorException(name + ": its audio track holds no samples");
        return samples.toArray();
    }

    /** libswresample to 16-bit mono. */
    private static final class Converter implements AutoCloseable {
        private final int rate;
        private final SwrContext context = swr_alloc();
        private final AVFrame target = av_frame_alloc();

        Converter(int rate) {
            this.rate = rate;
        }

        void convert(AVFrame frame, Samples samples, MediaFile media) {
            int result = convert(frame);
            if (result == AVERROR_INPUT_CHANGED) { // other channels, format or rate: starts anew, as the command does
                swr_close(context);
                result = convert(frame);
            }
            media.check(result, "cannot be resampled");
            int n = target.nb_samples();
            float[] values = samples.room(n);
            ByteBuffer data = bytes(target, 0, 2 * n);
            for (int i = 0; i < n; i++) values[samples.size + i] = data.getShort(2 * i) * 0x1p-15f;
            samples.size += n;
        }

        private int convert(AVFrame frame) {
            av_frame_unref(target);
            target.format(AV_SAMPLE_FMT_S16).sample_rate(rate);
            av_channel_layout_default(target.ch_layout(), 1);
            return swr_convert_frame(context, target, frame);
        }

        /** Appends what the last frames left. */
        void flush(Samples samples, MediaFile media) {
            if (swr_is_initialized(context) != 0)
                convert(null, samples, media);
        }

        @Override
        public void close() {
            swr_free(context);
            av_frame_free(target);
        }
    }
}
