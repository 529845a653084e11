package io.omni.backend.onnx;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.conformance.BackendConformance;
import java.util.Map;

/** The suite with activations of 8 bits. */
class Onnx8ConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Backends.load("onnx", new BackendOptions(2, Map.of("activations", "8")));
    }
}
