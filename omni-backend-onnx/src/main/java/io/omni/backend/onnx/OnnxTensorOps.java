package io.omni.backend.onnx;

import static io.omni.backend.onnx.Recording.constant;
import static io.omni.backend.onnx.Recording.integers;
import static io.omni.backend.onnx.Recording.with;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.backend.onnx.Graph.Attribute;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.util.Arrays;
import java.util.List;

/** Sampling is the default, on the host: a step's logits are where its data leave. */
final class OnnxTensorOps implements TensorOps {
    private static final Attribute[] NONE = {};

    private final OnnxBackend backend;

    OnnxTensorOps(OnnxBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor linear(Tensor x, Tensor weight, Tensor bias, Activation activation) {
        int[] shape = Shapes.linear(x, weight, bias);
        if (weight.dim(1) == 0)
            return TensorOps.super.linear(x, weight, bias, activation);
        Tensor product = backend.multiply(shape, x, weight);
        if (product != null) {
            if (bias == null && activation == Activation.NONE)
                return product;
            return backend.record(shape, r -> {
                Value y = r.floats((OnnxArray) product);
                return r.activation(bias == null ? y : r.node("Add", y, r.floats((OnnxArray) bias)), activation);
            }, product, bias);
        }
        return backend.record(shape, r -> {
            Value y = r.linear(matrix(r, x), (OnnxArray) weight, (OnnxArray) bias, activation);
            return shape.length == 2 ? y : r.reshape(y, r.numbers(Recording.longs(shape)));
        }, x, weight, bias);
    }

    @Override
    public Tensor gatedMlp(Tensor x, Tensor gate, Tensor up, Tensor down) {
        int[] shape = Shapes.gatedMlp(x, gate, up, down);
        if (gate.dim(0) == 0)
            return TensorOps.super.gatedMlp(x, gate, up, down);
        Tensor product = backend.multiply(shape, x, gate, up, down);
        if (product != null)
            return product;
        if (!OnnxArray.areRecordable(gate, up, down))
            return TensorOps.super.gatedMlp(x, gate, up, down);
        return backend.record(shape, r -> {
            Value y = r.gatedMlp(matrix(r, x), (OnnxArray) gate, (OnnxArray) up, (OnnxArray) down, null);
            return shape.length == 2 ? y : r.reshape(y, r.numbers(Recording.longs(shape)));
        }, x, gate, up, down);
    }

    /** [rows, features]. */
    private static Value matrix(Recording r, Tensor x) {
        Value value = r.floats((OnnxArray) x);
        return x.shape().length == 2 ? value : r.reshape(value, r.numbers(x.rowCount(), x.dim(x.shape().length - 1)));
    }

    @Override
    public Tensor rmsNorm(Tensor x, Tensor weight, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        return backend.record(shape, r -> r.rmsNorm(r.floats((OnnxArray) x), r.floats((OnnxArray) weight), eps), x,
                weight);
    }

    /** The mean is taken off first: the runtime's kernel gets the variance from the mean of squares, which cancels. */
    @Override
    public Tensor layerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
        int[] shape = Shapes.vector(x, weight, "weight");
        Shapes.vector(x, bias, "bias");
        return backend.record(shape, r -> {
            Value value = r.floats((OnnxArray) x);
            Value centred = r.node("Sub", value, r.node("ReduceMean", value, integers(-1L)));
            return r.node("LayerNormalization", "", new Attribute[]{with("axis", -1), with("epsilon", eps)}, centred,
                    r.floats((OnnxArray) weight), r.floats((OnnxArray) bias));
        }, x, weight, bias);
    }

    @Override
    public Tensor add(Tensor a, Tensor b) {
        int[] shape = Shapes.elementwise(a, b);
        return backend.record(shape, r -> r.node("Add", r.floats((OnnxArray) a), r.floats((OnnxArray) b)), a, b);
    }

    @Override
    public Tensor multiply(Tensor a, Tensor b) {
        int[] shape = Shapes.elementwise(a, b);
        return backend.record(shape, r -> r.node("Mul", r.floats((OnnxArray) a), r.floats((OnnxArray) b)), a, b);
    }

    @Override
    public Tensor addScaled(Tensor residual, Tensor x, Tensor scale) {
        int[] shape = Shapes.same(residual, x);
        Shapes.vector(x, scale, "scale");
        return backend.record(shape, r -> r.node("Add", r.floats((OnnxArray) residual),
                r.node("Mul", r.floats((OnnxArray) x), r.floats((OnnxArray) scale))), residual, x, scale);
    }

    @Override
    public Tensor activation(Tensor x, Activation activation) {
        return backend.record(Shapes.activation(x), r -> activation == Activation.NONE
                ? r.node("Identity", r.floats((OnnxArray) x))
                : r.activation(r.floats((OnnxArray) x), activation), x);
    }

    @Override
    public Tensor snakeBeta(Tensor x, Tensor alpha, Tensor beta) {
        int[] shape = Shapes.vector(x, alpha, "alpha");
        Shapes.vector(x, beta, "beta");
        return backend.record(shape, r -> {
            Value value = r.floats((OnnxArray) x);
            Value sine = r.node("Sin", r.node("Mul", value, r.node("Exp", r.floats((OnnxArray) alpha))));
            Value divisor = r.node("Add", r.node("Exp", r.floats((OnnxArray) beta)), constant(1e-9f));
            return r.node("Add", value, r.node("Div", r.node("Mul", sine, sine), divisor));
        }, x, alpha, beta);
    }

    /** Not {@code Clip}, which need not keep NaN: a comparison with NaN is false, so it passes both selections. */
    @Override
    public Tensor clamp(Tensor x, float min, float max) {
        return backend.record(Shapes.activation(x), r -> {
            Value value = r.floats((OnnxArray) x);
            Value below = r.node("Less", "", NONE, OnnxType.BOOL, value, constant(min));
            Value raised = r.node("Where", below, constant(min), value);
            Value above = r.node("Greater", "", NONE, OnnxType.BOOL, raised, constant(max));
            return r.node("Where", above, constant(max), raised);
        }, x);
    }

    @Override
    public Tensor embedding(Tensor table, Tensor ids) {
        int[] shape = Shapes.embedding(table, ids);
        checkIndexes(ids, table.dim(0));
        return backend.record(shape, r -> rows(r, table, ids), table, ids);
    }

    /** The runtime checks ids only when the graph runs, and takes negative ones; those known now are checked now. */
    private static void checkIndexes(Tensor ids, int entries) {
        var array = (OnnxArray) ids;
        array.check();
        if (array.isPending())
            return;
        for (int id : ids.toInts())
            if (id < 0 || id >= entries)
            throw new IllegalArgumentException("index " + id + ", expected 0 to " + (entries - 1));
    }

    /** Gathered as stored, and only then widened. */
    private static Value rows(Recording r, Tensor table, Tensor ids) {
        OnnxType type = OnnxType.of(table.dtype());
        Value rows = r.node("Gather", "", new Attribute[]{with("axis", 0)}, type, r.value((OnnxArray) table),
                r.value((OnnxArray) ids));
        return type == OnnxType.FLOAT ? rows : r.cast(rows, OnnxType.FLOAT);
    }

    @Override
    public Tensor embeddingBag(Tensor table, Tensor ids, Tensor weights) {
        int[] shape = Shapes.embeddingBag(table, ids, weights);
        if (ids.dim(1) == 0)
            return TensorOps.super.embeddingBag(table, ids, weights);
        checkIndexes(ids, table.dim(0));
        return backend.record(shape, r -> {
            Value rows = rows(r, table, ids);
            if (weights != null)
                rows = r.node("Mul", rows, r.node("Unsqueeze", r.floats((OnnxArray) weights), integers(-1L)));
            return r.node("ReduceSum", with("keepdims", 0), rows, integers(1L));
        }, table, ids, weights);
    }

    @Override
    public Tensor slice(Tensor x, int from, int to) {
        int[] shape = Shapes.slice(x, from, to);
        return backend.record(computeType(x), shape, r -> r.slice(elements(r, x), type(x), from, to), x);
    }

    @Override
    public Tensor concat(List<Tensor> parts) {
        int[] shape = Shapes.concat(parts);
        List<Tensor> some = parts.stream().filter(part -> part.size() > 0).toList();
        return backend.record(computeType(parts.getFirst()), shape,
                r -> r.node("Concat", "", new Attribute[]{with("axis", 0)}, type(parts.getFirst()),
                        some.stream().map(part -> elements(r, part)).toArray(Value[]::new)),
                parts.toArray(Tensor[]::new));
    }

    @Override
    public Tensor reshape(Tensor x, int... shape) {
        Shapes.reshape(x, shape);
        int[] target = shape.clone();
        return backend.record(computeType(x), target, r -> r.node("Reshape", "", NONE, type(x), elements(r, x),
                r.numbers(Recording.longs(target))), x);
    }

    @Override
    public Tensor permute(Tensor x, int... axes) {
        int[] shape = Shapes.permute(x, axes);
        return backend.record(shape, r -> axes.length < 2
                ? r.node("Identity", r.floats((OnnxArray) x))
                : r.transpose(r.floats((OnnxArray) x), Recording.longs(axes)), x);
    }

    private static DType computeType(Tensor x) {
        return x.dtype().isFloating() ? DType.F32 : x.dtype();
    }

    private static OnnxType type(Tensor x) {
        return OnnxType.of(computeType(x));
    }

    private static Value elements(Recording r, Tensor x) {
        return x.dtype().isFloating() ? r.floats((OnnxArray) x) : r.value((OnnxArray) x);
    }

    @Override
    public Tensor scatter(Tensor base, Tensor index, Tensor rows) {
        return scatter(base, index, rows, "none");
    }

    @Override
    public Tensor scatterAdd(Tensor base, Tensor index, Tensor rows) {
        return scatter(base, index, rows, "add");
    }

    private Tensor scatter(Tensor base, Tensor index, Tensor rows, String reduction) {
        int[] shape = Shapes.scatter(base, index, rows);
        checkIndexes(index, base.dim(0));
        boolean anyOrder = reduction.equals("none") || areDistinct(index);
        return backend.record(shape, r -> {
            Value from = r.floats((OnnxArray) base);
            if (rows.size() == 0)
                return r.node("Identity", from);
            Value at = r.node("Unsqueeze", "", NONE, OnnxType.INT64,
                    r.cast(r.value((OnnxArray) index), OnnxType.INT64), integers(1L));
            if (anyOrder)
                return r.node("ScatterND", with("reduction", reduction), from, at, r.floats((OnnxArray) rows));
            Value everywhere = r.node("Expand", "", NONE, OnnxType.INT64, at, r.numbers(Recording.longs(rows.shape())));
            return r.node("ScatterElements", "", new Attribute[]{with("axis", 0), with("reduction", reduction)}, from,
                    everywhere, r.floats((OnnxArray) rows));
        }, base, index, rows);
    }

    /** ScatterND adds with several threads, which lose what they add to one row at the same time. */
    private static boolean areDistinct(Tensor index) {
        return !((OnnxArray) index).isPending()
                && Arrays.stream(index.toInts()).distinct().count() == index.size();
    }
}
