package io.omni.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.BackendProvider.Availability.Available;
import io.omni.api.BackendProvider.Availability.Unavailable;
import io.omni.api.Backends;
import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.OutOfMemoryException;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What the host does: providing, scopes, memory, streams. */
class CudaBackendTest {
    private static EmulatedDriver driver(long memory) {
        assumeTrue(Emulation.missing() == null, Emulation.missing());
        return new EmulatedDriver(0, memory);
    }

    private static CudaBackend backend(EmulatedDriver driver, long memory, boolean graphs) {
        return new CudaBackend(driver, new CudaOptions(DType.F32, memory, 1 << 20, graphs));
    }

    @Test
    void saysWhyItIsNotAvailable() {
        var availability = new CudaBackendProvider().availability();
        if (availability instanceof Available(var device)) {
            assertThat(device.name()).isNotBlank();
            assertThat(device.totalMemory()).isPositive();
            return;
        }
        String reason = ((Unavailable) availability).reason();
        assertThat(reason).isNotBlank().doesNotContain("\n");
        if (!java.nio.file.Files.exists(java.nio.file.Path.of("/usr/lib/x86_64-linux-gnu/libcuda.so.1")))
            assertThat(reason).isEqualTo("no NVIDIA driver: libcuda.so.1 not found");
        assertThatThrownBy(() -> Backends.load("cuda")).isInstanceOf(BackendException.class)
                .hasMessageContaining(reason);
        assertThatThrownBy(() -> new CudaBackendProvider().create(BackendOptions.defaults()))
                .isInstanceOf(BackendException.class).hasMessageContaining(reason);
    }

    @Test
    void saysWhenJCudaDoesNotLoad() {
        assumeTrue(new CudaBackendProvider().availability() instanceof Unavailable, "there is a card");
        assertThatThrownBy(NvidiaDriver::open).isInstanceOf(BackendException.class)
                .hasMessageStartingWith("JCuda's native library does not load");
    }

    @Test
    void readsItsProperties() {
        assertThat(CudaOptions.of(Map.of())).isEqualTo(new CudaOptions(DType.BF16, 0, 64 << 20, false));
        assertThat(CudaOptions.of(Map.of("precision", "f32", "memory", "3G", "graphs", "true")))
                .isEqualTo(new CudaOptions(DType.F32, 3L << 30, 64 << 20, true));
        assertThat(CudaOptions.of(Map.of("precision", "f16")).compute()).isEqualTo(DType.F16);
        System.setProperty("omni.cuda.precision", "f32");
        try {
            assertThat(CudaOptions.of(Map.of()).compute()).isEqualTo(DType.F32);
            assertThat(CudaOptions.of(Map.of("precision", "bf16")).compute()).isEqualTo(DType.BF16);
        } finally {
            System.clearProperty("omni.cuda.precision");
        }
        assertThat(CudaOptions.of(Map.of("memory", "500")).memory()).isEqualTo(500);
        assertThatThrownBy(() -> CudaOptions.of(Map.of("precision", "f8"))).hasMessageContaining("bf16, f16 or f32");
        for (String wrong : new String[]{"", "g", "many", "-4g", "99999999999999999999g", "9999999999999g"})
            assertThatThrownBy(() -> CudaOptions.of(Map.of("memory", wrong))).as(wrong)
                    .isInstanceOf(IllegalArgumentException.class).hasMessageContaining(wrong);
    }

    @Test
    void saysWhatMemoryWasAskedFor() {
        try (CudaBackend backend = backend(driver(1L << 30), 4 << 20, false); Scope scope = backend.scope()) {
            Tensor three = scope.detach(backend.tensor(new float[3 << 18], 3 << 18));
            assertThatThrownBy(() -> backend.tensor(new float[1 << 19], 1 << 19))
                    .isInstanceOf(OutOfMemoryException.class)
                    .hasMessageContaining("asked for 2097152 bytes").hasMessageContaining("1048576 are free");
            three.close();
            // the slab of the first is given back, since it is too large to lie idle beside this
            assertThat(backend.tensor(new float[1 << 19], 1 << 19).toFloats()).hasSize(1 << 19);
            assertThat(backend.allocatedBytes()).isLessThanOrEqualTo(4 << 20);
        }
        try (CudaBackend backend = backend(driver(1 << 20), 1L << 30, false); Scope scope = backend.scope()) {
            assertThat(scope).isNotNull();
            assertThatThrownBy(() -> backend.tensor(new float[1 << 20], 1 << 20))
                    .isInstanceOf(OutOfMemoryException.class).hasMessageContaining("taken by other programs");
        }
    }

    @Test
    void scopesOwnTensors() {
        try (CudaBackend backend = backend(driver(1L << 30), 1L << 28, false)) {
            assertThatThrownBy(() -> backend.tensor(new float[1], 1)).isInstanceOf(IllegalStateException.class);
            Scope outer = backend.scope();
            Tensor kept;
            Tensor detached;
            Tensor dropped;
            try (Scope inner = backend.scope()) {
                kept = inner.keep(backend.tensor(new float[]{1}, 1));
                detached = inner.detach(backend.tensor(new float[]{2}, 1));
                dropped = backend.tensor(new float[]{3}, 1);
                assertThatThrownBy(outer::close).isInstanceOf(IllegalStateException.class);
            }
            assertThatThrownBy(dropped::toFloats).isInstanceOf(IllegalStateException.class);
            assertThat(kept.toFloats()).containsExactly(1);
            outer.close();
            outer.close();
            assertThatThrownBy(kept::toFloats).isInstanceOf(IllegalStateException.class);
            assertThat(detached.toFloats()).containsExactly(2);
            detached.close();
            detached.close();
        }
    }

    @Test
    void refusesWhatIsNotIts() {
        try (CudaBackend one = backend(driver(1L << 30), 1L << 28, false);
                CudaBackend other = backend(driver(1L << 30), 1L << 28, false);
                Scope scope = one.scope();
                Scope otherScope = other.scope()) {
            assertThat(scope).isNotSameAs(otherScope);
            Tensor mine = one.tensor(new float[]{1}, 1);
            Tensor theirs = other.tensor(new float[]{1}, 1);
            assertThatThrownBy(() -> one.tensorOps().add(mine, theirs)).isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> one.tensorOps().add(theirs, theirs)).isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> one.weight(new HostTensor("w", DType.I8, new int[]{1},
                    java.lang.foreign.MemorySegment.ofArray(new byte[1])), WeightRole.VECTOR))
                    .isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> one.weight(HostTensor.of("w", new float[1], 1), WeightRole.MATRIX))
                    .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("w of shape [1] as MATRIX");
            assertThatThrownBy(() -> one.tensorOps().sampler(new Sampling(true, 1, 0, 1, 1, new int[]{9}, 0), 9,
                    new int[0])).isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(
                    () -> one.tensorOps().sample(one.tensor(new float[4], 1, 4),
                            List.of(other.tensorOps().sampler(Sampling.greedy(), 4, new int[0]))))
                    .isInstanceOf(IllegalArgumentException.class);
        }
    }

    /** Every launch of a step is in a graph once the step has come three times. */
    @Test
    void replaysRepeatedSteps() {
        EmulatedDriver driver = driver(1L << 30);
        try (CudaBackend backend = backend(driver, 1L << 28, true)) {
            float[] w = new float[16 * 16];
            for (int i = 0; i < 16; i++)
                w[17 * i] = 0.5f;
            Tensor weight = backend.weight(HostTensor.of("w", w, 16, 16), WeightRole.MATRIX);
            int launches = 0;
            for (int step = 0; step < 6; step++) {
                try (Scope scope = backend.scope()) {
                    assertThat(scope).isNotNull();
                    Tensor x = backend.tensor(new float[]{step, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 1,
                            16);
                    for (int i = 0; i < 100; i++)
                        x = backend.tensorOps().linear(x, weight);
                    assertThat(x.toFloats()[0]).isEqualTo(step * (float) Math.pow(0.5, 100));
                }
                if (step == 3)
                    launches = driver.launches;
            }
            assertThat(driver.replays).isGreaterThanOrEqualTo(6);
            assertThat(driver.launches).isEqualTo(launches);
            weight.close();
        }
    }

    /**
     * Fifteen steps that feed each other, as those of a codec frame do, between two reads by the host: two graphs in all,
     * with the codes that come without graphs.
     */
    @Test
    void replaysAFrame() {
        List<int[]> expected = new ArrayList<>();
        frames(driver(1L << 30), false, (frame, codes) -> expected.add(codes));
        assertThat(expected.stream().map(Arrays::toString).distinct().count()).isGreaterThan(1);
        EmulatedDriver driver = driver(1L << 30);
        int[] counts = new int[2];
        frames(driver, true, (frame, codes) -> {
            assertThat(codes).as("frame %d", frame).isEqualTo(expected.get(frame));
            if (frame > 2) {
                assertThat(driver.launches - counts[0]).as("launches of frame %d", frame).isLessThan(4);
                assertThat(driver.replays - counts[1]).as("graphs of frame %d", frame).isEqualTo(2);
            }
            counts[0] = driver.launches;
            counts[1] = driver.replays;
        });
    }

    private static void frames(EmulatedDriver driver, boolean graphs, BiConsumer<Integer, int[]> made) {
        int width = 32;
        int codebook = 40;
        Random random = new Random(3);
        try (CudaBackend backend = backend(driver, 1L << 28, graphs)) {
            TensorOps ops = backend.tensorOps();
            AttentionOps attention = backend.attentionOps();
            Attention shape = new Attention(1, 1, width, true, 0);
            Rope rope = Rope.standard(width, 1e4);
            Tensor weight = random(backend, random, width, width);
            Tensor head = random(backend, random, codebook, width);
            Tensor embeddings = random(backend, random, codebook, width);
            List<KvCache> cache = List.of(backend.cache(new CacheSpec(1, 1, width, 0)));
            List<Sampler> sampler = List.of(ops.sampler(new Sampling(true, 1, 20, 0.9f, 1, new int[0], 7), codebook,
                    new int[0]));
            for (int frame = 0; frame < 7; frame++) {
                try (Scope scope = backend.scope()) {
                    assertThat(scope).isNotNull();
                    cache.getFirst().truncate(0);
                    float[] positions = new float[15];
                    for (int i = 0; i < 15; i++)
                        positions[i] = i;
                    Tensor input = ops.embedding(embeddings, backend.tensor(new int[]{frame}, 1));
                    Tensor table = attention.rotaryTable(backend.tensor(positions, 1, 15), rope);
                    List<Tensor> codes = new ArrayList<>();
                    for (int step = 0; step < 15; step++) {
                        Tensor h = ops.linear(input, weight);
                        Tensor turned = attention.rotary(h, null, 0, ops.slice(table, step, step + 1));
                        attention.append(cache, 0, turned, h, Packed.ofLengths(1));
                        h = ops.add(input, attention.attend(turned, cache, 0, Packed.ofLengths(1), shape));
                        codes.add(ops.sample(ops.linear(h, head), sampler));
                        input = ops.embedding(embeddings, codes.getLast());
                    }
                    made.accept(frame, ops.concat(codes).toInts());
                }
            }
            sampler.getFirst().close();
            cache.getFirst().close();
            List.of(weight, head, embeddings).forEach(Tensor::close);
        }
    }

    private static Tensor random(CudaBackend backend, Random random, int... shape) {
        float[] values = new float[shape[0] * shape[1]];
        for (int i = 0; i < values.length; i++)
            values[i] = (float) random.nextGaussian() / 3;
        return backend.weight(HostTensor.of("w", values, shape), WeightRole.MATRIX);
    }

    /**
     * A pipeline of threads, as Thinker, Talker and Code2Wav are: what one makes the next reads and closes, all read the
     * same weight, and memory is so short that they take over each other's.
     */
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void pipelinesThreads(boolean graphs) throws Exception {
        int width = 64;
        int rounds = 200;
        EmulatedDriver driver = driver(1L << 30);
        try (CudaBackend backend = backend(driver, 26 << 10, graphs)) {
            float[] w = new float[width * width];
            for (int i = 0; i < width; i++)
                w[i * width + i] = 2;
            Tensor weight = backend.weight(HostTensor.of("w", w, width, width), WeightRole.MATRIX);
            List<ArrayBlockingQueue<Tensor>> queues = List.of(new ArrayBlockingQueue<>(4), new ArrayBlockingQueue<>(4),
                    new ArrayBlockingQueue<>(4));
            var threads = Executors.newFixedThreadPool(3);
            try {
                List<Future<?>> stages = new ArrayList<>();
                stages.add(threads.submit(() -> {
                    for (int i = 0; i < rounds; i++)
                        try (Scope scope = backend.scope()) {
                            float[] x = new float[width];
                            Arrays.fill(x, i);
                            queues.get(0)
                                    .put(scope.detach(backend.tensorOps().linear(backend.tensor(x, 1, width), weight)));
                        }
                    return null;
                }));
                for (int stage = 0; stage < 2; stage++) {
                    int from = stage;
                    stages.add(threads.submit(() -> {
                        for (int i = 0; i < rounds; i++)
                            try (Scope scope = backend.scope()) {
                                Tensor x = queues.get(from).take();
                                Tensor y = x;
                                for (int layer = 0; layer < 3; layer++)
                                    y = backend.tensorOps().linear(y, weight);
                                queues.get(from + 1).put(scope.detach(y));
                                x.close();
                            }
                        return null;
                    }));
                }
                for (int i = 0; i < rounds; i++) {
                    Tensor y = queues.get(2).poll(20, TimeUnit.SECONDS);
                    if (y == null)
                        break;
                    assertThat(y.toFloats()).containsOnly(i * 128f);
                    y.close();
                }
                for (Future<?> stage : stages)
                    stage.get(5, TimeUnit.SECONDS);
            } finally {
                // a stage that failed leaves the others waiting for it
                threads.shutdownNow();
            }
            assertThat(backend.allocatedBytes()).isLessThanOrEqualTo(26 << 10);
            weight.close();
        }
    }

    @Test
    void cutsKeysIntoParts() {
        assertThat(CudaAttentionOps.parts(4, 100, 132)).isEqualTo(1);
        assertThat(CudaAttentionOps.parts(4, 4096, 132)).isEqualTo(16);
        assertThat(CudaAttentionOps.parts(4, 4097, 132)).isEqualTo(16);
        assertThat(CudaAttentionOps.parts(1000, 4096, 132)).isEqualTo(1);
        assertThat(CudaAttentionOps.parts(1, 1 << 20, 132)).isEqualTo(64);
    }

    /** However the choices fall on the experts, there are tiles for them. */
    @Test
    void plansEnoughTiles() {
        for (int choices : new int[]{1, 5, 63, 64, 65, 1000})
            for (int experts : new int[]{1, 4, 128}) {
                // all but one expert with one choice over a multiple of the tile
                int left = choices;
                int tiles = 0;
                for (int e = 0; e < experts && left > 0; e++) {
                    int mine = e == experts - 1 ? left : 1;
                    left -= mine;
                    tiles += Math.ceilDiv(mine, 64);
                }
                assertThat(CudaMoeOps.tiles(choices, experts, 64)).isGreaterThanOrEqualTo(tiles);
            }
    }
}
