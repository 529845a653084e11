package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Tensor;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.stream.IntStream;

/**
 * Draws one sequence's tokens. The backend samples; the arguments that its sampling does not know all say what may not come
 * next, and that is taken out of the logits before. Upstream: the logits processors of {@code generate}.
 */
final class TokenSampler implements AutoCloseable {
    private final Backend backend;
    private final int vocabulary;
    private final Sampler sampler;
    private final int promptLength;
    private final int minNewTokens;
    private final int noRepeatNgramSize;
    private final int[] ends;
    private final int[] suppressed;
    private final int[] suppressedFirst;
    private final int[][] badWords;
    private final float penalty;
    /** Null if the backend's sampling is enough. */
    private final Truncation truncation;
    private int[] sequence;
    private int length;

    /** @param prompt tokens that the sequence starts with */
    TokenSampler(Backend backend, GenerationArguments arguments, long seed, int[] prompt, int vocabulary) {
        this.backend = backend;
        this.vocabulary = vocabulary;
        sequence = prompt.clone();
        length = promptLength = prompt.length;
        minNewTokens = arguments.integer("min_new_tokens");
        noRepeatNgramSize = arguments.integer("no_repeat_ngram_size");
        List<Integer> eos = arguments.integers("eos_token_id");
        ends = known(array(eos));
        suppressed = array(arguments.integers("suppress_tokens"));
        suppressedFirst = array(arguments.integers("begin_suppress_tokens"));
        // as upstream, a token that ends the sequence is no word
        badWords = arguments.words("bad_words_ids").stream()
                .filter(word -> word.size() > 1 || !eos.contains(word.getFirst()))
                .map(TokenSampler::array).toArray(int[][]::new);
        penalty = arguments.number("repetition_penalty");
        truncation = Truncation.isWanted(arguments) ? new Truncation(arguments) : null;
        // top-p of what the other steps leave would be less than upstream's, which comes before them
        float topP = truncation == null ? arguments.number("top_p") : 1;
        boolean samples = arguments.is("do_sample");
        sampler = backend.tensorOps().sampler(new Sampling(samples, samples ? arguments.number("temperature") : 1,
                arguments.integer("top_k"), topP, penalty, suppressed, seed), vocabulary, known(prompt));
    }

    /**
     * Checks what the arguments' own values do not tell.
     *
     * @param prefix
     *            the stage's, for messages
     * @throws IllegalArgumentException
     *             if a token is not in the vocabulary, or sampling has the temperature 0
     */
    static void check(String prefix, GenerationArguments arguments, int vocabulary) {
        for (String name : List.of("suppress_tokens", "begin_suppress_tokens"))
            check(prefix + name, arguments.integers(name), vocabulary);
        arguments.words("bad_words_ids").forEach(word -> check(prefix + "bad_words_ids", word, vocabulary));
        if (arguments.is("do_sample") && arguments.number("temperature") == 0)
            throw new IllegalArgumentException(
                    prefix + "temperature is 0, expected a number above 0, or " + prefix + "do_sample false");
    }

    private static void check(String name, List<Integer> tokens, int vocabulary) {
        for (int token : tokens)
            if (token < 0 || token >= vocabulary)
            throw new IllegalArgumentException(
                    name + " holds token " + token + ", expected 0 to " + (vocabulary - 1));
    }

    /** Without tokens that the head does not have, and so never draws, as media of a prompt may be. */
    private int[] known(int[] tokens) {
        return Arrays.stream(tokens).filter(token -> token >= 0 && token < vocabulary).toArray();
    }

    private static int[] array(List<Integer> tokens) {
        return tokens.stream().mapToInt(Integer::intValue).toArray();
    }

    /**
     * Draws the next token of each sequence and notes it.
     *
     * @param logits
     *            {@code [sequences, vocabulary]}
     */
    static int[] sample(Tensor logits, List<TokenSampler> sequences) {
        Backend backend = sequences.getFirst().backend;
        boolean reads = sequences.stream().anyMatch(sequence -> sequence.truncation != null);
        float[] values = reads ? logits.toFloats() : null;
        List<BitSet> removed = IntStream.range(0, sequences.size())
                .mapToObj(i -> sequences.get(i).removed(values, i * logits.dim(1))).toList();
        Tensor rest = removed.stream().allMatch(BitSet::isEmpty)
                ? logits
                : backend.tensorOps().add(logits, mask(backend, removed, logits.shape()));
        int[] drawn = backend.tensorOps().sample(rest, sequences.stream().map(each -> each.sampler).toList()).toInts();
        for (int i = 0; i < drawn.length; i++)
            sequences.get(i).append(drawn[i]);
        return drawn;
    }

    /** Minus infinity where a token is removed: no penalty and no temperature changes that. */
    private static Tensor mask(Backend backend, List<BitSet> removed, int[] shape) {
        float[] mask = new float[shape[0] * shape[1]];
        for (int i = 0; i < shape[0]; i++)
            for (int token : removed.get(i).stream().toArray())
                mask[i * shape[1] + token] = Float.NEGATIVE_INFINITY;
        return backend.tensor(mask, shape);
    }

    void append(int token) {
        if (length == sequence.length)
            sequence = Arrays.copyOf(sequence, 2 * length + 16);
        sequence[length++] = token;
    }

    /**
     * What may not come next.
     *
     * @param logits
     *            those of this sequence start at {@code from}; null if they do not count
     */
    BitSet removed(float[] logits, int from) {
        BitSet removed = new BitSet();
        if (noRepeatNgramSize > 0)
            removeRepetitions(removed);
        removeBadWords(removed);
        if (length - promptLength < minNewTokens)
            Arrays.stream(ends).forEach(removed::set);
        if (length == promptLength)
            Arrays.stream(suppressedFirst).forEach(removed::set);
        removed.clear(vocabulary, Integer.MAX_VALUE);
        if (truncation != null)
            removeUnlikely(Arrays.copyOfRange(logits, from, from + vocabulary), removed);
        return removed;
    }

    /** What would complete n tokens in a row that are in the sequence already. */
    private void removeRepetitions(BitSet removed) {
        int before = noRepeatNgramSize - 1;
        for (int last = before; last < length; last++)
            if (Arrays.equals(sequence, last - before, last, sequence, length - before, length))
            removed.set(sequence[last]);
    }

    /** What would complete a word; as upstream, none of several tokens before the sequence is as long as the word. */
    private void removeBadWords(BitSet removed) {
        for (int[] word : badWords) {
            int before = word.length - 1;
            if (before == 0 || before < length && Arrays.equals(word, 0, before, sequence, length - before, length))
                removed.set(word[before]);
        }
    }

    /** What sampling would not draw of the others. */
    private void removeUnlikely(float[] scores, BitSet removed) {
        if (penalty != 1)
            for (int token : Arrays.stream(known(Arrays.copyOf(sequence, length))).distinct().toArray())
                scores[token] = scores[token] < 0 ? scores[token] * penalty : scores[token] / penalty;
        for (int token : suppressed)
            removed.set(token);
        removed.stream().forEach(token -> scores[token] = Float.NEGATIVE_INFINITY);
        truncation.apply(scores);
        for (int token = 0; token < vocabulary; token++)
            if (scores[token] == Float.NEGATIVE_INFINITY)
            removed.set(token);
    }

    @Override
    public void close() {
        sampler.close();
    }
}
