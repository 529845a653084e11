package io.omni.api.conformance;

import io.omni.api.Backend;
import io.omni.api.PlainBackend;

class PlainConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return new PlainBackend();
    }
}
