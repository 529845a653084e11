package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.conformance.BackendConformance;

/** The suite in emulation with bfloat16 activations and the tensor cores. */
class EmulatedBf16ConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Setting.BF16_GRAPHS.open();
    }
}
