package io.omni.core;

import com.fasterxml.jackson.databind.JsonNode;
import io.omni.api.Sampling;
import java.util.Collection;
import java.util.List;
import java.util.stream.IntStream;

/**
 * How one stage, the Thinker or the Talker, generates; the names are upstream's.
 *
 * @param maxNewTokens
 *            tokens, or frames, drawn at most
 * @param minNewTokens
 *            tokens, or frames, before which the sequence does not end
 * @param doSample
 *            false takes the most likely one
 * @param eosTokenIds
 *            any of these ends the sequence
 * @param suppressTokens
 *            never drawn
 */
public record GenerationArguments(int maxNewTokens, int minNewTokens, boolean doSample, float temperature, int topK,
        float topP,
        float repetitionPenalty, List<Integer> eosTokenIds, List<Integer> suppressTokens) {
    public GenerationArguments {
        if (maxNewTokens < 1)
            throw new IllegalArgumentException("max_new_tokens is " + maxNewTokens + ", expected 1 or more");
        if (minNewTokens < 0)
            throw new IllegalArgumentException("min_new_tokens is " + minNewTokens + ", expected 0 or more");
        eosTokenIds = List.copyOf(eosTokenIds);
        suppressTokens = List.copyOf(suppressTokens);
    }

    /** The Thinker's defaults: upstream's {@code generate}, which is greedy until told otherwise. */
    static GenerationArguments thinker(OmniConfig config) {
        return new GenerationArguments(1024, 0, false, 1, 50, 1, 1, List.of(config.imEnd()), List.of());
    }

    /** The Talker's defaults: upstream's {@code generate}. */
    static GenerationArguments talker(OmniConfig config) {
        TalkerConfig talker = config.talker();
        return new GenerationArguments(4096, 0, true, 0.9f, 50, 1, 1.05f, List.of(talker.codecEos()),
                java.util.Arrays.stream(talker.suppressed()).boxed().toList());
    }

    /**
     * These arguments with one of another value.
     *
     * @param name
     *            upstream's, such as {@code top_k}
     * @param value
     *            a number, a boolean, a list of integers, or a JSON value of these
     * @throws IllegalArgumentException
     *             if the name is unknown or the value does not fit
     */
    public GenerationArguments with(String name, Object value) {
        return switch (name) {
            case "max_new_tokens" -> new GenerationArguments(integer(name, value), minNewTokens, doSample, temperature,
                    topK, topP, repetitionPenalty, eosTokenIds, suppressTokens);
            case "min_new_tokens" -> new GenerationArguments(maxNewTokens, integer(name, value), doSample, temperature,
                    topK, topP, repetitionPenalty, eosTokenIds, suppressTokens);
            case "do_sample" ->
                new GenerationArguments(maxNewTokens, minNewTokens, bool(name, value), temperature, topK, topP,
                        repetitionPenalty, eosTokenIds, suppressTokens);
            case "temperature" ->
                new GenerationArguments(maxNewTokens, minNewTokens, doSample, number(name, value), topK, topP,
                        repetitionPenalty, eosTokenIds, suppressTokens);
            case "top_k" ->
                new GenerationArguments(maxNewTokens, minNewTokens, doSample, temperature, integer(name, value), topP,
                        repetitionPenalty, eosTokenIds, suppressTokens);
            case "top_p" ->
                new GenerationArguments(maxNewTokens, minNewTokens, doSample, temperature, topK, number(name, value),
                        repetitionPenalty, eosTokenIds, suppressTokens);
            case "repetition_penalty" ->
                new GenerationArguments(maxNewTokens, minNewTokens, doSample, temperature, topK, topP,
                        number(name, value), eosTokenIds, suppressTokens);
            case "eos_token_id" ->
                new GenerationArguments(maxNewTokens, minNewTokens, doSample, temperature, topK, topP,
                        repetitionPenalty, integers(name, value), suppressTokens);
            case "suppress_tokens" ->
                new GenerationArguments(maxNewTokens, minNewTokens, doSample, temperature, topK, topP,
                        repetitionPenalty, eosTokenIds, integers(name, value));
            default -> throw new IllegalArgumentException("unknown generation argument '" + name
                    + "', expected max_new_tokens, min_new_tokens, do_sample, temperature, top_k, top_p, repetition_penalty,"
                    + " eos_token_id or suppress_tokens");
        };
    }

    /**
     * How a token is drawn from a vocabulary of this size.
     *
     * @param mayEnd
     *            whether it can be one that ends the sequence
     */
    Sampling sampling(long seed, int vocabulary, boolean mayEnd) {
        IntStream ends = eosTokenIds.stream().mapToInt(Integer::intValue).filter(id -> !mayEnd && id < vocabulary);
        return new Sampling(doSample, temperature, topK, topP, repetitionPenalty,
                IntStream.concat(suppressTokens.stream().mapToInt(Integer::intValue), ends).toArray(), seed);
    }

    private static int integer(String name, Object value) {
        if (value instanceof Integer number)
            return number;
        if (value instanceof JsonNode node && node.canConvertToExactIntegral() && node.canConvertToInt())
            return node.intValue();
        throw unfit(name, value, "an integer");
    }

    private static float number(String name, Object value) {
        if (value instanceof Number number)
            return number.floatValue();
        if (value instanceof JsonNode node && node.isNumber())
            return node.floatValue();
        throw unfit(name, value, "a number");
    }

    private static boolean bool(String name, Object value) {
        if (value instanceof Boolean truth)
            return truth;
        if (value instanceof JsonNode node && node.isBoolean())
            return node.booleanValue();
        throw unfit(name, value, "true or false");
    }

    private static List<Integer> integers(String name, Object value) {
        if (value instanceof JsonNode node && node.isArray())
            return node.valueStream().map(entry -> integer(name, entry)).toList();
        if (value instanceof Collection<?> entries)
            return entries.stream().map(entry -> integer(name, entry)).toList();
        return List.of(integer(name, value));
    }

    private static IllegalArgumentException unfit(String name, Object value, String expected) {
        return new IllegalArgumentException(name + " is " + value + ", expected " + expected);
    }
}
