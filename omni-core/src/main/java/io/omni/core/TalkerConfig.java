package io.omni.core;

import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * The Talker's parts and codec ids, with upstream's defaults ({@code Qwen3OmniMoeTalkerConfig}).
 *
 * @param acceptHiddenLayer
 *            which of the Thinker's hidden states it reads at media tokens; see {@link Thinker.Output#hiddenStates}
 * @param speakerId
 *            codec id of each voice, by name in lower case
 */
public record TalkerConfig(DecoderConfig text, DecoderConfig codePredictor, int numCodeGroups, int thinkerHiddenSize,
        int acceptHiddenLayer, int codecEos, int codecNothink, int codecThinkBos, int codecThinkEos, int codecPad,
        int codecBos, MediaTokens tokens, Map<String, Integer> speakerId) {
    static TalkerConfig of(Fields f) {
        Map<String, Integer> speakers = new TreeMap<>();
        f.integerMap("speaker_id").forEach((name, id) -> speakers.put(name.toLowerCase(Locale.ROOT), id));
        return new TalkerConfig(DecoderConfig.talker(f.at("text_config")),
                DecoderConfig.codePredictor(f.at("code_predictor_config")), f.integer("num_code_groups", 32),
                f.integer("thinker_hidden_size", 2048), f.integer("accept_hidden_layer", 18),
                f.integer("codec_eos_token_id", 4198), f.integer("codec_nothink_id", 4203),
                f.integer("codec_think_bos_id", 4204), f.integer("codec_think_eos_id", 4205),
                f.integer("codec_pad_id", 4196), f.integer("codec_bos_id", 4197), MediaTokens.of(f), speakers);
    }

    /** Codec ids that are never drawn: the last 1024 but the end of speech. */
    int[] suppressed() {
        int vocabulary = text.vocabSize();
        return java.util.stream.IntStream.range(Math.max(0, vocabulary - 1024), vocabulary).filter(i -> i != codecEos)
                .toArray();
    }
}
