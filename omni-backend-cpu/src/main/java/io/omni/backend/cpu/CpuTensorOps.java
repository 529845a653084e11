package io.omni.backend.cpu;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import java.util.List;

/** Linear algebra, norms, elementwise functions, rows and sampling on the CPU. */
final class CpuTensorOps implements TensorOps {
    // rows that share one conversion of a block of weights, and elements that are worth a task
    private static final int ROWS = 256;
    private static final int ELEMENTS = 1 << 14;

    private final CpuBackend backend;

    CpuTensorOps(CpuBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation activation) {
        int[] shape = Shapes.linear(x, weight, bias);
        Matrix w = Matrix.of(backend.mine(weight));
        long from = floats(x);
        long b = bias == null ? 0 : floats(bias);
        CpuTensor y = backend.make(shape);
        linear(backend, Product.addresses(from, 4L * w.in(), rows(shape)), w, b, activation, y.address());
        return y;
    }

    /** Rows at any addresses times a matrix, to rows one after another at {@code y}. */
    static void linear(CpuBackend backend, long[] x, Matrix w, long bias, Activation activation, long y) {
        Grid grid = new Grid(x.length, w, backend.workers.threads());
        long stride = 4L * w.out();
        try (BlockSums sums = BlockSums.of(backend, x, w.in(), w.dtype().isQuantized())) {
            long[] blockSums = BlockSums.addresses(sums);
            backend.workers.run(grid.tasks(), task -> {
                int o = grid.firstOut(task);
                int end = grid.endOut(task);
                Product.rows(backend.memory, x, blockSums, grid.firstRow(task), grid.endRow(task), w, o, end, y, stride,
                        false);
                if (bias == 0 && activation == Activation.NONE)
                    return;
                for (int r = grid.firstRow(task); r < grid.endRow(task); r++) {
                    long at = y + r * stride + 4L * o;
                    if (bias != 0)
                        Rows.add(at, bias + 4L * o, at, end - o);
                    Rows.activate(activation, at, at, end - o);
                }
            });
        }
    }

    @Override
    public Tensor gatedMlp(Tensor x, Tensor gate, Tensor up, Tensor down) {
        int[] shape = Shapes.gatedMlp(x, gate, up, down);
        Matrix g = Matrix.of(backend.mine(gate));
        Matrix u = Matrix.of(backend.mine(up));
        Matrix d = Matrix.of(backend.mine(down));
        long from = floats(x);
        CpuTensor y = backend.make(shape);
        int n = rows(shape);
        long bytes = 4L * n * g.out();
        long hidden = backend.memory.take(bytes);
        try {
            long[] rows = Product.addresses(from, 4L * g.in(), n);
            Grid grid = Grid.of(n, g, u, backend.workers.threads());
            try (BlockSums sums = BlockSums.of(backend, rows, g.in(),
                    g.dtype().isQuantized() || u.dtype().isQuantized())) {
                long[] blockSums = BlockSums.addresses(sums);
                backend.workers.run(grid.tasks(), task -> swiglu(backend.memory, rows, blockSums, grid.firstRow(task),
                        grid.endRow(task), g, u, grid.firstOut(task), grid.endOut(task), hidden));
            }
            linear(backend, Product.addresses(hidden, 4L * g.out(), n), d, 0, Activation.NONE, y.address());
        } finally {
            backend.memory.give(hidden, bytes);
        }
        return y;
    }

    /** silu(x · gateᵀ) ∘ (x · upᵀ) for a block, to rows of the matrices' outputs at {@code y}. */
    static void swiglu(Memory memory, long[] x, long[] blockSums, int from, int to, Matrix gate, Matrix up,
            int firstOut, int endOut, long y) {
        int n = endOut - firstOut;
        long stride = 4L * gate.out();
        long bytes = 4L * n * (to - from);
        long scratch = memory.take(bytes);
        try {
            Product.rows(memory, x, blockSums, from, to, gate, firstOut, endOut, y, stride, false);
            long raised = scratch - 4L * firstOut - 4L * n * from;
            Product.rows(memory, x, blockSums, from, to, up, firstOut, endOut, raised, 4L * n, false);
            for (int r = from; r < to; r++) {
                long at = y + r * stride + 4L * firstOut;
                Rows.swiglu(at, scratch + 4L * n * (r - from), at, n);
            }
        } finally {
            memory.give(scratch, bytes);
        }
    }

    @Override
    public Tensor rmsNorm(Tensor x, Tensor weight, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        long from = floats(x);
        long w = floats(weight);
        CpuTensor y = backend.make(shape);
        int n = weight.dim(0);
        byRow(from, y, n, (a, b) -> Rows.rmsNorm(a, w, eps, b, n));
        return y;
    }

    @Override
    public Tensor layerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        Shapes.vector(x, bias, "bias");
        long from = floats(x);
        long w = floats(weight);
        long c = floats(bias);
        CpuTensor y = backend.make(shape);
        int n = weight.dim(0);
        byRow(from, y, n, (a, b) -> Rows.layerNorm(a, w, c, eps, b, n));
        return y;
    }

    @Override
    public Tensor add(Tensor a, Tensor b) {
        int[] shape = Shapes.elementwise(a, b);
        long first = floats(a);
        long second = floats(b);
        CpuTensor y = backend.make(shape);
        if (a.size() == b.size())
            byElement(y, (at, n) -> Rows.add(first + at, second + at, y.address() + at, n));
        else
            byRow(first, y, b.dim(0), (x, to) -> Rows.add(x, second, to, b.dim(0)));
        return y;
    }

    @Override
    public Tensor multiply(Tensor a, Tensor b) {
        int[] shape = Shapes.elementwise(a, b);
        long first = floats(a);
        long second = floats(b);
        CpuTensor y = backend.make(shape);
        if (a.size() == b.size())
            byElement(y, (at, n) -> Rows.multiply(first + at, second + at, y.address() + at, n));
        else
            byRow(first, y, b.dim(0), (x, to) -> Rows.multiply(x, second, to, b.dim(0)));
        return y;
    }

    @Override
    public Tensor addScaled(Tensor residual, Tensor x, Tensor scale) {
        Shapes.same(residual, x);
        int[] shape = Shapes.vector(x, scale, "scale");
        long first = floats(residual);
        long second = floats(x);
        long s = floats(scale);
        CpuTensor y = backend.make(shape);
        int n = scale.dim(0);
        byRow(first, y, n, (a, to) -> Rows.multiplyAdd(a, second + (a - first), s, to, n));
        return y;
    }

    @Override
    public Tensor activation(Tensor x, Activation activation) {
        long from = floats(x);
        CpuTensor y = backend.make(x.shape());
        byElement(y, (at, n) -> Rows.activate(activation, from + at, y.address() + at, n));
        return y;
    }

    @Override
    public Tensor snakeBeta(Tensor x, Tensor alpha, Tensor beta) {
        int[] shape = Shapes.vector(x, alpha, "alpha");
        Shapes.vector(x, beta, "beta");
        long from = floats(x);
        long a = floats(alpha);
        long b = floats(beta);
        CpuTensor y = backend.make(shape);
        int n = alpha.dim(0);
        long bytes = 8L * n;
        long factors = backend.memory.take(bytes);
        try {
            for (int i = 0; i < n; i++) {
                Lanes.put(factors + 4L * i, (float) Math.exp(Lanes.get(a + 4L * i)));
                Lanes.put(factors + 4L * (n + i), (float) (1 / (Math.exp(Lanes.get(b + 4L * i)) + 1e-9)));
            }
            byRow(from, y, n, (row, to) -> Rows.snake(row, factors, factors + 4L * n, to, n));
        } finally {
            backend.memory.give(factors, bytes);
        }
        return y;
    }

    @Override
    public Tensor clamp(Tensor x, float min, float max) {
        long from = floats(x);
        CpuTensor y = backend.make(x.shape());
        byElement(y, (at, n) -> Rows.clamp(from + at, min, max, y.address() + at, n));
        return y;
    }

    @Override
    public Tensor embedding(Tensor table, Tensor ids) {
        int[] shape = Shapes.embedding(table, ids);
        CpuTensor rows = backend.mine(table);
        long[] from = picked(rows, ids);
        int features = table.dim(1);
        if (rows.dtype() == DType.I32) {
            CpuTensor y = backend.make(DType.I32, shape);
            for (int i = 0; i < from.length; i++)
                Lanes.copy(from[i], y.address() + 4L * features * i, 4L * features);
            return y;
        }
        CpuTensor y = backend.make(shape);
        int each = Math.max(1, ELEMENTS / Math.max(1, features));
        backend.workers.run(parts(from.length, each), task -> {
            for (int i = task * each; i < Math.min(from.length, (task + 1) * each); i++)
                Product.toFloats(rows.dtype(), from[i], y.address() + 4L * features * i, features);
        });
        return y;
    }

    @Override
    public Tensor embeddingBag(Tensor table, Tensor ids, Tensor weights) {
        int[] shape = Shapes.embeddingBag(table, ids, weights);
        CpuTensor rows = backend.mine(table);
        long[] from = picked(rows, ids);
        long w = weights == null ? 0 : floats(weights);
        int bag = ids.dim(1);
        int features = table.dim(1);
        CpuTensor y = backend.make(shape);
        int each = Math.max(1, ELEMENTS / Math.max(1, features * bag));
        backend.workers.run(parts(shape[0], each), task -> {
            long bytes = 4L * features;
            long row = backend.memory.take(bytes);
            try {
                for (int i = task * each; i < Math.min(shape[0], (task + 1) * each); i++) {
                    long to = y.address() + bytes * i;
                    Rows.fill(0, to, features);
                    for (int j = i * bag; j < (i + 1) * bag; j++) {
                        Product.toFloats(rows.dtype(), from[j], row, features);
                        Rows.addScaled(w == 0 ? 1 : Lanes.get(w + 4L * j), row, to, features);
                    }
                }
            } finally {
                backend.memory.give(row, bytes);
            }
        });
        return y;
    }

    @Override
    public Tensor slice(Tensor x, int from, int to) {
        int[] shape = Shapes.slice(x, from, to);
        CpuTensor whole = plain(x);
        long row = x.dim(0) == 0 ? 0 : whole.dtype().bytes(x.size() / x.dim(0));
        whole.address();
        return backend.view(whole, from * row, shape);
    }

    @Override
    public Tensor concat(List<Tensor> parts) {
        int[] shape = Shapes.concat(parts);
        long[] from = new long[parts.size()];
        for (int i = 0; i < from.length; i++)
            from[i] = plain(parts.get(i)).address();
        DType dtype = parts.getFirst().dtype();
        CpuTensor y = backend.make(dtype, shape);
        long at = y.address();
        for (int i = 0; i < from.length; i++) {
            long bytes = dtype.bytes(parts.get(i).size());
            Lanes.copy(from[i], at, bytes);
            at += bytes;
        }
        return y;
    }

    @Override
    public Tensor reshape(Tensor x, int... shape) {
        Shapes.reshape(x, shape);
        CpuTensor whole = plain(x);
        whole.address();
        return backend.view(whole, 0, shape);
    }

    @Override
    public Tensor permute(Tensor x, int... axes) {
        int[] shape = Shapes.permute(x, axes);
        long from = floats(x);
        CpuTensor y = backend.make(shape);
        if (y.size() == 0)
            return y;
        int rank = shape.length;
        long[] stride = new long[rank];
        for (int i = 0; i < rank; i++) {
            stride[i] = 4;
            for (int j = axes[i] + 1; j < rank; j++)
                stride[i] *= x.dim(j);
        }
        int inner = rank == 0 ? 1 : shape[rank - 1];
        long step = rank == 0 ? 4 : stride[rank - 1];
        int rows = (int) (y.size() / inner);
        int each = Math.max(1, ELEMENTS / inner);
        backend.workers.run(parts(rows, each), task -> {
            for (int row = task * each; row < Math.min(rows, (task + 1) * each); row++) {
                long at = from;
                for (int i = rank - 2, rest = row; i >= 0; rest /= shape[i--])
                    at += rest % shape[i] * stride[i];
                long to = y.address() + 4L * inner * row;
                if (step == 4)
                    Lanes.copy(at, to, 4L * inner);
                else
                    for (int i = 0; i < inner; i++)
                        Lanes.putInt(to + 4L * i, Lanes.getInt(at + step * i));
            }
        });
        return y;
    }

    @Override
    public Tensor scatter(Tensor base, Tensor index, Tensor rows) {
        return scatter(base, index, rows, false);
    }

    @Override
    public Tensor scatterAdd(Tensor base, Tensor index, Tensor rows) {
        return scatter(base, index, rows, true);
    }

    private Tensor scatter(Tensor base, Tensor index, Tensor rows, boolean add) {
        int[] shape = Shapes.scatter(base, index, rows);
        long from = floats(base);
        long updates = floats(rows);
        int features = base.dim(1);
        long[] to = picked(backend.mine(base), index);
        CpuTensor y = backend.make(shape);
        Lanes.copy(from, y.address(), 4 * y.size());
        // one after another, so that repeated indexes add in their order
        for (int i = 0; i < to.length; i++) {
            long at = y.address() + 4L * features * Lanes.getInt(backend.mine(index).address() + 4L * i);
            if (add)
                Rows.add(at, updates + 4L * features * i, at, features);
            else
                Lanes.copy(updates + 4L * features * i, at, 4L * features);
        }
        return y;
    }

    @Override
    public Sampler sampler(Sampling sampling, int vocabulary, int[] history) {
        return new CpuSampler(sampling, vocabulary, history);
    }

    @Override
    public Tensor sample(Tensor logits, List<Sampler> samplers) {
        Shapes.sample(logits, samplers);
        int vocabulary = logits.dim(1);
        for (Sampler sampler : samplers)
            if (!(sampler instanceof CpuSampler mine) || mine.vocabulary() != vocabulary)
            throw new IllegalArgumentException("a sampler of another backend or for another vocabulary than "
                    + vocabulary);
        long from = floats(logits);
        CpuTensor y = backend.make(DType.I32, samplers.size());
        backend.workers.run(samplers.size(), i -> Lanes.putInt(y.address() + 4L * i,
                ((CpuSampler) samplers.get(i)).next(from + 4L * vocabulary * i)));
        return y;
    }

    /** The elements of a tensor as floats, converted if it is a weight of another type. */
    private long floats(Tensor x) {
        return floats(backend, x);
    }

    static long floats(CpuBackend backend, Tensor x) {
        CpuTensor mine = backend.mine(x);
        long address = mine.address();
        if (mine.layout() != Layout.PLAIN || mine.dtype().isQuantized())
            return backend.mine(backend.tensor(mine.toFloats(), mine.shape())).address();
        if (mine.dtype() == DType.F32)
            return address;
        if (!mine.dtype().isFloating())
            throw new IllegalArgumentException("a tensor of type " + mine.dtype() + ", expected floats");
        CpuTensor wide = backend.make(mine.shape());
        Product.toFloats(mine.dtype(), address, wide.address(), Math.toIntExact(mine.size()));
        return wide.address();
    }

    private CpuTensor plain(Tensor x) {
        CpuTensor mine = backend.mine(x);
        return mine.layout() == Layout.PLAIN && !mine.dtype().isQuantized()
                ? mine
                : backend.mine(backend.tensor(mine.toFloats(), mine.shape()));
    }

    /** The addresses of the rows that ids name. */
    private long[] picked(CpuTensor table, Tensor ids) {
        Matrix rows = Matrix.of(table.dtype() == DType.I32 ? bits(table) : table);
        long from = backend.mine(ids).address();
        long[] addresses = new long[Math.toIntExact(ids.size())];
        for (int i = 0; i < addresses.length; i++) {
            int id = Lanes.getInt(from + 4L * i);
            if (id < 0 || id >= rows.out())
                throw new IllegalArgumentException("index " + id + ", expected 0 to " + (rows.out() - 1));
            addresses[i] = rows.row(id);
        }
        return addresses;
    }

    // integers are moved as floats are
    private CpuTensor bits(CpuTensor ints) {
        return new CpuTensor(backend, DType.F32, ints.shape(), Block.borrowed(ints.address(), ints), ints.address(),
                Layout.PLAIN);
    }

    private interface RowFunction {
        void apply(long x, long y);
    }

    private interface Span {
        void apply(long offset, int n);
    }

    /** A function of each row of n features. */
    private void byRow(long x, CpuTensor y, int n, RowFunction function) {
        int rows = n == 0 ? 0 : (int) (y.size() / n);
        int each = Math.max(1, ELEMENTS / Math.max(1, n));
        long to = y.address();
        backend.workers.run(parts(rows, each), task -> {
            for (int r = task * each; r < Math.min(rows, (task + 1) * each); r++)
                function.apply(x + 4L * n * r, to + 4L * n * r);
        });
    }

    /** A function of spans of elements, given by their byte offset and number. */
    private void byElement(CpuTensor y, Span function) {
        long size = y.size();
        backend.workers.run(parts(size, ELEMENTS), task -> {
            long first = (long) task * ELEMENTS;
            function.apply(4 * first, (int) Math.min(ELEMENTS, size - first));
        });
    }

    static int parts(long n, int each) {
        return (int) ((n + each - 1) / each);
    }

    private static int rows(int[] shape) {
        long rows = 1;
        for (int i = 0; i < shape.length - 1; i++)
            rows *= shape[i];
        return Math.toIntExact(rows);
    }

    /** How a product is cut into tasks: blocks of rows times blocks of outputs. */
    record Grid(int rows, int outs, int rowBlock, int outBlock, int outBlocks) {
        Grid(int rows, Matrix w, int threads) {
            this(rows, w.out(), Math.min(rows, ROWS), outBlock(rows, w, threads));
        }

        /** For two matrices of one shape: blocks suit both, as those of a quantised one suit any. */
        static Grid of(int rows, Matrix a, Matrix b, int threads) {
            return new Grid(rows, a.dtype().isQuantized() ? a : b, threads);
        }

        private Grid(int rows, int outs, int rowBlock, int outBlock) {
            this(rows, outs, rowBlock, outBlock, parts(outs, outBlock));
        }

        private static int outBlock(int rows, Matrix w, int threads) {
            boolean quantised = w.dtype().isQuantized();
            if ((long) rows * w.out() * w.in() < 1 << 16)
                return Math.max(1, w.out());
            if (quantised && rows < Quantized.MANY)
                return Quantized.outputsPerTask(w.out(), threads);
            int step = quantised ? 2 * Quantized.BLOCK : Product.TILE_OUTS;
            // some tasks for each thread, of a hundred kilobytes of weights or so; of more in blocks, as each task prepares all
            // its rows
            int outs = rows >= 4 && !quantised
                    ? Product.outputsPerBlock(w.in())
                    : Math.clamp((quantised ? 512 << 10 : 128 << 10) / Math.max(1, w.rowBytes()) / step * step, step,
                            512);
            int fair = (w.out() / (4 * threads) + step - 1) / step * step;
            return Math.max(1, Math.min(outs, Math.max(step, fair)));
        }

        int tasks() {
            return rows == 0 ? 0 : parts(rows, rowBlock) * outBlocks;
        }

        int firstRow(int task) {
            return task / outBlocks * rowBlock;
        }

        int endRow(int task) {
            return Math.min(rows, firstRow(task) + rowBlock);
        }

        int firstOut(int task) {
            return task % outBlocks * outBlock;
        }

        int endOut(int task) {
            return Math.min(outs, firstOut(task) + outBlock);
        }
    }
}
