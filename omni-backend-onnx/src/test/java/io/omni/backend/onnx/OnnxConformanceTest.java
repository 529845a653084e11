package io.omni.backend.onnx;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.conformance.BackendConformance;
import java.util.Map;
import java.util.Optional;

class OnnxConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Backends.load("onnx");
    }

    @Override
    protected Optional<Backend> startSmall() {
        return Optional.of(Backends.load("onnx", new BackendOptions(2, Map.of("memory", "200000000"))));
    }
}
