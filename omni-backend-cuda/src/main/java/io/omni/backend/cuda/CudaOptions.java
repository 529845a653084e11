package io.omni.backend.cuda;

import io.omni.api.DType;
import java.util.Locale;
import java.util.Map;

/**
 * The properties of {@link CudaBackendProvider}.
 *
 * @param compute
 *            type of activations, BF16, F16 or F32
 * @param memory
 *            bytes of device memory that may be taken, 0 for most of what is free
 * @param slab
 *            bytes taken from the card at once
 * @param graphs
 *            whether repeated sequences of launches are replayed
 */
record CudaOptions(DType compute, long memory, long slab, boolean graphs) {
    private static final long SLAB = 64L << 20;

    static CudaOptions of(Map<String, String> properties) {
        String precision = property(properties, "precision", "bf16");
        DType compute = switch (precision) {
            case "bf16" -> DType.BF16;
            case "f16" -> DType.F16;
            case "f32" -> DType.F32;
            default -> throw new IllegalArgumentException(
                    "precision '" + precision + "', expected bf16, f16 or f32");
        };
        String replayed = property(properties, "graphs", "false");
        boolean graphs = switch (replayed) {
            case "true" -> true;
            case "false" -> false;
            default -> throw new IllegalArgumentException("graphs '" + replayed + "', expected true or false");
        };
        return new CudaOptions(compute, bytes(property(properties, "memory", null)), SLAB, graphs);
    }

    private static String property(Map<String, String> properties, String name, String otherwise) {
        String value = properties.get(name);
        return value != null ? value : System.getProperty("omni.cuda." + name, otherwise);
    }

    private static long bytes(String memory) {
        if (memory == null)
            return 0;
        String text = memory.toLowerCase(Locale.ROOT);
        int unit = text.isEmpty() ? -1 : "kmg".indexOf(text.charAt(text.length() - 1));
        try {
            long number = Long.parseLong(unit < 0 ? text : text.substring(0, text.length() - 1));
            if (number > 0)
                return Math.multiplyExact(number, 1L << 10 * (unit + 1));
        } catch (ArithmeticException | NumberFormatException e) {
            // said below
        }
        throw new IllegalArgumentException("memory '" + memory + "', expected bytes such as 20g, 800m or 65536k");
    }
}
