package io.omni.backend.cuda;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.ConvOps;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;

final class CudaConvOps implements ConvOps {
    private final CudaBackend backend;

    CudaConvOps(CudaBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d conv) {
        int[] shape = Shapes.conv1d(x, weight, bias, conv);
        CudaTensor in = backend.activation(x);
        CudaTensor taps = taps(weight, WeightRole.CONV1D);
        CudaTensor b = backend.vector(bias);
        CudaTensor y = backend.make(shape);
        if (conv.groups() == 1) {
            convolve(in, taps, b, y, 1, 1, x.dim(0), x.dim(1), 1, shape[0], shape[1], weight.dim(2), weight.dim(2),
                    conv.stride(), conv.dilation(), 0, conv.padLeft(), Activation.NONE);
        } else {
            backend.stream().kernel("conv_groups_" + backend.type(taps)).in(in).in(taps).in(b).out(y).i32(x.dim(0))
                    .i32(x.dim(1)).i32(shape[0]).i32(shape[1]).i32(weight.dim(2)).i32(conv.stride())
                    .i32(conv.dilation()).i32(conv.groups()).i32(conv.padLeft())
                    .launch(Grid.ceil(y.size(), 256), 1, 1, 256, 0);
        }
        return y;
    }

    @Override
    public Tensor conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d conv, Activation activation) {
        int[] shape = Shapes.conv2d(x, weight, bias, conv);
        CudaTensor in = backend.activation(x);
        CudaTensor taps = taps(weight, WeightRole.CONV2D);
        CudaTensor b = backend.vector(bias);
        CudaTensor y = backend.make(shape);
        convolve(in, taps, b, y, shape[0], x.dim(1), x.dim(2), x.dim(3), shape[1], shape[2], shape[3],
                weight.dim(2) * weight.dim(3), weight.dim(3), conv.stride(), 1, conv.padding(), conv.padding(),
                activation);
        return y;
    }

    private void convolve(CudaTensor x, CudaTensor weight, CudaTensor bias, CudaTensor y, int images, int height,
            int width, int in, int outHeight, int outWidth, int out, int taps, int kernelWidth, int stride,
            int dilation, int padTop, int padLeft, Activation activation) {
        long rows = (long) images * outHeight * outWidth;
        Tile tile = Tile.of(backend, rows, out);
        boolean wide = x.wide(in) && weight.wide(in);
        backend.stream().kernel("conv_" + tile.kernel() + "_" + backend.type(weight)).in(x).in(weight).in(bias).out(y)
                .i32(images).i32(height).i32(width).i32(in).i32(outHeight).i32(outWidth).i32(out).i32(taps)
                .i32(kernelWidth).i32(stride).i32(dilation).i32(padTop).i32(padLeft).i32(activation.ordinal())
                .i32(wide).launch(Grid.ceil(rows, tile.size()), Grid.ceil(out, tile.size()), 1, tile.threads(),
                        tile.shared());
    }

    @Override
    public Tensor convTranspose1d(Tensor x, Tensor weight, Tensor bias, int stride, int trimLeft, int trimRight) {
        int[] shape = Shapes.convTranspose1d(x, weight, bias, stride, trimLeft, trimRight);
        CudaTensor in = backend.activation(x);
        CudaTensor taps = taps(weight, WeightRole.CONV_TRANSPOSE1D);
        CudaTensor b = backend.vector(bias);
        CudaTensor y = backend.make(shape);
        // the outputs of one phase
        long rows = Grid.ceil(shape[0], stride);
        Tile tile = Tile.of(backend, rows * stride, shape[1]);
        boolean wide = in.wide(x.dim(1)) && taps.wide(x.dim(1));
        backend.stream().kernel("conv_transpose_" + tile.kernel() + "_" + backend.type(taps)).in(in).in(taps).in(b)
                .out(y).i32(x.dim(0)).i32(x.dim(1)).i32(shape[0]).i32(shape[1]).i32(weight.dim(2)).i32(stride)
                .i32(trimLeft).i32(wide).launch(Grid.ceil(rows, tile.size()), Grid.ceil(shape[1], tile.size()),
                        stride, tile.threads(), tile.shared());
        return y;
    }

    @Override
    public Tensor conv3dPatches(Tensor x, Tensor weight, Tensor bias) {
        int[] shape = Shapes.conv3dPatches(x, weight, bias);
        CudaTensor in = backend.activation(x);
        CudaTensor y = backend.make(shape);
        CudaTensorOps ops = (CudaTensorOps) backend.tensorOps();
        ops.linear(in, backend.matrix(weight), backend.vector(bias), Activation.NONE, y, null);
        return y;
    }

    /** The weight with its taps first, as it is if it was loaded for that. */
    private CudaTensor taps(Tensor weight, WeightRole role) {
        CudaTensor own = backend.own(weight);
        if (own.role() == role)
            return own;
        CudaTensor plain = backend.matrix(weight);
        CudaTensor taps = backend.make(plain.dtype(), plain.shape());
        ((CudaTensorOps) backend.tensorOps()).permute(backend.stream(), plain.block(), plain.address(), taps.block(),
                plain.dtype(), plain.shape(), Layout.axes(role));
        return taps;
    }
}
