package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.BackendProvider;

/**
 * Computes on the first NVIDIA card of compute capability 8.0 or newer, with the driver of CUDA 12 or newer and no other
 * library. Its properties, each of which is the system property {@code omni.cuda.NAME} if it is not given, are
 *
 * <dl>
 * <dt>{@code precision}</dt>
 * <dd>{@code bf16}, the default: activations in bfloat16, products on the tensor cores, sums in float32; {@code f16}: the
 * same in float16, which rounds less but holds nothing beyond 65504; or {@code f32}: float32 throughout, with weights as
 * they are stored. Blocks stay blocks in all of them.</dd>
 * <dt>{@code memory}</dt>
 * <dd>device memory it may take, such as {@code 20g} or {@code 800m}; nine tenths of what is free by default.</dd>
 * <dt>{@code graphs}</dt>
 * <dd>{@code true} replays sequences of launches that come again, as in decode steps, as CUDA graphs; {@code false} is
 * the default.</dd>
 * </dl>
 */
public final class CudaBackendProvider implements BackendProvider {
    @Override
    public String name() {
        return "cuda";
    }

    @Override
    public int priority() {
        // below the processor's backend until a card has run it
        return -20;
    }

    @Override
    public Availability availability() {
        return DriverProbe.ask();
    }

    @Override
    public Backend create(BackendOptions options) {
        CudaOptions read = CudaOptions.of(options.properties());
        if (availability() instanceof Availability.Unavailable(String reason))
            throw new BackendException("backend 'cuda' is not available: " + reason);
        return new CudaBackend(NvidiaDriver.open(), read);
    }
}
