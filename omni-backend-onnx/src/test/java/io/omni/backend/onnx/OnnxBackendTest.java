package io.omni.backend.onnx;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.ConvOps;
import io.omni.api.DType;
import io.omni.api.HostKvCache;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeOps;
import io.omni.api.MoeWeights;
import io.omni.api.OutOfMemoryException;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Every operation against the default that omni-api gives it, fused and composed. */
class OnnxBackendTest {
    private final Random random = new Random(7);
    private OnnxBackend backend = open(true);

    private static OnnxBackend open(boolean fused) {
        return new OnnxBackend(new BackendOptions(2, Map.of("fused", String.valueOf(fused))));
    }

    @AfterEach
    void close() {
        backend.close();
        backend.close();
        assertThat(backend.allocatedBytes()).as("nothing leaks").isZero();
    }

    private void fused(boolean on) {
        backend.close();
        backend = open(on);
    }

    private TensorOps ops() {
        return backend.tensorOps();
    }

    private TensorOps plain() {
        return () -> backend;
    }

    private float[] floats(int n) {
        float[] values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = (float) random.nextGaussian();
        return values;
    }

    private Tensor random(int... shape) {
        return backend.tensor(floats((int) HostTensor.size(shape)), shape);
    }

    private Tensor weight(WeightRole role, DType dtype, int... shape) {
        float[] values = floats((int) HostTensor.size(shape));
        MemorySegment data = Arena.ofAuto().allocate(dtype.bytes(values.length));
        for (int i = 0; i < values.length; i++)
            switch (dtype) {
            case F32 -> data.setAtIndex(ValueLayout.JAVA_FLOAT, i, values[i]);
            case BF16 -> data.setAtIndex(ValueLayout.JAVA_SHORT, i,
                    (short) (Float.floatToIntBits(values[i]) >> 16));
            case F16 -> data.setAtIndex(ValueLayout.JAVA_SHORT, i, Float.floatToFloat16(values[i]));
            default -> throw new AssertionError(dtype);
            }
        return backend.weight(new HostTensor("w", dtype, shape, data), role);
    }

    private void agree(Tensor actual, Tensor expected) {
        agree(actual, expected, backend.precision());
    }

    private void agree(Tensor actual, Tensor expected, double precision) {
        assertThat(actual.shape()).isEqualTo(expected.shape());
        assertThat(actual.dtype()).isEqualTo(expected.dtype());
        float[] a = actual.toFloats();
        float[] e = expected.toFloats();
        double error = 0;
        double norm = 0;
        for (int i = 0; i < a.length; i++) {
            if (Float.isNaN(e[i])) {
                assertThat(a[i]).isNaN();
                continue;
            }
            error += ((double) a[i] - e[i]) * ((double) a[i] - e[i]);
            norm += (double) e[i] * e[i];
        }
        assertThat(Math.sqrt(error)).isLessThanOrEqualTo(precision * Math.sqrt(norm) + 1e-30);
    }

    @Test
    void hasTheFusedOperatorsOfTheBundledRuntime() {
        for (Fused operator : Fused.values())
            assertThat(backend.fuses(operator)).as("%s", operator).isTrue();
    }

    @ParameterizedTest
    @EnumSource(value = DType.class, names = {"F32", "BF16", "F16"})
    void linear(DType dtype) {
        try (Scope _ = backend.scope()) {
            Tensor w = weight(WeightRole.MATRIX, dtype, 24, 40);
            Tensor b = weight(WeightRole.VECTOR, dtype, 24);
            Tensor x = random(2, 3, 40);
            for (Activation f : Activation.values())
                agree(ops().linear(x, w, b, f), plain().linear(x, w, b, f));
            agree(ops().linear(x, w), plain().linear(x, w));
            agree(ops().linear(random(0, 40), w), backend.tensor(new float[0], 0, 24));
            Tensor up = weight(WeightRole.MATRIX, dtype, 24, 40);
            Tensor down = weight(WeightRole.MATRIX, dtype, 40, 24);
            agree(ops().gatedMlp(x, w, up, down), plain().gatedMlp(x, w, up, down));
        }
    }

    @Test
    void largeWeightsAreWidenedInBlocks() {
        try (Scope _ = backend.scope()) {
            Tensor w = weight(WeightRole.MATRIX, DType.BF16, 5000, 1001);
            assertThat(((OnnxArray) w).blocks()).hasSize(5);
            Tensor b = weight(WeightRole.VECTOR, DType.BF16, 5000);
            Tensor x = random(3, 1001);
            agree(ops().linear(x, w, b, Activation.SILU), plain().linear(x, w, b, Activation.SILU));
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void elementwise(boolean fused) {
        fused(fused);
        try (Scope _ = backend.scope()) {
            Tensor a = random(2, 7, 12);
            Tensor b = random(2, 7, 12);
            Tensor v = weight(WeightRole.VECTOR, DType.BF16, 12);
            Tensor u = weight(WeightRole.VECTOR, DType.F32, 12);
            agree(ops().rmsNorm(a, v, 1e-6f), plain().rmsNorm(a, v, 1e-6f));
            Tensor far = ops().add(a, backend.tensor(filled(12, 100), 12));
            agree(ops().layerNorm(far, v, u, 1e-5f), plain().layerNorm(far, v, u, 1e-5f));
            agree(ops().add(a, b), plain().add(a, b));
            agree(ops().add(a, v), plain().add(a, v));
            agree(ops().multiply(a, b), plain().multiply(a, b));
            agree(ops().multiply(a, u), plain().multiply(a, u));
            agree(ops().addScaled(a, b, v), plain().addScaled(a, b, v));
            agree(ops().snakeBeta(a, v, u), plain().snakeBeta(a, v, u));
            for (Activation f : Activation.values())
                agree(ops().activation(a, f), plain().activation(a, f));
            Tensor odd = backend.tensor(new float[]{Float.NaN, -3, 3, 0.5f}, 4);
            agree(ops().clamp(odd, -1, 1), plain().clamp(odd, -1, 1));
        }
    }

    private static float[] filled(int n, float value) {
        float[] values = new float[n];
        Arrays.fill(values, value);
        return values;
    }

    @Test
    void rows() {
        try (Scope _ = backend.scope()) {
            Tensor table = weight(WeightRole.EMBEDDING, DType.BF16, 30, 8);
            Tensor ids = backend.tensor(new int[]{3, 29, 0, 3, 7, 8}, 2, 3);
            agree(ops().embedding(table, ids), plain().embedding(table, ids));
            agree(ops().embeddingBag(table, ids, null), plain().embeddingBag(table, ids, null));
            Tensor shares = random(2, 3);
            agree(ops().embeddingBag(table, ids, shares), plain().embeddingBag(table, ids, shares));
            assertThatThrownBy(() -> ops().embedding(table, backend.tensor(new int[]{30}, 1)))
                    .isInstanceOf(IllegalArgumentException.class);
            Tensor x = random(6, 8);
            agree(ops().slice(x, 2, 5), plain().slice(x, 2, 5));
            agree(ops().slice(x, 2, 2), plain().slice(x, 2, 2));
            assertThat(ops().slice(ids, 1, 2).toInts()).containsExactly(3, 7, 8);
            var parts = List.of(x, random(0, 8), random(2, 8));
            agree(ops().concat(parts), plain().concat(parts));
            assertThat(ops().concat(List.of(ids, ids)).shape()).containsExactly(4, 3);
            agree(ops().reshape(x, 2, 3, 8), plain().reshape(x, 2, 3, 8));
            Tensor cube = random(2, 3, 4);
            agree(ops().permute(cube, 2, 0, 1), plain().permute(cube, 2, 0, 1));
            Tensor index = backend.tensor(new int[]{4, 1}, 2);
            agree(ops().gather(x, index), plain().gather(x, index));
            Tensor rows = random(2, 8);
            agree(ops().scatter(x, index, rows), plain().scatter(x, index, rows));
            Tensor twice = backend.tensor(new int[]{4, 4}, 2);
            agree(ops().scatterAdd(x, twice, rows), plain().scatterAdd(x, twice, rows));
            var sampler = ops().sampler(Sampling.greedy(), 3, new int[0]);
            assertThat(ops().sample(backend.tensor(new float[]{1, 3, 2}, 1, 3), List.of(sampler)).toInts())
                    .containsExactly(1);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void rotaryAndPackedAttention(boolean fused) {
        fused(fused);
        AttentionOps ops = backend.attentionOps();
        AttentionOps plain = () -> backend;
        try (Scope _ = backend.scope()) {
            Tensor positions = backend.tensor(new float[]{0, 1, 2, 3000, 4.5f, 5, 1, 1, 2, 2, 7, 30000, 0, 3, 6, 9, 1,
                    131071}, 3, 6);
            Rope rope = Rope.multimodal(16, 1e6, 3, 3, 2);
            Tensor table = ops.rotaryTable(positions, rope);
            agree(table, plain.rotaryTable(positions, rope));
            Tensor q = random(6, 64);
            Tensor norm = weight(WeightRole.VECTOR, DType.BF16, 16);
            agree(ops.rotary(q, null, 0, table), plain.rotary(q, null, 0, table));
            agree(ops.rotary(q, norm, 1e-6f, table), plain.rotary(q, norm, 1e-6f, table));
            Tensor k = random(6, 32);
            Tensor v = random(6, 32);
            for (Packed packed : List.of(new Packed(0, 6), new Packed(0, 3, 6), new Packed(0, 1, 1, 4, 6)))
                for (boolean causal : new boolean[]{true, false})
                    for (int window : new int[]{0, 2}) {
                        var attention = new Attention(4, 2, 16, causal, window);
                        agree(ops.attend(q, k, v, packed, attention), plain.attend(q, k, v, packed, attention));
                    }
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void cachedAttention(boolean fused) {
        fused(fused);
        AttentionOps ops = backend.attentionOps();
        AttentionOps plain = () -> backend;
        for (int window : new int[]{0, 5}) {
            var spec = new CacheSpec(2, 2, 16, window);
            var attention = new Attention(4, 2, 16, true, window);
            List<KvCache> mine = List.of(backend.cache(spec), backend.cache(spec));
            List<KvCache> theirs = List.of(new HostKvCache(backend, spec), new HostKvCache(backend, spec));
            int[][] lengths = {{3, 1}, {1, 1}, {0, 7}, {70, 1}, {1, 66}, {1, 1}, {9, 130}, {1, 0}};
            for (int[] step : lengths)
                try (Scope _ = backend.scope()) {
                    var packed = Packed.ofLengths(step);
                    for (int layer = 0; layer < 2; layer++) {
                        Tensor q = ops().add(random(packed.tokens(), 64), random(64));
                        Tensor k = ops().add(random(packed.tokens(), 32), random(32));
                        Tensor v = random(packed.tokens(), 32);
                        ops.append(mine, layer, k, v, packed);
                        plain.append(theirs, layer, k, v, packed);
                        agree(ops.attend(q, mine, layer, packed, attention),
                                plain.attend(q, theirs, layer, packed, attention));
                    }
                }
            assertThat(mine.get(0).length(1)).isEqualTo(86);
            if (window > 0)
                assertThatThrownBy(() -> mine.get(1).truncate(3)).isInstanceOf(IllegalArgumentException.class);
            int shorter = mine.get(0).length(0) - (window > 0 ? 1 : 40);
            mine.get(0).truncate(shorter);
            theirs.get(0).truncate(shorter);
            var one = new Packed(0, 2);
            try (Scope _ = backend.scope()) {
                Tensor q = random(2, 64);
                Tensor k = random(2, 32);
                ops.append(mine.subList(0, 1), 0, k, k, one);
                plain.append(theirs.subList(0, 1), 0, k, k, one);
                // still pending when the cache changes
                Tensor pending = ops.attend(q, mine.subList(0, 1), 0, one, attention);
                Tensor expected = plain.attend(q, theirs.subList(0, 1), 0, one, attention);
                if (window == 0)
                    mine.get(0).truncate(5);
                else
                    mine.get(0).close();
                if (window == 0)
                    ops.append(mine.subList(0, 1), 0, q.dim(0) == 2 ? random(2, 32) : k, k, one);
                agree(pending, expected);
            }
            assertThat(mine.get(1).bytes()).isPositive();
            mine.forEach(KvCache::close);
            mine.forEach(KvCache::close);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 40})
    void mixtureOfExperts(int tokens) {
        MoeOps ops = backend.moeOps();
        MoeOps plain = () -> backend;
        try (Scope _ = backend.scope()) {
            List<Tensor> gate = new ArrayList<>();
            List<Tensor> up = new ArrayList<>();
            List<Tensor> down = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                gate.add(weight(WeightRole.MATRIX, DType.BF16, 12, 16));
                up.add(weight(WeightRole.MATRIX, DType.BF16, 12, 16));
                down.add(weight(WeightRole.MATRIX, DType.BF16, 16, 12));
            }
            Tensor router = weight(WeightRole.MATRIX, DType.BF16, 20, 16);
            var shared = new MoeWeights.SharedExpert(gate.get(1), up.get(1), down.get(1),
                    weight(WeightRole.MATRIX, DType.BF16, 1, 16));
            Tensor x = ops().add(random(tokens, 16), random(16));
            for (int topK : new int[]{1, 8, 20})
                for (boolean normalise : new boolean[]{true, false})
                    for (MoeWeights.SharedExpert s : Arrays.asList(null, shared)) {
                        var weights = new MoeWeights(router, gate, up, down, s);
                        agree(ops.moe(x, weights, topK, normalise), plain.moe(x, weights, topK, normalise));
                    }
            Tensor level = backend.weight(HostTensor.of("router", new float[20 * 16], 20, 16), WeightRole.MATRIX);
            var tied = new MoeWeights(level, gate, up, down, null);
            agree(ops.moe(x, tied, 3, true), plain.moe(x, tied, 3, true));
        }
    }

    @Test
    void convolutions() {
        ConvOps ops = backend.convOps();
        ConvOps plain = () -> backend;
        try (Scope _ = backend.scope()) {
            Tensor x = random(11, 6);
            Tensor w = weight(WeightRole.CONV1D, DType.BF16, 9, 2, 3);
            Tensor b = weight(WeightRole.VECTOR, DType.F32, 9);
            for (Conv1d conv : List.of(new Conv1d(1, 1, 3, 2, 0), new Conv1d(2, 3, 3, 1, 4), new Conv1d(1, 9, 3, 0, 0)))
                agree(ops.conv1d(x, w, b, conv), plain.conv1d(x, w, b, conv));
            agree(ops.conv1d(random(0, 6), w, b, new Conv1d(1, 1, 3, 3, 0)),
                    plain.conv1d(random(0, 6), w, b, new Conv1d(1, 1, 3, 3, 0)));
            Tensor t = weight(WeightRole.CONV_TRANSPOSE1D, DType.BF16, 6, 5, 8);
            Tensor tb = weight(WeightRole.VECTOR, DType.F32, 5);
            agree(ops.convTranspose1d(x, t, tb, 4, 4, 4), plain.convTranspose1d(x, t, tb, 4, 4, 4));
            agree(ops.convTranspose1d(x, t, null, 4, 0, 9), plain.convTranspose1d(x, t, null, 4, 0, 9));
            agree(ops.convTranspose1d(x, t, null, 9, 0, 0), plain.convTranspose1d(x, t, null, 9, 0, 0));
            Tensor image = random(2, 7, 5, 3);
            Tensor w2 = weight(WeightRole.CONV2D, DType.BF16, 4, 3, 3, 3);
            Tensor b2 = weight(WeightRole.VECTOR, DType.BF16, 4);
            agree(ops.conv2d(image, w2, b2, new Conv2d(2, 1), Activation.GELU),
                    plain.conv2d(image, w2, b2, new Conv2d(2, 1), Activation.GELU));
            Tensor w3 = weight(WeightRole.CONV3D, DType.BF16, 7, 3, 2, 2, 2);
            Tensor patches = random(5, 24);
            agree(ops.conv3dPatches(patches, w3, null), plain.conv3dPatches(patches, w3, null));
        }
    }

    private Tensor layer(Tensor x, Tensor w, Tensor norm) {
        Tensor h = ops().linear(ops().rmsNorm(x, norm, 1e-6f), w, null, Activation.GELU);
        return ops().add(x, ops().slice(h, 0, x.dim(0)));
    }

    @Test
    void oneSessionServesEveryLength() {
        try (Scope _ = backend.scope()) {
            Tensor w = weight(WeightRole.MATRIX, DType.BF16, 16, 16);
            Tensor norm = weight(WeightRole.VECTOR, DType.BF16, 16);
            layer(random(3, 16), w, norm).toFloats();
            int before = backend.sessions().size();
            for (int n = 1; n < 40; n++)
                try (Scope _ = backend.scope()) {
                    layer(random(n, 16), w, norm).toFloats();
                }
            assertThat(backend.sessions().size()).isEqualTo(before);
        }
    }

    @Test
    void aThousandStepsHoldNoMoreThanTen() {
        Tensor w = weight(WeightRole.MATRIX, DType.BF16, 16, 16);
        Tensor norm = weight(WeightRole.VECTOR, DType.BF16, 16);
        long after = 0;
        for (int i = 0; i < 1000; i++) {
            try (Scope _ = backend.scope()) {
                layer(layer(random(4, 16), w, norm), w, norm).toFloats();
                layer(random(4, 16), w, norm);
            }
            if (i == 10)
                after = backend.allocatedBytes();
        }
        assertThat(backend.allocatedBytes()).isEqualTo(after);
    }

    @Test
    void scopesOwnTensors() {
        Tensor kept;
        Tensor detached;
        Tensor lost;
        assertThatThrownBy(() -> random(1)).isInstanceOf(IllegalStateException.class);
        try (Scope outer = backend.scope()) {
            Tensor inner;
            try (Scope scope = backend.scope()) {
                lost = ops().add(random(2, 2), random(2, 2));
                inner = scope.keep(ops().add(random(2, 2), random(2, 2)));
                assertThatThrownBy(outer::close).isInstanceOf(IllegalStateException.class);
            }
            assertThat(inner.toFloats()).hasSize(4);
            assertThatThrownBy(lost::toFloats).isInstanceOf(IllegalStateException.class);
            assertThatThrownBy(() -> ops().add(inner, lost)).isInstanceOf(IllegalStateException.class);
            kept = outer.keep(ops().add(inner, inner));
            detached = outer.detach(ops().add(inner, inner));
        }
        assertThat(kept.toFloats()).isEqualTo(detached.toFloats());
        kept.close();
        kept.close();
        detached.close();
    }

    @Test
    void threadsShareTensors() throws Exception {
        try (Scope scope = backend.scope(); var pool = Executors.newFixedThreadPool(4)) {
            Tensor w = weight(WeightRole.MATRIX, DType.BF16, 16, 16);
            Tensor norm = weight(WeightRole.VECTOR, DType.BF16, 16);
            Tensor x = scope.detach(ops().add(random(4, 16), random(16)));
            Tensor pending = ops().add(x, x);
            float[] expected = layer(layer(x, w, norm), w, norm).toFloats();
            List<Callable<float[]>> tasks = IntStream.range(0, 64).<Callable<float[]>>mapToObj(_ -> () -> {
                try (Scope _ = backend.scope()) {
                    ops().add(pending, x).toFloats();
                    return layer(layer(x, w, norm), w, norm).toFloats();
                }
            }).toList();
            for (var result : pool.invokeAll(tasks))
                assertThat(result.get()).isEqualTo(expected);
            x.close();
        }
    }

    @Test
    void refusesWhatItDoesNotKnow() {
        assertThatThrownBy(() -> new OnnxBackend(new BackendOptions(1, Map.of("executionProvider", "tpu"))))
                .isInstanceOf(BackendException.class).hasMessageContaining("tpu");
        assertThatThrownBy(() -> new OnnxBackend(new BackendOptions(1, Map.of("activations", "12"))))
                .isInstanceOf(BackendException.class).hasMessageContaining("12");
        assertThatThrownBy(() -> new OnnxBackend(new BackendOptions(1, Map.of("optimization", "much"))))
                .isInstanceOf(BackendException.class).hasMessageContaining("much");
        assertThatThrownBy(() -> backend.weight(HostTensor.of("w", new float[4], 4), WeightRole.MATRIX))
                .isInstanceOf(IllegalArgumentException.class);
        try (Scope _ = backend.scope()) {
            assertThatThrownBy(() -> backend.tensor(new float[3], 2)).isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> random(2).toInts()).isInstanceOf(IllegalStateException.class);
        }
        try (Backend other = Backends.load("onnx"); Scope _ = other.scope(); Scope _ = backend.scope()) {
            Tensor theirs = other.tensor(new float[2], 2);
            assertThatThrownBy(() -> ops().add(random(2), theirs)).isInstanceOf(IllegalArgumentException.class);
        }
    }

    @Test
    void anotherNumberOfThreadsAndWidenedWeights() {
        backend.close();
        backend = new OnnxBackend(new BackendOptions(1, Map.of("weights", "float32")));
        try (Scope _ = backend.scope()) {
            Tensor w = weight(WeightRole.MATRIX, DType.BF16, 24, 40);
            assertThat(w.dtype()).isEqualTo(DType.F32);
            Tensor x = random(5, 40);
            agree(ops().linear(x, w), plain().linear(x, w));
        }
    }

    @Test
    void refusesCachesOfOthers() {
        var spec = new CacheSpec(1, 1, 4, 0);
        try (Backend other = Backends.load("onnx"); KvCache theirs = other.cache(spec); Scope _ = backend.scope()) {
            Tensor k = random(1, 4);
            for (KvCache cache : List.of(theirs, new HostKvCache(backend, spec)))
                assertThatThrownBy(
                        () -> backend.attentionOps().append(List.of(cache), 0, k, k, new Packed(0, 1)))
                        .isInstanceOf(IllegalArgumentException.class);
            KvCache closed = backend.cache(spec);
            closed.close();
            assertThatThrownBy(() -> backend.attentionOps().append(List.of(closed), 0, k, k, new Packed(0, 1)))
                    .isInstanceOf(IllegalStateException.class);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void attentionInPieces(boolean fused) {
        fused(fused);
        AttentionOps plain = () -> backend;
        for (int scores : new int[]{1, 4 * 9 * 3}) {
            AttentionOps ops = new OnnxAttentionOps(backend, scores);
            for (boolean causal : new boolean[]{true, false})
                for (int window : new int[]{0, 4}) {
                    var attention = new Attention(4, 2, 16, causal, window);
                    var spec = new CacheSpec(1, 2, 16, window);
                    List<KvCache> mine = List.of(backend.cache(spec), backend.cache(spec));
                    List<KvCache> theirs = List.of(new HostKvCache(backend, spec), new HostKvCache(backend, spec));
                    for (int[] lengths : new int[][]{{9, 2}, {3, 0}, {1, 1}, {4, 80}, {1, 1}})
                        try (Scope _ = backend.scope()) {
                            var packed = Packed.ofLengths(lengths);
                            Tensor q = ops().add(random(packed.tokens(), 64), random(64));
                            Tensor k = random(packed.tokens(), 32);
                            Tensor v = ops().add(random(packed.tokens(), 32), random(32));
                            agree(ops.attend(q, k, v, packed, attention), plain.attend(q, k, v, packed, attention));
                            ops.append(mine, 0, k, v, packed);
                            plain.append(theirs, 0, k, v, packed);
                            agree(ops.attend(q, mine, 0, packed, attention),
                                    plain.attend(q, theirs, 0, packed, attention));
                        }
                    mine.forEach(KvCache::close);
                }
        }
    }

    @Test
    void piecesOfAttentionShareSessions() {
        AttentionOps ops = new OnnxAttentionOps(backend, 500);
        int before = backend.sessions().size();
        for (int n = 20; n < 40; n++)
            try (Scope _ = backend.scope()) {
                Tensor x = random(n, 32);
                ops.attend(x, x, x, new Packed(0, n), new Attention(2, 2, 16, true, 0)).toFloats();
            }
        // one for several rows, which are masked, and one for a last row alone
        assertThat(backend.sessions().size() - before).isLessThanOrEqualTo(2);
    }

    /** A decoder layer with experts, over prompts and steps of many lengths. */
    @Test
    void decodingMakesNoMoreSessionsAsItGoesOn() {
        Tensor norm = weight(WeightRole.VECTOR, DType.BF16, 32);
        Tensor square = weight(WeightRole.MATRIX, DType.BF16, 32, 32);
        List<Tensor> experts = IntStream.range(0, 12).mapToObj(_ -> weight(WeightRole.MATRIX, DType.BF16, 32, 32))
                .toList();
        var moe = new MoeWeights(weight(WeightRole.MATRIX, DType.BF16, 12, 32), experts, experts, experts, null);
        var attention = new Attention(2, 2, 16, true, 0);
        int after = 0;
        for (int prompt : new int[]{3, 40, 7, 19, 64, 33})
            try (KvCache cache = backend.cache(new CacheSpec(3, 2, 16, 0))) {
                for (int step = 0; step < 12; step++)
                    try (Scope _ = backend.scope()) {
                        var packed = new Packed(0, step == 0 ? prompt : 1);
                        Tensor x = random(packed.tokens(), 32);
                        for (int i = 0; i < 3; i++)
                            try (Scope inner = backend.scope()) {
                                Tensor h = ops().rmsNorm(x, norm, 1e-6f);
                                backend.attentionOps().append(List.of(cache), i, ops().linear(h, square), h, packed);
                                h = ops().add(x, backend.attentionOps().attend(ops().linear(h, square), List.of(cache),
                                        i, packed, attention));
                                x = inner.keep(ops().add(h, backend.moeOps().moe(ops().rmsNorm(h, norm, 1e-6f), moe, 3,
                                        true)));
                            }
                        x.toFloats();
                    }
                if (prompt == 40)
                    after = backend.sessions().size();
            }
        assertThat(backend.sessions().size()).isEqualTo(after);
    }

    @Test
    void keepsOnlyTheSessionsUsedLately() {
        try (var sessions = new Sessions(2, false, "all", null, 4); Scope _ = backend.scope()) {
            var x = (OnnxArray) backend.tensor(new float[]{1, -2}, 2);
            var target = (OnnxArray) backend.tensor(new float[2], 2);
            for (int round = 0; round < 2; round++)
                for (float i = 0; i < 9; i++) {
                    var node = new Graph.Node("Add", "", List.of(), 1, new Graph.Input(x.storage()),
                            Recording.constant(i));
                    sessions.run(new Graph(List.of(node), List.of(new Graph.Output(node, 0, Storage.OnnxType.FLOAT))),
                            List.of(target.storage()));
                    assertThat(target.toFloats()).containsExactly(1 + i, -2 + i);
                    assertThat(sessions.size()).isLessThanOrEqualTo(4);
                }
        }
    }

    @Test
    void aThreadThatHasEndedLeavesNothing() throws Exception {
        for (int i = 0; i < 20; i++)
            Thread.ofPlatform().start(() -> {
                try (Scope _ = backend.scope()) {
                    ops().add(random(4), random(4)).toFloats();
                    ops().add(random(4), random(4));
                }
            }).join();
        assertThat(backend.threadsAtWork()).isZero();
    }

    @Test
    void closingWaitsForWhatRuns() throws Exception {
        Tensor router = weight(WeightRole.MATRIX, DType.F32, 9, 64);
        List<Tensor> experts = IntStream.range(0, 9).mapToObj(_ -> weight(WeightRole.MATRIX, DType.BF16, 64, 64))
                .toList();
        var moe = new MoeWeights(router, experts, experts, experts, null);
        try (var pool = Executors.newFixedThreadPool(2)) {
            var started = new java.util.concurrent.CountDownLatch(2);
            Callable<Throwable> work = () -> {
                while (true)
                    try (Scope _ = backend.scope()) {
                        backend.moeOps().moe(random(50, 64), moe, 4, true).toFloats();
                        started.countDown();
                    } catch (IllegalStateException e) {
                        return e;
                    }
            };
            var first = pool.submit(work);
            var second = pool.submit(work);
            started.await();
            backend.close();
            assertThat(first.get()).hasMessageContaining("closed");
            assertThat(second.get()).hasMessageContaining("closed");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"f32", "16", "8"})
    void integersGiveWhatWidenedWeightsGive(String activations) {
        backend.close();
        backend = new OnnxBackend(new BackendOptions(2, Map.of("activations", activations)));
        for (DType type : new DType[]{DType.BF16, DType.Q8, DType.Q4}) {
            HostTensor host = sines(type, 64, 256);
            float[] integers = product(backend, host);
            try (var plain = new OnnxBackend(new BackendOptions(2, Map.of("fused", "false", "weights", "stored")))) {
                float[] widened = product(plain, host);
                double most = 0;
                for (float value : widened)
                    most = Math.max(most, Math.abs(value));
                for (int i = 0; i < integers.length; i++)
                    assertThat((double) integers[i]).as(type + " element " + i).isCloseTo(widened[i],
                            org.assertj.core.data.Offset.offset(backend.precision() * most));
            }
        }
    }

    private static HostTensor sines(DType type, int rows, int columns) {
        float[] values = new float[rows * columns];
        for (int i = 0; i < values.length; i++)
            values[i] = (float) Math.sin(i * 0.7) * (1 + i % 5);
        MemorySegment data = Arena.ofAuto().allocate(type.bytes(values.length), 64);
        if (type == DType.BF16)
            for (int i = 0; i < values.length; i++)
                data.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) (Float.floatToIntBits(values[i]) >> 16));
        else
            io.omni.api.Quantization.quantize(values, columns, type, data, 0);
        return new HostTensor("w", type, new int[]{rows, columns}, data);
    }

    /** More rows than a run takes, and matrices of two kinds, which need activations in two forms. */
    @Test
    void manyRowsTimesMatricesOfTwoKinds() {
        try (Scope _ = backend.scope()) {
            Tensor gate = backend.weight(sines(DType.BF16, 96, 64), WeightRole.MATRIX);
            Tensor up = backend.weight(sines(DType.Q8, 96, 64), WeightRole.MATRIX);
            Tensor down = backend.weight(sines(DType.Q4, 64, 96), WeightRole.MATRIX);
            Tensor x = random(150, 64);
            agree(ops().gatedMlp(x, gate, up, down), plain().gatedMlp(x, gate, up, down));
        }
    }

    /** A lone token goes to all its experts in the first one's form, which others may not take. */
    @ParameterizedTest
    @ValueSource(ints = {1, 3, 150})
    void expertsOfSeveralKinds(int tokens) {
        DType[][] kinds = {{DType.BF16, DType.BF16, DType.BF16}, {DType.Q8, DType.BF16, DType.Q4},
                {DType.Q8, DType.Q4, DType.BF16}, {DType.F32, DType.F32, DType.F32},
                {DType.Q8, DType.F32, DType.Q4}};
        try (Scope _ = backend.scope()) {
            List<Tensor> gate = new ArrayList<>();
            List<Tensor> up = new ArrayList<>();
            List<Tensor> down = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                DType[] kind = kinds[i % kinds.length];
                gate.add(matrix(kind[0], 96, 64));
                up.add(matrix(kind[1], 96, 64));
                down.add(matrix(kind[2], 64, 96));
            }
            var weights = new MoeWeights(weight(WeightRole.MATRIX, DType.F32, 8, 64), gate, up, down, null);
            MoeOps plain = () -> backend;
            Tensor x = random(tokens, 64);
            for (int topK : new int[]{5, 8})
                agree(backend.moeOps().moe(x, weights, topK, true), plain.moe(x, weights, topK, true));
        }
    }

    private Tensor matrix(DType type, int rows, int columns) {
        return type.isQuantized()
                ? backend.weight(sines(type, rows, columns), WeightRole.MATRIX)
                : weight(WeightRole.MATRIX, type, rows, columns);
    }

    /** A row keeps to itself what is not finite in it. */
    @Test
    void rowsThatAreNotFinite() {
        for (DType type : new DType[]{DType.BF16, DType.Q8})
            try (Scope _ = backend.scope()) {
                Tensor w = backend.weight(sines(type, 32, 64), WeightRole.MATRIX);
                float[] x = floats(4 * 64);
                x[7] = Float.NaN;
                x[64 + 9] = Float.NEGATIVE_INFINITY;
                Arrays.fill(x, 2 * 64, 3 * 64, 0);
                float[] y = ops().linear(backend.tensor(x, 4, 64), w).toFloats();
                for (int i = 0; i < 32; i++) {
                    assertThat(y[i]).isNaN();
                    assertThat(Float.isFinite(y[32 + i])).isFalse();
                    assertThat(y[64 + i]).isZero();
                    assertThat(y[96 + i]).isFinite();
                }
            }
    }

    /** In 16 bits a row, the small elements beside one huge one would be nothing. */
    @Test
    void aRowThatSixteenBitsDoNotHoldIsMultipliedAsItIs() {
        MemorySegment data = Arena.ofAuto().allocate(2 * 32 * 64, 64);
        for (int i = 0; i < 32 * 64; i++)
            data.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) (Float.floatToIntBits(i == 5 ? 3e4f : 0.01f) >> 16));
        var host = new HostTensor("w", DType.BF16, new int[]{32, 64}, data);
        try (Scope _ = backend.scope()) {
            Tensor w = backend.weight(host, WeightRole.MATRIX);
            float[] x = floats(64);
            x[5] = 0;
            Tensor row = backend.tensor(x, 1, 64);
            agree(ops().linear(row, w), plain().linear(row, w));
            // beside blocks as well
            Tensor up = matrix(DType.Q8, 32, 64);
            Tensor down = matrix(DType.BF16, 64, 32);
            agree(ops().gatedMlp(row, w, up, down), plain().gatedMlp(row, w, up, down), 1e-4);
        }
    }

    private static float[] product(OnnxBackend on, HostTensor host) {
        float[] x = new float[2 * 256];
        for (int i = 0; i < x.length; i++)
            x[i] = (float) Math.cos(i * 1.3);
        x[7] = 100;
        try (Scope _ = on.scope(); Tensor weight = on.weight(host, WeightRole.MATRIX)) {
            return on.tensorOps().linear(on.tensor(x, 2, 256), weight).toFloats();
        }
    }

    @Test
    void whatHadNoRoomRunsOnceThereIsSome() {
        backend.close();
        backend = new OnnxBackend(new BackendOptions(2, Map.of("memory", "10000000")));
        try (Scope _ = backend.scope()) {
            Tensor large = backend.tensor(new float[1 << 20], 1 << 20);
            Tensor other = backend.tensor(new float[1 << 20], 1 << 20);
            Tensor sum = ops().add(large, large);
            assertThatThrownBy(sum::toFloats).isInstanceOf(OutOfMemoryException.class);
            other.close();
            assertThat(sum.toFloats()).hasSize(1 << 20);
        }
        assertThatThrownBy(() -> new OnnxBackend(new BackendOptions(1, Map.of("memory", "much"))))
                .isInstanceOf(BackendException.class).hasMessageContaining("much");
    }

    @ParameterizedTest
    @ValueSource(strings = {"none", "basic", "extended", "all"})
    void everyLevelOfOptimizationAgreesAndIsProfiled(String level, @TempDir Path folder) throws Exception {
        backend.close();
        backend = new OnnxBackend(
                new BackendOptions(2, Map.of("optimization", level, "profile", folder.resolve("run").toString())));
        try (Scope _ = backend.scope()) {
            Tensor w = weight(WeightRole.MATRIX, DType.BF16, 24, 24);
            Tensor v = weight(WeightRole.VECTOR, DType.BF16, 24);
            Tensor x = random(5, 24);
            agree(ops().rmsNorm(ops().gatedMlp(x, w, w, w), v, 1e-6f),
                    plain().rmsNorm(plain().gatedMlp(x, w, w, w), v, 1e-6f));
        }
        backend.close();
        try (var files = Files.list(folder)) {
            assertThat(files.filter(file -> file.getFileName().toString().startsWith("run-"))).isNotEmpty();
        }
    }
}
