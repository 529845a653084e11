package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.ConvOps;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.PlainBackend;
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
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** Operations together, as the model puts them together: what must not depend on how the work is cut. */
public interface SmallModelConformance extends Subject {
    /** A decoder of two layers with experts; prompt and steps, alone and in a batch, agree. */
    @Test
    default void aPromptAtOnceIsAPromptTokenByToken() {
        Decoder decoder = new Decoder(this, topK());
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

    /**
     * A prompt and greedy steps, as the definitions have them. Each step is fed the expected token, so that one choice
     * between near equals does not decide all that follow.
     */
    @Test
    default void aDecoderWritesWhatTheDefinitionsWrite() {
        try (Reference reference = new Reference(this);
                Scope scope = reference.backend.scope();
                Decoder.Run actual = new Decoder(this, topK()).run();
                Decoder.Run expected = new Decoder(reference, topK()).run()) {
            int[] ids = {3, 1, 4, 1, 5, 9, 2, 6};
            for (int step = 0; step < 8; step++) {
                double[] logits = expected.logits(ids);
                assertClose(actual.logits(ids), logits);
                int token = expected.draw();
                int drawn = actual.draw();
                // another token only where the two are as good as equal
                double within = 30 * backend().precision() * Arrays.stream(logits).map(Math::abs).max().orElse(0);
                assertThat(logits[drawn]).as("token %d for %d", drawn, token)
                        .isGreaterThanOrEqualTo(logits[token] - within);
                ids = new int[]{token};
            }
        }
    }

    /** What Code2Wav does with a residual unit and a step up, as the definitions have it. */
    @Test
    default void aVocoderSoundsAsTheDefinitionsSound() {
        try (Reference reference = new Reference(this); Scope scope = reference.backend.scope()) {
            double[] expected = block(reference);
            assertClose(block(this), expected);
        }
    }

    /** Two experts of four, or all: in rough arithmetic others might be chosen, and everything after be another. */
    private int topK() {
        return backend().precision() > 1e-3 ? 4 : 2;
    }

    private static double[] block(Subject subject) {
        Cases cases = subject.cases();
        TensorOps ops = subject.backend().tensorOps();
        ConvOps conv = subject.backend().convOps();
        Tensor x = cases.activation(19, 12).tensor();
        Tensor depthwise = cases.weight(WeightRole.CONV1D, DType.F32, 12, 1, 7).tensor();
        Tensor wide = cases.matrix(DType.BF16, 48, 12).tensor();
        Tensor narrow = cases.matrix(DType.BF16, 12, 48).tensor();
        Tensor vector = cases.vector(12).tensor();
        Tensor y = conv.conv1d(x, depthwise, vector, new Conv1d(1, 1, 12, 6, 0));
        y = ops.linear(ops.linear(ops.layerNorm(y, vector, vector, 1e-6f), wide, null, Activation.GELU), narrow);
        y = ops.addScaled(x, y, vector);
        Tensor up = cases.weight(WeightRole.CONV_TRANSPOSE1D, DType.F32, 12, 6, 8).tensor();
        y = conv.convTranspose1d(ops.snakeBeta(y, vector, vector), up, cases.vector(6).tensor(), 4, 4, 4);
        Tensor residual = cases.weight(WeightRole.CONV1D, DType.F16, 6, 6, 7).tensor();
        Tensor alpha = cases.vector(6).tensor();
        y = ops.add(y, conv.conv1d(ops.snakeBeta(y, alpha, alpha), residual, null, new Conv1d(1, 3, 1, 18, 0)));
        return Definitions.doubles(ops.clamp(y, -5, 5).toFloats());
    }

    /** The default operations on the same random weights. */
    final class Reference implements Subject, AutoCloseable {
        private final Backend backend = new PlainBackend();
        private final Cases cases;

        /** Begins both subjects' random numbers anew. */
        Reference(Subject subject) {
            cases = new Cases(backend, subject.cases().seed());
            cases.begin("reference");
            subject.cases().begin("reference");
        }

        @Override
        public Backend backend() {
            return backend;
        }

        @Override
        public Backend another() {
            return new PlainBackend();
        }

        @Override
        public Optional<Backend> small() {
            return Optional.empty();
        }

        @Override
        public Cases cases() {
            return cases;
        }

        @Override
        public void close() {
            backend.close();
            cases.close();
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
        private final int topK;
        private final Tensor embedding;
        private final List<Tensor[]> attention = new ArrayList<>();
        private final List<MoeWeights> experts = new ArrayList<>();
        private final Tensor norm;
        private final Tensor head;

        Decoder(Subject subject, int topK) {
            this.subject = subject;
            this.topK = topK;
            Cases cases = subject.cases();
            embedding = cases.weight(WeightRole.EMBEDDING, DType.BF16, 50, HIDDEN).tensor();
            norm = cases.vector(HIDDEN).tensor();
            head = cases.matrix(DType.BF16, 50, HIDDEN).tensor();
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
                // the second layer is like the Talker's
                MoeWeights.SharedExpert shared = layer == 0
                        ? null
                        : new MoeWeights.SharedExpert(cases.matrix(DType.BF16, 96, HIDDEN).tensor(),
                                cases.matrix(DType.BF16, 96, HIDDEN).tensor(),
                                cases.matrix(DType.BF16, HIDDEN, 96).tensor(),
                                cases.matrix(DType.BF16, 1, HIDDEN).tensor());
                experts.add(new MoeWeights(cases.matrix(DType.F32, 4, HIDDEN).tensor(), gate, up, down, shared));
            }
        }

        Run run() {
            return new Run();
        }

        /** One sequence being written. */
        final class Run implements AutoCloseable {
            private final KvCache cache = cache();
            private final Sampler sampler = subject.backend().tensorOps().sampler(Sampling.greedy(), 50, new int[0]);
            private Tensor logits;

            double[] logits(int[] ids) {
                TensorOps ops = subject.backend().tensorOps();
                Tensor hidden = forward(ids, List.of(cache), new Packed(0, ids.length));
                logits = ops.linear(ops.slice(hidden, ids.length - 1, ids.length), head);
                return Definitions.doubles(logits.toFloats());
            }

            int draw() {
                return subject.backend().tensorOps().sample(logits, List.of(sampler)).toInts()[0];
            }

            @Override
            public void close() {
                sampler.close();
                cache.close();
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
                        subject.backend().moeOps().moe(ops.rmsNorm(x, norm, 1e-6f), experts.get(layer), topK, true));
            }
            return ops.rmsNorm(x, norm, 1e-6f);
        }
    }
}
