package io.omni.examples;

import io.omni.api.BackendProvider;
import io.omni.api.BackendProvider.Availability.Available;
import io.omni.api.BackendProvider.Availability.Unavailable;
import io.omni.api.Backends;
import io.omni.api.Device;
import java.io.PrintWriter;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** {@code omni backends}: what could compute here. */
@Command(name = "backends", description = "List the backends found, and why one is not available.", mixinStandardHelpOptions = true)
final class BackendsCommand implements Callable<Integer> {
    /** The name of a backend that was found, available or not. */
    static final class Name implements ITypeConverter<String> {
        @Override
        public String convert(String name) {
            List<String> known = Backends.providers().stream().map(BackendProvider::name).toList();
            if (!known.contains(name))
                throw new TypeConversionException("unknown backend '" + name + "', expected one of " + known);
            return name;
        }
    }

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        PrintWriter out = spec.commandLine().getOut();
        for (BackendProvider provider : Backends.providers())
            out.println(switch (provider.availability()) {
                case Available(Device device) ->
                    String.format("%-6s available: %s%s, %s", provider.name(), device.name(),
                            device.detail().isEmpty() ? "" : ", " + device.detail(), memory(device));
                case Unavailable(String reason) -> String.format("%-6s not available: %s", provider.name(), reason);
            });
        return 0;
    }

    private static String memory(Device device) {
        if (device.totalMemory() < 0)
            return "memory unknown";
        String total = gigabytes(device.totalMemory());
        return device.freeMemory() < 0 ? total : gigabytes(device.freeMemory()) + " free of " + total;
    }

    private static String gigabytes(long bytes) {
        return String.format("%.1f GiB", bytes / (double) (1L << 30));
    }
}
