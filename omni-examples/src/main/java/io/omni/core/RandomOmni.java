package io.omni.core;

import io.omni.processor.OmniProcessor;
import io.omni.processor.ProcessorOptions;

/**
 * An {@link Omni} around a model that no folder holds, so that a benchmark measures the same wiring as a reply has. In this
 * package because applications have a checkpoint, and omni-core offers nothing else.
 */
public final class RandomOmni {
    private RandomOmni() {}

    /** Closing the result closes both. */
    public static Omni of(OmniProcessor processor, OmniModel model) {
        return new Omni(processor, model, ProcessorOptions.defaults(), null);
    }
}
