package io.omni.api;

/**
 * The state of one sequence's sampling: which tokens it holds, for the repetition penalty, and how many were drawn. A
 * backend may keep it on the device. One thread uses a sampler at a time.
 */
public interface Sampler extends AutoCloseable {
    /** How tokens are drawn. */
    Sampling sampling();

    /** Frees what the sampler holds. Closing twice does nothing. */
    @Override
    void close();
}
