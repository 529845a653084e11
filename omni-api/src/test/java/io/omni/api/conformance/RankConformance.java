package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Activation;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** Rows are all dimensions but the last, be there none or several. Each test starts with its operation's name. */
public interface RankConformance extends Subject {
    /** Output widths end beside every block of a kernel. */
    @Test
    default void linearOfAnyRank() {
        TensorOps ops = backend().tensorOps();
        for (int out : new int[]{7, 8, 15, 17, 31, 33, 63, 65, 127, 129}) {
            Argument w = cases().matrix(DType.F32, out, 40);
            Argument x = cases().activation(2, 3, 40);
            double[] expected = Definitions.linear(x.values(), w.values(), null, 6, 40, out, Activation.NONE);
            cases().check("linear", ops.linear(x.tensor(), w.tensor()), expected, 2, 3, out);
            cases().check("linear", ops.linear(ops.reshape(ops.slice(x.tensor(), 0, 1), 3, 40), w.tensor()),
                    Arrays.copyOf(expected, 3 * out), 3, out);
            Argument one = cases().activation(40);
            cases().check("linear", ops.linear(one.tensor(), w.tensor()),
                    Definitions.linear(one.values(), w.values(), null, 1, 40, out, Activation.NONE), out);
        }
    }

    @Test
    default void gatedMlpOfAnyRank() {
        Argument gate = cases().matrix(DType.F32, 64, 32);
        Argument up = cases().matrix(DType.F32, 64, 32);
        Argument down = cases().matrix(DType.F32, 32, 64);
        for (int[] shape : new int[][]{{32}, {2, 3, 32}}) {
            Argument x = cases().activation(shape);
            cases().check("gatedMlp",
                    backend().tensorOps().gatedMlp(x.tensor(), gate.tensor(), up.tensor(), down.tensor()),
                    TensorOpsConformance.gated(x.values(), gate.values(), up.values(), down.values(),
                            x.values().length / 32, 32, 64),
                    shape);
        }
    }

    @Test
    default void embeddingOfIdsInTwoDimensions() {
        Argument table = cases().weight(WeightRole.EMBEDDING, DType.BF16, 4, 6);
        int[] ids = {3, 0, 3, 1, 2, 2};
        cases().check("embedding", backend().tensorOps().embedding(table.tensor(), backend().tensor(ids, 2, 3)),
                Definitions.embedding(table.values(), 6, ids), 2, 3, 6);
    }

    @Test
    default void sliceOfAnyRank() {
        TensorOps ops = backend().tensorOps();
        Argument row = cases().activation(7);
        cases().check("slice", ops.slice(row.tensor(), 2, 5), Arrays.copyOfRange(row.values(), 2, 5), 3);
        assertThat(ops.slice(cases().activation(0, 3).tensor(), 0, 0).shape()).containsExactly(0, 3);
        Tensor ids = ops.slice(backend().tensor(new int[]{1, 2, 3, 4, 5, 6}, 3, 2), 1, 3);
        assertThat(ids.shape()).containsExactly(2, 2);
        assertThat(ids.toInts()).containsExactly(3, 4, 5, 6);
    }

    @Test
    default void permuteOfAnyRank() {
        for (int[] shape : new int[][]{{5}, {3, 4}, {2, 3, 4}, {33, 65}, {2, 3, 1, 4, 2}, {3, 0, 2}}) {
            Argument x = cases().activation(shape);
            int rank = shape.length;
            for (int turn = 0; turn < rank; turn++) {
                int[] axes = new int[rank];
                int[] permuted = new int[rank];
                for (int i = 0; i < rank; i++)
                    permuted[i] = shape[axes[i] = (i + turn) % rank];
                cases().check("permute", backend().tensorOps().permute(x.tensor(), axes),
                        Definitions.permute(x.values(), shape, axes), permuted);
            }
        }
    }
}
