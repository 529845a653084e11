package io.omni.api.conformance;

import io.omni.api.Activation;
import io.omni.api.Conv1d;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Weights of every type that a checkpoint may keep them in. Each test starts with its operation's name. */
public interface TypeConformance extends Subject {
    DType[] NARROW = {DType.BF16, DType.F16};

    @Test
    default void linearOfANarrowBias() {
        for (DType type : NARROW) {
            Argument x = cases().activation(3, 32);
            Argument w = cases().matrix(DType.F32, 64, 32);
            Argument bias = cases().weight(WeightRole.VECTOR, type, 64);
            cases().check("linear",
                    backend().tensorOps().linear(x.tensor(), w.tensor(), bias.tensor(), Activation.NONE),
                    Definitions.linear(x.values(), w.values(), bias.values(), 3, 32, 64, Activation.NONE), 3, 64);
        }
    }

    /** A checkpoint may keep some matrices as they were. */
    @Test
    default void gatedMlpOfMixedTypes() {
        List<DType> types = matrixTypes();
        for (int i = 0; i < types.size(); i++)
            for (int rows : new int[]{1, 9}) {
                Argument x = cases().activation(rows, 32);
                Argument gate = cases().matrix(types.get(i), 64, 32);
                Argument up = cases().matrix(types.get((i + 1) % types.size()), 64, 32);
                Argument down = cases().matrix(types.get((i + 2) % types.size()), 32, 64);
                cases().check("gatedMlp",
                        backend().tensorOps().gatedMlp(x.tensor(), gate.tensor(), up.tensor(), down.tensor()),
                        TensorOpsConformance.gated(x.values(), gate.values(), up.values(), down.values(), rows, 32, 64),
                        rows, 32);
            }
    }

    /** Checkpoints store vectors so. */
    @Test
    default void rmsNormOfNarrowWeights() {
        for (DType type : NARROW) {
            Argument x = cases().activation(3, 67);
            Argument w = cases().weight(WeightRole.VECTOR, type, 67);
            cases().check("rmsNorm", backend().tensorOps().rmsNorm(x.tensor(), w.tensor(), 1e-6f),
                    Definitions.rmsNorm(x.values(), w.values(), 1e-6f), 3, 67);
        }
    }

    @Test
    default void addScaledOfANarrowScale() {
        for (DType type : NARROW) {
            Argument a = cases().activation(3, 37);
            Argument b = cases().activation(3, 37);
            Argument scale = cases().weight(WeightRole.VECTOR, type, 37);
            cases().check("addScaled", backend().tensorOps().addScaled(a.tensor(), b.tensor(), scale.tensor()),
                    Definitions.add(a.values(), Definitions.multiply(b.values(), scale.values())), 3, 37);
        }
    }

    @Test
    default void snakeBetaOfNarrowVectors() {
        float[] low = new float[37];
        for (int i = 0; i < low.length; i++)
            low[i] = (i % 7 - 3) / 4f;
        for (DType type : NARROW) {
            Argument x = cases().activation(3, 37);
            Argument alpha = cases().weight(WeightRole.VECTOR, type, low, 37);
            cases().check("snakeBeta", backend().tensorOps().snakeBeta(x.tensor(), alpha.tensor(), alpha.tensor()),
                    Definitions.snakeBeta(x.values(), alpha.values(), alpha.values()), 3, 37);
        }
    }

    @Test
    default void embeddingBagOfEveryType() {
        int[] ids = cases().randomIds(20, 9);
        for (DType type : new DType[]{DType.F32, DType.F16, DType.BF16}) {
            Argument table = cases().weight(WeightRole.EMBEDDING, type, 9, 13);
            cases().check("embeddingBag",
                    backend().tensorOps().embeddingBag(table.tensor(), backend().tensor(ids, 5, 4), null),
                    Definitions.embeddingBag(table.values(), 13, ids, 4, null), 5, 13);
        }
    }

    @Test
    default void rotaryOfANarrowNorm() {
        for (DType type : NARROW) {
            Argument x = cases().activation(3, 2 * 64);
            Argument table = cases().activation(3, 2, 32);
            Argument norm = cases().weight(WeightRole.VECTOR, type, 64);
            cases().check("rotary", backend().attentionOps().rotary(x.tensor(), norm.tensor(), 1e-6f, table.tensor()),
                    Definitions.rotary(Definitions.rmsNorm(x.values(), norm.values(), 1e-6f), table.values(), 3, 32), 3,
                    2 * 64);
        }
    }

    @Test
    default void conv1dOfANarrowBias() {
        for (DType type : NARROW) {
            Argument x = cases().activation(9, 6);
            Argument w = cases().weight(WeightRole.CONV1D, DType.F32, 40, 6, 3);
            Argument bias = cases().weight(WeightRole.VECTOR, type, 40);
            cases().check("conv1d",
                    backend().convOps().conv1d(x.tensor(), w.tensor(), bias.tensor(), Conv1d.dilated(1)),
                    Definitions.conv1d(x.values(), w.values(), bias.values(), 9, 6, 40, 3, Conv1d.dilated(1)), 7, 40);
        }
    }

    @Test
    default void convTranspose1dOfANarrowBias() {
        for (DType type : NARROW) {
            Argument x = cases().activation(9, 6);
            Argument w = cases().weight(WeightRole.CONV_TRANSPOSE1D, DType.F32, 6, 40, 4);
            Argument bias = cases().weight(WeightRole.VECTOR, type, 40);
            cases().check("convTranspose1d",
                    backend().convOps().convTranspose1d(x.tensor(), w.tensor(), bias.tensor(), 2, 2, 2),
                    Definitions.convTranspose1d(x.values(), w.values(), bias.values(), 9, 6, 40, 4, 2, 2, 16), 16, 40);
        }
    }
}
