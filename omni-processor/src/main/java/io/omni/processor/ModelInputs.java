package io.omni.processor;

import java.util.List;

/**
 * One conversation, ready for the Thinker, without padding.
 *
 * @param prompt the rendered chat template, one placeholder to a medium
 * @param inputIds the prompt's tokens, each placeholder repeated to its encoder's length
 * @param audios the sounds in order of appearance; with {@code useAudioInVideo} a video's sound has its video's place
 * @param images the images in order of appearance
 * @param videos the videos in order of appearance
 * @param useAudioInVideo whether the videos' sounds are merged with their frames
 */
public record ModelInputs(String prompt, int[] inputIds, List<AudioFeatures> audios, List<VisualFeatures> images,
        List<VisualFeatures> videos, boolean useAudioInVideo) {}
