package io.omni.processor;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * How to turn conversations into model inputs. Defaults are those of upstream's {@code Qwen3OmniMoeProcessor}; null
 * stands for what the checkpoint says.
 *
 * @param fps frames to take per second of video
 * @param useAudioInVideo whether a video's own sound is heard, its tokens merged with the frames'
 * @param imageMinPixels images with fewer pixels are enlarged; null for the checkpoint's
 * @param imageMaxPixels images with more pixels are shrunk; null for the checkpoint's
 * @param videoMinPixels frames with fewer pixels are enlarged; null for 128 · 32 · 32
 * @param videoMaxPixels frames with more pixels are shrunk; null for 768 · 32 · 32
 * @param minFrames frames to take at least, where the video has them; null for the checkpoint's
 * @param maxFrames frames to take at most; null for the checkpoint's
 * @param addGenerationPrompt whether the prompt ends with the beginning of the assistant's turn
 * @param tools JSON schemas of the functions the assistant may call, as JSON values
 * @param enableThinking a reasoning model's switch; null leaves it to the template
 * @param addVisionId whether images and videos are numbered in the prompt
 * @param addAudioId whether sounds are numbered in the prompt
 * @param templateVariables further variables for the chat template
 * @param positionIdPerSeconds position ids to a second of audio or video
 * @param secondsPerChunk kept for callers that chunk; upstream's processor reads it and does not use it
 * @param maxDownloadBytes the largest media file fetched over http, at least 1
 * @param downloadTimeout for connecting and, again, for the whole transfer; positive
 */
public record ProcessorOptions(double fps, boolean useAudioInVideo, Integer imageMinPixels, Integer imageMaxPixels,
        Integer videoMinPixels, Integer videoMaxPixels, Integer minFrames, Integer maxFrames,
        boolean addGenerationPrompt,
        List<Map<String, Object>> tools, Boolean enableThinking, boolean addVisionId, boolean addAudioId,
        Map<String, Object> templateVariables, double positionIdPerSeconds, double secondsPerChunk,
        long maxDownloadBytes,
        Duration downloadTimeout) {

    /** @throws ProcessorException for a number that makes no sense */
    public ProcessorOptions {
        tools = List.copyOf(tools);
        templateVariables = Message.copy(templateVariables);
        if (!(fps > 0) || Double.isInfinite(fps))
            throw bad("fps", fps, "a positive number");
        if (!(positionIdPerSeconds > 0))
            throw bad("positionIdPerSeconds", positionIdPerSeconds, "a positive number");
        for (Integer n : new Integer[]{imageMinPixels, imageMaxPixels, videoMinPixels, videoMaxPixels, minFrames,
                maxFrames}) {
            if (n != null && n <= 0)
                throw bad("pixel and frame limits", n, "positive numbers");
        }
        if (maxDownloadBytes < 1)
            throw bad("maxDownloadBytes", maxDownloadBytes, "a positive number");
        if (downloadTimeout == null || !downloadTimeout.isPositive())
            throw bad("downloadTimeout", downloadTimeout, "a positive duration");
    }

    private static ProcessorException bad(String field, Object found, String expected) {
        return new ProcessorException(field + ": found " + found + ", expected " + expected);
    }

    /** Upstream's defaults and the checkpoint's limits; the same as {@code builder().build()}. */
    public static ProcessorOptions defaults() {
        return builder().build();
    }

    /** A builder that holds the defaults. */
    public static Builder builder() {
        return new Builder();
    }

    /** Collects what differs from the defaults. */
    public static final class Builder {
        private double fps = 1;
        private boolean useAudioInVideo;
        private Integer imageMinPixels;
        private Integer imageMaxPixels;
        private Integer videoMinPixels;
        private Integer videoMaxPixels;
        private Integer minFrames;
        private Integer maxFrames;
        private boolean addGenerationPrompt = true;
        private List<Map<String, Object>> tools = List.of();
        private Boolean enableThinking;
        private boolean addVisionId;
        private boolean addAudioId;
        private final Map<String, Object> templateVariables = new LinkedHashMap<>();
        private double positionIdPerSeconds = 13;
        private double secondsPerChunk = 2;
        private long maxDownloadBytes = 512L << 20;
        private Duration downloadTimeout = Duration.ofSeconds(60);

        private Builder() {}

        /**
         * Frames to take per second of video, above 0 and finite; upstream's {@code fps}, by default 1. How many are
         * taken in all stays within {@link #frames}.
         */
        public Builder fps(double fps) {
            this.fps = fps;
            return this;
        }

        /**
         * Whether a video's own sound is heard, its tokens merged with the frames'; upstream's
         * {@code use_audio_in_video}, by default false. A video must then have sound.
         */
        public Builder useAudioInVideo(boolean use) {
            this.useAudioInVideo = use;
            return this;
        }

        /**
         * Images are resized to between {@code min} and {@code max} pixels (width · height); upstream's
         * {@code min_pixels} and {@code max_pixels} of images. Each is at least 1, or null, the default, for the checkpoint's.
         */
        public Builder imagePixels(Integer min, Integer max) {
            this.imageMinPixels = min;
            this.imageMaxPixels = max;
            return this;
        }

        /**
         * Frames are resized to between {@code min} and {@code max} pixels (width · height) each; upstream's
         * {@code min_pixels} and {@code max_pixels} of videos. Each is at least 1, or null, the default, for 128 · 32 · 32 and
         * 768 · 32 · 32.
         */
        public Builder videoPixels(Integer min, Integer max) {
            this.videoMinPixels = min;
            this.videoMaxPixels = max;
            return this;
        }

        /**
         * How many frames to take of a video at least, where it has them, and at most; upstream's {@code min_frames}
         * and {@code max_frames}. Each is at least 1, or null, the default, for the checkpoint's. The number taken is
         * rounded down to whole temporal patches.
         */
        public Builder frames(Integer min, Integer max) {
            this.minFrames = min;
            this.maxFrames = max;
            return this;
        }

        /**
         * Whether the prompt ends with the beginning of the assistant's turn; upstream's {@code add_generation_prompt},
         * here by default true.
         */
        public Builder addGenerationPrompt(boolean add) {
            this.addGenerationPrompt = add;
            return this;
        }

        /**
         * The functions that the assistant may call, each a JSON schema as JSON values (String, Boolean, Number, List,
         * Map or null); the template's {@code tools}, by default none.
         */
        public Builder tools(List<Map<String, Object>> tools) {
            this.tools = tools;
            return this;
        }

        /**
         * Whether a reasoning model thinks first; the template's {@code enable_thinking}. Null, the default, leaves it
         * unset.
         */
        public Builder enableThinking(Boolean enable) {
            this.enableThinking = enable;
            return this;
        }

        /** Whether the prompt numbers images and videos; the template's {@code add_vision_id}, by default false. */
        public Builder addVisionId(boolean add) {
            this.addVisionId = add;
            return this;
        }

        /** Whether the prompt numbers sounds; the template's {@code add_audio_id}, by default false. */
        public Builder addAudioId(boolean add) {
            this.addAudioId = add;
            return this;
        }

        /**
         * Sets a further variable of the chat template to a JSON value, null included; it wins over the variables that
         * the other options set. By default there are none.
         */
        public Builder templateVariable(String name, Object value) {
            this.templateVariables.put(name, value);
            return this;
        }

        /**
         * Position ids to a second, by which a video's frames and its sound are put in order, above 0; upstream's
         * {@code position_id_per_seconds}, by default 13.
         */
        public Builder positionIdPerSeconds(double positions) {
            this.positionIdPerSeconds = positions;
            return this;
        }

        /**
         * Seconds to a chunk, for callers that chunk; upstream's {@code seconds_per_chunk}, by default 2. Nothing here
         * uses it.
         */
        public Builder secondsPerChunk(double seconds) {
            this.secondsPerChunk = seconds;
            return this;
        }

        /**
         * The largest media file fetched over http, in bytes, at least 1; by default 512 MiB. Files, base64 and media
         * in memory are not limited.
         */
        public Builder maxDownloadBytes(long bytes) {
            this.maxDownloadBytes = bytes;
            return this;
        }

        /** How long connecting may take and, again, the whole transfer, above 0; by default 60 seconds. */
        public Builder downloadTimeout(Duration timeout) {
            this.downloadTimeout = timeout;
            return this;
        }

        /** @throws ProcessorException for a number that makes no sense */
        public ProcessorOptions build() {
            return new ProcessorOptions(fps, useAudioInVideo, imageMinPixels, imageMaxPixels, videoMinPixels,
                    videoMaxPixels,
                    minFrames, maxFrames, addGenerationPrompt, tools, enableThinking, addVisionId, addAudioId,
                    templateVariables, positionIdPerSeconds, secondsPerChunk, maxDownloadBytes,
                    downloadTimeout);
        }
    }
}
