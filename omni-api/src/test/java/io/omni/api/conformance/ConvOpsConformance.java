package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.ConvOps;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import org.junit.jupiter.api.Test;

/** {@link ConvOps}. */
public interface ConvOpsConformance extends Subject {
    DType[] TYPES = {DType.F32, DType.F16, DType.BF16};

    @Test
    default void conv1d() {
        Conv1d[] all = {Conv1d.dilated(1), Conv1d.dilated(9), new Conv1d(2, 1, 1, 3, 0), new Conv1d(3, 2, 1, 1, 4),
                new Conv1d(1, 1, 2, 2, 2), new Conv1d(1, 3, 6, 6, 0), new Conv1d(2, 1, 2, 1, 0),
                new Conv1d(1, 2, 3, 2, 1)};
        for (DType type : TYPES)
            for (Conv1d conv : all)
                for (int[] size : new int[][]{{20, 6, 12, 3}, {1, 6, 6, 1}, {0, 6, 6, 3}, {70, 6, 18, 7},
                        {2, 6, 6, 5}}) {
                            Argument x = cases().activation(size[0], size[1]);
                            Argument w = cases().weight(WeightRole.CONV1D, type, size[2], size[1] / conv.groups(),
                                    size[3]);
                            Argument bias = size[0] % 2 == 0 ? cases().vector(size[2]) : null;
                            cases().check("conv1d",
                                    backend().convOps().conv1d(x.tensor(), w.tensor(),
                                            bias == null ? null : bias.tensor(), conv),
                                    Definitions.conv1d(x.values(), w.values(), bias == null ? null : bias.values(),
                                            size[0],
                                            size[1], size[2], size[3], conv),
                                    conv.outputLength(size[0], size[3]), size[2]);
                        }
        Argument w = cases().weight(WeightRole.CONV1D, DType.F32, 4, 3, 2);
        assertThatThrownBy(
                () -> backend().convOps().conv1d(cases().activation(5, 4).tensor(), w.tensor(), null,
                        Conv1d.dilated(1)))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void convTranspose1d() {
        for (DType type : TYPES)
            for (int[] s : new int[][]{{2, 2, 0, 0}, {16, 8, 8, 8}, {10, 5, 5, 5}, {3, 1, 1, 2}, {7, 3, 0, 4},
                    {2, 5, 1, 0}})
                for (int[] size : new int[][]{{9, 5, 7}, {1, 3, 2}, {0, 3, 2}, {33, 16, 24}}) {
                    Argument x = cases().activation(size[0], size[1]);
                    Argument w = cases().weight(WeightRole.CONV_TRANSPOSE1D, type, size[1], size[2], s[0]);
                    Argument bias = cases().vector(size[2]);
                    int length = size[0] == 0 ? 0 : Math.max(0, (size[0] - 1) * s[1] + s[0] - s[2] - s[3]);
                    cases().check("convTranspose1d",
                            backend().convOps().convTranspose1d(x.tensor(), w.tensor(), bias.tensor(), s[1], s[2],
                                    s[3]),
                            Definitions.convTranspose1d(x.values(), w.values(), bias.values(), size[0], size[1],
                                    size[2],
                                    s[0], s[1], s[2], length),
                            length, size[2]);
                }
    }

    @Test
    default void conv2d() {
        for (DType type : TYPES)
            for (Conv2d conv : new Conv2d[]{new Conv2d(2, 1), new Conv2d(1, 0), new Conv2d(3, 2)})
                for (int[] size : new int[][]{{2, 9, 7, 1, 5}, {1, 4, 12, 6, 8}, {0, 5, 5, 2, 3}, {1, 1, 1, 2, 3}}) {
                    Argument x = cases().activation(size[0], size[1], size[2], size[3]);
                    Argument w = cases().weight(WeightRole.CONV2D, type, size[4], size[3], 3, 3);
                    Argument bias = cases().vector(size[4]);
                    cases().check("conv2d",
                            backend().convOps().conv2d(x.tensor(), w.tensor(), bias.tensor(), conv, Activation.GELU),
                            Definitions.conv2d(x.values(), w.values(), bias.values(), x.tensor().shape(),
                                    w.tensor().shape(), conv, Activation.GELU),
                            size[0], conv.outputLength(size[1], 3), conv.outputLength(size[2], 3), size[4]);
                }
    }

    /** No bias, no activation, kernels that are not square and that do not fit. */
    @Test
    default void conv2dOfOtherKernels() {
        for (int[] kernel : new int[][]{{1, 1}, {1, 4}, {5, 2}, {9, 3}})
            for (Conv2d conv : new Conv2d[]{new Conv2d(1, 0), new Conv2d(2, 1)})
                for (Activation f : Activation.values()) {
                    Argument x = cases().activation(3, 6, 5, 4);
                    Argument w = cases().weight(WeightRole.CONV2D, TYPES[kernel[1] % 3], 7, 4, kernel[0], kernel[1]);
                    cases().check("conv2d", backend().convOps().conv2d(x.tensor(), w.tensor(), null, conv, f),
                            Definitions.conv2d(x.values(), w.values(), null, x.tensor().shape(), w.tensor().shape(),
                                    conv, f),
                            3, conv.outputLength(6, kernel[0]), conv.outputLength(5, kernel[1]), 7);
                }
    }

    @Test
    default void convTranspose1dWithoutBias() {
        for (int[] s : new int[][]{{1, 1, 0, 0}, {4, 2, 2, 2}, {6, 3, 6, 0}, {2, 1, 9, 9}}) {
            Argument x = cases().activation(11, 6);
            Argument w = cases().weight(WeightRole.CONV_TRANSPOSE1D, DType.F32, 6, 5, s[0]);
            int length = Math.max(0, 10 * s[1] + s[0] - s[2] - s[3]);
            cases().check("convTranspose1d",
                    backend().convOps().convTranspose1d(x.tensor(), w.tensor(), null, s[1], s[2], s[3]),
                    Definitions.convTranspose1d(x.values(), w.values(), null, 11, 6, 5, s[0], s[1], s[2], length),
                    length, 5);
        }
        Tensor x = cases().activation(3, 6).tensor();
        Tensor w = cases().weight(WeightRole.CONV_TRANSPOSE1D, DType.F32, 6, 5, 2).tensor();
        for (int[] s : new int[][]{{0, 0, 0}, {1, -1, 0}, {1, 0, -1}})
            assertThatThrownBy(() -> backend().convOps().convTranspose1d(x, w, null, s[0], s[1], s[2]))
                    .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void conv3dPatches() {
        for (DType type : TYPES) {
            Argument x = cases().activation(5, 3 * 2 * 4 * 4);
            Argument w = cases().weight(WeightRole.CONV3D, type, 11, 3, 2, 4, 4);
            Argument bias = cases().weight(WeightRole.VECTOR, type, 11);
            cases().check("conv3dPatches", backend().convOps().conv3dPatches(x.tensor(), w.tensor(), bias.tensor()),
                    Definitions.linear(x.values(), w.values(), bias.values(), 5, 96, 11, Activation.NONE), 5, 11);
        }
    }
}
