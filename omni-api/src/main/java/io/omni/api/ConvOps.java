package io.omni.api;

/**
 * Convolutions. Features are the last dimension, so that a convolution is a matrix product over the taps; weights have
 * PyTorch's shapes.
 */
public interface ConvOps {
    /** The backend whose tensors these operations take and make. */
    Backend backend();

    /**
     * 1-D convolution of one sequence.
     *
     * @param x
     *            {@code [time, in]}
     * @param weight
     *            {@code [out, in / groups, kernel]}, loaded as {@link WeightRole#CONV1D}
     * @param bias
     *            {@code [out]}, or null
     * @return {@code [conv.outputLength(time, kernel), out]}
     */
    default Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d conv) {
        int[] shape = Shapes.conv1d(x, weight, bias, conv);
        return make(Definitions.conv1d(doubles(x), doubles(weight), bias == null ? null : doubles(bias), x.dim(0),
                x.dim(1), weight.dim(0), weight.dim(2), conv), shape);
    }

    /**
     * Transposed 1-D convolution of one sequence, cut on both sides.
     *
     * @param x
     *            {@code [time, in]}
     * @param weight
     *            {@code [in, out, kernel]}, loaded as {@link WeightRole#CONV_TRANSPOSE1D}
     * @param bias
     *            {@code [out]}, or null
     * @param stride
     *            output steps an input step
     * @param trimLeft
     *            output steps dropped at the start
     * @param trimRight
     *            output steps dropped at the end
     * @return {@code [max(0, (time − 1) · stride + kernel − trimLeft − trimRight), out]}, empty for no input
     */
    default Tensor convTranspose1d(Tensor x, Tensor weight, Tensor bias, int stride, int trimLeft, int trimRight) {
        int[] shape = Shapes.convTranspose1d(x, weight, bias, stride, trimLeft, trimRight);
        return make(Definitions.convTranspose1d(doubles(x), doubles(weight), bias == null ? null : doubles(bias),
                x.dim(0), x.dim(1), weight.dim(1), weight.dim(2), stride, trimLeft, shape[0]), shape);
    }

    /**
     * 2-D convolution of a batch.
     *
     * @param x
     *            {@code [batch, height, width, in]}
     * @param weight
     *            {@code [out, in, kernelHeight, kernelWidth]}, loaded as {@link WeightRole#CONV2D}
     * @param bias
     *            {@code [out]}, or null
     * @return {@code [batch, outHeight, outWidth, out]}
     */
    default Tensor conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d conv, Activation activation) {
        int[] shape = Shapes.conv2d(x, weight, bias, conv);
        return make(Definitions.conv2d(doubles(x), doubles(weight), bias == null ? null : doubles(bias), x.shape(),
                weight.shape(), conv, activation), shape);
    }

    /**
     * 3-D convolution whose stride is its kernel, over patches already cut out: one product a patch.
     *
     * @param x
     *            {@code [patches, channels · frames · height · width]}
     * @param weight
     *            {@code [out, channels, frames, height, width]}, loaded as {@link WeightRole#CONV3D}
     * @param bias
     *            {@code [out]}, or null
     * @return {@code [patches, out]}
     */
    default Tensor conv3dPatches(Tensor x, Tensor weight, Tensor bias) {
        int[] shape = Shapes.conv3dPatches(x, weight, bias);
        return make(Definitions.linear(doubles(x), doubles(weight), bias == null ? null : doubles(bias), x.dim(0),
                x.dim(1), weight.dim(0), Activation.NONE), shape);
    }

    private Tensor make(double[] values, int... shape) {
        return backend().tensor(Definitions.round(values), shape);
    }

    private double[] doubles(Tensor x) {
        return Definitions.doubles(Shapes.own(x, backend()).toFloats());
    }
}
