package io.omni.processor;

import static org.bytedeco.ffmpeg.global.avcodec.*;
import static org.bytedeco.ffmpeg.global.avformat.*;
import static org.bytedeco.ffmpeg.global.avutil.*;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.bytedeco.ffmpeg.avcodec.AVCodec;
import org.bytedeco.ffmpeg.avcodec.AVCodecContext;
import org.bytedeco.ffmpeg.avcodec.AVPacket;
import org.bytedeco.ffmpeg.avformat.AVFormatContext;
import org.bytedeco.ffmpeg.avformat.AVStream;
import org.bytedeco.ffmpeg.avutil.AVDictionary;
import org.bytedeco.ffmpeg.avutil.AVFrame;

/** One stream of a sound or video file, read by FFmpeg from front to back. */
final class MediaFile implements AutoCloseable {
    /** Sees each frame while it is valid, and says whether it wants more. */
    interface FrameSink {
        boolean accept(AVFrame frame);
    }

    // Containers of sound and video, and WebP. Playlists are left out: they may name other files.
    private static final String FORMATS = "wav,w64,flac,mp3,aac,ac3,eac3,ogg,aiff,caf,au,amr,asf,avi,flv,gif,"
            + "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,ivf,wv,ape,tta,opus,webp_pipe";

    private final Path path;
    private final String name;
    private AVFormatContext format;
    private AVCodecContext codec;
    private AVPacket packet;
    private AVFrame frame;
    private AVStream stream;

    /**
     * @param name what to call the file in messages
     * @param type AVMEDIA_TYPE_AUDIO or AVMEDIA_TYPE_VIDEO
     */
    MediaFile(Path path, String name, int type) {
        this.path = path;
        this.name = name;
        try {
            av_log_set_level(AV_LOG_QUIET); // for the whole process
            open(type);
        } catch (RuntimeException e) {
            close();
            throw e;
        } catch (LinkageError e) {
            throw new ProcessorException("FFmpeg's native library does not load, which org.bytedeco:ffmpeg has for each"
                    + " platform in a jar of its own: " + e.getMessage(), e);
        }
    }

    private void open(int type) {
        format = new AVFormatContext(null);
        AVDictionary options = new AVDictionary(null);
        try {
            av_dict_set(options, "format_whitelist", FORMATS, 0);
            av_dict_set(options, "protocol_whitelist", "file", 0);
            int result = avformat_open_input(format, "file:" + path.toAbsolutePath(), null, options);
            if (result == AVERROR_EINVAL()) // a format that is not among FORMATS
                throw new ProcessorException(name + ": is no sound or video of a known format");
            check(result, "cannot be opened");
        } finally {
            av_dict_free(options);
        }
        check(avformat_find_stream_info(format, (AVDictionary) null), "cannot be read");
        String kind = type == AVMEDIA_TYPE_AUDIO ? "audio" : "video";
        int index = av_find_best_stream(format, type, -1, -1, (AVCodec) null, 0);
        if (index < 0)
            throw new ProcessorException(name + ": has no " + kind + " track");
        stream = format.streams(index);
        AVCodec decoder = avcodec_find_decoder(stream.codecpar().codec_id());
        if (decoder == null || decoder.isNull()) {
            String codecName = avcodec_get_name(stream.codecpar().codec_id()).getString();
            throw new ProcessorException(name + ": no decoder for its " + kind + " (" + codecName + ")");
        }
        codec = avcodec_alloc_context3(decoder);
        check(avcodec_parameters_to_context(codec, stream.codecpar()), "cannot be decoded");
        codec.pkt_timebase(stream.time_base());
        if (type == AVMEDIA_TYPE_VIDEO)
            codec.thread_count(0);
        check(avcodec_open2(codec, decoder, (AVDictionary) null), "cannot be decoded");
        packet = av_packet_alloc();
        frame = av_frame_alloc();
    }

    AVStream stream() {
        return stream;
    }

    /** Frames that decoding should give, as the container has them; reads the file to its end. */
    int countFrames() {
        int count = 0;
        while (readPacket()) {
            if ((packet.flags() & AV_PKT_FLAG_DISCARD) == 0)
                count++;
            av_packet_unref(packet);
        }
        return count;
    }

    /** Decodes until the sink has enough or the stream ends. */
    void decode(FrameSink sink) {
        while (readPacket()) {
            int result = avcodec_send_packet(codec, packet);
            av_packet_unref(packet);
            if (isSkipped(result))
                continue;
            check(result, "is corrupt");
            if (!drain(sink))
                return;
        }
        avcodec_send_packet(codec, null);
        drain(sink);
    }

    /** The next packet of the stream, to be unreferenced by the caller; false at the end. */
    private boolean readPacket() {
        while (true) {
            int result = av_read_frame(format, packet);
            if (result == AVERROR_EOF)
                return false;
            check(result, "is corrupt");
            if (packet.stream_index() == stream.index())
                return true;
            av_packet_unref(packet);
        }
    }

    private boolean drain(FrameSink sink) {
        while (true) {
            int result = avcodec_receive_frame(codec, frame);
            if (result == AVERROR_EAGAIN() || result == AVERROR_EOF)
                return true;
            if (isSkipped(result))
                continue;
            check(result, "is corrupt");
            boolean more = sink.accept(frame);
            av_frame_unref(frame);
            if (!more)
                return false;
        }
    }

    /** Upstream's readers of sound pass over what is no sound: tags in odd places, cut samples, damaged frames. */
    private boolean isSkipped(int result) {
        return result == AVERROR_INVALIDDATA() && codec.codec_type() == AVMEDIA_TYPE_AUDIO;
    }

    void check(int result, String what) {
        if (result >= 0)
            return;
        byte[] text = new byte[256];
        av_strerror(result, text, text.length);
        int end = 0;
        while (end < text.length && text[end] != 0)
            end++;
        throw new ProcessorException(name + ": " + what + ": " + new String(text, 0, end, StandardCharsets.UTF_8));
    }

    @Override
    public void close() {
        if (frame != null)
            av_frame_free(frame);
        if (packet != null)
            av_packet_free(packet);
        if (codec != null)
            avcodec_free_context(codec);
        if (format != null && !format.isNull())
            avformat_close_input(format);
        frame = null;
        packet = null;
        codec = null;
        format = null;
    }
}
