package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.conformance.BackendConformance;

/** The suite in emulation with float16 activations and the tensor cores. */
class EmulatedF16ConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Setting.F16_BACKWARD.open();
    }
}
