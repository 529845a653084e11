package io.omni.backend.cpu;

import io.omni.api.Backend;
import io.omni.api.Backends;
import io.omni.api.conformance.BackendConformance;

class CpuConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Backends.load("cpu");
    }
}
