package io.omni.core;

/**
 * Ids of the tokens that stand for media, and how far positions advance in a second of video.
 *
 * @param image
 *            stands for four patches of an image
 * @param video
 *            stands for four patches of a pair of frames
 * @param audio
 *            stands for one vector of the audio encoder
 * @param visionStart
 *            before the tokens of an image or video
 * @param audioStart
 *            before the tokens of a sound
 */
public record MediaTokens(int image, int video, int audio, int visionStart, int audioStart,
        double positionIdPerSeconds) {
    static MediaTokens of(Fields f) {
        return new MediaTokens(f.integer("image_token_id", 151655), f.integer("video_token_id", 151656),
                f.integer("audio_token_id", 151646), f.integer("vision_start_token_id", 151652),
                f.integer("audio_start_token_id", 151647), f.number("position_id_per_seconds", 25));
    }

    /**
     * Whether token {@code i} opens a sound, or a video merged with its sound; a user's text may hold the same token, which
     * then opens nothing.
     */
    boolean opensSound(int[] ids, int i) {
        return ids[i] == audioStart
                && (i + 1 < ids.length && ids[i + 1] == audio || i > 0 && opensMerged(ids, i - 1));
    }

    /** Whether token {@code i} opens an image or a video. */
    boolean opensVisual(int[] ids, int i) {
        return opensImage(ids, i) || opensVideo(ids, i) || opensMerged(ids, i);
    }

    boolean opensImage(int[] ids, int i) {
        return ids[i] == visionStart && i + 1 < ids.length && ids[i + 1] == image;
    }

    /** Whether token {@code i} opens a video without its sound. */
    boolean opensVideo(int[] ids, int i) {
        return ids[i] == visionStart && i + 1 < ids.length && ids[i + 1] == video;
    }

    /** Whether token {@code i} opens a video merged with its sound, of which the first frames come first. */
    boolean opensMerged(int[] ids, int i) {
        return ids[i] == visionStart && i + 2 < ids.length && ids[i + 1] == audioStart && ids[i + 2] == video;
    }

    /** Whether the encoders make this token's embedding. */
    public boolean isMedia(int token) {
        return token == image || token == video || token == audio;
    }
}
