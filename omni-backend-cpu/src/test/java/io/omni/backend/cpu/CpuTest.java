package io.omni.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.BackendProvider;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostTensor;
import io.omni.api.Quantization;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;

/** A backend and a scope for each test, random tensors by a printed seed, and comparison with the definitions. */
abstract class CpuTest {
    static final DType[] TYPES = {DType.F32, DType.BF16, DType.F16};
    static final DType[] BLOCKS = {DType.Q8, DType.Q4};

    final long seed = Long.getLong("omni.test.seed", new Random().nextInt(1_000_000));
    final Random random = new Random(seed);
    final Arena arena = Arena.ofShared();
    CpuBackend backend;
    Scope scope;

    @BeforeEach
    void open() {
        BackendProvider provider = new CpuBackendProvider();
        if (provider.availability() instanceof BackendProvider.Availability.Unavailable(String reason))
            Assumptions.abort(reason);
        System.out.println(getClass().getSimpleName() + " -Domni.test.seed=" + seed);
        backend = start(2);
        scope = backend.scope();
    }

    @AfterEach
    void close() {
        if (scope == null)
            return;
        scope.close();
        backend.close();
        arena.close();
    }

    static CpuBackend start(int threads) {
        return (CpuBackend) new CpuBackendProvider().create(new BackendOptions(threads, Map.of()));
    }

    /** From 0 to {@code most}, small numbers and multiples of a vector more often. */
    int size(int most) {
        return switch (random.nextInt(4)) {
            case 0 -> random.nextInt(Math.min(most, 5) + 1);
            case 1 -> Math.min(most, 16 * random.nextInt(1 + most / 16));
            default -> random.nextInt(most + 1);
        };
    }

    float[] floats(long n) {
        float[] values = new float[Math.toIntExact(n)];
        for (int i = 0; i < values.length; i++)
            values[i] = (float) random.nextGaussian();
        return values;
    }

    Tensor activation(int... shape) {
        return backend.tensor(floats(HostTensor.size(shape)), shape);
    }

    Tensor ids(int limit, int... shape) {
        return backend.tensor(random.ints(HostTensor.size(shape), 0, limit).toArray(), shape);
    }

    /** In native memory at an odd address half of the time, else on the heap. */
    HostTensor host(DType dtype, int... shape) {
        float[] values = floats(HostTensor.size(shape));
        long bytes = dtype.bytes(values.length);
        MemorySegment data = random.nextBoolean()
                ? arena.allocate(bytes + 1).asSlice(1, bytes)
                : MemorySegment.ofArray(new byte[Math.toIntExact(bytes)]);
        if (dtype.isQuantized())
            Quantization.quantize(values, shape[1], dtype, data, 0);
        else
            for (int i = 0; i < values.length; i++)
                switch (dtype) {
                case F32 -> data.set(Lanes.FLOAT, 4L * i, values[i]);
                case BF16 -> data.set(Lanes.SHORT, 2L * i, (short) (Float.floatToRawIntBits(values[i]) >> 16));
                default -> data.set(Lanes.SHORT, 2L * i, Float.floatToFloat16(values[i]));
                }
        return new HostTensor("weight", dtype, shape, data);
    }

    /** Of any type that the role and the shape allow. */
    Tensor weight(WeightRole role, int... shape) {
        if (role == WeightRole.MATRIX && Quantization.fits(DType.Q8, shape) && random.nextBoolean())
            return weight(BLOCKS[random.nextInt(BLOCKS.length)], role, shape);
        return weight(TYPES[random.nextInt(TYPES.length)], role, shape);
    }

    Tensor weight(DType dtype, WeightRole role, int... shape) {
        return backend.weight(host(dtype, shape), role);
    }

    static double[] doubles(Tensor x) {
        return x == null ? null : Definitions.doubles(x.toFloats());
    }

    /** Relative error in L2, and NaN and infinities where they are expected. */
    static void assertClose(Tensor actual, double[] expected, String what) {
        assertClose(actual.toFloats(), expected, 1e-5, what);
    }

    static void assertClose(float[] actual, double[] expected, double tolerance, String what) {
        assertThat(actual.length).as(what).isEqualTo(expected.length);
        double error = 0;
        double norm = 0;
        for (int i = 0; i < expected.length; i++) {
            if (!Double.isFinite(expected[i]) || !Float.isFinite(actual[i])) {
                assertThat(actual[i]).as("%s [%d]", what, i).isEqualTo((float) expected[i]);
                continue;
            }
            error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        assertThat(Math.sqrt(error)).as(what).isLessThanOrEqualTo(tolerance * Math.sqrt(norm) + 1e-30);
    }

    static Backend other() {
        return start(1);
    }
}
