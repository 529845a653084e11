package io.omni.core;

/** The Thinker's parts and token ids, with upstream's defaults ({@code Qwen3OmniMoeThinkerConfig}). */
public record ThinkerConfig(AudioEncoderConfig audio, VisionEncoderConfig vision, DecoderConfig text,
        MediaTokens tokens,
        boolean tieWordEmbeddings) {
    static ThinkerConfig of(Fields f) {
        return new ThinkerConfig(AudioEncoderConfig.of(f.at("audio_config")),
                VisionEncoderConfig.of(f.at("vision_config")),
                DecoderConfig.thinker(f.at("text_config")), MediaTokens.of(f), f.bool("tie_word_embeddings",
                        f.at("text_config").bool("tie_word_embeddings", false)));
    }
}
