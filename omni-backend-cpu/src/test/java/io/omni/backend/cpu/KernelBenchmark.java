package io.omni.backend.cpu;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import jdk.incubator.vector.FloatVector;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;

/**
 * The kernels at the model's widths, beside what the machine reads and multiplies in the same run:
 * {@code mvn -pl omni-backend-cpu -am test -Dtest=KernelBenchmark -Dsurefire.failIfNoSpecifiedTests=false}; one kernel
 * with {@code -Domni.benchmark=MOE_DECODE}.
 */
@State(org.openjdk.jmh.annotations.Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
public class KernelBenchmark {
    private static final int HIDDEN = 2048;
    private static final int VOCABULARY = 152_064;
    private static final int EXPERTS = 128;
    private static final int INNER = 768;
    private static final int TOP_K = 8;
    private static final long READ_BYTES = 256L << 20;
    private static final int MULTIPLY_ADDS = 1 << 22;

    /** What is timed, with the bytes it must read and the operations it must do. */
    public enum Kernel {
        READ_BANDWIDTH(READ_BYTES, 0), PEAK(0, 24.0 * MULTIPLY_ADDS), LINEAR_DECODE(2.0 * HIDDEN * HIDDEN, 2.0 * HIDDEN
                * HIDDEN), HEAD_DECODE(2.0 * HIDDEN * VOCABULARY, 2.0 * HIDDEN * VOCABULARY), LINEAR_PREFILL_256(
                        2.0 * HIDDEN * HIDDEN, 512.0 * HIDDEN * HIDDEN), MOE_DECODE(6.0 * TOP_K * INNER * HIDDEN,
                                6.0 * TOP_K * INNER * HIDDEN), MOE_PREFILL_256(6.0 * EXPERTS * INNER * HIDDEN,
                                        256 * 6.0 * TOP_K * INNER * HIDDEN), ATTENTION_DECODE_1K(8.0 * 1024 * 512,
                                                4.0 * 1024 * 4096), ATTENTION_DECODE_8K(8.0 * 8192 * 512,
                                                        4.0 * 8192 * 4096), ATTENTION_PREFILL_1K(0,
                                                                2.0 * 1024 * 1024 * 4096), CONV1D_K7(
                                                                        4.0 * 384 * 384 * 7,
                                                                        2.0 * 384 * 384 * 7 * 2000), GELU(
                                                                                8.0 * 2000 * 384, 0);

        final double bytes;
        final double operations;

        Kernel(double bytes, double operations) {
            this.bytes = bytes;
            this.operations = operations;
        }
    }

    @Param
    private Kernel kernel;

    private final Arena arena = Arena.ofShared();
    private CpuBackend backend;
    private Supplier<Object> step;
    private int call;

    @Setup
    public void start() {
        backend = CpuTest.start(0);
        // never closed: it owns the inputs for as long as the backend is open
        backend.scope();
        step = prepare();
    }

    @TearDown
    public void stop() {
        // JMH may tear down on another thread than it measured on: closing the backend frees what the scope owns
        backend.close();
        arena.close();
    }

    @Benchmark
    public Object run() {
        try (Scope _ = backend.scope()) {
            return step.get();
        }
    }

    private Supplier<Object> prepare() {
        return switch (kernel) {
            case READ_BANDWIDTH -> {
                long address = arena.allocate(READ_BYTES, 64).fill((byte) 1).address();
                int parts = 64;
                float[] sums = new float[parts];
                yield () -> {
                    int floats = (int) (READ_BYTES / parts / 4);
                    backend.workers.run(parts, i -> sums[i] = read(address + 4L * floats * i, floats));
                    return sums;
                };
            }
            case PEAK -> {
                int threads = backend.workers.threads();
                float[] sums = new float[threads];
                yield () -> {
                    backend.workers.run(threads, i -> sums[i] = multiply(MULTIPLY_ADDS / Lanes.LANES, i));
                    return sums;
                };
            }
            case LINEAR_DECODE -> linear(1, HIDDEN);
            case HEAD_DECODE -> linear(1, VOCABULARY);
            case LINEAR_PREFILL_256 -> linear(256, HIDDEN);
            case MOE_DECODE -> moe(1);
            case MOE_PREFILL_256 -> moe(256);
            case ATTENTION_DECODE_1K -> attention(1024, 1);
            case ATTENTION_DECODE_8K -> attention(8192, 1);
            case ATTENTION_PREFILL_1K -> attention(1024, 1024);
            case CONV1D_K7 -> {
                Tensor x = activation(2000, 384);
                Tensor w = backend.weight(
                        HostTensor.of("conv", activation(384 * 7, 384).toFloats(), 384, 384, 7), WeightRole.CONV1D);
                yield () -> backend.convOps().conv1d(x, w, null, new Conv1d(1, 3, 1, 18, 0));
            }
            case GELU -> {
                Tensor x = activation(2000, 384);
                yield () -> backend.tensorOps().activation(x, Activation.GELU);
            }
        };
    }

    private Supplier<Object> linear(int rows, int out) {
        Tensor x = activation(rows, HIDDEN);
        Tensor w = matrix(out, HIDDEN);
        return () -> backend.tensorOps().linear(x, w);
    }

    private Supplier<Object> moe(int tokens) {
        List<Tensor> gate = new ArrayList<>();
        List<Tensor> up = new ArrayList<>();
        List<Tensor> down = new ArrayList<>();
        for (int i = 0; i < EXPERTS; i++) {
            gate.add(matrix(INNER, HIDDEN));
            up.add(matrix(INNER, HIDDEN));
            down.add(matrix(HIDDEN, INNER));
        }
        MoeWeights weights = new MoeWeights(matrix(EXPERTS, HIDDEN), gate, up, down, null);
        // other tokens each time, so that experts come from memory and not from a cache
        List<Tensor> x = new ArrayList<>();
        for (int i = 0; i < 32; i++)
            x.add(activation(tokens, HIDDEN));
        return () -> backend.moeOps().moe(x.get(call++ % x.size()), weights, TOP_K, true);
    }

    private Supplier<Object> attention(int length, int queries) {
        Attention attention = new Attention(32, 4, 128, true, 0);
        KvCache cache = backend.cache(new CacheSpec(1, 4, 128, 0));
        Tensor kv = activation(length, 512);
        backend.attentionOps().append(List.of(cache), 0, kv, kv, Packed.ofLengths(length));
        Tensor q = activation(queries, 4096);
        Packed packed = Packed.ofLengths(queries);
        return () -> backend.attentionOps().attend(q, List.of(cache), 0, packed, attention);
    }

    private final Random random = new Random(7);

    private Tensor activation(int... shape) {
        float[] values = new float[(int) HostTensor.size(shape)];
        for (int i = 0; i < values.length; i++)
            values[i] = random.nextFloat() - 0.5f;
        return backend.tensor(values, shape);
    }

    private Tensor matrix(int out, int in) {
        MemorySegment data = arena.allocate(2L * out * in, 64);
        for (long i = 0; i < (long) out * in; i++)
            data.set(ValueLayout.JAVA_SHORT, 2 * i, (short) (random.nextInt() & 0x80ff | 0x3c00));
        return backend.weight(new HostTensor("matrix", DType.BF16, new int[]{out, in}, data), WeightRole.MATRIX);
    }

    private static float read(long address, int floats) {
        FloatVector a = FloatVector.zero(Lanes.F);
        FloatVector b = a;
        FloatVector c = a;
        FloatVector d = a;
        for (int i = 0; i < floats; i += 4 * Lanes.LANES) {
            a = a.add(Lanes.load(address + 4L * i));
            b = b.add(Lanes.load(address + 4L * i + Lanes.BYTES));
            c = c.add(Lanes.load(address + 4L * i + 2 * Lanes.BYTES));
            d = d.add(Lanes.load(address + 4L * i + 3 * Lanes.BYTES));
        }
        return Lanes.sum(a.add(b).add(c.add(d)));
    }

    /** Twelve multiply-adds of all lanes a round, enough to hide their latency. */
    private static float multiply(int rounds, float start) {
        FloatVector x = Lanes.broadcast(0.5f + start * 1e-6f);
        FloatVector y = Lanes.broadcast(0.25f);
        FloatVector a0 = x;
        FloatVector a1 = x;
        FloatVector a2 = x;
        FloatVector a3 = x;
        FloatVector a4 = x;
        FloatVector a5 = x;
        FloatVector a6 = x;
        FloatVector a7 = x;
        FloatVector a8 = x;
        FloatVector a9 = x;
        FloatVector a10 = x;
        FloatVector a11 = x;
        for (int i = 0; i < rounds; i++) {
            a0 = x.fma(y, a0);
            a1 = x.fma(y, a1);
            a2 = x.fma(y, a2);
            a3 = x.fma(y, a3);
            a4 = x.fma(y, a4);
            a5 = x.fma(y, a5);
            a6 = x.fma(y, a6);
            a7 = x.fma(y, a7);
            a8 = x.fma(y, a8);
            a9 = x.fma(y, a9);
            a10 = x.fma(y, a10);
            a11 = x.fma(y, a11);
        }
        return Lanes.sum(a0.add(a1).add(a2.add(a3)).add(a4.add(a5).add(a6.add(a7))).add(a8.add(a9).add(a10.add(a11))));
    }

    @Test
    void report() throws RunnerException {
        // the other widths' runs of the same test would only repeat this one
        Assumptions.assumeTrue(System.getProperty(VectorWidth.PROPERTY) == null || Boolean.getBoolean("omni.widths"));
        OptionsBuilder options = new OptionsBuilder();
        options.include(KernelBenchmark.class.getSimpleName()).forks(1)
                .jvmArgs("--add-modules", "jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED")
                .warmupIterations(2).warmupTime(TimeValue.seconds(2)).measurementIterations(2)
                .measurementTime(TimeValue.seconds(2));
        String only = System.getProperty("omni.benchmark");
        if (only != null)
            options.param("kernel", ("READ_BANDWIDTH,PEAK," + only).split(","));
        print(new Runner(options.build()).run());
    }

    private static void print(Collection<RunResult> results) {
        double bandwidth = 0;
        double peak = 0;
        System.out.printf("%-22s %12s %12s %8s %12s %8s%n", "kernel", "best µs", "GB/s", "of read", "GFLOP/s",
                "of peak");
        for (RunResult result : results) {
            Kernel kernel = Kernel.valueOf(result.getParams().getParam("kernel"));
            // the best, since others may use the machine too
            double micros = result.getPrimaryResult().getStatistics().getMin();
            double rate = kernel.bytes / micros / 1e3;
            double operations = kernel.operations / micros / 1e3;
            if (kernel == Kernel.PEAK)
                operations *= Runtime.getRuntime().availableProcessors();
            if (kernel == Kernel.READ_BANDWIDTH)
                bandwidth = rate;
            if (kernel == Kernel.PEAK)
                peak = operations;
            System.out.printf("%-22s %12.1f %12.1f %7.0f%% %12.1f %7.0f%%%n", kernel, micros, rate,
                    100 * rate / bandwidth, operations, 100 * operations / peak);
        }
    }
}
