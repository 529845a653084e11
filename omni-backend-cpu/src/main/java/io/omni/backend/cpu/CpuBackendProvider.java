package io.omni.backend.cpu;

import io.omni.api.Backend;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.BackendProvider;
import java.lang.foreign.MemorySegment;

/**
 * The backend {@code cpu}: the SPI on the JDK's incubating Vector API. It needs {@code --add-modules
 * jdk.incubator.vector} and native access. Options: {@link BackendOptions#threads}, and the property {@code vectorBits}
 * (128, 256, 512 or max), which the system property {@code omni.cpu.vectorBits} sets too; the width is the same for all
 * backends of a process, because the compiler must see it as a constant.
 */
public final class CpuBackendProvider implements BackendProvider {
    @Override
    public String name() {
        return "cpu";
    }

    @Override
    public int priority() {
        return 0;
    }

    @Override
    public Availability availability() {
        String reason = obstacle();
        if (reason == null)
            reason = VectorWidth.obstacle();
        return reason == null
                ? new Availability.Available(CpuBackend.describe(Runtime.getRuntime().availableProcessors()))
                : new Availability.Unavailable(reason);
    }

    @Override
    public Backend create(BackendOptions options) {
        String reason = obstacle();
        if (reason == null) {
            VectorWidth.request(options.properties().get("vectorBits"));
            reason = VectorWidth.obstacle();
        }
        if (reason != null)
            throw new BackendException(reason);
        return new CpuBackend(options.threads());
    }

    // no class of the Vector API may be linked before this has looked for its module
    @SuppressWarnings("restricted")
    private static String obstacle() {
        if (ModuleLayer.boot().findModule("jdk.incubator.vector").isEmpty())
            return "the Vector API is not there: start java with --add-modules jdk.incubator.vector";
        try {
            // a restricted call: without the option it works with a warning today and is refused where that is forbidden
            MemorySegment.NULL.reinterpret(1);
            return null;
        } catch (IllegalCallerException e) {
            return "native access is denied: start java with --enable-native-access=ALL-UNNAMED";
        }
    }
}
