package io.omni.backend.cuda;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.BackendOptions;
import io.omni.api.CacheSpec;
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
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Times operations at the Thinker's real widths on a card, each beside what its bytes or its arithmetic need. Inputs are
 * random; a decode step goes through several layers' weights, so that they do not stay in the card's cache. Run by
 * verify-on-gpu.sh.
 */
final class Bench {
    private static final int HIDDEN = 2048;
    private static final int EXPERTS = 128;
    private static final int INTERMEDIATE = 768;
    private static final int TOP_K = 8;
    private static final int LAYERS = 4;
    private static final Attention ATTENTION = new Attention(32, 4, 128, true, 0);

    private final CudaBackend backend;
    private final Random random = new Random(1);
    private final short[] numbers = new short[2 * 4096 * HIDDEN];

    private Bench(CudaBackend backend) {
        this.backend = backend;
        for (int i = 0; i < numbers.length; i++)
            numbers[i] = (short) (Float.floatToRawIntBits((float) (random.nextDouble() - 0.5) / 8) >> 16);
    }

    public static void main(String[] args) {
        for (String graphs : new String[]{"false", "true"})
            try (CudaBackend backend = (CudaBackend) new CudaBackendProvider()
                    .create(new BackendOptions(0, Map.of("graphs", graphs)))) {
                        System.out.println(backend.device() + ", graphs " + graphs);
                        new Bench(backend).run();
                    }
    }

    private void run() {
        List<MoeWeights> moe = new ArrayList<>();
        List<Tensor> projections = new ArrayList<>();
        for (int layer = 0; layer < LAYERS; layer++) {
            List<Tensor> gate = new ArrayList<>();
            List<Tensor> up = new ArrayList<>();
            List<Tensor> down = new ArrayList<>();
            for (int e = 0; e < EXPERTS; e++) {
                gate.add(weight(INTERMEDIATE, HIDDEN));
                up.add(weight(INTERMEDIATE, HIDDEN));
                down.add(weight(HIDDEN, INTERMEDIATE));
            }
            moe.add(new MoeWeights(weight(EXPERTS, HIDDEN), gate, up, down, null));
            projections.add(weight(4096, HIDDEN));
        }
        for (int n : new int[]{1, 8, 30, 512, 4096}) {
            double bytes = 2.0 * 4096 * HIDDEN;
            double operations = 2.0 * n * 4096 * HIDDEN;
            time("linear 2048 to 4096, " + n + " tokens", bytes, operations, n, (x, i) -> backend.tensorOps().linear(x,
                    projections.get(i % LAYERS), null, Activation.NONE));
            // how many experts the tokens visit together, if they choose evenly
            double visited = EXPERTS * (1 - Math.pow(1 - (double) TOP_K / EXPERTS, n));
            time("moe, " + n + " tokens", 2.0 * 3 * visited * INTERMEDIATE * HIDDEN,
                    2.0 * 3 * n * TOP_K * INTERMEDIATE * HIDDEN, n,
                    (x, i) -> backend.moeOps().moe(x, moe.get(i % LAYERS), TOP_K, true));
        }
        for (int length : new int[]{512, 4096, 32768}) {
            try (KvCache cache = backend.cache(new CacheSpec(1, 4, 128, 0)); Scope scope = backend.scope()) {
                for (int at = 0; at < length; at += 512)
                    try (Scope inner = backend.scope()) {
                        Tensor keys = inner.keep(activation(512, 512));
                        backend.attentionOps().append(List.of(cache), 0, keys, keys, Packed.ofLengths(512));
                    }
                Tensor q = scope.keep(activation(1, 4096));
                time("attend, 1 token over " + length, 2.0 * 2 * length * 512, 4.0 * length * 4096, 1, (x, i) -> backend
                        .attentionOps().attend(q, List.of(cache), 0, Packed.ofLengths(1), ATTENTION));
            }
        }
        for (int n : new int[]{512, 4096})
            try (Scope scope = backend.scope()) {
                Tensor q = scope.keep(activation(n, 4096));
                Tensor k = scope.keep(activation(n, 512));
                Packed packed = Packed.ofLengths(n);
                time("attend, " + n + " tokens at once", 2.0 * n * (2 * 4096 + 2 * 512), 2.0 * n * n * 4096, n,
                        (x, i) -> backend.attentionOps().attend(q, k, k, packed, ATTENTION));
            }
    }

    private interface Operation {
        Tensor run(Tensor x, int round);
    }

    private void time(String what, double bytes, double operations, int n, Operation operation) {
        int rounds = 64;
        double[] micros = new double[9];
        try (Scope scope = backend.scope()) {
            Tensor x = scope.keep(activation(n, HIDDEN));
            for (int sample = -3; sample < micros.length; sample++) {
                backend.stream().synchronize();
                long start = System.nanoTime();
                for (int i = 0; i < rounds; i++)
                    // what an operation makes on its way is freed too
                    try (Scope round = backend.scope()) {
                        operation.run(x, i);
                    }
                backend.stream().synchronize();
                if (sample >= 0)
                    micros[sample] = (System.nanoTime() - start) / 1e3 / rounds;
            }
        }
        Arrays.sort(micros);
        double median = micros[micros.length / 2];
        System.out.printf("%-36s %9.1f us  %7.0f GB/s  %7.1f TFLOP/s%n", what, median, bytes / median / 1e3,
                operations / median / 1e6);
    }

    private Tensor activation(int... shape) {
        float[] values = new float[(int) HostTensor.size(shape)];
        for (int i = 0; i < values.length; i++)
            values[i] = (float) random.nextGaussian();
        return backend.tensorOps().activation(backend.tensor(values, shape), Activation.NONE);
    }

    private Tensor weight(int... shape) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment data = arena.allocate(2 * HostTensor.size(shape), 16);
            // the same numbers from another place on, since drawing all of them would take longer than the bench
            int start = random.nextInt(numbers.length / 2);
            MemorySegment.copy(numbers, start, data, ValueLayout.JAVA_SHORT, 0, (int) HostTensor.size(shape));
            return backend.weight(new HostTensor("weight", DType.BF16, shape, data), WeightRole.MATRIX);
        }
    }
}
