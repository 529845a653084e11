package io.omni.api;

/**
 * Shape of an attention operation.
 *
 * @param heads
 *            query heads, a multiple of {@code kvHeads}; query head h reads key head h · kvHeads / heads
 * @param kvHeads
 *            key and value heads
 * @param headDim
 *            features of one head
 * @param scale
 *            factor on query · key, before the softmax
 * @param causal
 *            whether a query sees only keys at or before its own position
 * @param window
 *            if positive, a query at position p sees keys from p − window + 1 on; 0 for no limit
 */
public record Attention(int heads, int kvHeads, int headDim, float scale, boolean causal, int window) {
    /**
     * @throws IllegalArgumentException for heads that do not divide, numbers that are not positive, or a negative
     * window
     */
    public Attention {
        if (heads <= 0 || kvHeads <= 0 || headDim <= 0 || heads % kvHeads != 0)
            throw new IllegalArgumentException(
                    heads + " query heads over " + kvHeads + " key heads of " + headDim + " features");
        if (window < 0)
            throw new IllegalArgumentException("window " + window + ", expected 0 or more");
    }

    /** Attention with the usual scale, 1 / √headDim. */
    public Attention(int heads, int kvHeads, int headDim, boolean causal, int window) {
        this(heads, kvHeads, headDim, (float) (1 / Math.sqrt(headDim)), causal, window);
    }
}
