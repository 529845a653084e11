package io.omni.backend.onnx;

import io.omni.api.Backend;
import io.omni.api.Backends;
import io.omni.api.conformance.BackendConformance;

class OnnxConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Backends.load("onnx");
    }
}
