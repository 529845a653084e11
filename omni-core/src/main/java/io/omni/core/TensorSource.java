package io.omni.core;

import io.omni.api.HostTensor;

/** Where weights come from: a checkpoint, or random numbers. */
interface TensorSource extends AutoCloseable {
    /** Whether there is a tensor of this name. */
    boolean has(String name);

    /**
     * The tensor of this name.
     *
     * @throws CheckpointException
     *             if there is none, or it has another shape
     */
    HostTensor get(String name, int... shape);

    /** Unmaps or frees the memory. Closing twice does nothing. */
    @Override
    void close();
}
