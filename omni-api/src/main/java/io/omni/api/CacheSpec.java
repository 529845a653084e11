package io.omni.api;

/**
 * Shape of a {@link KvCache}.
 *
 * @param layers
 *            decoder layers
 * @param kvHeads
 *            key and value heads of a layer
 * @param headDim
 *            features of one head
 * @param window
 *            if positive, keys further back than this are never attended again and may be dropped; 0 keeps all
 * @param type
 *            {@link DType#F32}, which keeps keys and values as they are, or {@link DType#I8}, which takes about a quarter of
 *            the memory: each head of a token's keys, and of its values, becomes a float32 scale, max|x| / 127, and an
 *            integer x / scale for each feature, rounded to the nearest, to even on a tie
 */
public record CacheSpec(int layers, int kvHeads, int headDim, int window, DType type) {
    /** @throws IllegalArgumentException for a type other than F32 and I8 */
    public CacheSpec {
        if (type != DType.F32 && type != DType.I8)
            throw new IllegalArgumentException("a cache of type " + type + ", expected F32 or I8");
    }

    /** A cache of type F32. */
    public CacheSpec(int layers, int kvHeads, int headDim, int window) {
        this(layers, kvHeads, headDim, window, DType.F32);
    }
}
