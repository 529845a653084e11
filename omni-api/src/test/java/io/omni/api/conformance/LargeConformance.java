package io.omni.api.conformance;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Quantization;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Sizes as models have them, one large at a time: what is shared out, tiled or held in buffers of fixed sizes. */
public interface LargeConformance extends Subject {
    @Test
    default void linearOfLargeSizes() {
        for (DType type : matrixTypes())
            for (int[] size : new int[][]{{300, 64, 32}, {3, 2080, 32}, {2, 32, 1120}, {1, 2048, 544}}) {
                if (!Quantization.fits(type, size[2], size[1]))
                    continue;
                Argument x = cases().activation(size[0], size[1]);
                Argument w = cases().matrix(type, size[2], size[1]);
                cases().check("linear", backend().tensorOps().linear(x.tensor(), w.tensor()),
                        Definitions.linear(x.values(), w.values(), null, size[0], size[1], size[2], Activation.NONE),
                        size[0], size[2]);
            }
    }

    @Test
    default void gatedMlpOfManyRows() {
        Argument x = cases().activation(90, 32);
        Argument gate = cases().matrix(DType.F32, 544, 32);
        Argument up = cases().matrix(DType.F32, 544, 32);
        Argument down = cases().matrix(DType.F32, 32, 544);
        cases().check("gatedMlp",
                backend().tensorOps().gatedMlp(x.tensor(), gate.tensor(), up.tensor(), down.tensor()),
                TensorOpsConformance.gated(x.values(), gate.values(), up.values(), down.values(), 90, 32, 544), 90, 32);
    }

    @Test
    default void rmsNormOfLargeSizes() {
        for (int[] shape : new int[][]{{3, 2050}, {700, 9}}) {
            int width = shape[shape.length - 1];
            Argument x = cases().activation(shape);
            Argument w = cases().vector(width);
            cases().check("rmsNorm", backend().tensorOps().rmsNorm(x.tensor(), w.tensor(), 1e-6f),
                    Definitions.rmsNorm(x.values(), w.values(), 1e-6f), shape);
        }
    }

    @Test
    default void layerNormOfLargeSizes() {
        for (int[] shape : new int[][]{{3, 2050}, {700, 9}}) {
            int width = shape[shape.length - 1];
            Argument x = cases().activation(shape);
            Argument w = cases().vector(width);
            Argument b = cases().vector(width);
            cases().check("layerNorm", backend().tensorOps().layerNorm(x.tensor(), w.tensor(), b.tensor(), 1e-5f),
                    Definitions.layerNorm(x.values(), w.values(), b.values(), 1e-5f), shape);
        }
    }

    @Test
    default void addOfLargeSizes() {
        Argument a = cases().activation(230, 301);
        Argument b = cases().activation(230, 301);
        cases().check("add", backend().tensorOps().add(a.tensor(), b.tensor()),
                Definitions.add(a.values(), b.values()), 230, 301);
    }

    @Test
    default void multiplyOfLargeSizes() {
        Argument a = cases().activation(230, 301);
        Argument b = cases().activation(230, 301);
        cases().check("multiply", backend().tensorOps().multiply(a.tensor(), b.tensor()),
                Definitions.multiply(a.values(), b.values()), 230, 301);
    }

    @Test
    default void addScaledOfLargeSizes() {
        Argument a = cases().activation(230, 301);
        Argument b = cases().activation(230, 301);
        Argument scale = cases().vector(301);
        cases().check("addScaled", backend().tensorOps().addScaled(a.tensor(), b.tensor(), scale.tensor()),
                Definitions.add(a.values(), Definitions.multiply(b.values(), scale.values())), 230, 301);
    }

    @Test
    default void activationOfLargeSizes() {
        Argument x = cases().activation(230, 301);
        for (Activation f : Activation.values())
            cases().check("activation", backend().tensorOps().activation(x.tensor(), f),
                    Definitions.activation(x.values(), f), 230, 301);
    }

    @Test
    default void snakeBetaOfLargeSizes() {
        Argument x = cases().activation(900, 70);
        float[] low = new float[70];
        Arrays.fill(low, -0.5f);
        Argument alpha = cases().weight(WeightRole.VECTOR, DType.F32, low, 70);
        cases().check("snakeBeta", backend().tensorOps().snakeBeta(x.tensor(), alpha.tensor(), alpha.tensor()),
                Definitions.snakeBeta(x.values(), alpha.values(), alpha.values()), 900, 70);
    }

    @Test
    default void embeddingOfLargeSizes() {
        Argument table = cases().weight(WeightRole.EMBEDDING, DType.BF16, 5, 2050);
        int[] ids = cases().randomIds(1100, 5);
        cases().check("embedding", backend().tensorOps().embedding(table.tensor(), cases().ids(ids)),
                Definitions.embedding(table.values(), 2050, ids), 1100, 2050);
    }

    @Test
    default void scatterOfLargeSizes() {
        Argument base = cases().activation(1500, 6);
        Argument rows = cases().activation(1200, 6);
        int[] index = new int[1200];
        for (int i = 0; i < index.length; i++)
            index[i] = i * 7 % 1500;
        cases().check("scatter", backend().tensorOps().scatter(base.tensor(), cases().ids(index), rows.tensor()),
                Definitions.scatter(base.values(), index, rows.values(), false), 1500, 6);
    }

    @Test
    default void scatterAddOfLargeSizes() {
        Argument base = cases().activation(50, 1030);
        Argument rows = cases().activation(1200, 1030);
        int[] index = cases().randomIds(1200, 50);
        cases().check("scatterAdd", backend().tensorOps().scatterAdd(base.tensor(), cases().ids(index), rows.tensor()),
                Definitions.scatter(base.values(), index, rows.values(), true), 50, 1030);
    }

    @Test
    default void rotaryOfManyHeads() {
        Argument x = cases().activation(5, 32 * 128);
        Argument table = cases().activation(5, 2, 64);
        cases().check("rotary", backend().attentionOps().rotary(x.tensor(), null, 0, table.tensor()),
                Definitions.rotary(x.values(), table.values(), 5, 64), 5, 32 * 128);
    }

    @Test
    default void attendOfLargeSizes() {
        Attention a = new Attention(2, 1, 128, true, 0);
        Packed packed = Packed.ofLengths(1, 530, 2, 3, 4, 1);
        Argument q = cases().activation(packed.tokens(), 256);
        Argument k = cases().activation(packed.tokens(), 128);
        Argument v = cases().activation(packed.tokens(), 128);
        cases().check("attend", backend().attentionOps().attend(q.tensor(), k.tensor(), v.tensor(), packed, a),
                Definitions.attend(q.values(), k.values(), v.values(), packed, packed, a), packed.tokens(), 256);
    }

    @Test
    default void attendCachedOfLargeSizes() {
        AttentionOps ops = backend().attentionOps();
        Attention a = new Attention(32, 4, 128, true, 0);
        Argument k = cases().activation(600, 512);
        Argument v = cases().activation(600, 512);
        try (KvCache cache = backend().cache(new CacheSpec(1, 4, 128, 0))) {
            ops.append(List.of(cache), 0, k.tensor(), v.tensor(), new Packed(0, 600));
            for (int n : new int[]{1, 3, 40}) {
                Argument q = cases().activation(n, 4096);
                cases().check("attendCached", ops.attend(q.tensor(), List.of(cache), 0, new Packed(0, n), a),
                        Definitions.attend(q.values(), k.values(), v.values(), new Packed(0, n), new Packed(0, 600), a),
                        n, 4096);
            }
        }
    }

    @Test
    default void conv1dOfLargeSizes() {
        for (DType type : new DType[]{DType.F32, DType.BF16})
            for (int[] size : new int[][]{{400, 6, 10, 3}, {20, 70, 66, 7}, {90, 4, 6, 31}}) {
                Conv1d conv = new Conv1d(1, 1, 1, size[3] - 1, 0);
                Argument x = cases().activation(size[0], size[1]);
                Argument w = cases().weight(WeightRole.CONV1D, type, size[2], size[1], size[3]);
                cases().check("conv1d", backend().convOps().conv1d(x.tensor(), w.tensor(), null, conv),
                        Definitions.conv1d(x.values(), w.values(), null, size[0], size[1], size[2], size[3], conv),
                        size[0], size[2]);
            }
    }

    @Test
    default void convTranspose1dOfLargeSizes() {
        for (int[] size : new int[][]{{300, 6, 5}, {9, 130, 70}}) {
            Argument x = cases().activation(size[0], size[1]);
            Argument w = cases().weight(WeightRole.CONV_TRANSPOSE1D, DType.F16, size[1], size[2], 16);
            int length = (size[0] - 1) * 8;
            cases().check("convTranspose1d",
                    backend().convOps().convTranspose1d(x.tensor(), w.tensor(), null, 8, 8, 8),
                    Definitions.convTranspose1d(x.values(), w.values(), null, size[0], size[1], size[2], 16, 8, 8,
                            length),
                    length, size[2]);
        }
    }

    @Test
    default void conv2dOfLargeSizes() {
        Conv2d conv = new Conv2d(2, 1);
        for (int[] size : new int[][]{{7, 9, 8, 3, 5}, {2, 6, 10, 70, 66}}) {
            Argument x = cases().activation(size[0], size[1], size[2], size[3]);
            Argument w = cases().weight(WeightRole.CONV2D, DType.BF16, size[4], size[3], 3, 3);
            cases().check("conv2d", backend().convOps().conv2d(x.tensor(), w.tensor(), null, conv, Activation.NONE),
                    Definitions.conv2d(x.values(), w.values(), null, x.tensor().shape(), w.tensor().shape(), conv,
                            Activation.NONE),
                    size[0], conv.outputLength(size[1], 3), conv.outputLength(size[2], 3), size[4]);
        }
    }
}
