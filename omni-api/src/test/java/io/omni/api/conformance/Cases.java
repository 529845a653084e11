package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostTensor;
import io.omni.api.Quantization;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

/** Random arguments from a seed, the comparison with what is expected, and the largest error of each operation. */
public final class Cases implements AutoCloseable {
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Backend backend;
    private final long seed;
    private final Random random;
    private final Arena weights = Arena.ofShared();
    private final Map<String, Score> scores = new TreeMap<>();

    private record Score(int cases, double largest) {}

    Cases(Backend backend, long seed) {
        this.backend = backend;
        this.seed = seed;
        random = new Random(seed);
    }

    /** Starts a test's random numbers, which do not depend on which tests ran before: a failure repeats alone. */
    void begin(String test) {
        random.setSeed(seed + test.hashCode());
    }

    /** The seed of all tests. */
    long seed() {
        return seed;
    }

    /** A tensor, and its elements as the backend sees them. */
    public record Argument(Tensor tensor, double[] values) {}

    /** An activation of normally distributed numbers. */
    Argument activation(int... shape) {
        float[] values = normal(shape);
        return new Argument(backend.tensor(values, shape), Definitions.doubles(values));
    }

    Argument activation(float[] values, int... shape) {
        return new Argument(backend.tensor(values, shape), Definitions.doubles(values));
    }

    /** A weight of normally distributed numbers, rounded to its type; it lives as long as the backend's memory. */
    Argument weight(WeightRole role, DType type, int... shape) {
        return weight(role, type, normal(shape), shape);
    }

    Argument weight(WeightRole role, DType type, float[] values, int... shape) {
        MemorySegment data = weights.allocate(Math.max(1, type.bytes(values.length)), 64);
        encode(values, shape[shape.length - 1], type, data);
        HostTensor host = new HostTensor("case", type, shape, data.asSlice(0, type.bytes(values.length)));
        return new Argument(backend.weight(host, role), Definitions.doubles(host.toFloats()));
    }

    /** Writes numbers in a type, rows of {@code width} for types that have blocks. */
    static void encode(float[] values, int width, DType type, MemorySegment to) {
        if (type.isQuantized()) {
            if (values.length > 0)
                Quantization.quantize(values, width, type, to, 0);
            return;
        }
        for (int i = 0; i < values.length; i++)
            switch (type) {
            case F32 -> to.set(FLOAT, 4L * i, values[i]);
            case F16 -> to.set(SHORT, 2L * i, Float.floatToFloat16(values[i]));
            case BF16 -> to.set(SHORT, 2L * i, (short) (Float.floatToIntBits(values[i]) >>> 16));
            default -> throw new IllegalArgumentException("no cases for weights of type " + type);
            }
    }

    Argument matrix(DType type, int out, int in) {
        return weight(WeightRole.MATRIX, type, out, in);
    }

    Argument vector(int n) {
        return weight(WeightRole.VECTOR, DType.F32, n);
    }

    Tensor ids(int... values) {
        return backend.tensor(values, values.length);
    }

    int[] randomIds(int n, int bound) {
        return random.ints(n, 0, bound).toArray();
    }

    /** Normally distributed numbers. */
    float[] normal(int... shape) {
        float[] values = new float[Math.toIntExact(HostTensor.size(shape))];
        for (int i = 0; i < values.length; i++)
            values[i] = (float) random.nextGaussian();
        return values;
    }

    /** Compares within the backend's precision, relative to all elements and to the largest. */
    void check(String operation, Tensor actual, double[] expected, int... shape) {
        assertThat(actual.shape()).as(where(operation)).containsExactly(shape);
        check(operation, actual, expected);
    }

    void check(String operation, Tensor actual, double[] expected) {
        float[] values = actual.toFloats();
        assertThat(values.length).as(where(operation)).isEqualTo(expected.length);
        double difference = 0;
        double norm = 0;
        double largest = 0;
        double largestError = 0;
        for (int i = 0; i < values.length; i++) {
            if (!Double.isFinite(expected[i]) || Float.isNaN(values[i])) {
                assertThat(Double.valueOf(values[i])).as(where(operation) + ", element " + i)
                        .isEqualTo(Double.valueOf(expected[i]));
                continue;
            }
            double error = Math.abs(values[i] - expected[i]);
            difference += error * error;
            norm += expected[i] * expected[i];
            largest = Math.max(largest, Math.abs(expected[i]));
            largestError = Math.max(largestError, error);
        }
        // cases are drawn so that results are about one in size, but by chance a few elements may cancel to nothing, and
        // nothing is what no rounding is small beside
        if (values.length < 32) {
            norm = Math.max(norm, values.length / 4.0);
            largest = Math.max(largest, 0.5);
        }
        double relative = norm == 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
        scores.merge(operation, new Score(1, relative),
                (a, b) -> new Score(a.cases + b.cases, Math.max(a.largest, b.largest)));
        assertThat(relative).as(where(operation) + ", relative error").isLessThanOrEqualTo(backend.precision());
        // one element may be further off than the mean of all, but not by orders of magnitude
        assertThat(largestError).as(where(operation) + ", largest error")
                .isLessThanOrEqualTo(100 * backend.precision() * Math.max(largest, 1e-30));
    }

    /** Counts a case that was compared exactly, such as a drawn token. */
    void exact(String operation) {
        scores.merge(operation, new Score(1, 0), (a, b) -> new Score(a.cases + b.cases, a.largest));
    }

    private String where(String operation) {
        return operation + " on " + backend.name() + " (repeat with -D" + BackendConformance.SEED + "=" + seed + ")";
    }

    /** One line an operation: whether the backend has its own, the cases, and the largest relative error. */
    String report() {
        StringBuilder report = new StringBuilder("conformance of ").append(backend.name()).append(", precision ")
                .append(backend.precision()).append('\n');
        scores.forEach(
                (operation, score) -> report.append(String.format("  %-18s %-11s %4d cases, largest error %.1e%n",
                        operation, isOwn(operation) ? "implemented" : "inherited", score.cases, score.largest)));
        return report.toString();
    }

    /** An overload is scored by the name of its test. */
    private boolean isOwn(String score) {
        boolean cached = score.equals("attendCached");
        String operation = cached ? "attend" : score;
        for (Object ops : new Object[]{backend.tensorOps(), backend.attentionOps(), backend.moeOps(),
                backend.convOps()})
            for (var method : ops.getClass().getMethods())
                if (method.getName().equals(operation) && !method.getDeclaringClass().isInterface()
                        && (!operation.equals("attend")
                                || cached == List.class.isAssignableFrom(method.getParameterTypes()[1])))
                return true;
        return false;
    }

    @Override
    public void close() {
        weights.close();
    }
}
