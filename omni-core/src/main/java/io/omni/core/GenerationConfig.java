package io.omni.core;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/**
 * A checkpoint's defaults for generation: {@code generation_config.json} over upstream's. Names without a prefix are the
 * Thinker's, {@code thinker_} ones stand above them, {@code talker_} ones are the Talker's.
 */
public record GenerationConfig(GenerationArguments thinker, GenerationArguments talker) {
    /** Upstream's defaults. */
    static GenerationConfig defaults(OmniConfig config) {
        return new GenerationConfig(GenerationArguments.thinker(config), GenerationArguments.talker(config));
    }

    /**
     * Reads a checkpoint's file, if it has one. Names that Omni does not know are left alone, as they may be of no meaning
     * here.
     *
     * @throws CheckpointException
     *             if the file is malformed
     */
    static GenerationConfig read(Path directory, OmniConfig config) {
        GenerationConfig result = defaults(config);
        Path file = directory.resolve("generation_config.json");
        if (!Files.exists(file))
            return result;
        Fields fields = Fields.read(file);
        for (String prefix : new String[]{"", "thinker_", "talker_"})
            for (String name : GenerationArguments.names())
                if (fields.has(prefix + name)) {
                    String stage = prefix.isEmpty() ? "thinker_" : prefix;
                    try {
                        result = result.with(stage + name, fields.node().get(prefix + name));
                    } catch (IllegalArgumentException e) {
                        throw new CheckpointException(file + ": " + prefix + e.getMessage(), e);
                    }
                }
        return result;
    }

    /**
     * These defaults with one argument of another value.
     *
     * @param name
     *            upstream's, with its prefix: {@code thinker_temperature}, {@code talker_top_k}
     * @throws IllegalArgumentException
     *             if the name is unknown or the value does not fit
     */
    public GenerationConfig with(String name, Object value) {
        if (name.startsWith("thinker_"))
            return new GenerationConfig(thinker.with(name.substring("thinker_".length()), value), talker);
        if (name.startsWith("talker_"))
            return new GenerationConfig(thinker, talker.with(name.substring("talker_".length()), value));
        throw new IllegalArgumentException(
                "unknown generation argument '" + name + "', expected thinker_… or talker_…");
    }

    /** These defaults with several arguments of other values. */
    GenerationConfig with(Map<String, Object> arguments) {
        GenerationConfig result = this;
        for (Map.Entry<String, Object> argument : arguments.entrySet())
            result = result.with(argument.getKey(), argument.getValue());
        return result;
    }
}
