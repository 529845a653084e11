package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Tensor;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;

/**
 * Draws one sequence's tokens. The backend samples; the arguments that its sampling does not know all say what may not come
 * next, and that is taken out of the logits before. Upstream: the logits processors of {@code generate}.
 */
final class TokenSampler implements AutoCloseable {
    private final Backend backend;
    private final int vocabulary;
    private final Sampler sampler;
    private final int minNewTokens;
    private final int[] ends;
    private int drawn;

    /**
     * @param prompt
     *            tokens that the sequence starts with
     * @throws IllegalArgumentException
     *             if a suppressed token is not in the vocabulary
     */
    TokenSampler(Backend backend, GenerationArguments arguments, long seed, int[] prompt, int vocabulary) {
        this.backend = backend;
        this.vocabulary = vocabulary;
        minNewTokens = arguments.integer("min_new_tokens");
        ends = known(arguments.integers("eos_token_id").stream().mapToInt(Integer::intValue).toArray());
        int[] suppressed = arguments.integers("suppress_tokens").stream().mapToInt(Integer::intValue).toArray();
        sampler = backend.tensorOps().sampler(new Sampling(arguments.is("do_sample"), arguments.number("temperature"),
                arguments.integer("top_k"), arguments.number("top_p"), arguments.number("repetition_penalty"),
                suppressed, seed), vocabulary, known(prompt));
    }

    /** Without tokens that the head does not have, and so never draws, as media of a prompt may be. */
    private int[] known(int[] tokens) {
        return Arrays.stream(tokens).filter(token -> token >= 0 && token < vocabulary).toArray();
    }

    /**
     * Draws the next token of each sequence and notes it.
     *
     * @param logits
     *            {@code [sequences, vocabulary]}
     */
    static int[] sample(Tensor logits, List<TokenSampler> sequences) {
        Backend backend = sequences.getFirst().backend;
        List<BitSet> removed = sequences.stream().map(TokenSampler::removed).toList();
        Tensor rest = removed.stream().allMatch(BitSet::isEmpty)
                ? logits
                : backend.tensorOps().add(logits, mask(backend, removed, logits.shape()));
        int[] drawn = backend.tensorOps().sample(rest, sequences.stream().map(each -> each.sampler).toList()).toInts();
        sequences.forEach(sequence -> sequence.drawn++);
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

    /** What may not come next. */
    private BitSet removed() {
        BitSet removed = new BitSet();
        if (drawn < minNewTokens)
            Arrays.stream(ends).forEach(removed::set);
        return removed;
    }

    @Override
    public void close() {
        sampler.close();
    }
}
