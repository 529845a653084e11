package io.omni.backend.onnx;

import io.omni.api.Activation;
import io.omni.api.DType;
import io.omni.api.OutOfMemoryException;
import io.omni.backend.onnx.Graph.Attribute;
import io.omni.backend.onnx.Graph.Constant;
import io.omni.backend.onnx.Graph.Input;
import io.omni.backend.onnx.Graph.Node;
import io.omni.backend.onnx.Graph.Output;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/**
 * The graph that one thread has recorded and not yet run. Its monitor guards it: other threads may run it when they read
 * a tensor of this one.
 */
final class Recording {
    static final String MICROSOFT = "com.microsoft";
    static final Attribute[] NONE = {};

    private final OnnxBackend backend;
    private final List<Node> nodes = new ArrayList<>();
    private final List<OnnxArray> results = new ArrayList<>();
    private final Map<Storage, Input> inputs = new IdentityHashMap<>();
    private final Map<Storage, Value> casts = new IdentityHashMap<>();

    Recording(OnnxBackend backend) {
        this.backend = backend;
    }

    synchronized int size() {
        return nodes.size();
    }

    /** A handle to what {@code value} will be. */
    OnnxArray result(Value value, DType dtype, int... shape) {
        var array = new OnnxArray(backend, shape, dtype, this, (Output) value);
        results.add(array);
        return array;
    }

    /** The elements of a tensor, as stored. */
    Value value(OnnxArray array) {
        return array.recording() == this ? array.pending() : input(array.storage());
    }

    /** The elements of a tensor as float32, widened in the graph if they are stored in fewer bits. */
    Value floats(OnnxArray array) {
        if (array == null)
            return null;
        if (array.dtype() == DType.F32)
            return value(array);
        return array.recording() == this
                ? cast(array.pending(), OnnxType.FLOAT)
                : floats(array.storage());
    }

    /**
     * The CPU provider multiplies no matrix of bfloat16, so weights are widened inside the graph. They are inputs and not
     * initializers, or the optimiser would fold the cast into a float32 copy of the whole model. Widened blocks are small
     * enough to stay in the cache until the product has read them, and their memory is the next block's.
     */
    private Value floats(Storage storage) {
        if (storage.type == OnnxType.FLOAT)
            return input(storage);
        Value known = casts.get(storage);
        if (known == null)
            casts.put(storage, known = cast(input(storage), OnnxType.FLOAT));
        return known;
    }

    Value input(Storage storage) {
        Input known = inputs.get(storage);
        if (known == null)
            inputs.put(storage.retain(), known = new Input(storage));
        return known;
    }

    /** Numbers that differ from call to call, such as lengths: fed, so that they are not part of the structure. */
    Value numbers(long... values) {
        Storage storage = Storage.allocate(backend.memory(), OnnxType.INT64, values.length);
        MemorySegment.copy(values, 0, storage.memory, ValueLayout.JAVA_LONG, 0, values.length);
        return transientInput(storage);
    }

    Value indexes(int[] values) {
        Storage storage = Storage.allocate(backend.memory(), OnnxType.INT32, values.length);
        MemorySegment.copy(values, 0, storage.memory, ValueLayout.JAVA_INT, 0, values.length);
        return transientInput(storage);
    }

    Value floats(float[] values, long... shape) {
        Storage storage = Storage.allocate(backend.memory(), OnnxType.FLOAT, shape);
        MemorySegment.copy(values, 0, storage.memory, ValueLayout.JAVA_FLOAT, 0, values.length);
        return transientInput(storage);
    }

    /** What only this graph holds. */
    Value transientInput(Storage storage) {
        Value value = input(storage);
        storage.release();
        return value;
    }

    static Value constant(float value) {
        return new Constant(OnnxType.FLOAT, new long[0], bytes(4).putFloat(value).array());
    }

    static Value constant(float[] values) {
        ByteBuffer bytes = bytes(4 * values.length);
        for (float value : values)
            bytes.putFloat(value);
        return new Constant(OnnxType.FLOAT, new long[]{values.length}, bytes.array());
    }

    static Value integers(long... values) {
        ByteBuffer bytes = bytes(8 * values.length);
        for (long value : values)
            bytes.putLong(value);
        return new Constant(OnnxType.INT64, new long[]{values.length}, bytes.array());
    }

    private static ByteBuffer bytes(int n) {
        return ByteBuffer.allocate(n).order(ByteOrder.LITTLE_ENDIAN);
    }

    static Attribute with(String name, Object value) {
        return new Attribute(name, value instanceof Integer i ? (Object) i.longValue() : value);
    }

    Value node(String operator, Value... operands) {
        return node(operator, "", NONE, operands);
    }

    Value node(String operator, Attribute attribute, Value... operands) {
        return node(operator, "", new Attribute[]{attribute}, operands);
    }

    Value node(String operator, String domain, Attribute[] attributes, Value... operands) {
        return node(operator, domain, attributes, OnnxType.FLOAT, operands);
    }

    Value node(String operator, String domain, Attribute[] attributes, OnnxType type, Value... operands) {
        return new Output(add(operator, domain, attributes, 1, operands), 0, type);
    }

    /** Equal parts along an axis. */
    Value[] split(Value x, int axis, int parts) {
        Node node = add("Split", "", new Attribute[]{with("axis", axis), with("num_outputs", parts)}, parts, x);
        Value[] values = new Value[parts];
        for (int i = 0; i < parts; i++)
            values[i] = new Output(node, i, OnnxType.FLOAT);
        return values;
    }

    private Node add(String operator, String domain, Attribute[] attributes, int outputs, Value... operands) {
        int n = operands.length;
        while (n > 0 && operands[n - 1] == null)
            n--;
        var node = new Node(operator, domain, List.of(attributes), outputs, java.util.Arrays.copyOf(operands, n));
        nodes.add(node);
        return node;
    }

    Value cast(Value x, OnnxType type) {
        return node("Cast", "", new Attribute[]{with("to", type.number)}, type, x);
    }

    Value transpose(Value x, long... permutation) {
        return node("Transpose", with("perm", permutation), x);
    }

    Value reshape(Value x, Value shape) {
        return node("Reshape", x, shape);
    }

    Value reshape(Value x, long... shape) {
        return reshape(x, integers(shape));
    }

    /** Rows from (inclusive) to (exclusive) of the outermost dimension. */
    Value slice(Value x, OnnxType type, long from, long to) {
        return node("Slice", "", NONE, type, x, numbers(from), numbers(to), integers(0L));
    }

    /** activation(x · wᵀ + bias) for x [rows, in]. */
    Value linear(Value x, OnnxArray weight, OnnxArray bias, Activation activation) {
        List<Storage> blocks = weight.blocks();
        if (blocks.isEmpty())
            return activation(gemm(x, floats(weight), floats(bias)), activation);
        Value[] parts = new Value[blocks.size()];
        for (int i = 0; i < parts.length; i++)
            parts[i] = gemm(x, floats(blocks.get(i)), null);
        Value y = node("Concat", with("axis", 1), parts);
        return activation(bias == null ? y : node("Add", y, floats(bias)), activation);
    }

    private Value gemm(Value x, Value weight, Value bias) {
        return node("Gemm", with("transB", 1), x, weight, bias);
    }

    Value gatedMlp(Value x, OnnxArray gate, OnnxArray up, OnnxArray down, Value share) {
        Value inner = node("Mul", linear(x, gate, null, Activation.SILU), linear(x, up, null, Activation.NONE));
        // scaling the narrow side is cheaper than scaling the result
        return linear(share == null ? inner : node("Mul", inner, share), down, null, Activation.NONE);
    }

    Value activation(Value x, Activation activation) {
        return switch (activation) {
            case NONE -> x;
            case RELU -> node("Relu", x);
            case SIGMOID -> node("Sigmoid", x);
            case SILU -> backend.fuses(Fused.SILU)
                    ? node("QuickGelu", MICROSOFT, new Attribute[]{with("alpha", 1f)}, x)
                    : node("Mul", x, node("Sigmoid", x));
            case GELU -> backend.fuses(Fused.GELU)
                    ? node("Gelu", with("approximate", "none"), x)
                    : node("Mul", node("Mul", x, constant(0.5f)),
                            node("Add", node("Erf", node("Mul", x, constant((float) Math.sqrt(0.5)))), constant(1f)));
            case GELU_TANH -> {
                if (backend.fuses(Fused.GELU))
                    yield node("Gelu", with("approximate", "tanh"), x);
                Value cubic = node("Mul", node("Mul", node("Mul", x, x), x), constant(0.044715f));
                Value inner = node("Mul", node("Add", x, cubic), constant((float) Math.sqrt(2 / Math.PI)));
                yield node("Mul", node("Mul", x, constant(0.5f)), node("Add", node("Tanh", inner), constant(1f)));
            }
        };
    }

    Value rmsNorm(Value x, Value weight, float eps) {
        if (backend.fuses(Fused.RMS_NORM))
            return node("RMSNormalization", "", new Attribute[]{with("axis", -1), with("epsilon", eps)}, x, weight);
        Value squares = node("ReduceMean", node("Mul", x, x), integers(-1L));
        return node("Mul", node("Div", x, node("Sqrt", node("Add", squares, constant(eps)))), weight);
    }

    /** Computes everything that an open handle stands for, in one run, and starts a new graph. */
    synchronized void flush() {
        if (results.isEmpty() && nodes.isEmpty())
            return;
        List<OnnxArray> live = new ArrayList<>();
        List<Output> outputs = new ArrayList<>();
        for (OnnxArray array : results)
            if (array.isPending()) {
                live.add(array);
                outputs.add(array.pending());
            }
        List<Storage> targets = new ArrayList<>();
        try {
            backend.check();
            for (OnnxArray array : live)
                targets.add(Storage.allocate(backend.memory(), OnnxType.of(array.dtype()), longs(array.shape())));
            run(outputs, targets);
        } catch (OutOfMemoryException e) {
            // nothing has changed: it may run again once something was closed
            targets.forEach(Storage::release);
            throw e;
        } catch (RuntimeException e) {
            targets.forEach(Storage::release);
            live.forEach(array -> array.breakWith(e));
            clear();
            throw e;
        }
        clear();
        for (int i = 0; i < live.size(); i++)
            live.get(i).fill(targets.get(i));
    }

    Value initializer(Storage storage) {
        return new Graph.Initializer(storage);
    }

    Graph graph(List<Output> outputs) {
        return new Graph(nodes, outputs);
    }

    void run(List<Output> outputs, List<Storage> targets) {
        if (!outputs.isEmpty())
            backend.sessions().run(graph(outputs), targets);
    }

    /** Drops everything that was recorded. */
    synchronized void clear() {
        inputs.keySet().forEach(Storage::release);
        inputs.clear();
        casts.clear();
        nodes.clear();
        results.clear();
    }

    static long[] longs(int... shape) {
        long[] result = new long[shape.length];
        for (int i = 0; i < shape.length; i++)
            result[i] = shape[i];
        return result;
    }
}
