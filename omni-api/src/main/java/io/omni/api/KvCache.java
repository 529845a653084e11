package io.omni.api;

/**
 * Keys and values of one sequence, for every layer of a decoder. It grows in blocks as {@link AttentionOps#append} adds
 * tokens. One thread uses a cache at a time.
 */
public interface KvCache extends AutoCloseable {
    /** The shape it was made with. */
    CacheSpec spec();

    /** Tokens appended to layer {@code layer} so far, those dropped by the window included. */
    int length(int layer);

    /**
     * Forgets all tokens from position {@code length} on, in every layer, so that a prefix can be used again.
     *
     * @throws IllegalArgumentException
     *             if {@code length} is negative, beyond the end, or needs keys that the window has dropped
     * @throws IllegalStateException
     *             if the cache is closed
     */
    void truncate(int length);

    /** Bytes of backend memory that the cache holds now. */
    long bytes();

    /**
     * Frees the memory. Closing twice does nothing; {@link #truncate}, and operations with a closed cache, throw
     * {@link IllegalStateException}.
     */
    @Override
    void close();
}
