package io.omni.core;

import io.omni.processor.ProcessorOptions;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * How to answer one conversation. Immutable: each method returns options that differ in one thing.
 *
 * @param speak
 *            whether to answer in speech too; null for whenever the model can
 * @param speaker
 *            name of the voice, in any case
 * @param seed
 *            starts what is drawn at random
 * @param arguments
 *            generation arguments by upstream's names, {@code thinker_…} and {@code talker_…}, that differ from the
 *            checkpoint's
 * @param processor
 *            how the prompt and the media are read; null for the model's own settings
 */
public record Options(Boolean speak, String speaker, long seed, Map<String, Object> arguments,
        ProcessorOptions processor) {
    /** Upstream's default voice. */
    public static final String DEFAULT_SPEAKER = "Ethan";

    /** Copies the arguments, arrays as lists. */
    public Options {
        Objects.requireNonNull(speaker, "speaker");
        Map<String, Object> copy = new LinkedHashMap<>(arguments);
        copy.replaceAll((name, value) -> frozen(value));
        arguments = Collections.unmodifiableMap(copy);
    }

    private static Object frozen(Object value) {
        return switch (value) {
            case int[] numbers -> Arrays.stream(numbers).boxed().toList();
            case Object[] values -> Arrays.stream(values).map(Options::frozen).toList();
            case Collection<?> values -> values.stream().map(Options::frozen).toList();
            case null, default -> value;
        };
    }

    /** Upstream's defaults: speech if the model can speak. */
    public static Options defaults() {
        return new Options(null, DEFAULT_SPEAKER, 0, Map.of(), null);
    }

    /** Text and no speech. */
    public static Options text() {
        return new Options(false, DEFAULT_SPEAKER, 0, Map.of(), null);
    }

    /** Text and speech in the default voice. */
    public static Options speech() {
        return speech(DEFAULT_SPEAKER);
    }

    /** Text and speech in a voice. */
    public static Options speech(String speaker) {
        return new Options(true, speaker, 0, Map.of(), null);
    }

    /** Takes the most likely token and code each time. */
    public Options greedy() {
        return argument("thinker_do_sample", false).argument("talker_do_sample", false);
    }

    /** Starts what is drawn at random from this number; by default 0. */
    public Options seed(long newSeed) {
        return new Options(speak, speaker, newSeed, arguments, processor);
    }

    /** Sets how many tokens of text are written at most; upstream's {@code thinker_max_new_tokens}. */
    public Options thinkerMaxNewTokens(int tokens) {
        return argument("thinker_max_new_tokens", tokens);
    }

    /** Sets how many frames of codes are spoken at most; upstream's {@code talker_max_new_tokens}. */
    public Options talkerMaxNewTokens(int frames) {
        return argument("talker_max_new_tokens", frames);
    }

    /** Sets a generation argument by upstream's name, such as {@code thinker_temperature}. */
    public Options argument(String name, Object value) {
        Map<String, Object> more = new LinkedHashMap<>(arguments);
        more.put(name, value);
        return new Options(speak, speaker, seed, more, processor);
    }

    /** Sets how the prompt and the media are read. */
    public Options processor(ProcessorOptions options) {
        return new Options(speak, speaker, seed, arguments, options);
    }

    /** Sets how the prompt and the media are read, from {@link ProcessorOptions}' defaults on. */
    public Options processor(Consumer<ProcessorOptions.Builder> settings) {
        ProcessorOptions.Builder builder = ProcessorOptions.builder();
        settings.accept(builder);
        return processor(builder.build());
    }
}
