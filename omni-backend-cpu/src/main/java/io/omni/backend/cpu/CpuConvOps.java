package io.omni.backend.cpu;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.ConvOps;
import io.omni.api.HostTensor;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import java.util.Arrays;

/** Convolutions as matrix products over the taps. */
final class CpuConvOps implements ConvOps {
    // rows of taps gathered at a time
    private static final long GATHERED_BYTES = 4L << 20;

    private final CpuBackend backend;

    CpuConvOps(CpuBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor conv1d(Tensor x, Tensor weight, Tensor bias, Conv1d conv) {
        int[] shape = Shapes.conv1d(x, weight, bias, conv);
        long from = CpuTensorOps.floats(backend, x);
        CpuTensor w = packed(weight, Layout.CONV1D);
        w.address();
        long b = bias == null ? 0 : CpuTensorOps.floats(backend, bias);
        CpuTensor y = backend.make(shape);
        if (weight.dim(1) == 1)
            shallow(from, x.dim(0), x.dim(1), w, b, conv, y);
        else if (conv.groups() == 1)
            dense(from, x.dim(0), w, b, conv, y);
        else
            grouped(from, x.dim(0), x.dim(1), w, b, conv, y);
        return y;
    }

    private void dense(long x, int time, CpuTensor weight, long bias, Conv1d conv, CpuTensor y) {
        int out = weight.dim(0);
        int in = weight.dim(1);
        int kernel = weight.dim(2);
        Matrix w = new Matrix(weight.address(), weight.dtype(), out, kernel * in);
        int length = y.dim(0);
        long row = 4L * w.in();
        boolean contiguous = kernel == 1 || conv.dilation() == 1;
        int chunk = Math.clamp(GATHERED_BYTES / Math.max(1, row), 16, Math.max(16, length));
        for (int first = 0; first < length; first += chunk) {
            int from = first;
            int n = Math.min(chunk, length - first);
            long[] rows = new long[n];
            boolean[] gather = new boolean[n];
            int gathered = 0;
            for (int i = 0; i < n; i++) {
                int start = (from + i) * conv.stride() - conv.padLeft();
                if (contiguous && start >= 0 && start + kernel <= time)
                    rows[i] = x + 4L * in * start;
                else {
                    gather[i] = true;
                    rows[i] = row * gathered++;
                }
            }
            long bytes = row * gathered;
            long scratch = backend.memory.take(bytes);
            try {
                backend.workers.run(CpuTensorOps.parts(n, 16), task -> {
                    for (int i = task * 16; i < Math.min(n, (task + 1) * 16); i++) {
                        if (!gather[i])
                            continue;
                        rows[i] += scratch;
                        for (int tap = 0; tap < kernel; tap++) {
                            int t = (from + i) * conv.stride() + tap * conv.dilation() - conv.padLeft();
                            taps(x, t >= 0 && t < time, t, in, rows[i] + 4L * in * tap);
                        }
                    }
                });
                CpuTensorOps.linear(backend, rows, w, bias, Activation.NONE, y.address() + 4L * out * from);
            } finally {
                backend.memory.give(scratch, bytes);
            }
        }
    }

    private static void taps(long x, boolean inside, int t, int in, long to) {
        if (inside)
            Lanes.copy(x + 4L * in * t, to, 4L * in);
        else
            Rows.fill(0, to, in);
    }

    /** One input channel a group: whole rows times a tap's weights, for depthwise convolutions. */
    private void shallow(long x, int time, int in, CpuTensor weight, long bias, Conv1d conv, CpuTensor y) {
        int out = weight.dim(0);
        int kernel = weight.dim(2);
        int spread = out / in;
        int length = y.dim(0);
        long wide = backend.memory.take(4L * kernel * out);
        try {
            Product.toFloats(weight.dtype(), weight.address(), wide, kernel * out);
            int each = Math.max(1, (1 << 14) / Math.max(1, out));
            backend.workers.run(CpuTensorOps.parts(length, each), task -> {
                for (int t = task * each; t < Math.min(length, (task + 1) * each); t++) {
                    long to = y.address() + 4L * out * t;
                    if (bias == 0)
                        Rows.fill(0, to, out);
                    else
                        Lanes.copy(bias, to, 4L * out);
                    for (int tap = 0; tap < kernel; tap++) {
                        int from = t * conv.stride() + tap * conv.dilation() - conv.padLeft();
                        if (from < 0 || from >= time)
                            continue;
                        long row = x + 4L * in * from;
                        long w = wide + 4L * out * tap;
                        if (spread == 1)
                            Rows.multiplyAdd(to, row, w, to, out);
                        else
                            for (int c = 0; c < in; c++)
                                Rows.addScaled(Lanes.get(row + 4L * c), w + 4L * spread * c, to + 4L * spread * c,
                                        spread);
                    }
                }
            });
        } finally {
            backend.memory.give(wide, 4L * kernel * out);
        }
    }

    private void grouped(long x, int time, int in, CpuTensor weight, long bias, Conv1d conv, CpuTensor y) {
        int out = weight.dim(0);
        int groupIn = weight.dim(1);
        int kernel = weight.dim(2);
        int groupOut = out / conv.groups();
        Matrix w = new Matrix(weight.address(), weight.dtype(), out, kernel * groupIn);
        int length = y.dim(0);
        int each = 64;
        int parts = CpuTensorOps.parts(length, each);
        backend.workers.run(parts * conv.groups(), task -> {
            int group = task / parts;
            int first = task % parts * each;
            int n = Math.min(each, length - first);
            long row = 4L * w.in();
            long scratch = backend.memory.take(row * n);
            try {
                for (int i = 0; i < n; i++)
                    for (int tap = 0; tap < kernel; tap++) {
                        int t = (first + i) * conv.stride() + tap * conv.dilation() - conv.padLeft();
                        long to = scratch + row * i + 4L * groupIn * tap;
                        if (t >= 0 && t < time)
                            Lanes.copy(x + 4L * ((long) in * t + group * groupIn), to, 4L * groupIn);
                        else
                            Rows.fill(0, to, groupIn);
                    }
                long to = y.address() + 4L * out * first;
                int o = group * groupOut;
                Product.rows(backend.memory, Product.addresses(scratch, row, n), null, 0, n, w, o, o + groupOut, to,
                        4L * out, false);
                for (int i = 0; bias != 0 && i < n; i++) {
                    long at = to + 4L * ((long) out * i + o);
                    Rows.add(at, bias + 4L * o, at, groupOut);
                }
            } finally {
                backend.memory.give(scratch, row * n);
            }
        });
    }

    @Override
    public Tensor convTranspose1d(Tensor x, Tensor weight, Tensor bias, int stride, int trimLeft, int trimRight) {
        int[] shape = Shapes.convTranspose1d(x, weight, bias, stride, trimLeft, trimRight);
        long from = CpuTensorOps.floats(backend, x);
        CpuTensor w = packed(weight, Layout.CONV_TRANSPOSE1D);
        w.address();
        long b = bias == null ? 0 : CpuTensorOps.floats(backend, bias);
        CpuTensor y = backend.make(shape);
        int in = weight.dim(0);
        int out = weight.dim(1);
        int kernel = weight.dim(2);
        int time = x.dim(0);
        int length = shape[0];
        if (length == 0)
            return y;
        long[] rows = Product.addresses(from, 4L * in, time);
        Matrix taps = new Matrix(w.address(), w.dtype(), kernel * out, in);
        int block = Math.min(out, Product.outputsPerBlock(in));
        int blocks = CpuTensorOps.parts(out, block);
        // a phase is the outputs at one distance after an input step; every stride-th tap reaches them
        backend.workers.run(stride * blocks, task -> {
            int phase = task / blocks;
            int o = task % blocks * block;
            int end = Math.min(out, o + block);
            for (int t = Math.floorMod(phase - trimLeft, stride); t < length; t += stride) {
                long at = y.address() + 4L * ((long) out * t + o);
                if (b == 0)
                    Rows.fill(0, at, end - o);
                else
                    Lanes.copy(b + 4L * o, at, 4L * (end - o));
            }
            for (int tap = phase; tap < kernel; tap += stride) {
                // output step of input step i: i · stride + tap − trimLeft
                int first = Math.max(0, Math.ceilDiv(trimLeft - tap, stride));
                int last = Math.min(time, Math.floorDiv(length - 1 + trimLeft - tap, stride) + 1);
                if (first < last)
                    Product.rows(backend.memory, rows, null, first, last, taps, tap * out + o, tap * out + end,
                            y.address() - 4L * out * trimLeft, 4L * out * stride, true);
            }
        });
        return y;
    }

    @Override
    public Tensor conv2d(Tensor x, Tensor weight, Tensor bias, Conv2d conv, Activation activation) {
        int[] shape = Shapes.conv2d(x, weight, bias, conv);
        long from = CpuTensorOps.floats(backend, x);
        CpuTensor packed = packed(weight, Layout.CONV2D);
        packed.address();
        long b = bias == null ? 0 : CpuTensorOps.floats(backend, bias);
        CpuTensor y = backend.make(shape);
        int in = x.dim(3);
        int height = x.dim(1);
        int width = x.dim(2);
        int kernelHeight = weight.dim(2);
        int kernelWidth = weight.dim(3);
        int out = shape[3];
        Matrix w = new Matrix(packed.address(), packed.dtype(), out, kernelHeight * kernelWidth * in);
        int cells = out == 0 ? 0 : Math.toIntExact(y.size() / out);
        long row = 4L * w.in();
        int chunk = Math.clamp(GATHERED_BYTES / Math.max(1, row), 16, Math.max(16, cells));
        long bytes = row * Math.min(chunk, cells);
        long scratch = backend.memory.take(bytes);
        try {
            for (int first = 0; first < cells; first += chunk) {
                int start = first;
                int n = Math.min(chunk, cells - first);
                backend.workers.run(CpuTensorOps.parts(n, 16), task -> {
                    for (int i = task * 16; i < Math.min(n, (task + 1) * 16); i++) {
                        int cell = start + i;
                        int column = cell % shape[2] * conv.stride() - conv.padding();
                        int line = cell / shape[2] % shape[1] * conv.stride() - conv.padding();
                        long image = from + 4L * in * width * height * (cell / shape[2] / shape[1]);
                        long to = scratch + row * i;
                        for (int r = line; r < line + kernelHeight; r++)
                            for (int c = column; c < column + kernelWidth; c++, to += 4L * in)
                                taps(image, r >= 0 && r < height && c >= 0 && c < width, r * width + c, in, to);
                    }
                });
                CpuTensorOps.linear(backend, Product.addresses(scratch, row, n), w, b, activation,
                        y.address() + 4L * out * first);
            }
        } finally {
            backend.memory.give(scratch, bytes);
        }
        return y;
    }

    @Override
    public Tensor conv3dPatches(Tensor x, Tensor weight, Tensor bias) {
        int[] shape = Shapes.conv3dPatches(x, weight, bias);
        long from = CpuTensorOps.floats(backend, x);
        Matrix w = Matrix.of(backend.mine(weight));
        long b = bias == null ? 0 : CpuTensorOps.floats(backend, bias);
        CpuTensor y = backend.make(shape);
        CpuTensorOps.linear(backend, Product.addresses(from, 4L * w.in(), x.dim(0)), w, b, Activation.NONE,
                y.address());
        return y;
    }

    /** A weight in the layout of its convolution, repacked if it was not loaded for it. */
    private CpuTensor packed(Tensor weight, Layout layout) {
        CpuTensor mine = backend.mine(weight);
        if (mine.layout() == layout)
            return mine;
        CpuTensor copy = backend.make(mine.shape());
        float[] values = mine.toFloats();
        Layout.pack(layout, HostTensor.of("weight", values, Arrays.copyOf(mine.shape(), mine.shape().length)),
                copy.address());
        return copy;
    }
}
