package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.conformance.BackendConformance;

/** The suite in emulation: slow, as every thread of every block is run on the processor. */
class EmulatedConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Setting.F32_BACKWARD.open();
    }
}
