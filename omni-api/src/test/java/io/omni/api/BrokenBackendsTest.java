package io.omni.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import io.omni.api.conformance.BackendConformance;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/** Backends with one wrong kernel each: the suite must fail in the test that has the kernel's name. */
class BrokenBackendsTest {
    /** Tests of operations put together, which may well fail when one of them is wrong. */
    private static final Set<String> TOGETHER = Set.of("aPromptAtOnceIsAPromptTokenByToken",
            "aStreamInPiecesIsOnePass", "severalThreadsComputeAtOnce", "aDecoderWritesWhatTheDefinitionsWrite",
            "aVocoderSoundsAsTheDefinitionsSound", "detachedTensorsPassBetweenThreads");

    /** Tests that take most of the time, and run only on what they are named after. */
    private static final Set<String> SLOW = Set.of("thousandsOfStepsHoldNoMoreThanAFew", "sampleAtTheEdges",
            "attendCached", "attendCachedWithoutOrder");

    private static String seed;
    private static Supplier<Backend> broken;

    /** Runs the suite on {@link #broken}, a new one each time, as some tests close what they start; surefire does not find it, as its name does not end in Test. */
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
        Function<CacheSpec, KvCache> caches = super::cache;
        boolean leaks;

        @Override
        public KvCache cache(CacheSpec spec) {
            return caches.apply(spec);
        }

        @Override
        public Tensor tensor(float[] values, int... shape) {
            Tensor made = super.tensor(values, shape);
            if (!leaks)
                return made;
            try (Scope scope = scope()) {
                return scope.detach(super.tensor(made.toFloats(), shape));
            }
        }

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
                mutation("linear", "no activation", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation activation) {
                        return super.linear(x, weight, bias,
                                activation == Activation.RELU ? Activation.NONE : activation);
                    }
                }), mutation("activation", "tanh for the error function", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor activation(Tensor x, Activation activation) {
                        return super.activation(x, activation == Activation.GELU ? Activation.GELU_TANH : activation);
                    }
                }), mutation("clamp", "NaN becomes the minimum", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor clamp(Tensor x, float min, float max) {
                        float[] y = super.clamp(x, min, max).toFloats();
                        for (int i = 0; i < y.length; i++)
                            y[i] = Float.isNaN(y[i]) ? min : y[i];
                        return backend().tensor(y, x.shape());
                    }
                }), mutation("addScaled", "the residual scaled as well", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor addScaled(Tensor residual, Tensor x, Tensor scale) {
                        super.addScaled(residual, x, scale);
                        return multiply(add(residual, x), scale);
                    }
                }), mutation("multiply", "a row only for the first row", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor multiply(Tensor x, Tensor y) {
                        float[] product = super.multiply(x, y).toFloats();
                        if (y.shape().length < x.shape().length)
                            System.arraycopy(x.toFloats(), y.dim(0), product, y.dim(0),
                                    Math.max(0, product.length - y.dim(0)));
                        return backend().tensor(product, x.shape());
                    }
                }, "addScaled"), mutation("embedding", "the last row for every id", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor embedding(Tensor table, Tensor ids) {
                        int[] last = new int[Math.toIntExact(ids.size())];
                        Arrays.fill(last, table.dim(0) - 1);
                        super.embedding(table, ids);
                        return super.embedding(table, backend().tensor(last, ids.shape()));
                    }
                }, "gather", "moe", "moeTies"), mutation("embeddingBag", "no weights", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor embeddingBag(Tensor table, Tensor ids, Tensor weights) {
                        super.embeddingBag(table, ids, weights);
                        return super.embeddingBag(table, ids, null);
                    }
                }), mutation("permute", "the other way round", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor permute(Tensor x, int... axes) {
                        Tensor right = super.permute(x, axes);
                        int[] inverse = new int[axes.length];
                        for (int i = 0; i < axes.length; i++)
                            inverse[axes[i]] = i;
                        return reshape(super.permute(x, inverse), right.shape());
                    }
                }), mutation("slice", "from the start", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor slice(Tensor x, int from, int to) {
                        super.slice(x, from, to);
                        return super.slice(x, 0, to - from);
                    }
                }, "reshapeOutlives"), mutation("concat", "backwards", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor concat(List<Tensor> parts) {
                        return super.concat(parts.reversed());
                    }
                }), mutation("scatter", "adds", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor scatter(Tensor base, Tensor index, Tensor rows) {
                        return scatterAdd(base, index, rows);
                    }
                }), mutation("sample", "the last on a tie", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor sample(Tensor logits, List<Sampler> samplers) {
                        int[] tokens = super.sample(logits, samplers).toInts();
                        float[] values = logits.toFloats();
                        for (int i = 0; i < tokens.length; i++)
                            for (int j = 0; j < logits.dim(1); j++)
                                if (values[i * logits.dim(1) + j] == values[i * logits.dim(1) + tokens[i]])
                            tokens[i] = j;
                        return backend().tensor(tokens, tokens.length);
                    }
                }), mutation("samplePenalty", "history forgotten", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Sampler sampler(Sampling sampling, int vocabulary, int[] history) {
                        super.sampler(sampling, vocabulary, history);
                        return super.sampler(sampling, vocabulary, new int[0]);
                    }
                }, "sample"), mutation("rotaryTable", "sines first", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor rotaryTable(Tensor positions, Rope rope) {
                        Tensor table = super.rotaryTable(positions, rope);
                        int[] shape = table.shape();
                        float[] values = table.toFloats();
                        float[] swapped = values.clone();
                        for (int i = 0; i < values.length; i++)
                            swapped[i] = values[i / shape[2] % 2 == 0 ? i + shape[2] : i - shape[2]];
                        return backend().tensor(swapped, shape);
                    }
                }), mutation("rotary", "no norm", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor rotary(Tensor x, Tensor norm, float eps, Tensor table) {
                        super.rotary(x, norm, eps, table);
                        return super.rotary(x, null, eps, table);
                    }
                }), mutation("attend", "not causal", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor attend(Tensor q, Tensor k, Tensor v, Packed packed, Attention a) {
                        return super.attend(q, k, v, packed,
                                new Attention(a.heads(), a.kvHeads(), a.headDim(), a.scale(), false, a.window()));
                    }
                }), mutation("attendCached", "window off by one", b -> b.attention = new Attentions(b) {
                    @Override
                    public Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed, Attention a) {
                        int window = a.window() == 0 ? 0 : Math.max(1, a.window() - 1);
                        return super.attend(q, caches, layer, packed, new Attention(a.heads(), a.kvHeads(),
                                a.headDim(), a.scale(), a.causal(), window));
                    }
                }, "truncateOfAWindow", "attendCachedPromptBeyondTheWindow"),
                mutation("moe", "shared expert not scaled",
                        b -> b.moe = new Experts(b) {
                            @Override
                            public Tensor moe(Tensor x, MoeWeights w, int topK, boolean normalise) {
                                Tensor y = super.moe(x, w, topK, normalise);
                                if (w.shared() == null)
                                    return y;
                                MoeWeights routed = new MoeWeights(w.router(), w.gate(), w.up(), w.down(), null);
                                TensorOps ops = backend().tensorOps();
                                return ops.add(super.moe(x, routed, topK, normalise),
                                        ops.gatedMlp(x, w.shared().gate(), w.shared().up(), w.shared().down()));
                            }
                        }),
                mutation("conv1d", "padded on the other side", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d c) {
                        return super.conv1d(x, weight, bias,
                                new Conv1d(c.stride(), c.dilation(), c.groups(), c.padRight(), c.padLeft()));
                    }
                }), mutation("conv1d", "every group reads the first", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d c) {
                        super.conv1d(x, weight, bias, c);
                        float[] values = x.toFloats();
                        int width = x.dim(1);
                        float[] first = values.clone();
                        for (int i = 0; i < values.length; i++)
                            first[i] = values[i - i % width + i % (width / c.groups())];
                        return super.conv1d(backend().tensor(first, x.shape()), weight, bias, c);
                    }
                }), mutation("convTranspose1d", "no bias where no tap reaches", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor convTranspose1d(Tensor x, Tensor weight, Tensor bias, int stride, int left,
                            int right) {
                        float[] y = super.convTranspose1d(x, weight, bias, stride, left, right).toFloats();
                        int out = weight.dim(1);
                        for (int i = 0; i < y.length; i++)
                            if ((i / out + left) % stride >= weight.dim(2))
                            y[i] = 0;
                        return backend().tensor(y, y.length / out, out);
                    }
                }), mutation("conv2d", "no activation", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d conv, Activation activation) {
                        return super.conv2d(x, weight, bias, conv, Activation.NONE);
                    }
                }), mutation("conv3dPatches", "no bias", b -> b.conv = new Convolutions(b) {
                    @Override
                    public Tensor conv3dPatches(Tensor x, Tensor weight, Tensor bias) {
                        super.conv3dPatches(x, weight, bias);
                        return super.conv3dPatches(x, weight, null);
                    }
                }),
                mutation("linear", "no bias", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation activation) {
                        return super.linear(x, weight, null, activation);
                    }
                }, "tensorsOfAnotherBackendAreRefused", "wrongShapesAreRefused", "closedTensorsAreRefused"),
                mutation("gatedMlp", "gate and up swapped", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor gatedMlp(Tensor x, Tensor gate, Tensor up, Tensor down) {
                        return super.gatedMlp(x, up, gate, down);
                    }
                }, "moe", "moeTies"), mutation("rmsNorm", "no eps", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor rmsNorm(Tensor x, Tensor weight, float eps) {
                        return super.rmsNorm(x, weight, 0);
                    }
                }), mutation("layerNorm", "eps outside the root", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor layerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
                        return super.layerNorm(x, weight, bias, eps * eps + 2 * eps);
                    }
                }, "weightOfEveryRoleAndType"),
                mutation("snakeBeta", "alpha and beta swapped", b -> b.tensors = new Tensors(b) {
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
                }, "wrongShapesAreRefused"), mutation("sample", "penalty twice", b -> b.tensors = new Tensors(b) {
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
                }, "truncate"), mutation("attendCachedThroughANarrowerWindow", "the cache's window",
                        b -> b.attention = new Attentions(b) {
                            @Override
                            public Tensor attend(Tensor q, List<KvCache> caches, int layer, Packed packed,
                                    Attention a) {
                                int window = caches.isEmpty() ? 0 : caches.getFirst().spec().window();
                                return super.attend(q, caches, layer, packed, new Attention(a.heads(), a.kvHeads(),
                                        a.headDim(), a.scale(), a.causal(), window));
                            }
                        }, "attendCached"),
                mutation("linearOfLargeSizes", "nothing after 256 rows",
                        b -> b.tensors = new Tensors(b) {
                            @Override
                            public Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation f) {
                                Tensor y = super.linear(x, weight, bias, f);
                                float[] values = y.toFloats();
                                int done = Math.min(values.length, 256 * weight.dim(0));
                                Arrays.fill(values, done, values.length, 0);
                                return backend().tensor(values, y.shape());
                            }
                        }),
                mutation("layerNormFarFromZero", "variance from the mean of squares", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor layerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
                        float[] y = super.layerNorm(x, weight, bias, eps).toFloats();
                        float[] values = x.toFloats();
                        int width = weight.dim(0);
                        for (int row = 0; row < y.length; row += width) {
                            float sum = 0;
                            float squares = 0;
                            for (int i = row; i < row + width; i++) {
                                sum += values[i];
                                squares += values[i] * values[i];
                            }
                            float mean = sum / width;
                            float variance = Math.max(0, squares / width - mean * mean);
                            for (int i = row; i < row + width; i++)
                                y[i] = (float) ((values[i] - mean) / Math.sqrt(variance + eps))
                                        * weight.toFloats()[i - row] + bias.toFloats()[i - row];
                        }
                        return backend().tensor(y, x.shape());
                    }
                }, "layerNorm"),
                mutation("embeddingOfManyEntries", "ids of sixteen bits", b -> b.tensors = new Tensors(b) {
                    @Override
                    public Tensor embedding(Tensor table, Tensor ids) {
                        super.embedding(table, ids);
                        int[] low = Arrays.stream(ids.toInts()).map(id -> id & 0xffff).toArray();
                        return super.embedding(table, backend().tensor(low, ids.shape()));
                    }
                }), mutation("moeOfManyExperts", "five choices at most", b -> b.moe = new Experts(b) {
                    @Override
                    public Tensor moe(Tensor x, MoeWeights w, int topK, boolean normalise) {
                        return super.moe(x, w, w.gate().size() > 100 ? 5 : topK, normalise);
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
                }, "tensorsOfAnotherBackendAreRefused", "wrongShapesAreRefused", "wrongTypesAreRefused"),
                mutation("moeTies", "the higher expert on a tie", b -> b.moe = new Experts(b) {
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
                }, "tensorsOfAnotherBackendAreRefused"),
                mutation("moe", "shares not normalised", b -> b.moe = new Experts(b) {
                    @Override
                    public Tensor moe(Tensor x, MoeWeights w, int topK, boolean normalise) {
                        return super.moe(x, w, topK, false);
                    }
                }, "moeTies"), mutation("conv1d", "dilation ignored", b -> b.conv = new Convolutions(b) {
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
                }), mutation("truncate", "one too many", b -> b.caches = spec -> new HostKvCache(b, spec) {
                    @Override
                    public void truncate(int length) {
                        super.truncate(Math.max(0, length - 1));
                    }
                }, "append"),
                Arguments.of("scopesFreeWhatTheyOwnAndHandOverWhatTheyKeep", "nothing is freed", supplier(b -> {
                    b.leaks = true;
                }), Set.of()));
    }

    private static Arguments mutation(String test, String what, Mutation mutation, String... also) {
        return Arguments.of(test, what, supplier(mutation), Set.of(also));
    }

    private static Supplier<Backend> supplier(Mutation mutation) {
        return () -> {
            Plain backend = new Plain();
            mutation.apply(backend);
            return backend;
        };
    }

    /** The same numbers each time: a broken kernel that is noticed is noticed always. */
    @BeforeAll
    static void fixSeed() {
        seed = System.getProperty(BackendConformance.SEED);
        if (seed == null)
            System.setProperty(BackendConformance.SEED, "1");
    }

    @AfterAll
    static void freeSeed() {
        if (seed == null)
            System.clearProperty(BackendConformance.SEED);
    }

    /** Otherwise what fails below might fail for another reason than the mutation. */
    @Test
    void nothingFailsUnlessSomethingIsBroken() {
        assertThat(failures(supplier(backend -> {
        }), name -> true)).isEmpty();
    }

    @ParameterizedTest(name = "{0}: {1}")
    @MethodSource("mutations")
    void theTestOfThatNameFails(String test, String what, Supplier<Backend> backend, Set<String> also) {
        Set<String> failed = failures(backend,
                name -> !TOGETHER.contains(name) && (!SLOW.contains(name) || name.startsWith(test)));
        assertThat(failed).contains(test);
        failed.removeIf(name -> name.startsWith(test) || also.stream().anyMatch(name::startsWith));
        assertThat(failed).as("what fails besides").isEmpty();
    }

    /** The tests of the suite that this backend fails, of those chosen. */
    private static Set<String> failures(Supplier<Backend> backend, Predicate<String> chosen) {
        broken = backend;
        Set<String> failed = new ConcurrentSkipListSet<>();
        var request = LauncherDiscoveryRequestBuilder.request().selectors(selectClass(Suite.class))
                .filters((PostDiscoveryFilter) test -> FilterResult
                        .includedIf(!test.isTest() || chosen.test(test.getDisplayName().replace("()", ""))))
                .build();
        LauncherFactory.create().execute(request, new TestExecutionListener() {
            @Override
            public void executionFinished(TestIdentifier identifier, TestExecutionResult result) {
                if (result.getStatus() == TestExecutionResult.Status.FAILED)
                    failed.add(identifier.getDisplayName().replace("()", ""));
            }
        });
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
