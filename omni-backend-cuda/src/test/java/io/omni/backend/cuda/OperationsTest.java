package io.omni.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostSampler;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Quantization;
import io.omni.api.Rope;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Every operation against its definition, in sizes that reach every kernel: rows of one, few and many, features that
 * allow 16-byte loads and such that do not. Inputs are bfloat16 numbers, so that only the arithmetic differs.
 */
@ParameterizedClass
@EnumSource(Setting.class)
class OperationsTest {
    private static final Set<Setting> EMULATED = EnumSet.noneOf(Setting.class);

    private final Setting setting;
    private final Random random = new Random(42);
    private CudaBackend backend;
    private CudaTensorOps ops;
    private Scope scope;
    private final List<AutoCloseable> owned = new ArrayList<>();

    OperationsTest(Setting setting) {
        this.setting = setting;
    }

    @BeforeEach
    void open() {
        backend = setting.open();
        if (setting.order >= 0)
            EMULATED.add(setting);
        ops = (CudaTensorOps) backend.tensorOps();
        scope = backend.scope();
    }

    @AfterEach
    void close() throws Exception {
        if (backend == null)
            return;
        scope.close();
        for (AutoCloseable o : owned)
            o.close();
        backend.close();
    }

    private float[] floats(int n) {
        float[] values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = Float.intBitsToFloat(Float.floatToRawIntBits((float) random.nextGaussian()) & 0xffff0000);
        return values;
    }

    private float[] scaled(int n, double scale) {
        float[] values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = Float
                    .intBitsToFloat(Float.floatToRawIntBits((float) (random.nextGaussian() * scale)) & 0xffff0000);
        return values;
    }

    private static double[] doubles(float[] values) {
        return Definitions.doubles(values);
    }

    /** The types of matrices that have kernels of their own beside the compute type; others are converted. */
    private List<DType> types() {
        return setting.compute == DType.F32
                ? List.of(DType.BF16, DType.F32, DType.F16, DType.Q8, DType.Q4)
                : List.of(setting.compute, DType.Q8, DType.Q4);
    }

    /** The values as a weight; in blocks, they become what those stand for. */
    private Tensor weight(float[] values, DType dtype, WeightRole role, int... shape) {
        MemorySegment data = MemorySegment.ofArray(new byte[(int) dtype.bytes(values.length)]);
        for (int i = 0; i < values.length; i++)
            switch (dtype) {
            case F32 -> data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i, values[i]);
            case BF16 -> data.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i,
                    (short) (Float.floatToRawIntBits(values[i]) >> 16));
            case F16 -> data.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, Float.floatToFloat16(values[i]));
            default -> {
            }
            }
        if (dtype.isQuantized()) {
            Quantization.quantize(values, shape[1], dtype, data, 0);
            float[] meant = new HostTensor("weight", dtype, shape, data).toFloats();
            System.arraycopy(meant, 0, values, 0, values.length);
        }
        Tensor tensor = backend.weight(new HostTensor("weight", dtype, shape, data), role);
        owned.add(tensor);
        return tensor;
    }

    private Tensor matrix(float[] values, int... shape) {
        return weight(values, DType.BF16, WeightRole.MATRIX, shape);
    }

    private Tensor vector(float[] values) {
        return weight(values, DType.BF16, WeightRole.VECTOR, values.length);
    }

    private void check(String what, Tensor actual, double[] expected, int... shape) {
        assertThat(actual.shape()).as(what).isEqualTo(shape);
        float[] values = actual.toFloats();
        double error = 0;
        double norm = 0;
        for (int i = 0; i < expected.length; i++) {
            error += (values[i] - expected[i]) * (values[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        assertThat(Math.sqrt(error)).as("%s: error of %s", what, Math.sqrt(norm))
                .isLessThanOrEqualTo(backend.precision() * Math.sqrt(norm) + 1e-30);
    }

    @Test
    void linear() {
        for (DType dtype : types())
            for (int[] size : new int[][]{{1, 512, 33}, {1, 37, 5}, {3, 64, 20}, {4, 39, 9}, {9, 288, 17},
                    {16, 40, 24}, {16, 41, 7}, {17, 64, 64}, {70, 96, 130}, {65, 45, 67}, {200, 136, 300},
                    {130, 64, 515}, {130, 50, 515}, {1, 512, 32}, {1, 96, 64}, {3, 64, 32}, {9, 288, 32}, {70, 96, 160},
                    {130, 64, 544}, {40, 800, 64}, {33, 530, 60}, {0, 32, 4}})
                if (Quantization.fits(dtype, size[2], size[1])) {
                    int n = size[0];
                    int in = size[1];
                    int out = size[2];
                    float[] x = floats(n * in);
                    float[] w = floats(out * in);
                    float[] b = floats(out);
                    boolean plain = n % 2 == 0;
                    Activation f = plain ? Activation.NONE : Activation.values()[in % 6];
                    Tensor y = ops.linear(backend.tensor(x, n, in), weight(w, dtype, WeightRole.MATRIX, out, in),
                            plain ? null : vector(b), f);
                    check("linear " + Arrays.toString(size) + dtype, y,
                            Definitions.linear(doubles(x), doubles(w), plain ? null : doubles(b), n, in, out, f), n,
                            out);
                }
    }

    @Test
    void gatedMlp() {
        for (DType dtype : types())
            for (int[] size : new int[][]{{1, 256, 96}, {2, 19, 7}, {4, 32, 64}, {12, 64, 32}, {30, 96, 32},
                    {67, 33, 70}, {150, 64, 288}})
                if (Quantization.fits(dtype, size[2], size[1])) {
                    int n = size[0];
                    int in = size[1];
                    int mid = size[2];
                    float[] x = floats(n * in);
                    float[] gate = floats(mid * in);
                    float[] up = floats(mid * in);
                    float[] down = floats(mid * in);
                    Tensor y = ops.gatedMlp(backend.tensor(x, n, in),
                            weight(gate, dtype, WeightRole.MATRIX, mid, in),
                            weight(up, dtype, WeightRole.MATRIX, mid, in),
                            weight(down, dtype, WeightRole.MATRIX, in, mid));
                    check("gated " + Arrays.toString(size) + dtype, y, gated(x, gate, up, down, n, in, mid), n, in);
                }
    }

    private static double[] gated(float[] x, float[] gate, float[] up, float[] down, int n, int in, int mid) {
        double[] g = Definitions.linear(doubles(x), doubles(gate), null, n, in, mid, Activation.SILU);
        double[] u = Definitions.linear(doubles(x), doubles(up), null, n, in, mid, Activation.NONE);
        return Definitions.linear(Definitions.multiply(g, u), doubles(down), null, n, mid, in, Activation.NONE);
    }

    @Test
    void norms() {
        for (int features : new int[]{8, 40, 37, 2048, 2500}) {
            float[] x = floats(3 * features);
            float[] w = floats(features);
            float[] b = floats(features);
            check("rms " + features, ops.rmsNorm(backend.tensor(x, 3, features), vector(w), 1e-6f),
                    Definitions.rmsNorm(doubles(x), doubles(w), 1e-6f), 3, features);
            check("layer " + features,
                    ops.layerNorm(backend.tensor(x, 3, features), vector(w), vector(b), 1e-5f),
                    Definitions.layerNorm(doubles(x), doubles(w), doubles(b), 1e-5f), 3, features);
        }
    }

    @Test
    void elementwise() {
        for (int[] size : new int[][]{{5, 16}, {3, 13}, {40, 64}, {3000, 24}}) {
            int n = size[0];
            int f = size[1];
            float[] x = floats(n * f);
            float[] z = floats(n * f);
            float[] row = floats(f);
            Tensor tx = backend.tensor(x, n, f);
            Tensor tz = backend.tensor(z, n, f);
            check("add", ops.add(tx, tz), Definitions.add(doubles(x), doubles(z)), n, f);
            check("add row", ops.add(tx, vector(row)), Definitions.add(doubles(x), doubles(row)), n, f);
            check("multiply", ops.multiply(tx, tz), Definitions.multiply(doubles(x), doubles(z)), n, f);
            check("multiply row", ops.multiply(tx, backend.tensor(row, f)),
                    Definitions.multiply(doubles(x), doubles(row)), n, f);
            check("addScaled", ops.addScaled(tx, tz, vector(row)),
                    Definitions.add(doubles(x), Definitions.multiply(doubles(z), doubles(row))), n, f);
            for (Activation a : Activation.values())
                check(a.name(), ops.activation(tx, a), Definitions.activation(doubles(x), a), n, f);
            check("snake", ops.snakeBeta(tx, vector(row), vector(row)),
                    Definitions.snakeBeta(doubles(x), doubles(row), doubles(row)), n, f);
            check("clamp", ops.clamp(tx, -0.5f, 1f), Definitions.clamp(doubles(x), -0.5, 1), n, f);
        }
        assertThat(ops.clamp(backend.tensor(new float[]{Float.NaN, 2}, 2), 0, 1).toFloats())
                .containsExactly(Float.NaN, 1);
    }

    /** Whole blocks are laid out for the card, and are what they were when someone wants their numbers. */
    @Test
    void blocks() {
        for (DType dtype : new DType[]{DType.Q8, DType.Q4}) {
            float[] w = floats(64 * 96);
            Tensor t = weight(w, dtype, WeightRole.MATRIX, 64, 96);
            // to the bit, but for the sign of zeros
            assertThat(t.toFloats()).usingComparatorWithPrecision(0f).containsExactly(w);
            int[] ids = {3, 63, 40};
            check("rows of blocks", ops.gather(t, backend.tensor(ids, 3)), Definitions.embedding(doubles(w), 96, ids),
                    3, 96);
        }
    }

    @Test
    void rows() {
        for (int f : new int[]{16, 13, 64})
            for (DType dtype : new DType[]{DType.BF16, DType.F32, DType.F16}) {
                float[] table = floats(20 * f);
                Tensor t = weight(table, dtype, WeightRole.EMBEDDING, 20, f);
                check("as it was", t, doubles(table), 20, f);
                int[] ids = {3, 0, 19, 3, 7, 8};
                check("embedding", ops.embedding(t, backend.tensor(ids, 2, 3)),
                        Definitions.embedding(doubles(table), f, ids), 2, 3, f);
                float[] factors = floats(6);
                check("bag", ops.embeddingBag(t, backend.tensor(ids, 2, 3), backend.tensor(factors, 2, 3)),
                        Definitions.embeddingBag(doubles(table), f, ids, 3, doubles(factors)), 2, f);
                check("bag of ones", ops.embeddingBag(t, backend.tensor(ids, 3, 2), null),
                        Definitions.embeddingBag(doubles(table), f, ids, 2, null), 3, f);
                check("gather", ops.gather(t, backend.tensor(ids, 6)), Definitions.embedding(doubles(table), f, ids), 6,
                        f);
            }
        float[] x = floats(7 * 5);
        Tensor t = backend.tensor(x, 7, 5);
        assertThat(ops.slice(t, 1, 3).toFloats()).isEqualTo(Arrays.copyOfRange(x, 5, 15));
        assertThat(ops.slice(t, 4, 7).toFloats()).isEqualTo(Arrays.copyOfRange(x, 20, 35));
        assertThat(ops.slice(t, 4, 4).toFloats()).isEmpty();
        assertThat(ops.concat(List.of(ops.slice(t, 0, 3), ops.slice(t, 3, 7))).toFloats()).isEqualTo(x);
        assertThat(ops.concat(List.of(backend.tensor(new int[]{1, 2}, 2), backend.tensor(new int[]{3}, 1))).toInts())
                .containsExactly(1, 2, 3);
        assertThat(ops.slice(backend.tensor(new int[]{1, 2, 3, 4, 5}, 5), 1, 3).toInts()).containsExactly(2, 3);
        assertThat(ops.reshape(t, 5, 7).toFloats()).isEqualTo(x);
        float[] y = floats(2 * 3 * 4 * 5);
        check("permute", ops.permute(backend.tensor(y, 2, 3, 4, 5), 2, 0, 3, 1),
                Definitions.permute(doubles(y), new int[]{2, 3, 4, 5}, new int[]{2, 0, 3, 1}), 4, 2, 5, 3);
        float[] base = floats(9 * 12);
        float[] rows = floats(4 * 12);
        check("scatter",
                ops.scatter(backend.tensor(base, 9, 12), backend.tensor(new int[]{8, 0, 3, 4}, 4),
                        backend.tensor(rows, 4, 12)),
                Definitions.scatter(doubles(base), new int[]{8, 0, 3, 4}, doubles(rows), false), 9, 12);
        check("scatterAdd",
                ops.scatterAdd(backend.tensor(base, 9, 12), backend.tensor(new int[]{8, 0, 8, 4}, 4),
                        backend.tensor(rows, 4, 12)),
                Definitions.scatter(doubles(base), new int[]{8, 0, 8, 4}, doubles(rows), true), 9, 12);
    }

    @Test
    void rotary() {
        Rope rope = Rope.multimodal(128, 1e6, 24, 20, 20);
        float[] positions = new float[3 * 5];
        for (int i = 0; i < positions.length; i++)
            positions[i] = 1000 + 77 * i + 0.25f;
        Tensor table = backend.attentionOps().rotaryTable(backend.tensor(positions, 3, 5), rope);
        double[] expected = Definitions.rotaryTable(positions, 5, rope);
        float[] actual = table.toFloats();
        for (int i = 0; i < expected.length; i++)
            assertThat((double) actual[i]).isCloseTo(expected[i], org.assertj.core.data.Offset.offset(2e-7));
        float[] x = floats(5 * 4 * 128);
        float[] norm = floats(128);
        double[] turn = doubles(actual);
        check("rotary", backend.attentionOps().rotary(backend.tensor(x, 5, 512), null, 0, table),
                Definitions.rotary(doubles(x), turn, 5, 64), 5, 512);
        check("rotary norm", backend.attentionOps().rotary(backend.tensor(x, 5, 512), vector(norm), 1e-6f, table),
                Definitions.rotary(Definitions.rmsNorm(doubles(x), doubles(norm), 1e-6f), turn, 5, 64), 5, 512);
    }

    @Test
    void attend() {
        for (int[] c : new int[][]{{1, 1, 8, 0, 0}, {4, 2, 16, 1, 0}, {4, 1, 20, 1, 0}, {8, 1, 128, 1, 0},
                {2, 2, 72, 0, 0}, {2, 2, 64, 0, 5}, {4, 2, 40, 1, 70}, {6, 2, 128, 1, 9}, {2, 1, 160, 1, 0},
                {10, 1, 200, 0, 0}, {1, 1, 256, 1, 0}}) {
            Attention a = new Attention(c[0], c[1], c[2], c[3] == 1, c[4]);
            for (Packed packed : List.of(Packed.ofLengths(1, 3, 0, 2), Packed.ofLengths(70, 5, 0, 64),
                    Packed.ofLengths(130))) {
                int n = packed.tokens();
                float[] q = floats(n * a.heads() * a.headDim());
                float[] k = floats(n * a.kvHeads() * a.headDim());
                float[] v = floats(n * a.kvHeads() * a.headDim());
                int width = a.heads() * a.headDim();
                int narrow = a.kvHeads() * a.headDim();
                check("attend " + a + packed,
                        backend.attentionOps().attend(backend.tensor(q, n, width), backend.tensor(k, n, narrow),
                                backend.tensor(v, n, narrow), packed, a),
                        Definitions.attend(doubles(q), doubles(k), doubles(v), packed, packed, a), n, width);
            }
        }
    }

    @Test
    void cachedAttention() {
        for (int[] c : new int[][]{{8, 1, 64, 0}, {4, 2, 24, 0}, {2, 2, 20, 0}, {4, 2, 32, 50}, {8, 1, 256, 0},
                {8, 1, 128, 0}}) {
            Attention a = new Attention(c[0], c[1], c[2], true, c[3]);
            int width = a.heads() * a.headDim();
            int narrow = a.kvHeads() * a.headDim();
            List<KvCache> caches = new ArrayList<>();
            List<float[]> keys = new ArrayList<>();
            List<float[]> values = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                caches.add(backend.cache(new CacheSpec(2, a.kvHeads(), a.headDim(), c[3])));
                owned.add(caches.get(i));
                keys.add(new float[0]);
                values.add(new float[0]);
            }
            List<Packed> steps = new ArrayList<>(List.of(Packed.ofLengths(150, 20, 1), Packed.ofLengths(1, 1, 1),
                    Packed.ofLengths(1, 1, 1), Packed.ofLengths(3, 0, 1),
                    Packed.ofLengths(c[2] == 64 ? 520 : 90, 70, 40),
                    Packed.ofLengths(1, 1, 1), Packed.ofLengths(1, 100, 1), Packed.ofLengths(1, 1, 30)));
            for (Packed packed : steps) {
                int n = packed.tokens();
                float[] q = floats(n * width);
                float[] k = floats(n * narrow);
                float[] v = floats(n * narrow);
                int[] lengths = new int[3];
                for (int i = 0; i < 3; i++) {
                    keys.set(i, joined(keys.get(i), k, packed, i, narrow));
                    values.set(i, joined(values.get(i), v, packed, i, narrow));
                    lengths[i] = keys.get(i).length / narrow;
                }
                try (Scope step = backend.scope()) {
                    backend.attentionOps().append(caches, 1, backend.tensor(k, n, narrow),
                            backend.tensor(v, n, narrow), packed);
                    Tensor y = step.detach(
                            backend.attentionOps().attend(backend.tensor(q, n, width), caches, 1, packed, a));
                    check("cached " + a + packed, y,
                            Definitions.attend(doubles(q), doubles(all(keys)), doubles(all(values)), packed,
                                    Packed.ofLengths(lengths), a),
                            n, width);
                    y.close();
                }
                for (int i = 0; i < 3; i++) {
                    assertThat(caches.get(i).length(1)).isEqualTo(lengths[i]);
                    assertThat(caches.get(i).length(0)).isZero();
                }
            }
        }
    }

    @Test
    void truncatedCache() {
        Attention a = new Attention(2, 1, 16, true, 0);
        KvCache cache = backend.cache(new CacheSpec(1, 1, 16, 0));
        owned.add(cache);
        float[] k = floats(100 * 16);
        float[] v = floats(100 * 16);
        Packed packed = Packed.ofLengths(100);
        backend.attentionOps().append(List.of(cache), 0, backend.tensor(k, 100, 16), backend.tensor(v, 100, 16),
                packed);
        cache.truncate(70);
        float[] k2 = floats(16);
        float[] v2 = floats(16);
        float[] q = floats(32);
        backend.attentionOps().append(List.of(cache), 0, backend.tensor(k2, 1, 16), backend.tensor(v2, 1, 16),
                Packed.ofLengths(1));
        assertThat(cache.length(0)).isEqualTo(71);
        Packed one = Packed.ofLengths(1);
        float[] keys = Arrays.copyOf(k, 71 * 16);
        float[] values = Arrays.copyOf(v, 71 * 16);
        System.arraycopy(k2, 0, keys, 70 * 16, 16);
        System.arraycopy(v2, 0, values, 70 * 16, 16);
        check("truncated", backend.attentionOps().attend(backend.tensor(q, 1, 32), List.of(cache), 0, one, a),
                Definitions.attend(doubles(q), doubles(keys), doubles(values), one, Packed.ofLengths(71), a), 1, 32);
    }

    private static float[] joined(float[] old, float[] added, Packed packed, int i, int width) {
        float[] all = Arrays.copyOf(old, old.length + packed.length(i) * width);
        System.arraycopy(added, packed.offsets()[i] * width, all, old.length, packed.length(i) * width);
        return all;
    }

    private static float[] all(List<float[]> parts) {
        float[] all = new float[parts.stream().mapToInt(p -> p.length).sum()];
        int at = 0;
        for (float[] part : parts) {
            System.arraycopy(part, 0, all, at, part.length);
            at += part.length;
        }
        return all;
    }

    @Test
    void moe() {
        for (DType dtype : types())
            for (int[] size : new int[][]{{1, 64, 96, 8, 2}, {3, 19, 10, 4, 4}, {4, 32, 32, 40, 8}, {9, 64, 32, 8, 2},
                    {50, 33, 19, 5, 3}, {300, 64, 72, 4, 2}, {300, 64, 64, 4, 2}})
                if (Quantization.fits(dtype, size[1], size[2]))
                for (boolean normalise : new boolean[]{true, false})
                    moe(dtype, normalise && size[0] != 1 ? dtype : DType.BF16, size, normalise);
    }

    private void moe(DType dtype, DType downType, int[] size, boolean normalise) {
        int n = size[0];
        int hidden = size[1];
        int mid = size[2];
        int experts = size[3];
        int k = size[4];
        boolean shared = !normalise;
        float[] x = floats(n * hidden);
        float[] router = scaled(experts * hidden, 0.5);
        float[] scale = scaled(hidden, 0.2);
        List<float[]> gate = new ArrayList<>();
        List<float[]> up = new ArrayList<>();
        List<float[]> down = new ArrayList<>();
        for (int e = 0; e <= experts; e++) {
            gate.add(floats(mid * hidden));
            up.add(floats(mid * hidden));
            down.add(floats(mid * hidden));
        }
        List<Tensor> gates = new ArrayList<>();
        List<Tensor> ups = new ArrayList<>();
        List<Tensor> downs = new ArrayList<>();
        for (int e = 0; e <= experts; e++) {
            gates.add(weight(gate.get(e), dtype, WeightRole.MATRIX, mid, hidden));
            ups.add(weight(up.get(e), dtype, WeightRole.MATRIX, mid, hidden));
            downs.add(weight(down.get(e), downType, WeightRole.MATRIX, hidden, mid));
        }
        double[] probability = Definitions.softmax(
                Definitions.linear(doubles(x), doubles(router), null, n, hidden, experts, Activation.NONE), experts);
        int[] chosen = Definitions.topK(probability, experts, k);
        double[] share = Definitions.shares(probability, experts, chosen, k, normalise);
        double[] expected = new double[n * hidden];
        for (int e = 0; e <= experts; e++) {
            if (e == experts && !shared)
                continue;
            double[] y = gated(x, gate.get(e), up.get(e), down.get(e), n, hidden, mid);
            double[] s = Definitions.linear(doubles(x), doubles(scale), null, n, hidden, 1, Activation.SIGMOID);
            for (int t = 0; t < n; t++) {
                double factor = e == experts ? s[t] : 0;
                for (int c = 0; c < k; c++)
                    factor += chosen[t * k + c] == e ? share[t * k + c] : 0;
                for (int i = 0; i < hidden; i++)
                    expected[t * hidden + i] += factor * y[t * hidden + i];
            }
        }
        MoeWeights weights = new MoeWeights(matrix(router, experts, hidden), gates.subList(0, experts),
                ups.subList(0, experts), downs.subList(0, experts), shared
                        ? new MoeWeights.SharedExpert(gates.get(experts), ups.get(experts), downs.get(experts),
                                matrix(scale, 1, hidden))
                        : null);
        check("moe " + Arrays.toString(size) + dtype + downType + normalise,
                backend.moeOps().moe(backend.tensor(x, n, hidden), weights, k, normalise), expected, n, hidden);
    }

    private List<DType> convolved() {
        return types().stream().filter(type -> !type.isQuantized()).toList();
    }

    @Test
    void convolutions() {
        for (DType dtype : convolved())
            for (int[] c : new int[][]{{50, 8, 16, 3, 1, 1, 1, 1, 1}, {50, 7, 5, 4, 2, 1, 1, 0, 3},
                    {33, 16, 24, 7, 1, 3, 1, 18, 0}, {40, 12, 12, 7, 1, 1, 12, 6, 0}, {20, 8, 4, 3, 2, 1, 4, 1, 1},
                    {400, 8, 200, 2, 1, 1, 1, 1, 0}, {2, 8, 4, 5, 1, 1, 1, 0, 0}}) {
                        int time = c[0];
                        int in = c[1];
                        int out = c[2];
                        int kernel = c[3];
                        Conv1d conv = new Conv1d(c[4], c[5], c[6], c[7], c[8]);
                        float[] x = floats(time * in);
                        float[] w = floats(out * in / conv.groups() * kernel);
                        float[] b = floats(out);
                        Tensor weight = weight(w, dtype, WeightRole.CONV1D, out, in / conv.groups(), kernel);
                        check("conv1d " + Arrays.toString(c),
                                backend.convOps().conv1d(backend.tensor(x, time, in), weight, vector(b), conv),
                                Definitions.conv1d(doubles(x), doubles(w), doubles(b), time, in, out, kernel, conv),
                                conv.outputLength(time, kernel), out);
                        assertThat(weight.toFloats()).isEqualTo(w);
                    }
        for (DType dtype : convolved())
            for (int[] c : new int[][]{{10, 8, 16, 4, 2, 1, 1}, {7, 5, 3, 3, 3, 0, 0}, {9, 16, 8, 16, 8, 8, 8},
                    {5, 8, 8, 3, 5, 2, 0}, {130, 8, 140, 4, 2, 2, 2}, {0, 8, 4, 3, 1, 0, 0}, {1, 4, 4, 2, 1, 3, 0}}) {
                        int time = c[0];
                        int in = c[1];
                        int out = c[2];
                        int kernel = c[3];
                        int stride = c[4];
                        int length = time == 0 ? 0 : Math.max(0, (time - 1) * stride + kernel - c[5] - c[6]);
                        float[] x = floats(time * in);
                        float[] w = floats(in * out * kernel);
                        float[] b = floats(out);
                        Tensor weight = weight(w, dtype, WeightRole.CONV_TRANSPOSE1D, in, out, kernel);
                        check("transposed " + Arrays.toString(c),
                                backend.convOps().convTranspose1d(backend.tensor(x, time, in), weight, vector(b),
                                        stride,
                                        c[5], c[6]),
                                Definitions.convTranspose1d(doubles(x), doubles(w), doubles(b), time, in, out, kernel,
                                        stride,
                                        c[5], length),
                                length, out);
                        assertThat(weight.toFloats()).isEqualTo(w);
                    }
        for (int[] c : new int[][]{{2, 9, 11, 8, 16, 3, 2, 1}, {1, 8, 7, 3, 5, 3, 1, 0}, {3, 20, 10, 1, 24, 3, 2, 1},
                {2, 16, 16, 8, 140, 1, 1, 0}}) {
            float[] x = floats(c[0] * c[1] * c[2] * c[3]);
            float[] w = floats(c[4] * c[3] * c[5] * c[5]);
            float[] b = floats(c[4]);
            Conv2d conv = new Conv2d(c[6], c[7]);
            int[] shape = {c[0], c[1], c[2], c[3]};
            int[] kernel = {c[4], c[3], c[5], c[5]};
            Tensor weight = weight(w, DType.BF16, WeightRole.CONV2D, kernel);
            check("conv2d " + Arrays.toString(c),
                    backend.convOps().conv2d(backend.tensor(x, shape), weight, vector(b), conv, Activation.GELU),
                    Definitions.conv2d(doubles(x), doubles(w), doubles(b), shape, kernel, conv, Activation.GELU), c[0],
                    conv.outputLength(c[1], c[5]), conv.outputLength(c[2], c[5]), c[4]);
            assertThat(weight.toFloats()).isEqualTo(w);
            check("flat weight", ops.reshape(weight, w.length), doubles(w), w.length);
        }
        float[] x = floats(6 * 3 * 2 * 4 * 4);
        float[] w = floats(10 * 3 * 2 * 4 * 4);
        check("conv3d",
                backend.convOps().conv3dPatches(backend.tensor(x, 6, 96),
                        weight(w, DType.BF16, WeightRole.CONV3D, 10, 3, 2, 4, 4), null),
                Definitions.linear(doubles(x), doubles(w), null, 6, 96, 10, Activation.NONE), 6, 10);
    }

    @Test
    void sampling() {
        int vocabulary = 3000;
        int[] suppressed = {5, 77, 2999};
        List<Sampling> ways = List.of(Sampling.greedy(), new Sampling(false, 1, 0, 1, 1.3f, suppressed, 0),
                new Sampling(true, 1, 0, 1, 1, new int[0], 1), new Sampling(true, 0.7f, 50, 0.8f, 1.05f, suppressed, 2),
                new Sampling(true, 1.2f, 0, 0.5f, 1, new int[0], 3), new Sampling(true, 1, 1, 1, 1, new int[0], 4),
                new Sampling(true, 1, 2900, 0.99f, 2, suppressed, 5));
        int[] history = {1, 2, 3, 100, 2000};
        List<Sampler> samplers = new ArrayList<>();
        List<HostSampler> expected = new ArrayList<>();
        for (Sampling way : ways) {
            samplers.add(ops.sampler(way, vocabulary, history));
            owned.add(samplers.getLast());
            expected.add(new HostSampler(way, vocabulary, history));
        }
        for (int round = 0; round < 12; round++) {
            float[] logits = scaled(ways.size() * vocabulary, 3);
            if (round == 1)
                // few values, so that many are equal
                for (int i = 0; i < logits.length; i++)
                    logits[i] = Math.round(logits[i]) / 2f;
            if (round == 2)
                for (int i = 0; i < logits.length; i += 3)
                    logits[i] = Float.NaN;
            if (round == 3)
                Arrays.fill(logits, Float.NEGATIVE_INFINITY);
            int[] tokens = ops.sample(backend.tensor(logits, ways.size(), vocabulary), samplers).toInts();
            int[] again = new int[tokens.length];
            for (int i = 0; i < tokens.length; i++)
                again[i] = expected.get(i).next(logits, i * vocabulary);
            assertThat(tokens).as("round %d", round).isEqualTo(again);
        }
        Tensor rounded = ops.activation(backend.tensor(floats(vocabulary), 1, vocabulary), Activation.NONE);
        int token = ops.sample(rounded, samplers.subList(0, 1)).toInts()[0];
        assertThat(token).isEqualTo(expected.getFirst().next(rounded.toFloats(), 0));
    }

    /** A step repeated: the same launches, replayed as graphs where the setting has them, and no more memory. */
    @Test
    void repeatedSteps() {
        int width = 64;
        float[] w = scaled(width * width, 0.2);
        Tensor weight = matrix(w, width, width);
        KvCache cache = backend.cache(new CacheSpec(1, 1, width, 0));
        owned.add(cache);
        Packed one = Packed.ofLengths(1);
        Attention attention = new Attention(1, 1, width, true, 0);
        float[] x = floats(width);
        Tensor state = scope.keep(backend.tensor(x, 1, width));
        float[] keys = new float[0];
        long held = 0;
        for (int step = 0; step < 40; step++) {
            Tensor next;
            try (Scope inner = backend.scope()) {
                Tensor h = state;
                for (int layer = 0; layer < 20; layer++)
                    h = ops.rmsNorm(ops.linear(h, weight), vectorOfOnes(width), 1e-6f);
                backend.attentionOps().append(List.of(cache), 0, h, h, one);
                next = inner.keep(backend.attentionOps().attend(h, List.of(cache), 0, one, attention));
                float[] key = h.toFloats();
                keys = joined(keys, key, one, 0, width);
                check("step " + step, next, Definitions.attend(doubles(key), doubles(keys), doubles(keys), one,
                        Packed.ofLengths(step + 1), attention), 1, width);
            }
            state.close();
            state = next;
            if (step == 20)
                held = backend.allocatedBytes();
        }
        assertThat(backend.allocatedBytes()).isLessThanOrEqualTo(held + 2 * 64 * width * 4);
    }

    private Tensor ones;

    private Tensor vectorOfOnes(int n) {
        if (ones == null) {
            float[] values = new float[n];
            Arrays.fill(values, 1);
            ones = vector(values);
        }
        return ones;
    }

    /** A tensor handed from thread to thread, whose work is on streams of their own. */
    @Test
    void threads() throws Exception {
        float[] w = scaled(32 * 32, 0.2);
        Tensor weight = matrix(w, 32, 32);
        float[] x = floats(32);
        Tensor[] passed = {scope.detach(backend.tensor(x, 1, 32))};
        double[] expected = doubles(x);
        for (int turn = 0; turn < 6; turn++) {
            Thread thread = new Thread(() -> {
                try (Scope own = backend.scope()) {
                    Tensor in = passed[0];
                    passed[0] = own.detach(ops.linear(in, weight));
                    in.close();
                }
            });
            Tensor before = ops.linear(passed[0], weight);
            thread.start();
            thread.join();
            expected = Definitions.linear(expected, doubles(w), null, 1, 32, 32, Activation.NONE);
            check("turn " + turn, before, expected, 1, 32);
        }
        check("passed on", passed[0], expected, 1, 32);
        passed[0].close();
    }

    /** With all settings run, every kernel in the jar was launched, so that none is there for nothing or untested. */
    @AfterAll
    static void reachedEveryKernel() {
        if (EMULATED.size() == 5)
            assertThat(EmulatedDriver.LAUNCHED).containsAll(Kernels.load().entries().keySet());
    }
}
