package io.omni.processor;

import static org.bytedeco.ffmpeg.global.avutil.*;
import static org.bytedeco.ffmpeg.global.swscale.*;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.ffmpeg.avutil.AVFrame;
import org.bytedeco.ffmpeg.avutil.AVRational;
import org.bytedeco.ffmpeg.swscale.SwsContext;
import org.bytedeco.javacpp.BytePointer;

/** Samples frames of a video; each is resized as soon as it is decoded, so that only small ones are kept. */
final class VideoReader {
    private VideoReader() {}

    /**
     * @param file the video
     * @param name what to call it in messages
     * @param fps frames to take per second
     */
    static VisualFeatures read(Path file, String name, VisionConfig config, double fps) {
        int total;
        double rate;
        try (MediaFile media = new MediaFile(file, name, AVMEDIA_TYPE_VIDEO)) {
            rate = frameRate(media, name);
            total = media.countFrames();
        }
        if (total == 0)
            throw new ProcessorException(name + ": holds no video frames");
        List<RgbImage> frames = new ArrayList<>();
        int decoded = decode(file, name, config, sample(total, rate, fps, config), frames);
        if (decoded < total && frames.size() < sample(total, rate, fps, config).length) {
            // The container promised frames that the decoder did not give.
            if (decoded == 0)
                throw new ProcessorException(name + ": holds no video frames");
            frames.clear();
            decode(file, name, config, sample(decoded, rate, fps, config), frames);
        }
        return Patches.cut(frames, config, config.temporalPatchSize() / fps);
    }

    private static double frameRate(MediaFile media, String name) {
        AVRational average = media.stream().avg_frame_rate();
        AVRational rate = average.num() > 0 && average.den() > 0 ? average : media.stream().r_frame_rate();
        if (rate.num() <= 0 || rate.den() <= 0)
            throw new ProcessorException(name + ": has no frame rate");
        return (double) rate.num() / rate.den();
    }

    /**
     * The frames to take, evenly spaced: {@code Qwen2VLVideoProcessor.sample_frames}. Where upstream divides by zero, for
     * a video of fewer frames than one patch, all frames are taken.
     *
     * @param total frames of the video
     * @param rate frames per second of the video
     * @param fps frames to take per second
     */
    static int[] sample(int total, double rate, double fps, VisionConfig config) {
        int t = config.temporalPatchSize();
        double most = Math.floor((double) Math.min(config.maxFrames(), total) / t) * t;
        double wanted = Math.min(Math.min(Math.max(total / rate * fps, config.minFrames()), most), total);
        int count = (int) Math.floor(wanted / t) * t;
        if (count == 0)
            return java.util.stream.IntStream.range(0, total).toArray();
        double step = (double) total / count;
        int[] indexes = new int[(int) Math.ceil(total / step)]; // one more than count where division rounds up
        int n = 0;
        for (int i = 0; i < indexes.length; i++) {
            int index = (int) (float) (step * i);
            if (index < total)
                indexes[n++] = index;
        }
        return java.util.Arrays.copyOf(indexes, n);
    }

    /** Adds the frames of the indexes, which ascend, and returns how many frames were decoded on the way. */
    private static int decode(Path file, String name, VisionConfig config, int[] indexes, List<RgbImage> frames) {
        int[] seen = {0};
        try (MediaFile media = new MediaFile(file, name, AVMEDIA_TYPE_VIDEO); Converter converter = new Converter()) {
            int[] target = new int[2];
            media.decode(frame -> {
                int index = seen[0]++;
                if (frames.size() < indexes.length && index == indexes[frames.size()]) {
                    RgbImage image = converter.rgb(frame, media);
                    if (frames.isEmpty()) {
                        int[] size = ImageResize.targetSize(
                                image.height(), image.width(), config.factor(), config.minPixels(), config.maxPixels(),
                                name);
                        System.arraycopy(size, 0, target, 0, 2);
                    }
                    RgbImage resized = ImageResize.resize(image, target[1], target[0]);
                    while (frames.size() < indexes.length && index == indexes[frames.size()])
                        frames.add(resized);
                }
                return frames.size() < indexes.length;
            });
        }
        return seen[0];
    }

    /** libswscale to RGB with the flags that PyAV's to_ndarray uses. */
    private static final class Converter implements AutoCloseable {
        private final SwsContext context = sws_alloc_context();
        private final AVFrame target = av_frame_alloc();

        RgbImage rgb(AVFrame frame, MediaFile media) {
            int width = frame.width();
            int height = frame.height();
            frame.color_trc(AVCOL_TRC_UNSPECIFIED); // tags of transfer and primaries convert nothing
            frame.color_primaries(AVCOL_PRI_UNSPECIFIED);
            av_frame_unref(target);
            target.format(AV_PIX_FMT_RGB24).width(width).height(height);
            target.colorspace(frame.colorspace());
            target.color_range(frame.color_range());
            target.flags(frame.flags() & AVFrame.AV_FRAME_FLAG_INTERLACED); // libswscale refuses frames that differ in it
            target.color_trc(AVCOL_TRC_UNSPECIFIED);
            target.color_primaries(AVCOL_PRI_UNSPECIFIED);
            media.check(av_frame_get_buffer(target, 0), "has frames too large");
            context.flags(SWS_BILINEAR).threads(0);
            media.check(sws_scale_frame(context, target, frame), "has frames that cannot be converted to RGB");
            byte[] data = new byte[3 * width * height];
            BytePointer rows = target.data(0);
            for (int y = 0; y < height; y++) {
                rows.position((long) y * target.linesize(0)).get(data, 3 * y * width, 3 * width);
            }
            return new RgbImage(data, width, height);
        }

        @Override
        public void close() {
            sws_free_context(context);
            av_frame_free(target);
        }
    }
}
