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
 * @param maxDownloadBytes the largest media file fetched over http
 * @param downloadTimeout for connecting and, again, for the whole transfer
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
        if (!(fps > 0) || Double.isInfinite(fps))
            throw bad("fps", fps, "a positive number");
        if (!(positionIdPerSeconds > 0))
            throw bad("positionIdPerSeconds", positionIdPerSeconds, "a positive number");
        for (Integer n : new Integer[]{imageMinPixels, imageMaxPixels, videoMinPixels, videoMaxPixels, minFrames,
                maxFrames}) {
            if (n != null && n <= 0)
                throw bad("pixel and frame limits", n, "positive numbers");
        }
    }

    private static ProcessorException bad(String field, Number found, String expected) {
        return new ProcessorException(field + ": found " + found + ", expected " + expected);
    }

    public static ProcessorOptions defaults() {
        return builder().build();
    }

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

        public Builder fps(double fps) {
            this.fps = fps;
            return this;
        }

        public Builder useAudioInVideo(boolean use) {
            this.useAudioInVideo = use;
            return this;
        }

        public Builder imagePixels(Integer min, Integer max) {
            this.imageMinPixels = min;
            this.imageMaxPixels = max;
            return this;
        }

        public Builder videoPixels(Integer min, Integer max) {
            this.videoMinPixels = min;
            this.videoMaxPixels = max;
            return this;
        }

        public Builder frames(Integer min, Integer max) {
            this.minFrames = min;
            this.maxFrames = max;
            return this;
        }

        public Builder addGenerationPrompt(boolean add) {
            this.addGenerationPrompt = add;
            return this;
        }

        public Builder tools(List<Map<String, Object>> tools) {
            this.tools = tools;
            return this;
        }

        public Builder enableThinking(Boolean enable) {
            this.enableThinking = enable;
            return this;
        }

        public Builder addVisionId(boolean add) {
            this.addVisionId = add;
            return this;
        }

        public Builder addAudioId(boolean add) {
            this.addAudioId = add;
            return this;
        }

        public Builder templateVariable(String name, Object value) {
            this.templateVariables.put(name, value);
            return this;
        }

        public Builder positionIdPerSeconds(double positions) {
            this.positionIdPerSeconds = positions;
            return this;
        }

        public Builder secondsPerChunk(double seconds) {
            this.secondsPerChunk = seconds;
            return this;
        }

        public Builder maxDownloadBytes(long bytes) {
            this.maxDownloadBytes = bytes;
            return this;
        }

        public Builder downloadTimeout(Duration timeout) {
            this.downloadTimeout = timeout;
            return this;
        }

        /** @throws ProcessorException for a number that makes no sense */
        public ProcessorOptions build() {
            return new ProcessorOptions(fps, useAudioInVideo, imageMinPixels, imageMaxPixels, videoMinPixels,
                    videoMaxPixels,
                    minFrames, maxFrames, addGenerationPrompt, tools, enableThinking, addVisionId, addAudioId,
                    new LinkedHashMap<>(templateVariables), positionIdPerSeconds, secondsPerChunk, maxDownloadBytes,
                    downloadTimeout);
        }
    }
}
