package io.omni.backend.onnx;

import ai.onnxruntime.OrtEnvironment;
import io.omni.api.Backend;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.BackendProvider;

/**
 * The backend {@code onnx}, on ONNX Runtime. Its properties, all optional and each also a system property
 * {@code omni.onnx.NAME}:
 *
 * <dl>
 * <dt>{@code executionProvider}
 * <dd>{@code cpu}, or {@code cuda} with {@code onnxruntime_gpu} on the class path; CUDA if it is there
 * <dt>{@code weights}
 * <dd>how bfloat16 matrices are multiplied: {@code integers}, the default, as 16-bit integers, in a second copy as large as
 * the first while half of the machine's memory is not in use by the backend; {@code stored} widens them in each run;
 * {@code float32} once, when they are loaded, for twice the memory
 * <dt>{@code activations}
 * <dd>what multiplies weights that are integers: {@code f32}, activations that lose nothing beside float32's rounding;
 * {@code 16}, of 16 bits; {@code 8}, of 8 bits. Each is faster than the one before, and
 * {@link Backend#precision} says what it stands for. By default {@code f32} with bfloat16 weights and {@code 16} with
 * quantised ones, whose blocks have scales of their own
 * <dt>{@code memory}
 * <dd>bytes that it holds outside the heap at most, the runtime's own aside; beyond, operations throw
 * {@link io.omni.api.OutOfMemoryException}
 * <dt>{@code optimization}
 * <dd>{@code none}, {@code basic}, {@code extended} or {@code all}, the default
 * <dt>{@code profile}
 * <dd>a file name prefix that each session's profile starts with
 * <dt>{@code fused}
 * <dd>{@code false} composes every operation of plain ones
 * </dl>
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
        } catch (LinkageError | IllegalStateException e) {
            Throwable root = e;
            while (root.getCause() != null)
                root = root.getCause();
            return new Availability.Unavailable("ONNX Runtime's native library does not load: " + root.getMessage());
        }
    }

    @Override
    public Backend create(BackendOptions options) {
        if (availability() instanceof Availability.Unavailable(String reason))
            throw new BackendException(reason);
        return new OnnxBackend(options);
    }
}
