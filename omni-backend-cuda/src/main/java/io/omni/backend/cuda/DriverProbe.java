package io.omni.backend.cuda;

import io.omni.api.BackendProvider.Availability;
import io.omni.api.Device;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;

/**
 * Asks the driver library about the first card without JCuda, whose classes cannot be loaded where the library is
 * missing.
 */
final class DriverProbe {
    static final String LIBRARY = "libcuda.so.1";
    private static final int NO_DEVICE = 100;
    private static final int MAJOR = 75;
    private static final int MINOR = 76;

    private final SymbolLookup library;
    private final Arena arena;

    private DriverProbe(SymbolLookup library, Arena arena) {
        this.library = library;
        this.arena = arena;
    }

    @SuppressWarnings("restricted")
    static Availability ask() {
        String system = System.getProperty("os.name") + " on " + System.getProperty("os.arch");
        if (!system.equals("Linux on amd64"))
            return new Availability.Unavailable("the CUDA backend needs Linux on x86-64, this is " + system);
        SymbolLookup library;
        try {
            // never unloaded: the driver does not expect to be
            library = SymbolLookup.libraryLookup(LIBRARY, Arena.global());
        } catch (IllegalArgumentException e) {
            return new Availability.Unavailable("no NVIDIA driver: " + LIBRARY + " not found");
        } catch (IllegalCallerException e) {
            return new Availability.Unavailable(
                    "native access is denied: start java with --enable-native-access=ALL-UNNAMED");
        }
        try (Arena arena = Arena.ofConfined()) {
            return new DriverProbe(library, arena).card();
        } catch (Throwable e) {
            return new Availability.Unavailable("the NVIDIA driver does not answer: " + e.getMessage());
        }
    }

    private Availability card() throws Throwable {
        int status = call("cuInit", 0);
        if (status == NO_DEVICE)
            return new Availability.Unavailable("the NVIDIA driver finds no card");
        if (status != 0)
            return new Availability.Unavailable("the NVIDIA driver does not start: cuInit gave error " + status);
        MemorySegment number = arena.allocate(ValueLayout.JAVA_LONG);
        check("cuDriverGetVersion", call("cuDriverGetVersion", number));
        int version = number.get(ValueLayout.JAVA_INT, 0);
        if (version < 12000)
            return new Availability.Unavailable(
                    "the NVIDIA driver is for CUDA " + dotted(version) + ", 12.0 or newer is needed");
        check("cuDeviceGet", call("cuDeviceGet", number, 0));
        int card = number.get(ValueLayout.JAVA_INT, 0);
        check("cuDeviceGetAttribute", call("cuDeviceGetAttribute", number, MAJOR, card));
        int major = number.get(ValueLayout.JAVA_INT, 0);
        check("cuDeviceGetAttribute", call("cuDeviceGetAttribute", number, MINOR, card));
        int minor = number.get(ValueLayout.JAVA_INT, 0);
        MemorySegment name = arena.allocate(256);
        check("cuDeviceGetName", call("cuDeviceGetName", name, 256, card));
        if (major < 8)
            return new Availability.Unavailable(name.getString(0) + " has compute capability " + major + "." + minor
                    + ", 8.0 or newer is needed");
        check("cuDeviceTotalMem_v2", call("cuDeviceTotalMem_v2", number, card));
        return new Availability.Available(new Device(name.getString(0), detail(10 * major + minor, version),
                number.get(ValueLayout.JAVA_LONG, 0), -1));
    }

    static String detail(int capability, int version) {
        return "compute capability " + capability / 10 + "." + capability % 10 + ", driver for CUDA " + dotted(version);
    }

    private static String dotted(int version) {
        return version / 1000 + "." + version % 1000 / 10;
    }

    private static void check(String function, int status) {
        if (status != 0)
            throw new IllegalStateException(function + " gave error " + status);
    }

    @SuppressWarnings("restricted")
    private int call(String function, Object... arguments) throws Throwable {
        ValueLayout[] layouts = new ValueLayout[arguments.length];
        for (int i = 0; i < layouts.length; i++)
            layouts[i] = arguments[i] instanceof MemorySegment ? ValueLayout.ADDRESS : ValueLayout.JAVA_INT;
        return (int) Linker.nativeLinker().downcallHandle(library.findOrThrow(function),
                FunctionDescriptor.of(ValueLayout.JAVA_INT, layouts)).invokeWithArguments(arguments);
    }
}
