package io.omni.backend.cpu;

import io.omni.api.BackendException;
import jdk.incubator.vector.FloatVector;

/** Which vector width the kernels are compiled for: the first request decides, since {@link Lanes} holds it as a constant. */
final class VectorWidth {
    static final String PROPERTY = "omni.cpu.vectorBits";

    private static String requested;
    private static int chosen;

    private VectorWidth() {}

    /** Asks for a width by its option, or by the system property if {@code bits} is null. */
    static synchronized void request(String bits) {
        if (bits == null)
            return;
        if (chosen != 0 && parse(bits) != chosen)
            throw new BackendException(
                    "vectorBits " + bits + ", but this process computes with " + chosen + " bits already");
        requested = bits;
    }

    /** Why the width asked for cannot be had, or null. */
    static synchronized String obstacle() {
        try {
            int bits = chosen != 0 ? chosen : parse(wish());
            return bits <= widest()
                    ? null
                    : "vectorBits " + bits + ", but vectors of this processor and JVM have " + widest() + " bits";
        } catch (BackendException e) {
            return e.getMessage();
        }
    }

    /** Fixes the width for good. */
    static synchronized int choose() {
        if (chosen == 0)
            chosen = parse(wish());
        return chosen;
    }

    /** Where the width comes from, for the log. */
    static synchronized String reason() {
        return requested != null
                ? "option vectorBits"
                : System.getProperty(PROPERTY) != null ? "property " + PROPERTY : "the widest here";
    }

    private static String wish() {
        return requested != null ? requested : System.getProperty(PROPERTY, "max");
    }

    private static int parse(String bits) {
        return switch (bits) {
            case "max" -> widest();
            case "128", "256", "512" -> Integer.parseInt(bits);
            default -> throw new BackendException("vectorBits '" + bits + "', expected 128, 256, 512 or max");
        };
    }

    private static int widest() {
        return Math.min(512, FloatVector.SPECIES_PREFERRED.vectorBitSize());
    }
}
