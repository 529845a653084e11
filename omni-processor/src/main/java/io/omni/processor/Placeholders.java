package io.omni.processor;

import java.util.Iterator;
import java.util.List;

/**
 * Repeats each medium's placeholder in a prompt to the length its encoder gives, and merges a video's tokens with those of
 * its sound; {@code Qwen3OmniMoeProcessor.replace_multimodal_special_tokens}.
 */
final class Placeholders {
    private final String image;
    private final String audio;
    private final String video;
    private final String visionBegin;
    private final String visionEnd;
    private final String audioBegin;
    private final String audioEnd;
    private final ProcessorFiles files;

    Placeholders(ProcessorFiles files) {
        this.files = files;
        image = files.specialToken("image_token");
        audio = files.specialToken("audio_token");
        video = files.specialToken("video_token");
        visionBegin = files.specialToken("vision_bos_token");
        visionEnd = files.specialToken("vision_eos_token");
        audioBegin = files.specialToken("audio_bos_token");
        audioEnd = files.specialToken("audio_eos_token");
    }

    /** @throws ProcessorException if the prompt does not hold one placeholder to a medium */
    String expand(String prompt, List<AudioFeatures> audios, List<VisualFeatures> images, List<VisualFeatures> videos,
            boolean useAudioInVideo, double positionsPerSecond) {
        checkCount("image", image, prompt, images.size());
        checkCount("video", video, prompt, videos.size());
        checkCount("audio", audio, prompt, audios.size() - (useAudioInVideo ? videos.size() : 0));
        Iterator<AudioFeatures> nextAudio = audios.iterator();
        Iterator<VisualFeatures> nextImage = images.iterator();
        Iterator<VisualFeatures> nextVideo = videos.iterator();
        StringBuilder out = new StringBuilder();
        for (int at = 0; at < prompt.length();) {
            if (prompt.startsWith(audio, at)) {
                out.repeat(audio, files.audio().tokens(nextAudio.next().frames()));
                at += audio.length();
            } else if (prompt.startsWith(image, at)) {
                out.repeat(image, tokens(nextImage.next(), files.image()));
                at += image.length();
            } else if (prompt.startsWith(video, at)) {
                at += video.length();
                if (!useAudioInVideo) {
                    out.repeat(video, tokens(nextVideo.next(), files.video()));
                } else {
                    boolean begun = prompt.startsWith(visionBegin, at - video.length() - visionBegin.length());
                    if (!begun || !prompt.startsWith(visionEnd, at)) {
                        throw new ProcessorException(
                                "chat template: expected " + visionBegin + " and " + visionEnd + " around " + video);
                    }
                    out.append(audioBegin);
                    merge(nextVideo.next(), nextAudio.next(), positionsPerSecond, out);
                    out.append(audioEnd);
                }
            } else {
                out.append(prompt.charAt(at++));
            }
        }
        return out.toString();
    }

    /** Tokens in the order of their times; of a frame and a sound at one time the frame goes first. */
    private void merge(VisualFeatures frames, AudioFeatures sound, double positionsPerSecond, StringBuilder out) {
        int audioTokens = files.audio().tokens(sound.frames());
        int perStep = tokens(frames, files.video()) / frames.gridT();
        int heard = 0;
        for (int t = 0; t < frames.gridT(); t++) {
            double time = t * frames.secondsPerGrid() * positionsPerSecond;
            while (heard < audioTokens && time > heard) {
                out.append(audio);
                heard++;
            }
            out.repeat(video, perStep);
        }
        out.repeat(audio, audioTokens - heard);
    }

    private static int tokens(VisualFeatures features, VisionConfig config) {
        return features.patches() / (config.mergeSize() * config.mergeSize());
    }

    private static void checkCount(String kind, String token, String prompt, int expected) {
        int found = 0;
        for (int at = prompt.indexOf(token); at >= 0; at = prompt.indexOf(token, at + token.length())) found++;
        if (found != expected) {
            throw new ProcessorException(
                    "prompt: found " + found + " times " + token + ", expected " + expected + ", one for each " + kind);
        }
    }
}
