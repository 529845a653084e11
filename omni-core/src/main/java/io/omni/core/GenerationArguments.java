package io.omni.core;

import com.fasterxml.jackson.databind.JsonNode;
import io.omni.api.Sampling;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.DoublePredicate;
import java.util.function.Function;
import java.util.function.IntPredicate;
import java.util.stream.Stream;

/** How one stage, the Thinker or the Talker, generates: a value of each of the arguments, which have upstream's names. */
public final class GenerationArguments {
    private static final Map<String, Argument> ARGUMENTS = new LinkedHashMap<>();
    static {
        ARGUMENTS.put("max_new_tokens", integer(1024, "an integer of 1 or more", x -> x >= 1));
        ARGUMENTS.put("min_new_tokens", integer(0, "an integer of 0 or more", x -> x >= 0));
        ARGUMENTS.put("do_sample", new Argument(false, "true or false", GenerationArguments::asBool));
        // 0 is for those who do not sample
        ARGUMENTS.put("temperature", number(1, "0 or a number of at least " + Sampling.LEAST_TEMPERATURE,
                x -> x == 0 || x >= Sampling.LEAST_TEMPERATURE));
        ARGUMENTS.put("top_k", integer(50, "an integer of 0 or more", x -> x >= 0));
        ARGUMENTS.put("top_p", number(1, "a number in (0, 1]", x -> x > 0 && x <= 1));
        ARGUMENTS.put("repetition_penalty", number(1, "a number above 0", x -> x > 0));
        ARGUMENTS.put("eos_token_id", integers());
        ARGUMENTS.put("suppress_tokens", integers());
        ARGUMENTS.put("begin_suppress_tokens", integers());
        ARGUMENTS.put("no_repeat_ngram_size", integer(0, "an integer of 0 or more", x -> x >= 0));
        ARGUMENTS.put("bad_words_ids",
                new Argument(List.of(), "a list of words, each a list of tokens", GenerationArguments::asWords));
        ARGUMENTS.put("min_p", number(0, "a number in [0, 1]", x -> x >= 0 && x <= 1));
        ARGUMENTS.put("typical_p", number(1, "a number in (0, 1]", x -> x > 0 && x <= 1));
        ARGUMENTS.put("epsilon_cutoff", number(0, "a number in [0, 1)", x -> x >= 0 && x < 1));
        ARGUMENTS.put("eta_cutoff", number(0, "a number in [0, 1)", x -> x >= 0 && x < 1));
    }

    /**
     * @param read
     *            makes an argument of what a caller or a file gives, or null if it does not fit
     */
    private record Argument(Object otherwise, String expected, Function<Object, Object> read) {}

    private final Map<String, Object> values;

    private GenerationArguments(Map<String, Object> values) {
        this.values = Collections.unmodifiableMap(values);
    }

    /** The Thinker's defaults: upstream's {@code generate}, which is greedy until told otherwise. */
    static GenerationArguments thinker(OmniConfig config) {
        Map<String, Object> defaults = new LinkedHashMap<>();
        ARGUMENTS.forEach((name, argument) -> defaults.put(name, argument.otherwise));
        return new GenerationArguments(defaults).with("eos_token_id", config.imEnd());
    }

    /** The Talker's defaults: upstream's {@code generate}. */
    static GenerationArguments talker(OmniConfig config) {
        TalkerConfig talker = config.talker();
        return thinker(config).with("max_new_tokens", 4096).with("do_sample", true).with("temperature", 0.9f)
                .with("repetition_penalty", 1.05f).with("eos_token_id", talker.codecEos())
                .with("suppress_tokens", Arrays.stream(talker.suppressed()).boxed().toList());
    }

    static Set<String> names() {
        return Collections.unmodifiableSet(ARGUMENTS.keySet());
    }

    /** The values by name: an Integer, Float or Boolean, or a List of Integers or of Lists of them. */
    public Map<String, Object> values() {
        return values;
    }

    /**
     * These arguments with one of another value.
     *
     * @param name
     *            upstream's, such as {@code top_k}
     * @param value
     *            a number, a boolean, a list of integers or of lists of them, or a JSON value of these
     * @throws IllegalArgumentException
     *             if the name is unknown or the value does not fit
     */
    public GenerationArguments with(String name, Object value) {
        Argument argument = ARGUMENTS.get(name);
        if (argument == null)
            throw new IllegalArgumentException("unknown generation argument '" + name + "', expected one of "
                    + String.join(", ", names()));
        Object read = argument.read.apply(value);
        if (read == null)
            throw new IllegalArgumentException(name + " is " + (value instanceof String ? "\"" + value + "\"" : value)
                    + ", expected " + argument.expected);
        Map<String, Object> changed = new LinkedHashMap<>(values);
        changed.put(name, read);
        return new GenerationArguments(changed);
    }

    int integer(String name) {
        return (Integer) values.get(name);
    }

    float number(String name) {
        return (Float) values.get(name);
    }

    boolean is(String name) {
        return (Boolean) values.get(name);
    }

    @SuppressWarnings("unchecked")
    List<Integer> integers(String name) {
        return (List<Integer>) values.get(name);
    }

    @SuppressWarnings("unchecked")
    List<List<Integer>> words(String name) {
        return (List<List<Integer>>) values.get(name);
    }

    private static Argument integer(int otherwise, String expected, IntPredicate fits) {
        return new Argument(otherwise, expected,
                value -> asInteger(value) instanceof Integer number && fits.test(number) ? number : null);
    }

    private static Argument number(float otherwise, String expected, DoublePredicate fits) {
        return new Argument(otherwise, expected,
                value -> asNumber(value) instanceof Float number && fits.test(number) ? number : null);
    }

    private static Argument integers() {
        return new Argument(List.of(), "an integer or a list of integers", GenerationArguments::asIntegers);
    }

    private static Boolean asBool(Object value) {
        if (value instanceof JsonNode node)
            return node.isBoolean() ? node.booleanValue() : null;
        return value instanceof Boolean truth ? truth : null;
    }

    private static Integer asInteger(Object value) {
        if (value instanceof JsonNode node)
            return node.canConvertToExactIntegral() && node.canConvertToInt() ? node.intValue() : null;
        boolean whole = value instanceof Integer || value instanceof Long || value instanceof Short
                || value instanceof Byte;
        return whole && ((Number) value).longValue() == ((Number) value).intValue()
                ? ((Number) value).intValue()
                : null;
    }

    private static Float asNumber(Object value) {
        if (value instanceof JsonNode node)
            return node.isNumber() ? node.floatValue() : null;
        return value instanceof Number number ? number.floatValue() : null;
    }

    private static List<Integer> asIntegers(Object value) {
        return asInteger(value) instanceof Integer one ? List.of(one) : asList(value, GenerationArguments::asInteger);
    }

    /** A list of what {@code entry} reads of each; null if that is nothing of one of them, or if it is no list. */
    private static <T> List<T> asList(Object value, Function<Object, T> entry) {
        Stream<?> entries = switch (value) {
            case JsonNode node when node.isArray() -> node.valueStream();
            case Collection<?> several -> several.stream();
            case int[] several -> Arrays.stream(several).boxed();
            case null, default -> Stream.of((Object) null);
        };
        List<T> read = entries.map(entry).toList();
        return read.stream().allMatch(Objects::nonNull) ? read : null;
    }

    /** Neither the list nor a word in it may be empty, nor a token negative. */
    private static List<List<Integer>> asWords(Object value) {
        List<List<Integer>> words = asList(value, entry -> asList(entry, GenerationArguments::asInteger));
        boolean fits = words != null && !words.isEmpty()
                && words.stream().noneMatch(word -> word.isEmpty() || word.stream().anyMatch(token -> token < 0));
        return fits ? words : null;
    }
}
