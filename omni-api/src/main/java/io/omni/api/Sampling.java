package io.omni.api;

/**
 * How the next token is drawn from its logits. The steps come in upstream's order: repetition penalty, suppressed tokens,
 * then, when sampling, temperature, top-k and top-p.
 *
 * @param doSample
 *            false takes the largest logit, the lowest id on a tie
 * @param temperature
 *            divides the logits; {@link #LEAST_TEMPERATURE} or more
 * @param topK
 *            keeps the k largest logits and all that equal the k-th; 0 keeps all
 * @param topP
 *            keeps the fewest most likely tokens whose probabilities reach this sum; 1 keeps all
 * @param repetitionPenalty
 *            divides positive logits, and multiplies negative ones, of tokens already in the sequence; 1 does nothing
 * @param suppressTokens
 *            ids that are never drawn
 * @param seed
 *            starts the random sequence: the same seed and logits draw the same tokens on every backend, up to rounding
 */
public record Sampling(boolean doSample, float temperature, int topK, float topP, float repetitionPenalty,
        int[] suppressTokens, long seed) {
    /** Below it, logits that differ would become infinite together. */
    public static final float LEAST_TEMPERATURE = 1e-30f;

    public Sampling {
        suppressTokens = suppressTokens.clone();
        if (!(temperature >= LEAST_TEMPERATURE))
            throw new IllegalArgumentException(
                    "temperature " + temperature + ", expected at least " + LEAST_TEMPERATURE);
        if (topK < 0)
            throw new IllegalArgumentException("top_k " + topK + ", expected 0 or more");
        if (!(topP > 0 && topP <= 1))
            throw new IllegalArgumentException("top_p " + topP + ", expected in (0, 1]");
        if (!(repetitionPenalty > 0))
            throw new IllegalArgumentException("repetition_penalty " + repetitionPenalty + ", expected above 0");
    }

    /** Always the largest logit. */
    public static Sampling greedy() {
        return new Sampling(false, 1, 0, 1, 1, new int[0], 0);
    }
}
