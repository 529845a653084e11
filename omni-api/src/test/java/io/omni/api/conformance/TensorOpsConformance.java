package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.Quantization;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** {@link TensorOps}, operation by operation. */
public interface TensorOpsConformance extends Subject {
    int[][] SHAPES = {{0, 5}, {1, 1}, {1, 64}, {3, 33}, {7, 130}, {37}, {2, 3, 37}, {2, 1, 3, 8}};

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
            for (int[] size : new int[][]{{0, 32, 64}, {1, 64, 96}, {4, 32, 160}, {1, 40, 52}, {5, 33, 41},
                    {20, 7, 100}}) {
                        if (!Quantization.fits(type, size[2], size[1]) || !Quantization.fits(type, size[1], size[2]))
                            continue;
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
        for (int[] shape : SHAPES)
            for (float eps : new float[]{1e-6f, 1}) {
                Argument x = cases().activation(shape);
                Argument w = cases().vector(last(shape));
                cases().check("rmsNorm", backend().tensorOps().rmsNorm(x.tensor(), w.tensor(), eps),
                        Definitions.rmsNorm(x.values(), w.values(), eps), shape);
            }
    }

    @Test
    default void layerNorm() {
        for (int[] shape : SHAPES)
            for (float eps : new float[]{1e-5f, 1}) {
                Argument x = cases().activation(shape);
                Argument w = cases().vector(last(shape));
                Argument b = cases().vector(last(shape));
                cases().check("layerNorm", backend().tensorOps().layerNorm(x.tensor(), w.tensor(), b.tensor(), eps),
                        Definitions.layerNorm(x.values(), w.values(), b.values(), eps), shape);
            }
    }

    @Test
    default void add() {
        for (int[] shape : SHAPES) {
            Argument a = cases().activation(shape);
            Argument b = cases().activation(shape);
            Argument row = cases().activation(last(shape));
            cases().check("add", backend().tensorOps().add(a.tensor(), b.tensor()),
                    Definitions.add(a.values(), b.values()), shape);
            cases().check("add", backend().tensorOps().add(a.tensor(), row.tensor()),
                    Definitions.add(a.values(), row.values()), shape);
        }
        assertThatThrownBy(
                () -> backend().tensorOps().add(cases().activation(2, 3).tensor(), cases().activation(2).tensor()))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void multiply() {
        for (int[] shape : SHAPES) {
            Argument a = cases().activation(shape);
            Argument b = cases().activation(shape);
            Argument row = cases().activation(last(shape));
            cases().check("multiply", backend().tensorOps().multiply(a.tensor(), b.tensor()),
                    Definitions.multiply(a.values(), b.values()), shape);
            cases().check("multiply", backend().tensorOps().multiply(a.tensor(), row.tensor()),
                    Definitions.multiply(a.values(), row.values()), shape);
        }
    }

    @Test
    default void addScaled() {
        for (int[] shape : SHAPES) {
            Argument a = cases().activation(shape);
            Argument b = cases().activation(shape);
            Argument scale = cases().vector(last(shape));
            cases().check("addScaled", backend().tensorOps().addScaled(a.tensor(), b.tensor(), scale.tensor()),
                    Definitions.add(a.values(), Definitions.multiply(b.values(), scale.values())), shape);
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
        for (int[] shape : SHAPES) {
            Argument x = cases().activation(shape);
            // exponents of e: of large ones, sines of what half precision makes of x are anything
            Argument alpha = halved(last(shape));
            Argument beta = halved(last(shape));
            cases().check("snakeBeta", backend().tensorOps().snakeBeta(x.tensor(), alpha.tensor(), beta.tensor()),
                    Definitions.snakeBeta(x.values(), alpha.values(), beta.values()), shape);
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
        cases().check("slice", part, Arrays.copyOfRange(x.values(), 6, 24), 3, 2, 3);
        assertThat(backend().tensorOps().slice(x.tensor(), 2, 2).shape()).containsExactly(0, 2, 3);
        assertThat(backend().tensorOps().slice(cases().ids(5, 6, 7), 1, 3).toInts()).containsExactly(6, 7);
        assertThatThrownBy(() -> backend().tensorOps().slice(x.tensor(), 3, 7))
                .isInstanceOf(IllegalArgumentException.class);
        // what was cut out does not depend on what it was cut from
        x.tensor().close();
        for (int i = 0; i < 20; i++)
            cases().activation(1 + i % 6, 2, 3).tensor().toFloats();
        cases().check("slice", part, Arrays.copyOfRange(x.values(), 6, 24), 3, 2, 3);
    }

    @Test
    default void concat() {
        Argument a = cases().activation(2, 3);
        Argument b = cases().activation(0, 3);
        Argument c = cases().activation(1, 3);
        double[] joined = java.util.stream.DoubleStream.concat(Arrays.stream(a.values()),
                Arrays.stream(c.values())).toArray();
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

    /** Four dimensions in every order. */
    @Test
    default void permute() {
        int[] shape = {2, 3, 4, 5};
        Argument x = cases().activation(shape);
        for (int order = 0; order < 256; order++) {
            int[] axes = {order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6};
            if (Arrays.stream(axes).distinct().count() == 4)
                cases().check("permute", backend().tensorOps().permute(x.tensor(), axes),
                        Definitions.permute(x.values(), shape, axes),
                        Arrays.stream(axes).map(axis -> shape[axis]).toArray());
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

    private static int last(int[] shape) {
        return shape[shape.length - 1];
    }
}
