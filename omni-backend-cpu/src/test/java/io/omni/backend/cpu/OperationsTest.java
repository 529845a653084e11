package io.omni.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Every operation against its definition in float64, on random shapes and types. */
class OperationsTest extends CpuTest {
    @Test
    void linear() {
        for (int round = 0; round < 60; round++) {
            int n = size(70);
            int in = 1 + size(300);
            int out = 1 + size(120);
            Tensor x = activation(n, in);
            Tensor w = weight(WeightRole.MATRIX, out, in);
            Tensor bias = random.nextBoolean() ? null : weight(WeightRole.VECTOR, out);
            Activation f = Activation.values()[random.nextInt(Activation.values().length)];
            double[] product = Definitions.linear(doubles(x), doubles(w), doubles(bias), n, in, out, Activation.NONE);
            double[] expected = Definitions.linear(doubles(x), doubles(w), doubles(bias), n, in, out, f);
            // a GELU of one or two negative numbers is all cancellation: then the product itself is compared
            if (norm(expected) < 0.01 * norm(product)) {
                f = Activation.NONE;
                expected = product;
            }
            assertClose(backend.tensorOps().linear(x, w, bias, f), expected,
                    "%d x %d x %d %s %s".formatted(n, in, out, w.dtype(), f));
        }
    }

    private static double norm(double[] values) {
        return Math.sqrt(Arrays.stream(values).map(value -> value * value).sum());
    }

    @Test
    void quantized() {
        for (DType type : BLOCKS)
            for (int round = 0; round < 40; round++) {
                int n = random.nextBoolean() ? 1 : size(70);
                int in = 32 * (1 + random.nextInt(12));
                int inner = 32 * (1 + random.nextInt(4));
                int out = 32 * random.nextInt(1, 8);
                Tensor x = activation(n, in);
                Tensor w = weight(type, WeightRole.MATRIX, out, in);
                String what = "%d x %d x %d %s".formatted(n, in, out, type);
                assertClose(backend.tensorOps().linear(x, w),
                        Definitions.linear(doubles(x), doubles(w), null, n, in, out, Activation.NONE), what);
                Tensor gate = weight(type, WeightRole.MATRIX, inner, in);
                Tensor up = weight(type, WeightRole.MATRIX, inner, in);
                Tensor down = weight(type, WeightRole.MATRIX, in, inner);
                assertClose(backend.tensorOps().gatedMlp(x, gate, up, down), gated(x, gate, up, down), what);
            }
    }

    /** Tiles of a few rows share rows out differently for every number of them. */
    @Test
    void everyNumberOfRows() {
        for (DType type : new DType[]{DType.Q8, DType.Q4, DType.BF16, DType.F32})
            for (int n = 1; n <= 72; n++) {
                int in = 32 * (1 + n % 10);
                int out = 32 * (1 + n % 3);
                Tensor x = activation(n, in);
                Tensor w = weight(type, WeightRole.MATRIX, out, in);
                assertClose(backend.tensorOps().linear(x, w),
                        Definitions.linear(doubles(x), doubles(w), null, n, in, out, Activation.NONE),
                        "%d rows of %s".formatted(n, type));
            }
    }

    @Test
    void gatedMlp() {
        for (int round = 0; round < 30; round++) {
            int n = size(40);
            int hidden = 1 + size(100);
            int inner = 1 + size(150);
            Tensor x = activation(n, hidden);
            Tensor gate = weight(WeightRole.MATRIX, inner, hidden);
            Tensor up = weight(WeightRole.MATRIX, inner, hidden);
            Tensor down = weight(WeightRole.MATRIX, hidden, inner);
            assertClose(backend.tensorOps().gatedMlp(x, gate, up, down), gated(x, gate, up, down), "gatedMlp");
        }
    }

    private static double[] gated(Tensor x, Tensor gate, Tensor up, Tensor down) {
        int n = x.dim(0);
        int hidden = x.dim(1);
        int inner = gate.dim(0);
        double[] g = Definitions.linear(doubles(x), doubles(gate), null, n, hidden, inner, Activation.SILU);
        double[] u = Definitions.linear(doubles(x), doubles(up), null, n, hidden, inner, Activation.NONE);
        return Definitions.linear(n == 0 ? g : Definitions.multiply(g, u), doubles(down), null, n, inner, hidden,
                Activation.NONE);
    }

    @Test
    void norms() {
        for (int round = 0; round < 40; round++) {
            int n = size(20);
            int features = 1 + size(300);
            Tensor x = activation(n, 1, features);
            Tensor w = weight(WeightRole.VECTOR, features);
            Tensor b = weight(WeightRole.VECTOR, features);
            assertClose(backend.tensorOps().rmsNorm(x, w, 1e-6f), Definitions.rmsNorm(doubles(x), doubles(w), 1e-6f),
                    "rmsNorm");
            assertClose(backend.tensorOps().layerNorm(x, w, b, 1e-6f),
                    Definitions.layerNorm(doubles(x), doubles(w), doubles(b), 1e-6f), "layerNorm " + features);
        }
    }

    @Test
    void elementwise() {
        for (int round = 0; round < 40; round++) {
            int n = size(30);
            int features = 1 + size(1500);
            Tensor a = activation(n, features);
            Tensor b = activation(n, features);
            Tensor row = weight(WeightRole.VECTOR, features);
            Tensor second = weight(WeightRole.VECTOR, features);
            assertClose(backend.tensorOps().add(a, b), n == 0 ? new double[0] : Definitions.add(doubles(a), doubles(b)),
                    "add");
            assertClose(backend.tensorOps().add(a, row), Definitions.add(doubles(a), doubles(row)), "add row");
            assertClose(backend.tensorOps().multiply(a, b),
                    n == 0 ? new double[0] : Definitions.multiply(doubles(a), doubles(b)), "multiply");
            assertClose(backend.tensorOps().multiply(a, row), Definitions.multiply(doubles(a), doubles(row)),
                    "multiply row");
            assertClose(backend.tensorOps().addScaled(a, b, row), n == 0
                    ? new double[0]
                    : Definitions.add(doubles(a), Definitions.multiply(doubles(b), doubles(row))), "addScaled");
            assertClose(backend.tensorOps().clamp(a, -0.5f, 0.75f), Definitions.clamp(doubles(a), -0.5f, 0.75f),
                    "clamp");
            assertClose(backend.tensorOps().snakeBeta(a, row, second),
                    Definitions.snakeBeta(doubles(a), doubles(row), doubles(second)), "snakeBeta");
            for (Activation f : Activation.values())
                assertClose(backend.tensorOps().activation(a, f), Definitions.activation(doubles(a), f), f.name());
        }
    }

    @Test
    void rows() {
        for (int round = 0; round < 40; round++) {
            int entries = 1 + size(50);
            int features = 1 + size(80);
            Tensor table = weight(WeightRole.EMBEDDING, entries, features);
            Tensor ids = ids(entries, size(5), size(5));
            assertThat(backend.tensorOps().embedding(table, ids).toFloats())
                    .isEqualTo(Definitions.round(Definitions.embedding(doubles(table), features, ids.toInts())));
            Tensor bags = ids(entries, size(20), size(8));
            Tensor weights = random.nextBoolean() ? null : activation(bags.shape());
            if (bags.dim(1) > 0)
                assertClose(backend.tensorOps().embeddingBag(table, bags, weights), Definitions
                        .embeddingBag(doubles(table), features, bags.toInts(), bags.dim(1), doubles(weights)), "bag");
            Tensor x = activation(entries, features);
            int n = Math.min(entries, size(20));
            int[] order = IntStream.range(0, entries).boxed()
                    .sorted(java.util.Comparator.comparing(i -> Integer.rotateLeft(i * 0x9e3779b9, 7)))
                    .mapToInt(i -> i).limit(n).toArray();
            Tensor index = backend.tensor(order, n);
            Tensor update = activation(n, features);
            assertClose(backend.tensorOps().gather(x, index), Definitions.embedding(doubles(x), features, order),
                    "gather");
            assertClose(backend.tensorOps().scatter(x, index, update),
                    Definitions.scatter(doubles(x), order, doubles(update), false), "scatter");
            Tensor repeated = ids(entries, n);
            assertClose(backend.tensorOps().scatterAdd(x, repeated, update),
                    Definitions.scatter(doubles(x), repeated.toInts(), doubles(update), true), "scatterAdd");
        }
    }

    @Test
    void shapes() {
        Tensor x = activation(5, 7, 3);
        assertThat(backend.tensorOps().slice(x, 1, 3).toFloats()).isEqualTo(Arrays.copyOfRange(x.toFloats(), 21, 63));
        assertThat(backend.tensorOps().reshape(x, 35, 3).shape()).containsExactly(35, 3);
        Tensor both = backend.tensorOps().concat(List.of(backend.tensorOps().slice(x, 0, 2),
                backend.tensorOps().slice(x, 2, 5)));
        assertThat(both.toFloats()).isEqualTo(x.toFloats());
        Tensor ints = ids(9, 6, 2);
        assertThat(backend.tensorOps().slice(ints, 2, 4).toInts()).isEqualTo(Arrays.copyOfRange(ints.toInts(), 4, 8));
        assertThat(backend.tensorOps().concat(List.of(ints, ints)).dim(0)).isEqualTo(12);
        for (int[] axes : new int[][]{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}})
            assertThat(backend.tensorOps().permute(x, axes).toFloats())
                    .isEqualTo(Definitions.round(Definitions.permute(doubles(x), x.shape(), axes)));
    }

    @Test
    void rotary() {
        for (int round = 0; round < 20; round++) {
            int tokens = size(20);
            int headDim = 2 * (1 + size(70));
            int heads = 1 + size(4);
            Rope rope = Rope.multimodal(headDim, 10_000, 3, 2, 2);
            float[] steps = new float[3 * tokens];
            for (int i = 0; i < steps.length; i++)
                steps[i] = random.nextBoolean() ? random.nextInt(5000) : random.nextFloat() * 100;
            Tensor positions = backend.tensor(steps, 3, tokens);
            Tensor table = backend.attentionOps().rotaryTable(positions, rope);
            double[] expected = Definitions.rotaryTable(positions.toFloats(), tokens, rope);
            assertClose(table, expected, "rotaryTable");
            Tensor x = activation(tokens, heads * headDim);
            Tensor norm = random.nextBoolean() ? null : weight(WeightRole.VECTOR, headDim);
            double[] normed = norm == null ? doubles(x) : Definitions.rmsNorm(doubles(x), doubles(norm), 1e-6f);
            assertClose(backend.attentionOps().rotary(x, norm, 1e-6f, table),
                    Definitions.rotary(normed, expected, tokens, headDim / 2), "rotary");
        }
    }

    private Attention attention() {
        int kvHeads = 1 + random.nextInt(3);
        return new Attention(kvHeads * (1 + random.nextInt(8)), kvHeads, 1 + size(130), random.nextBoolean(),
                random.nextBoolean() ? 0 : 1 + random.nextInt(100));
    }

    @Test
    void packedAttention() {
        for (int round = 0; round < 30; round++) {
            Attention a = attention();
            Packed packed = Packed.ofLengths(size(150), size(20), 0, 1);
            Tensor q = activation(packed.tokens(), a.heads() * a.headDim());
            Tensor k = activation(packed.tokens(), a.kvHeads() * a.headDim());
            Tensor v = activation(packed.tokens(), a.kvHeads() * a.headDim());
            assertClose(backend.attentionOps().attend(q, k, v, packed, a),
                    Definitions.attend(doubles(q), doubles(k), doubles(v), packed, packed, a), a.toString());
        }
    }

    @Test
    void cachedAttention() {
        for (int round = 0; round < 12; round++) {
            Attention a = attention();
            int total = 1 + (round < 2 ? 2500 : size(400));
            int width = a.kvHeads() * a.headDim();
            Tensor k = activation(total, width);
            Tensor v = activation(total, width);
            try (KvCache cache = backend.cache(new CacheSpec(2, a.kvHeads(), a.headDim(), a.window()))) {
                for (int from = 0; from < total;) {
                    int n = Math.min(total - from, 1 + (round < 2 ? 1200 : size(90)));
                    Packed packed = Packed.ofLengths(n);
                    backend.attentionOps().append(List.of(cache), 1, backend.tensorOps().slice(k, from, from + n),
                            backend.tensorOps().slice(v, from, from + n), packed);
                    Tensor q = activation(Math.min(n, 9), a.heads() * a.headDim());
                    Packed queries = Packed.ofLengths(q.dim(0));
                    from += n;
                    assertClose(backend.attentionOps().attend(q, List.of(cache), 1, queries, a),
                            Definitions.attend(doubles(q), doubles(backend.tensorOps().slice(k, 0, from)),
                                    doubles(backend.tensorOps().slice(v, 0, from)), queries, Packed.ofLengths(from),
                                    a),
                            a + " at " + from);
                }
                assertThat(cache.length(1)).isEqualTo(total);
                assertThat(cache.length(0)).isZero();
            }
        }
    }

    @Test
    void moe() {
        for (int round = 0; round < 20; round++) {
            int hidden = 1 + size(70);
            int inner = 1 + size(60);
            int experts = 1 + size(12);
            int topK = 1 + random.nextInt(experts);
            boolean normalise = random.nextBoolean();
            List<Tensor> gate = new ArrayList<>();
            List<Tensor> up = new ArrayList<>();
            List<Tensor> down = new ArrayList<>();
            for (int i = 0; i < experts; i++) {
                gate.add(weight(WeightRole.MATRIX, inner, hidden));
                up.add(weight(WeightRole.MATRIX, inner, hidden));
                down.add(weight(WeightRole.MATRIX, hidden, inner));
            }
            MoeWeights.SharedExpert shared = random.nextBoolean()
                    ? null
                    : new MoeWeights.SharedExpert(weight(WeightRole.MATRIX, inner + 3, hidden),
                            weight(WeightRole.MATRIX, inner + 3, hidden), weight(WeightRole.MATRIX, hidden, inner + 3),
                            weight(WeightRole.MATRIX, 1, hidden));
            MoeWeights weights = new MoeWeights(weight(WeightRole.MATRIX, experts, hidden), gate, up, down, shared);
            int n = size(30);
            Tensor x = activation(n, hidden);
            double[] probabilities = Definitions.softmax(Definitions.linear(doubles(x), doubles(weights.router()), null,
                    n, hidden, experts, Activation.NONE), experts);
            int[] chosen = Definitions.topK(probabilities, experts, topK);
            double[] share = Definitions.shares(probabilities, experts, chosen, topK, normalise);
            double[] expected = new double[n * hidden];
            for (int i = 0; i < chosen.length; i++) {
                Tensor row = backend.tensorOps().slice(x, i / topK, i / topK + 1);
                double[] y = gated(row, gate.get(chosen[i]), up.get(chosen[i]), down.get(chosen[i]));
                for (int j = 0; j < hidden; j++)
                    expected[i / topK * hidden + j] += share[i] * y[j];
            }
            if (shared != null) {
                double[] scale = Definitions.linear(doubles(x), doubles(shared.scale()), null, n, hidden, 1,
                        Activation.SIGMOID);
                double[] y = gated(x, shared.gate(), shared.up(), shared.down());
                for (int i = 0; i < y.length; i++)
                    expected[i] += scale[i / hidden] * y[i];
            }
            assertClose(backend.moeOps().moe(x, weights, topK, normalise), expected,
                    "moe %d x %d x %d, %d experts %s".formatted(n, hidden, inner, experts, seed));
        }
    }

    @Test
    void conv1d() {
        for (int round = 0; round < 60; round++) {
            int groups = new int[]{1, 1, 2, 5}[random.nextInt(4)];
            boolean depthwise = random.nextInt(3) == 0;
            int in = groups * (depthwise ? 1 : 1 + size(20));
            int out = groups * (1 + size(10));
            if (depthwise && random.nextBoolean())
                groups = in = out = 1 + size(50);
            int kernel = 1 + size(7);
            Conv1d conv = new Conv1d(1 + size(3), 1 + size(4), groups, size(5), size(5));
            Tensor x = activation(size(60), in);
            Tensor w = weight(WeightRole.CONV1D, out, in / groups, kernel);
            Tensor bias = random.nextBoolean() ? null : weight(WeightRole.VECTOR, out);
            assertClose(backend.convOps().conv1d(x, w, bias, conv), Definitions.conv1d(doubles(x), doubles(w),
                    doubles(bias), x.dim(0), in, out, kernel, conv), conv + " " + w + " " + x);
        }
    }

    @Test
    void convTranspose1d() {
        for (int round = 0; round < 60; round++) {
            int in = 1 + size(40);
            int out = 1 + size(20);
            int kernel = 1 + size(9);
            int stride = 1 + size(5);
            int left = size(6);
            int right = size(6);
            Tensor x = activation(size(30), in);
            Tensor w = weight(WeightRole.CONV_TRANSPOSE1D, in, out, kernel);
            Tensor bias = random.nextBoolean() ? null : weight(WeightRole.VECTOR, out);
            Tensor y = backend.convOps().convTranspose1d(x, w, bias, stride, left, right);
            assertClose(y, Definitions.convTranspose1d(doubles(x), doubles(w), doubles(bias), x.dim(0), in, out, kernel,
                    stride, left, y.dim(0)), "stride %d kernel %d left %d".formatted(stride, kernel, left));
        }
    }

    @Test
    void conv2d() {
        for (int round = 0; round < 30; round++) {
            int in = 1 + size(12);
            int out = 1 + size(20);
            Conv2d conv = new Conv2d(1 + size(2), size(2));
            Tensor x = activation(size(3), size(12), size(12), in);
            Tensor w = weight(WeightRole.CONV2D, out, in, 1 + size(3), 1 + size(3));
            Tensor bias = random.nextBoolean() ? null : weight(WeightRole.VECTOR, out);
            assertClose(backend.convOps().conv2d(x, w, bias, conv, Activation.GELU), Definitions.conv2d(doubles(x),
                    doubles(w), doubles(bias), x.shape(), w.shape(), conv, Activation.GELU), "conv2d");
        }
    }

    @Test
    void conv3dPatches() {
        Tensor x = activation(9, 3 * 2 * 4 * 4);
        Tensor w = weight(DType.BF16, WeightRole.CONV3D, 21, 3, 2, 4, 4);
        Tensor bias = weight(WeightRole.VECTOR, 21);
        assertClose(backend.convOps().conv3dPatches(x, w, bias), Definitions.linear(doubles(x), doubles(w),
                doubles(bias), 9, 96, 21, Activation.NONE), "conv3d");
    }
}
