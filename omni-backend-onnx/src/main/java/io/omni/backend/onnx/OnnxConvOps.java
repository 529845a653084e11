package io.omni.backend.onnx;

import static io.omni.backend.onnx.Recording.with;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.ConvOps;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.backend.onnx.Graph.Attribute;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;

/** The runtime's convolutions have features first, so each is between two transpositions. */
final class OnnxConvOps implements ConvOps {
    private final OnnxBackend backend;

    OnnxConvOps(OnnxBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d conv) {
        int[] shape = Shapes.conv1d(x, weight, bias, conv);
        if (x.size() == 0)
            return ConvOps.super.conv1d(x, weight, bias, conv);
        return backend.record(shape, r -> time(r, r.node("Conv", "", new Attribute[]{
                with("strides", new long[]{conv.stride()}), with("dilations", new long[]{conv.dilation()}),
                with("group", conv.groups()), with("pads", new long[]{conv.padLeft(), conv.padRight()})},
                channels(r, x), r.floats((OnnxArray) weight), r.floats((OnnxArray) bias))), x, weight, bias);
    }

    @Override
    public Tensor convTranspose1d(Tensor x, Tensor weight, Tensor bias, int stride, int trimLeft, int trimRight) {
        int[] shape = Shapes.convTranspose1d(x, weight, bias, stride, trimLeft, trimRight);
        if (x.size() == 0)
            return ConvOps.super.convTranspose1d(x, weight, bias, stride, trimLeft, trimRight);
        return backend.record(shape, r -> {
            Value y = time(r, r.node("ConvTranspose", with("strides", new long[]{stride}), channels(r, x),
                    r.floats((OnnxArray) weight), r.floats((OnnxArray) bias)));
            return trimLeft == 0 && trimRight == 0
                    ? y
                    : r.slice(y, OnnxType.FLOAT, trimLeft, trimLeft + shape[0]);
        }, x, weight, bias);
    }

    /** [time, features] as [1, features, time]. */
    private static Value channels(Recording r, Tensor x) {
        return r.node("Unsqueeze", r.transpose(r.floats((OnnxArray) x), 1, 0), Recording.integers(0L));
    }

    /** [1, features, time] as [time, features]. */
    private static Value time(Recording r, Value y) {
        return r.transpose(r.node("Squeeze", y, Recording.integers(0L)), 1, 0);
    }

    @Override
    public Tensor conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d conv, Activation activation) {
        int[] shape = Shapes.conv2d(x, weight, bias, conv);
        if (x.size() == 0)
            return ConvOps.super.conv2d(x, weight, bias, conv, activation);
        long padding = conv.padding();
        return backend.record(shape, r -> {
            Value y = r.node("Conv", "", new Attribute[]{with("strides", new long[]{conv.stride(), conv.stride()}),
                    with("pads", new long[]{padding, padding, padding, padding})},
                    r.transpose(r.floats((OnnxArray) x), 0, 3, 1, 2), r.floats((OnnxArray) weight),
                    r.floats((OnnxArray) bias));
            return r.activation(r.transpose(y, 0, 2, 3, 1), activation);
        }, x, weight, bias);
    }

    @Override
    public Tensor conv3dPatches(Tensor x, Tensor weight, Tensor bias) {
        int[] shape = Shapes.conv3dPatches(x, weight, bias);
        return backend.record(shape, r -> r.node("Gemm", with("transB", 1), r.floats((OnnxArray) x),
                r.reshape(r.floats((OnnxArray) weight), r.numbers(weight.dim(0), -1)), r.floats((OnnxArray) bias)), x,
                weight, bias);
    }
}
