package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostSampler;
import io.omni.api.Quantization;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.util.List;
import org.junit.jupiter.api.Test;

/** {@link TensorOps}, operation by operation. */
public interface TensorOpsConformance extends Subject {
    int[][] ROWS_AND_WIDTHS = {{0, 5}, {1, 1}, {1, 64}, {3, 33}, {7, 130}};

    @Test
    default void linear() {
        TensorOps ops = backend().tensorOps();
        int[][] sizes = {{0, 4, 3}, {1, 1, 1}, {1, 33, 5}, {1, 256, 70}, {2, 64, 9}, {5, 17, 31}, {4, 44, 20},
                {3, 48, 24}, {5, 96, 31}, {33, 130, 65}, {17, 160, 33}, {0, 64, 32}, {1, 256, 96},
                {2, 64, 32}, {3, 96, 64}, {5, 32, 160}, {71, 160, 32}};
        for (DType type : matrixTypes())
            for (int[] size : sizes)
                for (boolean biased : new boolean[]{false, true}) {
                    if (!Quantization.fits(type, size[2], size[1]))
                        continue;
                    Argument x = cases().activation(size[0], size[1]);
                    Argument w = cases().matrix(type, size[2], size[1]);
                    Argument bias = biased ? cases().vector(size[2]) : null;
                    // all of them are met; one element alone has none, as GELU of a negative number is all cancellation
                    Activation f = Activation.values()[(size[1] - 1) % Activation.values().length];
                    cases().check("linear", ops.linear(x.tensor(), w.tensor(), biased ? bias.tensor() : null, f),
                            Definitions.linear(x.values(), w.values(), biased ? bias.values() : null, size[0], size[1],
                                    size[2], f),
                            size[0], size[2]);
                }
        Argument x = cases().activation(new float[]{Float.NaN, 1, Float.POSITIVE_INFINITY, 1}, 2, 2);
        Argument w = cases().weight(WeightRole.MATRIX, DType.F32, new float[]{1, 1}, 1, 2);
        cases().check("linear", ops.linear(x.tensor(), w.tensor()), new double[]{Double.NaN, Double.POSITIVE_INFINITY});
        assertThatThrownBy(() -> ops.linear(cases().activation(2, 3).tensor(), w.tensor()))
                .isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> ops.linear(cases().ids(1, 2), w.tensor()))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void gatedMlp() {
        for (DType type : matrixTypes())
            for (int[] size : new int[][]{{0, 32, 64}, {1, 64, 96}, {4, 32, 160}}) {
                Argument x = cases().activation(size[0], size[1]);
                Argument gate = cases().matrix(type, size[2], size[1]);
                Argument up = cases().matrix(type, size[2], size[1]);
                Argument down = cases().matrix(type, size[1], size[2]);
                cases().check("gatedMlp",
                        backend().tensorOps().gatedMlp(x.tensor(), gate.tensor(), up.tensor(), down.tensor()),
                        gated(x.values(), gate.values(), up.values(), down.values(), size[0], size[1], size[2]),
                        size[0],
                        size[1]);
            }
    }

    static double[] gated(double[] x, double[] gate, double[] up, double[] down, int n, int hidden, int width) {
        double[] inner = Definitions.multiply(Definitions.linear(x, gate, null, n, hidden, width, Activation.SILU),
                Definitions.linear(x, up, null, n, hidden, width, Activation.NONE));
        return Definitions.linear(inner, down, null, n, width, hidden, Activation.NONE);
    }

    @Test
    default void rmsNorm() {
        for (int[] size : ROWS_AND_WIDTHS)
            for (float eps : new float[]{1e-6f, 1}) {
                Argument x = cases().activation(size);
                Argument w = cases().vector(size[1]);
                cases().check("rmsNorm", backend().tensorOps().rmsNorm(x.tensor(), w.tensor(), eps),
                        Definitions.rmsNorm(x.values(), w.values(), eps), size);
            }
    }

    @Test
    default void layerNorm() {
        for (int[] size : ROWS_AND_WIDTHS)
            for (float eps : new float[]{1e-5f, 1}) {
                Argument x = cases().activation(size);
                Argument w = cases().vector(size[1]);
                Argument b = cases().vector(size[1]);
                cases().check("layerNorm", backend().tensorOps().layerNorm(x.tensor(), w.tensor(), b.tensor(), eps),
                        Definitions.layerNorm(x.values(), w.values(), b.values(), eps), size);
            }
    }

    @Test
    default void add() {
        for (int[] size : ROWS_AND_WIDTHS) {
            Argument a = cases().activation(size);
            Argument b = cases().activation(size);
            Argument row = cases().activation(size[1]);
            cases().check("add", backend().tensorOps().add(a.tensor(), b.tensor()),
                    Definitions.add(a.values(), b.values()), size);
            cases().check("add", backend().tensorOps().add(a.tensor(), row.tensor()),
                    Definitions.add(a.values(), row.values()), size);
        }
        assertThatThrownBy(
                () -> backend().tensorOps().add(cases().activation(2, 3).tensor(), cases().activation(2).tensor()))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void multiply() {
        for (int[] size : ROWS_AND_WIDTHS) {
            Argument a = cases().activation(size);
            Argument b = cases().activation(size);
            Argument row = cases().activation(size[1]);
            cases().check("multiply", backend().tensorOps().multiply(a.tensor(), b.tensor()),
                    Definitions.multiply(a.values(), b.values()), size);
            cases().check("multiply", backend().tensorOps().multiply(a.tensor(), row.tensor()),
                    Definitions.multiply(a.values(), row.values()), size);
        }
    }

    @Test
    default void addScaled() {
        for (int[] size : ROWS_AND_WIDTHS) {
            Argument a = cases().activation(size);
            Argument b = cases().activation(size);
            Argument scale = cases().vector(size[1]);
            cases().check("addScaled", backend().tensorOps().addScaled(a.tensor(), b.tensor(), scale.tensor()),
                    Definitions.add(a.values(), Definitions.multiply(b.values(), scale.values())), size);
        }
    }

    @Test
    default void activation() {
        float[] special = {0, -0f, 1e-20f, -30, 30, -100, 100, 5, -5, Float.POSITIVE_INFINITY, Float.NaN, 0.5f, -1e4f};
        for (Activation f : Activation.values()) {
            Argument x = cases().activation(5, 37);
            cases().check("activation", backend().tensorOps().activation(x.tensor(), f),
                    Definitions.activation(x.values(), f), 5, 37);
            Argument edge = cases().activation(special, special.length);
            cases().check("activation", backend().tensorOps().activation(edge.tensor(), f),
                    Definitions.activation(edge.values(), f));
        }
    }

    @Test
    default void snakeBeta() {
        for (int[] size : ROWS_AND_WIDTHS) {
            Argument x = cases().activation(size);
            // exponents of e: of large ones, sines of what half precision makes of x are anything
            Argument alpha = halved(size[1]);
            Argument beta = halved(size[1]);
            cases().check("snakeBeta", backend().tensorOps().snakeBeta(x.tensor(), alpha.tensor(), beta.tensor()),
                    Definitions.snakeBeta(x.values(), alpha.values(), beta.values()), size);
        }
    }

    private Argument halved(int n) {
        float[] values = cases().normal(n);
        for (int i = 0; i < n; i++)
            values[i] /= 2;
        return cases().weight(WeightRole.VECTOR, DType.F32, values, n);
    }

    @Test
    default void clamp() {
        Argument x = cases().activation(new float[]{-2, -1, 0, 1, 2, Float.POSITIVE_INFINITY, Float.NaN}, 7);
        cases().check("clamp", backend().tensorOps().clamp(x.tensor(), -1, 1.5f),
                new double[]{-1, -1, 0, 1, 1.5, 1.5, Double.NaN}, 7);
    }

    @Test
    default void embedding() {
        for (DType type : new DType[]{DType.F32, DType.F16, DType.BF16}) {
            Argument table = cases().weight(WeightRole.EMBEDDING, type, 9, 13);
            int[] ids = cases().randomIds(20, 9);
            cases().check("embedding", backend().tensorOps().embedding(table.tensor(), cases().ids(ids)),
                    Definitions.embedding(table.values(), 13, ids), 20, 13);
            cases().check("embedding", backend().tensorOps().embedding(table.tensor(), cases().ids()), new double[0], 0,
                    13);
        }
    }

    @Test
    default void embeddingBag() {
        Argument table = cases().weight(WeightRole.EMBEDDING, DType.BF16, 9, 13);
        int[] ids = cases().randomIds(20, 9);
        Argument weights = cases().activation(5, 4);
        Tensor bags = backend().tensor(ids, 5, 4);
        cases().check("embeddingBag", backend().tensorOps().embeddingBag(table.tensor(), bags, weights.tensor()),
                Definitions.embeddingBag(table.values(), 13, ids, 4, weights.values()), 5, 13);
        cases().check("embeddingBag", backend().tensorOps().embeddingBag(table.tensor(), bags, null),
                Definitions.embeddingBag(table.values(), 13, ids, 4, null), 5, 13);
    }

    @Test
    default void slice() {
        Argument x = cases().activation(6, 2, 3);
        Tensor part = backend().tensorOps().slice(x.tensor(), 1, 4);
        cases().check("slice", part, java.util.Arrays.copyOfRange(x.values(), 6, 24), 3, 2, 3);
        assertThat(backend().tensorOps().slice(x.tensor(), 2, 2).shape()).containsExactly(0, 2, 3);
        assertThat(backend().tensorOps().slice(cases().ids(5, 6, 7), 1, 3).toInts()).containsExactly(6, 7);
        assertThatThrownBy(() -> backend().tensorOps().slice(x.tensor(), 3, 7))
                .isInstanceOf(IllegalArgumentException.class);
        // what was cut out does not depend on what it was cut from
        x.tensor().close();
        cases().check("slice", part, java.util.Arrays.copyOfRange(x.values(), 6, 24), 3, 2, 3);
    }

    @Test
    default void concat() {
        Argument a = cases().activation(2, 3);
        Argument b = cases().activation(0, 3);
        Argument c = cases().activation(1, 3);
        double[] joined = java.util.stream.DoubleStream.concat(java.util.Arrays.stream(a.values()),
                java.util.Arrays.stream(c.values())).toArray();
        cases().check("concat", backend().tensorOps().concat(List.of(a.tensor(), b.tensor(), c.tensor())), joined, 3,
                3);
        assertThat(backend().tensorOps().concat(List.of(cases().ids(1), cases().ids(2, 3))).toInts())
                .containsExactly(1, 2, 3);
        assertThatThrownBy(() -> backend().tensorOps().concat(List.of(a.tensor(), cases().activation(2, 4).tensor())))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void reshape() {
        Argument x = cases().activation(4, 6);
        cases().check("reshape", backend().tensorOps().reshape(x.tensor(), 2, 3, 4), x.values(), 2, 3, 4);
        for (int[] wrong : new int[][]{{5, 5}, {-4, -6}})
            assertThatThrownBy(() -> backend().tensorOps().reshape(x.tensor(), wrong))
                    .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void permute() {
        Argument x = cases().activation(3, 4, 5, 2);
        for (int[] axes : new int[][]{{0, 2, 3, 1}, {3, 2, 1, 0}, {0, 1, 2, 3}}) {
            int[] shape = java.util.Arrays.stream(axes).map(axis -> x.tensor().dim(axis)).toArray();
            cases().check("permute", backend().tensorOps().permute(x.tensor(), axes),
                    Definitions.permute(x.values(), x.tensor().shape(), axes), shape);
        }
    }

    @Test
    default void gather() {
        Argument x = cases().activation(5, 7);
        int[] index = {4, 0, 4, 2};
        cases().check("gather", backend().tensorOps().gather(x.tensor(), cases().ids(index)),
                Definitions.embedding(x.values(), 7, index), 4, 7);
    }

    @Test
    default void scatter() {
        Argument base = cases().activation(6, 5);
        Argument rows = cases().activation(3, 5);
        int[] index = {5, 0, 2};
        cases().check("scatter", backend().tensorOps().scatter(base.tensor(), cases().ids(index), rows.tensor()),
                Definitions.scatter(base.values(), index, rows.values(), false), 6, 5);
        cases().check("scatter", base.tensor(), base.values(), 6, 5);
    }

    @Test
    default void scatterAdd() {
        Argument base = cases().activation(6, 5);
        Argument rows = cases().activation(4, 5);
        int[] index = {5, 0, 5, 5};
        cases().check("scatterAdd", backend().tensorOps().scatterAdd(base.tensor(), cases().ids(index), rows.tensor()),
                Definitions.scatter(base.values(), index, rows.values(), true), 6, 5);
    }

    /** State is each sampler's own, whichever rows of whichever call it is drawn in. */
    @Test
    default void sampler() {
        Sampling drawing = new Sampling(true, 0.9f, 8, 0.95f, 1.2f, new int[]{0}, 5);
        Sampling penalised = new Sampling(false, 1, 0, 1, 1.5f, new int[]{4, 2}, 0);
        List<HostSampler> expected = List.of(new HostSampler(drawing, 30, new int[]{1}),
                new HostSampler(penalised, 30, new int[0]), new HostSampler(Sampling.greedy(), 30, new int[]{3, 3}));
        try (Sampler a = backend().tensorOps().sampler(drawing, 30, new int[]{1});
                Sampler b = backend().tensorOps().sampler(penalised, 30, new int[0]);
                Sampler c = backend().tensorOps().sampler(Sampling.greedy(), 30, new int[]{3, 3})) {
            assertThat(a.sampling()).isSameAs(drawing);
            List<Sampler> all = List.of(a, b, c);
            for (int[] rows : new int[][]{{0, 1, 2}, {2, 0}, {1}, {}, {2, 1, 0}, {0, 1}, {0}, {1, 2, 0}}) {
                Argument logits = cases().activation(rows.length, 30);
                cases().exact("sampler");
                int[] tokens = new int[rows.length];
                for (int i = 0; i < rows.length; i++)
                    tokens[i] = expected.get(rows[i]).next(Definitions.round(logits.values()), 30 * i);
                assertThat(backend().tensorOps()
                        .sample(logits.tensor(), java.util.Arrays.stream(rows).mapToObj(all::get).toList()).toInts())
                        .as("rows of samplers " + java.util.Arrays.toString(rows)).containsExactly(tokens);
            }
            Tensor two = cases().activation(2, 30).tensor();
            assertThatThrownBy(() -> backend().tensorOps().sample(two, all))
                    .isInstanceOf(IllegalArgumentException.class);
            for (int vocabulary : new int[]{29, 31}) {
                Tensor other = cases().activation(1, vocabulary).tensor();
                assertThatThrownBy(() -> backend().tensorOps().sample(other, List.of(c))).as("%d logits", vocabulary)
                        .isInstanceOf(IllegalArgumentException.class);
            }
        }
        Sampling outside = new Sampling(false, 1, 0, 1, 1, new int[]{4}, 0);
        assertThatThrownBy(() -> backend().tensorOps().sampler(outside, 4, new int[0]))
                .isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> backend().tensorOps().sampler(Sampling.greedy(), 4, new int[]{-1}))
                .isInstanceOf(IllegalArgumentException.class);
    }

    /** The lowest of equal ids however far apart, no NaN, and 0 where there is nothing to draw. */
    @Test
    default void sampleAtTheEdges() {
        int vocabulary = 70_001;
        float nan = Float.NaN;
        float low = Float.NEGATIVE_INFINITY;
        for (Sampling sampling : new Sampling[]{Sampling.greedy(), new Sampling(true, 1, 1, 1, 1, new int[0], 3)})
            try (Sampler few = backend().tensorOps().sampler(sampling, 4, new int[0]);
                    Sampler many = backend().tensorOps().sampler(sampling, vocabulary, new int[0])) {
                        float[][] rows = {{nan, nan, nan, nan}, {low, low, low, low}, {nan, low, -1, -2},
                                {low, nan, nan, 7}};
                        for (float[] row : rows) {
                            int expected = new HostSampler(sampling, 4, new int[0]).next(row, 0);
                            assertThat(backend().tensorOps().sample(backend().tensor(row, 1, 4), List.of(few)).toInts())
                                    .as(sampling + " of " + java.util.Arrays.toString(row)).containsExactly(expected);
                        }
                        if (sampling.doSample())
                            continue;
                        for (int[] tied : new int[][]{{1, 70_000}, {16, 17}, {127, 128}, {4095, 4096, 65_536},
                                {0, 70_000}}) {
                            float[] logits = new float[vocabulary];
                            for (int id : tied)
                                logits[id] = 1;
                            assertThat(
                                    backend().tensorOps().sample(backend().tensor(logits, 1, vocabulary), List.of(many))
                                            .toInts())
                                    .containsExactly(tied[0]);
                        }
                    }
    }

    @Test
    default void sample() {
        Sampling[] all = {Sampling.greedy(), new Sampling(false, 1, 0, 1, 1.3f, new int[]{3}, 0),
                new Sampling(true, 0.7f, 5, 1, 1, new int[]{1, 2}, 9),
                new Sampling(true, 1.3f, 0, 0.8f, 1.1f, new int[0], 4)};
        int[] history = {0, 7};
        for (Sampling sampling : all) {
            HostSampler expected = new HostSampler(sampling, 50, history);
            try (Sampler sampler = backend().tensorOps().sampler(sampling, 50, history)) {
                for (int i = 0; i < 20; i++) {
                    Argument logits = cases().activation(1, 50);
                    cases().exact("sample");
                    assertThat(backend().tensorOps().sample(logits.tensor(), List.of(sampler)).toInts())
                            .as(sampling.toString())
                            .containsExactly(expected.next(Definitions.round(logits.values()), 0));
                }
                sampler.close();
            }
        }
        try (Sampler greedy = backend().tensorOps().sampler(Sampling.greedy(), 4, new int[0])) {
            Argument ties = cases().activation(new float[]{1, 3, 3, Float.NaN}, 1, 4);
            assertThat(backend().tensorOps().sample(ties.tensor(), List.of(greedy)).toInts()).containsExactly(1);
        }
        assertThatThrownBy(() -> backend().tensorOps().sampler(Sampling.greedy(), 4, new int[]{4}))
                .isInstanceOf(IllegalArgumentException.class);
    }
}
