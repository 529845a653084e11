package io.omni.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import io.omni.api.conformance.BackendConformance;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/** Backends with one wrong kernel each: the suite must fail in the test that has the kernel's name. */
class BrokenBackendsTest {
    private static Supplier<Backend> broken;

    /** Runs the suite on {@link #broken}; surefire does not find it, as its name does not end in Test. */
    static class Suite extends BackendConformance {
        @Override
        protected Backend start() {
            return broken.get();
        }
    }

    /** A plain backend with some operations of its own. */
    private static class Plain extends PlainBackend {
        TensorOps tensors = super.tensorOps();
        AttentionOps attention = super.attentionOps();
        MoeOps moe = super.moeOps();
        ConvOps conv = super.convOps();

        @Override
        public TensorOps tensorOps() {
            return tensors;
        }

        @Override
        public AttentionOps attentionOps() {
            return attention;
        }

        @Override
        public MoeOps moeOps() {
            return moe;
        }

        @Override
        public ConvOps convOps() {
            return conv;
        }
    }

    private interface Mutation {
        void apply(Plain backend);
    }

    static Stream<Arguments> mutations() {
        return Stream.of(
                mutation("linear", "no bias", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation activation) {
                        return super.linear(x, weight, null, activation);
                    }
                }), mutation("gatedMlp", "gate and up swapped", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor gatedMlp(Tensor x, Tensor gate, Tensor up, Tensor down) {
                        return super.gatedMlp(x, up, gate, down);
                    }
                }), mutation("rmsNorm", "no eps", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor rmsNorm(Tensor x, Tensor weight, float eps) {
                        return super.rmsNorm(x, weight, 0);
                    }
                }), mutation("layerNorm", "eps outside the root", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor layerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
                        return super.layerNorm(x, weight, bias, eps * eps + 2 * eps);
                    }
                }), mutation("snakeBeta", "alpha and beta swapped", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor snakeBeta(Tensor x, Tensor alpha, Tensor beta) {
                        return super.snakeBeta(x, beta, alpha);
                    }
                }), mutation("scatterAdd", "a repeated index overwrites", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor scatterAdd(Tensor base, Tensor index, Tensor rows) {
                        return add(base, scatter(multiply(base, backend().tensor(new float[base.dim(1)], base.dim(1))),
                                index, rows));
                    }
                }), mutation("sample", "penalty twice", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Sampler sampler(Sampling s, int vocabulary, int[] history) {
                        float penalty = s.repetitionPenalty() * s.repetitionPenalty();
                        return super.sampler(new Sampling(s.doSample(), s.temperature(), s.topK(), s.topP(), penalty,
                                s.suppressTokens(), s.seed()), vocabulary, history);
                    }
                }), mutation("attend", "window off by one", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention a) {
                        int window = a.window() == 0 ? 0 : a.window() + 1;
                        return super.attend(q, k, v, packed, new Attention(a.heads(), a.kvHeads(), a.headDim(),
                                a.scale(), a.causal(), window));
                    }
                }), mutation("attend", "no scale", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention a) {
                        return super.attend(q, k, v, packed,
                                new Attention(a.heads(), a.kvHeads(), a.headDim(), 1, a.causal(), a.window()));
                    }
                }), mutation("attendCached", "causal within the call only", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention a) {
                        return super.attend(q, caches, layer, packed,
                                new Attention(a.heads(), a.kvHeads(), a.headDim(), a.scale(), false, a.window()));
                    }
                }), mutation("rotary", "neighbours as pairs", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor rotary(Tensor x, Tensor norm, float eps, Tensor table) {
                        int pairs = table.dim(2);
                        float[] values = x.toFloats();
                        float[] halves = new float[values.length];
                        for (int i = 0; i < values.length; i++) {
                            int feature = i % (2 * pairs);
                            halves[i - feature + feature / 2 + feature % 2 * pairs] = values[i];
                        }
                        return super.rotary(backend().tensor(halves, x.shape()), norm, eps, table);
                    }
                }), mutation("moeTies", "the higher expert on a tie", b -> b.moe = new Experts(b) {
                    @Override
                    public Tensor moe(Tensor x, MoeWeights w, int topK, boolean normalise) {
                        float[] rows = w.router().toFloats();
                        float[] reversed = new float[rows.length];
                        int width = w.router().dim(1);
                        for (int i = 0; i < rows.length; i++)
                            reversed[rows.length - width - i / width * width + i % width] = rows[i];
                        return super.moe(x, new MoeWeights(backend().tensor(reversed, w.router().shape()),
                                w.gate().reversed(), w.up().reversed(), w.down().reversed(), w.shared()), topK,
                                normalise);
                    }
                }), mutation("moe", "shares not normalised", b -> b.moe = new Experts(b) {
                    @Override
                    public Tensor moe(Tensor x, MoeWeights w, int topK, boolean normalise) {
                        return super.moe(x, w, topK, false);
                    }
                }), mutation("conv1d", "dilation ignored", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d c) {
                        int lost = (weight.dim(2) - 1) * (c.dilation() - 1);
                        return super.conv1d(x, weight, bias, c.padLeft() < lost
                                ? c
                                : new Conv1d(c.stride(), 1, c.groups(), c.padLeft() - lost, c.padRight()));
                    }
                }), mutation("convTranspose1d", "trim off by one", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor convTranspose1d(Tensor x, Tensor weight, Tensor bias, int stride, int left,
                            int right) {
                        return right == 0
                                ? super.convTranspose1d(x, weight, bias, stride, left, right)
                                : super.convTranspose1d(x, weight, bias, stride, left + 1, right - 1);
                    }
                }), mutation("conv1d", "padding on the wrong side", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d c) {
                        return super.conv1d(x, weight, bias,
                                new Conv1d(c.stride(), c.dilation(), c.groups(), c.padRight(), c.padLeft()));
                    }
                }), mutation("conv1d", "every group reads the first", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d c) {
                        float[] values = x.toFloats();
                        int in = x.dim(1);
                        for (int i = 0; i < values.length; i++)
                            values[i] = values[i / in * in + i % in % Math.max(1, in / c.groups())];
                        return super.conv1d(backend().tensor(values, x.shape()), weight, bias, c);
                    }
                }), mutation("conv2d", "bias after the activation", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d c, Activation f) {
                        Tensor y = super.conv2d(x, weight, null, c, f);
                        return bias == null ? y : backend().tensorOps().add(y, bias);
                    }
                }), mutation("conv2dOfOtherKernels", "a missing bias read as ones", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d c, Activation f) {
                        float[] ones = new float[weight.dim(0)];
                        java.util.Arrays.fill(ones, 1);
                        return super.conv2d(x, weight, bias == null ? backend().tensor(ones, ones.length) : bias, c, f);
                    }
                }), mutation("activation", "GELU is its approximation", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor activation(Tensor x, Activation f) {
                        return super.activation(x, f == Activation.GELU ? Activation.GELU_TANH : f);
                    }
                }), mutation("clamp", "NaN becomes a number", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor clamp(Tensor x, float min, float max) {
                        float[] values = x.toFloats();
                        for (int i = 0; i < values.length; i++)
                            values[i] = values[i] > min ? Math.min(values[i], max) : min;
                        return backend().tensor(values, x.shape());
                    }
                }), mutation("sampleAtTheEdges", "the higher id on a tie", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor sample(Tensor logits, List<Sampler> samplers) {
                        float[] values = logits.toFloats();
                        int best = 0;
                        for (int i = 0; i < values.length; i++)
                            if (values[i] >= values[best])
                            best = i;
                        return samplers.size() == 1 && !samplers.getFirst().sampling().doSample()
                                ? backend().tensor(new int[]{best}, 1)
                                : super.sample(logits, samplers);
                    }
                }), mutation("sampler", "states follow the rows", b -> b.tensors = new Tensors(b) {
                    private final List<Sampler> first = new ArrayList<>();

                    @Override
                    public Tensor sample(Tensor logits, List<Sampler> samplers) {
                        while (first.size() < samplers.size())
                            first.add(samplers.get(first.size()));
                        return super.sample(logits, first.subList(0, samplers.size()));
                    }
                }), mutation("append", "every layer gets the keys", b -> b.attention = new Attentions(b) {
                    @Override
                    public void append(List<KvCache> caches, int layer, Tensor k, Tensor v, Packed packed) {
                        super.append(caches, layer, k, v, packed);
                        if (!caches.isEmpty() && caches.getFirst().spec().layers() > 1)
                            super.append(caches, 1 - layer, k, v, packed);
                    }
                }), mutation("attendCachedWithoutOrder", "always causal", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention a) {
                        return super.attend(q, caches, layer, packed,
                                new Attention(a.heads(), a.kvHeads(), a.headDim(), a.scale(), true, a.window()));
                    }
                }), mutation("aDecoderWritesWhatTheDefinitionsWrite", "no shared expert", b -> b.moe = new Experts(b) {
                    @Override
                    public Tensor moe(Tensor x, MoeWeights w, int topK, boolean normalise) {
                        return super.moe(x, new MoeWeights(w.router(), w.gate(), w.up(), w.down(), null), topK,
                                normalise);
                    }
                }), mutation("aVocoderSoundsAsTheDefinitionsSound", "snake without the square", b -> {
                    b.tensors = new Tensors(b) {
                        @Override
                        public Tensor snakeBeta(Tensor x, Tensor alpha, Tensor beta) {
                            double[] y = Definitions.doubles(x.toFloats());
                            double[] a = Definitions.doubles(alpha.toFloats());
                            for (int i = 0; i < y.length; i++)
                                y[i] += Math.sin(y[i] * Math.exp(a[i % a.length])) / Math.exp(a[i % a.length]);
                            return backend().tensor(Definitions.round(y), x.shape());
                        }
                    };
                }), mutation("wrongShapesAreRefused", "nothing is checked", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor add(Tensor x, Tensor y) {
                        return backend().tensor(Definitions.round(Definitions.add(Definitions.doubles(x.toFloats()),
                                Definitions.doubles(y.toFloats()))), x.shape());
                    }
                }), of("truncateOfAWindow", "forgets what it dropped", () -> new Plain() {
                    @Override
                    public KvCache cache(CacheSpec spec) {
                        return new HostKvCache(spec) {
                            @Override
                            public void truncate(int length) {
                                int kept = length(0);
                                super.truncate(length);
                                if (spec.window() > 0 && kept - length > spec.window())
                                    for (int layer = 0; layer < spec.layers(); layer++) {
                                        int width = spec.kvHeads() * spec.headDim();
                                        super.truncate(0);
                                        append(layer, new float[length * width], new float[length * width], 0, length);
                                    }
                            }
                        };
                    }
                }), of("truncate", "one too many", () -> new Plain() {
                    @Override
                    public KvCache cache(CacheSpec spec) {
                        return new HostKvCache(spec) {
                            @Override
                            public void truncate(int length) {
                                super.truncate(Math.max(0, length - (length > 0 ? 1 : 0)));
                            }
                        };
                    }
                }), of("scopesFreeWhatTheyOwnAndHandOverWhatTheyKeep", "nothing is freed", () -> new Plain() {
                    @Override
                    public Tensor tensor(float[] values, int... shape) {
                        Tensor made = super.tensor(values, shape);
                        try (Scope scope = scope()) {
                            return scope.detach(super.tensor(made.toFloats(), shape));
                        }
                    }
                }));
    }

    /** Each start makes a backend of its own, as the suite closes some of them. */
    private static Arguments of(String test, String what, Supplier<Backend> backend) {
        return Arguments.of(test, what, backend);
    }

    private static Arguments mutation(String test, String what, Mutation mutation) {
        return of(test, what, () -> {
            Plain backend = new Plain();
            mutation.apply(backend);
            return backend;
        });
    }

    @ParameterizedTest(name = "{0}: {1}")
    @MethodSource("mutations")
    void theTestOfThatNameFails(String test, String what, Supplier<Backend> backend) {
        assertThat(failures(backend)).contains(test);
    }

    /** What is broken is the kernel, not the way it is put in. */
    @Test
    void theSameBackendWithNothingBrokenFailsNothing() {
        assertThat(failures(() -> {
            Plain backend = new Plain();
            backend.tensors = new Tensors(backend);
            backend.attention = new Attentions(backend);
            backend.moe = new Experts(backend);
            backend.conv = new Convolutions(backend);
            return backend;
        })).isEmpty();
    }

    /** The tests that a backend fails, all of which must have run. */
    private static Set<String> failures(Supplier<Backend> backend) {
        broken = backend;
        Set<String> failed = new ConcurrentSkipListSet<>();
        List<String> run = new ArrayList<>();
        var request = LauncherDiscoveryRequestBuilder.request().selectors(selectClass(Suite.class)).build();
        LauncherFactory.create().execute(request, new TestExecutionListener() {
            @Override
            public void executionFinished(TestIdentifier identifier, TestExecutionResult result) {
                String name = identifier.getDisplayName().replaceAll("\\(.*", "");
                run.add(name);
                if (result.getStatus() == TestExecutionResult.Status.FAILED)
                    failed.add(name);
            }
        });
        assertThat(run).contains("linear", "attend", "moe", "conv1d");
        return failed;
    }

    private static class Tensors implements TensorOps {
        private final Backend backend;

        Tensors(Backend backend) {
            this.backend = backend;
        }

        @Override
        public Backend backend() {
            return backend;
        }
    }

    private static class Attentions implements AttentionOps {
        private final Backend backend;

        Attentions(Backend backend) {
            this.backend = backend;
        }

        @Override
        public Backend backend() {
            return backend;
        }
    }

    private static class Experts implements MoeOps {
        private final Backend backend;

        Experts(Backend backend) {
            this.backend = backend;
        }

        @Override
        public Backend backend() {
            return backend;
        }
    }

    private static class Convolutions implements ConvOps {
        private final Backend backend;

        Convolutions(Backend backend) {
            this.backend = backend;
        }

        @Override
        public Backend backend() {
            return backend;
        }
    }
}
