package io.omni.backend.onnx;

import ai.onnxruntime.OrtEnvironment;
import io.omni.api.Backend;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.BackendProvider;

/**
 * The backend {@code onnx}, on ONNX Runtime. Its properties, all optional: {@code executionProvider} ({@code cpu}, or
 * {@code cuda} with {@code onnxruntime_gpu} on the class path; CUDA if it is there), {@code optimization} ({@code none},
 * {@code basic}, {@code extended} or {@code all}, the default), {@code profile} (a file name prefix that each session's
 * profile starts with), {@code weights} (how bfloat16 matrices are
 * multiplied by few rows: {@code blocks}, the default, as 16-bit integers in blocks, in a second copy as large as the first
 * while half of the machine's memory is not in use by the backend; {@code stored} widens them in each run; {@code float32}
 * once, when they are loaded, for twice the memory),
 * {@code memory} (bytes that it holds outside the heap at most, the runtime's own aside; beyond, operations throw
 * {@link io.omni.api.OutOfMemoryException}), {@code fused} ({@code false} composes every operation of plain ones).
 */
public final class OnnxBackendProvider implements BackendProvider {
    @Override
    public String name() {
        return "onnx";
    }

    @Override
    public int priority() {
        return -10;
    }

    @Override
    public Availability availability() {
        try {
            OrtEnvironment.getAvailableProviders();
            return new Availability.Available(OnnxBackend.host());
        } catch (UnsatisfiedLinkError | NoClassDefFoundError | ExceptionInInitializerError
                | IllegalStateException e) {
            return new Availability.Unavailable("ONNX Runtime's native library does not load: " + e.getMessage());
        }
    }

    @Override
    public Backend create(BackendOptions options) {
        if (availability() instanceof Availability.Unavailable(String reason))
            throw new BackendException(reason);
        return new OnnxBackend(options);
    }
}
