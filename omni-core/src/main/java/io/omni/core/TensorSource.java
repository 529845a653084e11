package io.omni.core;

import io.omni.api.HostTensor;
import java.lang.foreign.Arena;

/** Where weights come from: a checkpoint, or random numbers. */
interface TensorSource extends AutoCloseable {
    /** Whether there is a tensor of this name. */
    boolean has(String name);

    /**
     * The tensor of this name.
     *
     * @param memory
     *            where it is put if it does not lie ready
     * @throws CheckpointException
     *             if there is none, or it has another shape
     */
    HostTensor get(Arena memory, String name, int... shape);

    /** Unmaps what lies ready. Closing twice does nothing. */
    @Override
    void close();
}
