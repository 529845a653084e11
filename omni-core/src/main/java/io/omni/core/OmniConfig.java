package io.omni.core;

import java.nio.file.Path;

/**
 * {@code config.json}, in the released style ({@code rope_theta}, {@code rope_scaling}, {@code num_experts}) or the newer
 * one ({@code rope_parameters}, {@code num_local_experts}), with upstream's defaults ({@code Qwen3OmniMoeConfig}).
 */
public record OmniConfig(String modelType, ThinkerConfig thinker, TalkerConfig talker, Code2WavConfig code2Wav,
        boolean enableAudioOutput, int imStart, int imEnd, int system, int user, int assistant, int ttsPad, int ttsBos,
        int ttsEos) {
    static final String OMNI = "qwen3_omni_moe";
    static final String THINKER = "qwen3_omni_moe_thinker";

    /**
     * Reads a checkpoint's {@code config.json}: of the whole model, or of a Thinker alone.
     *
     * @throws CheckpointException
     *             if the file is missing or malformed, or of another model
     */
    public static OmniConfig read(Path directory) {
        return of(Fields.read(directory.resolve("config.json")));
    }

    /** The same from a text; errors call it {@code where}. */
    public static OmniConfig parse(String where, String json) {
        return of(Fields.parse(where, json));
    }

    private static OmniConfig of(Fields f) {
        String type = f.string("model_type", "missing");
        if (!type.equals(OMNI) && !type.equals(THINKER))
            throw new CheckpointException(
                    f.where() + ": model_type is '" + type + "', expected " + OMNI + " or " + THINKER);
        return of(type, f);
    }

    /** The sizes of the released 30B model's family, as far as upstream's defaults give them. */
    public static OmniConfig defaults() {
        return of(OMNI, Fields.NONE);
    }

    private static OmniConfig of(String type, Fields f) {
        boolean whole = type.equals(OMNI);
        return new OmniConfig(type, ThinkerConfig.of(whole ? f.at("thinker_config") : f),
                TalkerConfig.of(f.at("talker_config")), Code2WavConfig.of(f.at("code2wav_config")),
                whole && f.bool("enable_audio_output", true), f.integer("im_start_token_id", 151644),
                f.integer("im_end_token_id", 151645), f.integer("system_token_id", 8948),
                f.integer("user_token_id", 872),
                f.integer("assistant_token_id", 77091), f.integer("tts_pad_token_id", 151671),
                f.integer("tts_bos_token_id", 151672), f.integer("tts_eos_token_id", 151673));
    }
}
