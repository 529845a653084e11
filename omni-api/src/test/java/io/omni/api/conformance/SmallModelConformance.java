package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Operations together, as the model puts them together: what must not depend on how the work is cut. */
public interface SmallModelConformance extends Subject {
    /** A decoder of two layers with experts; prompt and steps, alone and in a batch, agree. */
    @Test
    default void aPromptAtOnceIsAPromptTokenByToken() {
        Decoder decoder = new Decoder(this);
        int[] a = cases().randomIds(9, 50);
        int[] b = cases().randomIds(5, 50);
        double[] alone;
        try (KvCache cache = decoder.cache()) {
            alone = last(decoder.forward(a, List.of(cache), new Packed(0, 9)), 9);
        }
        try (KvCache cache = decoder.cache()) {
            Tensor hidden = null;
            for (int token : a)
                hidden = decoder.forward(new int[]{token}, List.of(cache), new Packed(0, 1));
            assertClose(last(hidden, 1), alone);
        }
        try (KvCache first = decoder.cache(); KvCache second = decoder.cache()) {
            int[] both = java.util.stream.IntStream.concat(Arrays.stream(b), Arrays.stream(a)).toArray();
            assertClose(last(decoder.forward(both, List.of(first, second), new Packed(0, 5, 14)), 14), alone);
        }
    }

    /** Causal convolutions with their past kept: pieces give the samples of one pass. */
    @Test
    default void aStreamInPiecesIsOnePass() {
        Tensor conv = cases().weight(WeightRole.CONV1D, DType.BF16, 6, 6, 7).tensor();
        Tensor up = cases().weight(WeightRole.CONV_TRANSPOSE1D, DType.BF16, 6, 4, 10).tensor();
        Tensor alpha = cases().vector(6).tensor();
        Tensor x = cases().activation(23, 6).tensor();
        double[] whole = vocode(x, conv, up, alpha, new ArrayList<>());
        List<Tensor> past = new ArrayList<>();
        double[] pieces = new double[0];
        int from = 0;
        for (int n : new int[]{1, 2, 13, 7}) {
            double[] piece = vocode(backend().tensorOps().slice(x, from, from + n), conv, up, alpha, past);
            pieces = java.util.stream.DoubleStream.concat(Arrays.stream(pieces), Arrays.stream(piece)).toArray();
            from += n;
        }
        assertClose(pieces, whole);
    }

    private double[] vocode(Tensor x, Tensor conv, Tensor up, Tensor alpha, List<Tensor> past) {
        TensorOps ops = backend().tensorOps();
        int context = 6 * 3;
        Tensor before = past.isEmpty() ? backend().tensor(new float[context * 6], context, 6) : past.get(0);
        Tensor joined = ops.concat(List.of(before, x));
        Tensor y = backend().convOps().conv1d(ops.snakeBeta(joined, alpha, alpha), conv, null, Conv1d.dilated(3));
        Tensor step = past.isEmpty() ? y : ops.concat(List.of(past.get(1), y));
        past.clear();
        past.add(ops.slice(joined, joined.dim(0) - context, joined.dim(0)));
        past.add(ops.slice(step, step.dim(0) - 1, step.dim(0)));
        return Definitions.doubles(backend().convOps().convTranspose1d(step, up, null, 5, 5, 5).toFloats());
    }

    private static double[] last(Tensor hidden, int rows) {
        double[] values = Definitions.doubles(hidden.toFloats());
        int width = values.length / rows;
        return Arrays.copyOfRange(values, values.length - width, values.length);
    }

    private void assertClose(double[] actual, double[] expected) {
        assertThat(actual.length).isEqualTo(expected.length);
        double difference = 0;
        double norm = 0;
        for (int i = 0; i < actual.length; i++) {
            difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        // a chain of some tens of operations
        assertThat(Math.sqrt(difference / norm)).isLessThanOrEqualTo(30 * backend().precision());
    }

    /** Embedding, layers of attention and experts, and a head, on nothing but the SPI. */
    final class Decoder {
        private static final int HIDDEN = 64;
        private static final Rope ROPE = Rope.standard(16, 1e4);

        private final Subject subject;
        private final Tensor embedding;
        private final List<Tensor[]> attention = new ArrayList<>();
        private final List<MoeWeights> experts = new ArrayList<>();
        private final Tensor norm;

        Decoder(Subject subject) {
            this.subject = subject;
            Cases cases = subject.cases();
            embedding = cases.weight(WeightRole.EMBEDDING, DType.BF16, 50, HIDDEN).tensor();
            norm = cases.vector(HIDDEN).tensor();
            for (int layer = 0; layer < 2; layer++) {
                attention.add(new Tensor[]{cases.matrix(DType.BF16, 64, HIDDEN).tensor(),
                        cases.matrix(DType.BF16, 32, HIDDEN).tensor(), cases.matrix(DType.BF16, 32, HIDDEN).tensor(),
                        cases.matrix(DType.BF16, HIDDEN, 64).tensor(), cases.vector(16).tensor()});
                List<Tensor> gate = new ArrayList<>();
                List<Tensor> up = new ArrayList<>();
                List<Tensor> down = new ArrayList<>();
                for (int i = 0; i < 4; i++) {
                    gate.add(cases.matrix(DType.BF16, 32, HIDDEN).tensor());
                    up.add(cases.matrix(DType.BF16, 32, HIDDEN).tensor());
                    down.add(cases.matrix(DType.BF16, HIDDEN, 32).tensor());
                }
                experts.add(new MoeWeights(cases.matrix(DType.F32, 4, HIDDEN).tensor(), gate, up, down, null));
            }
        }

        KvCache cache() {
            return subject.backend().cache(new CacheSpec(2, 2, 16, 0));
        }

        Tensor forward(int[] ids, List<KvCache> caches, Packed packed) {
            TensorOps ops = subject.backend().tensorOps();
            AttentionOps attend = subject.backend().attentionOps();
            float[] positions = new float[ids.length];
            for (int i = 0; i < caches.size(); i++)
                for (int t = 0; t < packed.length(i); t++)
                    positions[packed.offsets()[i] + t] = caches.get(i).length(0) + t;
            Tensor table = attend.rotaryTable(subject.backend().tensor(positions, 1, ids.length), ROPE);
            Tensor x = ops.embedding(embedding, subject.cases().ids(ids));
            for (int layer = 0; layer < 2; layer++) {
                Tensor[] w = attention.get(layer);
                Tensor normed = ops.rmsNorm(x, norm, 1e-6f);
                Tensor k = attend.rotary(ops.linear(normed, w[1]), w[4], 1e-6f, table);
                attend.append(caches, layer, k, ops.linear(normed, w[2]), packed);
                Tensor q = attend.rotary(ops.linear(normed, w[0]), w[4], 1e-6f, table);
                Tensor mixed = attend.attend(q, caches, layer, packed, new Attention(4, 2, 16, true, 0));
                x = ops.add(x, ops.linear(mixed, w[3], null, Activation.NONE));
                x = ops.add(x,
                        subject.backend().moeOps().moe(ops.rmsNorm(x, norm, 1e-6f), experts.get(layer), 2, true));
            }
            return ops.rmsNorm(x, norm, 1e-6f);
        }
    }
}
