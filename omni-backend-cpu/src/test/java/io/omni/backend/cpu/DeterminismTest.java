package io.omni.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;

/** A row's bits do not depend on what is computed with it, on how it is cut into calls, or on the number of threads. */
class DeterminismTest extends CpuTest {
    /** The operation on all rows against the operation on some of them at a time. */
    private void assertRowsIndependent(Tensor x, UnaryOperator<Tensor> op) {
        float[] all = op.apply(x).toFloats();
        int width = x.dim(0) == 0 ? 0 : all.length / x.dim(0);
        for (int from = 0; from < x.dim(0);) {
            int to = Math.min(x.dim(0), from + 1 + random.nextInt(3) * random.nextInt(12));
            float[] part = op.apply(backend.tensorOps().slice(x, from, to)).toFloats();
            assertThat(part).isEqualTo(Arrays.copyOfRange(all, from * width, to * width));
            from = to;
        }
    }

    @Test
    void linear() {
        for (int round = 0; round < 30; round++) {
            Tensor x = activation(1 + size(70), 1 + size(600));
            Tensor w = weight(WeightRole.MATRIX, 1 + size(130), x.dim(1));
            Tensor bias = weight(WeightRole.VECTOR, w.dim(0));
            assertRowsIndependent(x, rows -> backend.tensorOps().linear(rows, w, bias, Activation.GELU));
        }
    }

    @Test
    void quantized() {
        for (int round = 0; round < 30; round++) {
            Tensor x = activation(1 + size(70), 32 * (1 + random.nextInt(20)));
            Tensor w = weight(BLOCKS[round % 2], WeightRole.MATRIX, 32 * random.nextInt(1, 24), x.dim(1));
            assertRowsIndependent(x, rows -> backend.tensorOps().linear(rows, w));
            Tensor up = weight(BLOCKS[round % 2], WeightRole.MATRIX, 96, x.dim(1));
            Tensor gate = weight(BLOCKS[round % 2], WeightRole.MATRIX, 96, x.dim(1));
            Tensor down = weight(BLOCKS[round % 2], WeightRole.MATRIX, x.dim(1), 96);
            assertRowsIndependent(x, rows -> backend.tensorOps().gatedMlp(rows, gate, up, down));
        }
        for (int round = 0; round < 4; round++) {
            Tensor x = activation(60, 96);
            MoeWeights weights = experts(20, 96, 160);
            assertRowsIndependent(x, rows -> backend.moeOps().moe(rows, weights, 4, true));
        }
    }

    @Test
    void gatedMlp() {
        Tensor x = activation(50, 100);
        Tensor gate = weight(WeightRole.MATRIX, 77, 100);
        Tensor up = weight(WeightRole.MATRIX, 77, 100);
        Tensor down = weight(WeightRole.MATRIX, 100, 77);
        assertRowsIndependent(x, rows -> backend.tensorOps().gatedMlp(rows, gate, up, down));
    }

    @Test
    void moe() {
        for (int round = 0; round < 5; round++) {
            int hidden = 64 + size(100);
            int inner = 1 + size(80);
            Tensor x = activation(60, hidden);
            MoeWeights weights = experts(20, hidden, inner);
            assertRowsIndependent(x, rows -> backend.moeOps().moe(rows, weights, 4, true));
        }
    }

    private MoeWeights experts(int n, int hidden, int inner) {
        List<Tensor> gate = new ArrayList<>();
        List<Tensor> up = new ArrayList<>();
        List<Tensor> down = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            gate.add(weight(WeightRole.MATRIX, inner, hidden));
            up.add(weight(WeightRole.MATRIX, inner, hidden));
            down.add(weight(WeightRole.MATRIX, hidden, inner));
        }
        return new MoeWeights(weight(WeightRole.MATRIX, n, hidden), gate, up, down,
                new MoeWeights.SharedExpert(weight(WeightRole.MATRIX, inner, hidden),
                        weight(WeightRole.MATRIX, inner, hidden), weight(WeightRole.MATRIX, hidden, inner),
                        weight(WeightRole.MATRIX, 1, hidden)));
    }

    @Test
    void prefillAndDecode() {
        for (int round = 0; round < 8; round++) {
            int window = random.nextBoolean() ? 0 : 1 + random.nextInt(150);
            Attention a = new Attention(6, 2, 16 + size(60), true, window);
            int total = round == 0 ? 1500 : 1 + size(300);
            Tensor q = activation(total, 6 * a.headDim());
            Tensor k = activation(total, 2 * a.headDim());
            Tensor v = activation(total, 2 * a.headDim());
            float[] once = attendInSteps(a, q, k, v, total);
            assertThat(attendInSteps(a, q, k, v, 1 + random.nextInt(70))).isEqualTo(once);
            if (total < 400)
                assertThat(attendInSteps(a, q, k, v, 1)).isEqualTo(once);
            assertThat(backend.attentionOps().attend(q, k, v, Packed.ofLengths(total), a).toFloats()).isEqualTo(once);
        }
    }

    private float[] attendInSteps(Attention a, Tensor q, Tensor k, Tensor v, int step) {
        List<Tensor> parts = new ArrayList<>();
        try (KvCache cache = backend.cache(new CacheSpec(1, a.kvHeads(), a.headDim(), a.window()))) {
            for (int from = 0; from < q.dim(0); from += step) {
                int to = Math.min(q.dim(0), from + step);
                Packed packed = Packed.ofLengths(to - from);
                backend.attentionOps().append(List.of(cache), 0, backend.tensorOps().slice(k, from, to),
                        backend.tensorOps().slice(v, from, to), packed);
                parts.add(backend.attentionOps().attend(backend.tensorOps().slice(q, from, to), List.of(cache), 0,
                        packed, a));
            }
        }
        return backend.tensorOps().concat(parts).toFloats();
    }

    @Test
    void streamedConvolution() {
        for (int round = 0; round < 20; round++) {
            int in = 1 + size(40);
            boolean depthwise = random.nextBoolean();
            int out = depthwise ? in : 1 + size(40);
            int kernel = 1 + size(7);
            int dilation = 1 + size(4);
            int context = (kernel - 1) * dilation;
            Tensor x = activation(1 + size(90), in);
            Tensor w = weight(WeightRole.CONV1D, out, depthwise ? 1 : in, kernel);
            Tensor bias = weight(WeightRole.VECTOR, out);
            int groups = depthwise ? in : 1;
            float[] once = backend.convOps().conv1d(x, w, bias, new Conv1d(1, dilation, groups, context, 0)).toFloats();
            List<Tensor> parts = new ArrayList<>();
            Tensor left = backend.tensor(new float[context * in], context, in);
            for (int from = 0; from < x.dim(0);) {
                int to = Math.min(x.dim(0), from + 1 + size(30));
                Tensor chunk = backend.tensorOps().concat(List.of(left, backend.tensorOps().slice(x, from, to)));
                parts.add(backend.convOps().conv1d(chunk, w, bias, new Conv1d(1, dilation, groups, 0, 0)));
                left = backend.tensorOps().slice(chunk, chunk.dim(0) - context, chunk.dim(0));
                from = to;
            }
            assertThat(backend.tensorOps().concat(parts).toFloats()).isEqualTo(once);
        }
    }

    @Test
    void threads() {
        HostTensor w = host(TYPES[random.nextInt(3)], 500, 333);
        float[] x = floats(40 * 333);
        float[] few = backend.tensorOps().linear(backend.tensor(x, 40, 333), backend.weight(w, WeightRole.MATRIX))
                .toFloats();
        for (int threads : new int[]{1, 3, 5})
            try (CpuBackend other = start(threads); Scope inner = other.scope()) {
                Tensor y = inner.keep(other.tensorOps().linear(other.tensor(x, 40, 333),
                        other.weight(w, WeightRole.MATRIX)));
                assertThat(y.toFloats()).isEqualTo(few);
            }
    }
}
