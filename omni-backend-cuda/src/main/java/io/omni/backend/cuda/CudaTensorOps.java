package io.omni.backend.cuda;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import java.util.List;

final class CudaTensorOps implements TensorOps {
    /** Rows up to which reading the weights takes longer than multiplying by them. */
    static final int FEW_ROWS = 16;
    /** Parts of a product's depth: below this length loading the pipeline counts, beyond that number the sums do. */
    private static final int LEAST_PART = 256;
    private static final int MOST_PARTS = 8;

    private final CudaBackend backend;

    CudaTensorOps(CudaBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation activation) {
        int[] shape = Shapes.linear(x, weight, bias);
        CudaTensor in = backend.activation(x);
        CudaTensor y = backend.make(shape);
        linear(in, backend.matrix(weight), backend.vector(bias), activation, y, null);
        return y;
    }

    /** Writes y, in the compute type, or exact, in float32. */
    void linear(CudaTensor x, CudaTensor weight, CudaTensor bias, Activation activation, CudaTensor y,
            CudaTensor exact) {
        int columns = weight.dim(0);
        int depth = (int) (weight.size() / Math.max(1, columns));
        int rows = (int) (x.size() / Math.max(1, depth));
        boolean wide = x.wide(depth) && weight.wide(depth);
        Stream stream = backend.stream();
        if (rows <= FEW_ROWS) {
            stream.kernel("linear_" + fewRows(rows) + "_" + backend.type(weight)).in(x).in(weight).in(bias).out(y)
                    .out(exact).i32(rows).i32(depth).i32(columns).i32(activation.ordinal()).i32(wide)
                    .launch(rows == 0 ? 0 : Grid.ceil(columns, 8), 1, 1, 256, 0);
            return;
        }
        Tile tile = Tile.of(backend, rows, columns);
        long blocks = Grid.ceil(columns, tile.size()) * Grid.ceil(rows, tile.size());
        int parts = parts(blocks, depth, backend.multiprocessors());
        CudaTensor sums = parts == 1 ? exact : backend.make(DType.F32, parts, rows, columns);
        stream.kernel("linear_" + tile.kernel() + "_" + backend.type(weight)).in(x).in(weight)
                .in(parts == 1 ? bias : null).out(parts == 1 ? y : null).out(sums).i32(rows).i32(depth).i32(columns)
                .i32(parts == 1 ? activation.ordinal() : Activation.NONE.ordinal()).i32(wide)
                .launch(Grid.ceil(columns, tile.size()), Grid.ceil(rows, tile.size()), parts, tile.threads(),
                        tile.shared());
        if (parts > 1)
            stream.kernel("linear_merge_" + backend.type()).in(sums).i32(parts).in(bias).out(y).out(exact).i32(rows)
                    .i32(columns).i32(activation.ordinal())
                    .launch(Grid.ceil((long) rows * columns, 256), 1, 1, 256, 0);
    }

    /** Parts that the depth is cut into where there are too few blocks for the card, of {@value #LEAST_PART} or more. */
    static int parts(long blocks, int depth, int multiprocessors) {
        return Math.clamp(Math.min(2L * multiprocessors / Math.max(1, blocks), depth / LEAST_PART), 1,
                MOST_PARTS);
    }

    private static String fewRows(int rows) {
        return rows <= 1 ? "rows1" : rows <= 4 ? "rows4" : "rows16";
    }

    @Override
    public Tensor gatedMlp(Tensor x, Tensor gate, Tensor up, Tensor down) {
        int[] shape = Shapes.gatedMlp(x, gate, up, down);
        CudaTensor in = backend.activation(x);
        CudaTensor y = backend.make(shape);
        gatedMlp(in, backend.matrix(gate), backend.matrix(up), backend.matrix(down), y);
        return y;
    }

    void gatedMlp(CudaTensor x, CudaTensor gate, CudaTensor up, CudaTensor down, CudaTensor y) {
        int columns = gate.dim(0);
        int depth = gate.dim(1);
        int rows = (int) (x.size() / Math.max(1, depth));
        boolean alike = gate.dtype() == up.dtype();
        CudaTensor first = alike ? gate : backend.as(gate, backend.compute());
        CudaTensor second = alike ? up : backend.as(up, backend.compute());
        CudaTensor h = backend.make(rows, columns);
        boolean wide = x.wide(depth) && first.wide(depth) && second.wide(depth);
        Tile tile = Tile.of(backend, rows, 2 * columns);
        String shape = rows <= FEW_ROWS ? fewRows(rows) : tile.kernel();
        Stream stream = backend.stream().kernel("gated_" + shape + "_" + backend.type(first)).in(x).in(first)
                .in(second).out(h).i32(rows).i32(depth).i32(columns).i32(wide);
        if (rows <= FEW_ROWS)
            stream.launch(rows == 0 ? 0 : Grid.ceil(columns, 8), 1, 1, 256, 0);
        else
            stream.launch(Grid.ceil(tile.paired(columns), tile.size()), Grid.ceil(rows, tile.size()), 1,
                    tile.threads(), tile.shared());
        linear(h, down, null, Activation.NONE, y, null);
    }

    @Override
    public Tensor rmsNorm(Tensor x, Tensor weight, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        CudaTensor in = backend.activation(x);
        CudaTensor w = backend.vector(weight);
        CudaTensor y = backend.make(shape);
        int features = w.dim(0);
        backend.stream().kernel("rms_norm_" + backend.type()).in(in).in(w).out(y).i32(features).f32(eps)
                .i32(in.wide(features) && w.wide(features)).launch(x.rowCount(), 1, 1, 256, 0);
        return y;
    }

    @Override
    public Tensor layerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        Shapes.vector(x, bias, "bias");
        CudaTensor in = backend.activation(x);
        CudaTensor w = backend.vector(weight);
        CudaTensor b = backend.vector(bias);
        CudaTensor y = backend.make(shape);
        backend.stream().kernel("layer_norm_" + backend.type()).in(in).in(w).in(b).out(y).i32(w.dim(0)).f32(eps)
                .launch(x.rowCount(), 1, 1, 256, 0);
        return y;
    }

    @Override
    public Tensor add(Tensor a, Tensor b) {
        return binary(a, b, false);
    }

    @Override
    public Tensor multiply(Tensor a, Tensor b) {
        return binary(a, b, true);
    }

    private Tensor binary(Tensor a, Tensor b, boolean multiply) {
        int[] shape = Shapes.elementwise(a, b);
        CudaTensor first = backend.activation(a);
        CudaTensor second = backend.activation(b);
        CudaTensor y = backend.make(shape);
        long period = Math.max(1, b.size());
        boolean wide = period % 8 == 0 && first.wide(8) && second.wide(8);
        backend.stream().kernel("binary_" + backend.type()).in(first).in(second).out(y).u64(y.size()).u64(period)
                .i32(multiply).i32(wide).launch(Grid.elements(y.size(), wide), 1, 1, 256, 0);
        return y;
    }

    @Override
    public Tensor addScaled(Tensor residual, Tensor x, Tensor scale) {
        int[] shape = Shapes.same(residual, x);
        Shapes.vector(x, scale, "scale");
        CudaTensor base = backend.activation(residual);
        CudaTensor in = backend.activation(x);
        CudaTensor factor = backend.vector(scale);
        CudaTensor y = backend.make(shape);
        int features = factor.dim(0);
        boolean wide = in.wide(features) && base.wide(features) && factor.wide(features);
        backend.stream().kernel("add_scaled_" + backend.type()).in(base).in(in).in(factor).out(y).u64(y.size())
                .i32(features).i32(wide).launch(Grid.elements(y.size(), wide), 1, 1, 256, 0);
        return y;
    }

    @Override
    public Tensor activation(Tensor x, Activation activation) {
        CudaTensor in = backend.activation(x);
        CudaTensor y = backend.make(x.shape());
        boolean wide = y.size() % 8 == 0 && in.wide(8);
        backend.stream().kernel("activation_" + backend.type()).in(in).out(y).u64(y.size()).i32(activation.ordinal())
                .i32(wide).launch(Grid.elements(y.size(), wide), 1, 1, 256, 0);
        return y;
    }

    @Override
    public Tensor snakeBeta(Tensor x, Tensor alpha, Tensor beta) {
        int[] shape = Shapes.vector(x, alpha, "alpha");
        Shapes.vector(x, beta, "beta");
        CudaTensor in = backend.activation(x);
        CudaTensor a = backend.vector(alpha);
        CudaTensor b = backend.vector(beta);
        CudaTensor y = backend.make(shape);
        backend.stream().kernel("snake_" + backend.type()).in(in).in(a).in(b).out(y).u64(y.size()).i32(a.dim(0))
                .launch(Grid.elements(y.size(), false), 1, 1, 256, 0);
        return y;
    }

    @Override
    public Tensor clamp(Tensor x, float min, float max) {
        CudaTensor in = backend.activation(x);
        CudaTensor y = backend.make(x.shape());
        boolean wide = y.size() % 8 == 0 && in.wide(8);
        backend.stream().kernel("clamp_" + backend.type()).in(in).out(y).u64(y.size()).f32(min).f32(max).i32(wide)
                .launch(Grid.elements(y.size(), wide), 1, 1, 256, 0);
        return y;
    }

    @Override
    public Tensor embedding(Tensor table, Tensor ids) {
        int[] shape = Shapes.embedding(table, ids);
        CudaTensor rows = backend.matrix(backend.plain(table));
        CudaTensor index = backend.own(ids);
        CudaTensor y = backend.make(shape);
        int features = rows.dim(1);
        backend.stream().kernel("embedding_" + CudaBackend.type(rows.dtype()) + "_" + backend.type()).in(rows).in(index)
                .out(y).i32(features).i32(rows.dim(0)).i32(rows.wide(features)).launch(index.size(), 1, 1, 128, 0);
        return y;
    }

    @Override
    public Tensor embeddingBag(Tensor table, Tensor ids, Tensor weights) {
        int[] shape = Shapes.embeddingBag(table, ids, weights);
        CudaTensor rows = backend.matrix(backend.plain(table));
        CudaTensor index = backend.own(ids);
        CudaTensor factors = backend.vector(weights);
        CudaTensor y = backend.make(shape);
        backend.stream().kernel("embedding_bag_" + CudaBackend.type(rows.dtype()) + "_" + backend.type()).in(rows)
                .in(index).in(factors).out(y).i32(rows.dim(1)).i32(rows.dim(0)).i32(ids.dim(1))
                .launch(ids.dim(0), 1, 1, 128, 0);
        return y;
    }

    @Override
    public Tensor slice(Tensor x, int from, int to) {
        int[] shape = Shapes.slice(x, from, to);
        CudaTensor in = backend.plain(x);
        long offset = x.dim(0) == 0 ? 0 : in.bytes() / x.dim(0) * from;
        backend.stream();
        if (offset % 16 == 0)
            return backend.add(in.view(shape, offset));
        // kernels that load 16 bytes at once are worth a copy
        CudaTensor y = backend.make(in.dtype(), shape);
        copy(y, 0, in, offset, y.bytes());
        return y;
    }

    @Override
    public Tensor concat(List<Tensor> parts) {
        int[] shape = Shapes.concat(parts);
        List<CudaTensor> plain = parts.stream().map(backend::plain).toList();
        CudaTensor y = backend.make(plain.getFirst().dtype(), shape);
        long at = 0;
        for (CudaTensor in : plain) {
            copy(y, at, in, 0, in.bytes());
            at += in.bytes();
        }
        return y;
    }

    private void copy(CudaTensor to, long toOffset, CudaTensor from, long fromOffset, long bytes) {
        Stream stream = backend.stream();
        stream.use(from.block());
        stream.copy(to.address() + toOffset, from.address() + fromOffset, bytes);
        to.block().written = stream.issued();
    }

    @Override
    public Tensor reshape(Tensor x, int... shape) {
        Shapes.reshape(x, shape);
        CudaTensor in = backend.plain(x);
        backend.stream();
        return backend.add(in.view(shape.clone(), 0));
    }

    @Override
    public Tensor permute(Tensor x, int... axes) {
        int[] shape = Shapes.permute(x, axes);
        CudaTensor in = backend.activation(x);
        CudaTensor y = backend.make(shape);
        permute(backend.stream(), in.block(), in.address(), y.block(), y.dtype(), x.shape(), axes);
        return y;
    }

    void permute(Stream stream, Block from, long address, Block to, DType dtype, int[] shape, int[] axes) {
        int rank = shape.length;
        if (rank > 6)
            throw new IllegalArgumentException(rank + " dimensions, the CUDA backend permutes up to 6");
        long[] strides = new long[rank];
        long size = 1;
        for (int i = rank - 1; i >= 0; i--) {
            strides[i] = size;
            size *= shape[i];
        }
        int[] sizes = {1, 1, 1, 1, 1, 1};
        long[] steps = new long[6];
        for (int i = 0; i < rank; i++) {
            sizes[6 - rank + i] = shape[axes[i]];
            steps[6 - rank + i] = strides[axes[i]];
        }
        stream.use(from);
        stream.kernel("permute_" + 8 * dtype.blockBytes()).u64(address).out(to).u64(size);
        for (int i = 1; i < 6; i++)
            stream.i32(sizes[i]);
        for (long step : steps)
            stream.u64(step);
        stream.launch(Grid.elements(size, false), 1, 1, 256, 0);
    }

    @Override
    public Tensor gather(Tensor x, Tensor index) {
        Shapes.embedding(x, index);
        // an activation in float32 stays what an operation would make of it
        return embedding(backend.activation(x), index);
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
        CudaTensor from = backend.activation(base);
        CudaTensor at = backend.own(index);
        CudaTensor values = backend.activation(rows);
        CudaTensor y = backend.make(shape);
        copy(y, 0, from, 0, from.bytes());
        backend.stream().kernel("scatter_" + backend.type()).out(y).in(at).in(values).i32(index.dim(0)).i32(shape[0])
                .i32(shape[1]).i32(add)
                .launch(index.dim(0) == 0 ? 0 : Grid.ceil(shape[1], 128), Math.min(64, shape[0]), 1, 128, 0);
        return y;
    }

    @Override
    public Sampler sampler(Sampling sampling, int vocabulary, int[] history) {
        return new CudaSampler(backend, sampling, vocabulary, history);
    }

    @Override
    public Tensor sample(Tensor logits, List<Sampler> samplers) {
        int[] shape = Shapes.sample(logits, samplers);
        CudaTensor in = backend.plain(logits);
        if (in.dtype() != DType.F32)
            in = backend.activation(in);
        Stream stream = backend.stream();
        long[] states = new long[samplers.size()];
        for (int i = 0; i < states.length; i++) {
            if (!(samplers.get(i) instanceof CudaSampler sampler) || !sampler.belongsTo(backend))
                throw new IllegalArgumentException("a sampler of another backend");
            states[i] = sampler.state(stream, logits.dim(1));
        }
        CudaTensor keys = backend.make(DType.I32, in.shape());
        CudaTensor tokens = backend.make(DType.I32, shape);
        stream.kernel("sample_" + CudaBackend.type(in.dtype())).in(in).in(stream.constant(states)).out(keys)
                .out(tokens).i32(logits.dim(1)).launch(states.length, 1, 1, 1024, 0);
        for (Sampler sampler : samplers)
            ((CudaSampler) sampler).changed(stream);
        return tokens;
    }

}
