package io.omni.backend.onnx;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import io.omni.api.Activation;
import io.omni.api.BackendException;
import io.omni.api.HostTensor;
import io.omni.backend.onnx.Graph.Output;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * A session for certain weights, as integers: the runtime multiplies by them fast only if they belong to the session, as
 * it lays them out anew when it opens one. Activations are made integers here: small operators take the runtime longer.
 */
final class Kernel {
    /** Rows a run: what a run writes in between should stay in the cache. */
    private static final int ROWS = 64;

    private final NativeMemory memory;
    private final OrtSession session;
    /** What makes the operands: one for each kind of matrix. */
    private final List<IntegerMatrix> forms;
    private final int columns;
    private final List<String> names;
    private final int width;
    private final List<Storage> scales;
    private final long bytes;
    /** What multiplies the result, or null. */
    private Kernel next;
    private int holders = 1;

    private Kernel(OnnxBackend backend, OrtSession session, List<IntegerMatrix> matrices, List<IntegerMatrix> forms,
            List<String> names, HostTensor weight, long bytes) {
        memory = backend.memory();
        this.session = session;
        this.forms = forms;
        this.names = names;
        width = weight.shape()[0];
        columns = weight.shape()[1];
        // integers have been laid out anew; scales are still the operators' inputs
        scales = matrices.stream().map(m -> m.scales().retain()).toList();
        this.bytes = bytes;
    }

    /**
     * x · wᵀ for one weight; for three, the gated MLP of gate, up and down.
     *
     * @param alone
     *            whether it runs on the calling thread only, beside others
     * @return null if some weight cannot be written as integers, or has no room and another form
     */
    static Kernel of(OnnxBackend backend, List<HostTensor> weights, boolean alone) {
        boolean onlySo = weights.stream().allMatch(weight -> weight.dtype().isQuantized());
        long bytes = weights.stream().mapToLong(IntegerMatrix::bytes).sum();
        if (!onlySo && !backend.memory().hasRoom(bytes, backend.roomForIntegers()))
            return null;
        if (weights.size() == 1)
            return product(backend, weights, alone);
        Kernel kernel = product(backend, weights.subList(0, 2), alone);
        if (kernel == null)
            return null;
        try {
            kernel.next = product(backend, weights.subList(2, 3), alone);
            return kernel.next == null ? null : kernel;
        } finally {
            if (kernel.next == null)
                kernel.release();
        }
    }

    /** Of one weight, or silu(x · gateᵀ) · (x · upᵀ). */
    private static Kernel product(OnnxBackend backend, List<HostTensor> weights, boolean alone) {
        NativeMemory memory = backend.memory();
        long bytes = weights.stream().mapToLong(IntegerMatrix::bytes).sum();
        List<IntegerMatrix> matrices = new ArrayList<>();
        List<Storage> operands = List.of();
        var r = new Recording(backend);
        memory.charge(bytes);
        boolean made = false;
        try {
            for (HostTensor weight : weights) {
                IntegerMatrix matrix = IntegerMatrix.of(weight, memory, backend.parts(weight.dtype()));
                if (matrix == null && weight.dtype().isQuantized())
                    throw new BackendException(weight.name() + " holds numbers that are not finite");
                if (matrix == null)
                    return null;
                matrices.add(matrix);
            }
            List<IntegerMatrix> forms = forms(matrices);
            Storage row = Storage.allocate(memory, OnnxType.FLOAT, 1, matrices.getFirst().columns());
            row.memory.fill((byte) 0);
            List<List<Storage>> split = new ArrayList<>();
            try {
                for (IntegerMatrix form : forms)
                    split.add(form.split(memory, row.memory, 1));
            } finally {
                row.release();
                operands = split.stream().flatMap(List::stream).toList();
            }
            Value y = matrices.getFirst().product(r, split.getFirst());
            if (matrices.size() > 1)
                y = r.node("Mul", r.activation(y, Activation.SILU),
                        matrices.getLast().product(r, split.getLast()));
            Graph graph = r.graph(List.of((Output) y));
            List<String> names = operands.stream().map(operand -> "i" + graph.inputs.indexOf(operand)).toList();
            var kernel = new Kernel(backend, backend.sessions().open(graph, alone), matrices, forms, names,
                    weights.getFirst(), bytes);
            made = true;
            return kernel;
        } finally {
            operands.forEach(Storage::release);
            matrices.forEach(IntegerMatrix::close);
            r.clear();
            if (!made)
                memory.discharge(bytes);
        }
    }

    /** One matrix of each kind. */
    private static List<IntegerMatrix> forms(List<IntegerMatrix> matrices) {
        boolean alike = matrices.getFirst().getClass() == matrices.getLast().getClass();
        return List.copyOf(alike ? matrices.subList(0, 1) : matrices);
    }

    /** Computes y [n, out] of x [n, in], both float32. */
    void run(MemorySegment x, int n, MemorySegment y) {
        int out = next == null ? width : next.width;
        for (int from = 0; from < n; from += ROWS) {
            int rows = Math.min(ROWS, n - from);
            List<Storage> operands = split(x.asSlice(4L * from * columns, 4L * rows * columns), rows);
            try {
                run(operands, rows, y.asSlice(4L * from * out, 4L * rows * out));
            } finally {
                operands.forEach(Storage::release);
            }
        }
    }

    /** {@code n} rows of x, at most {@value #ROWS}, as kernels take them that are alike. The caller releases them. */
    List<Storage> split(MemorySegment x, int n) {
        List<Storage> operands = new ArrayList<>();
        try {
            for (IntegerMatrix form : forms)
                operands.addAll(form.split(memory, x, n));
            return operands;
        } catch (RuntimeException e) {
            operands.forEach(Storage::release);
            throw e;
        }
    }

    /** Whether both take the same operands, of rows of the same length. */
    boolean isAlike(Kernel other) {
        return forms.getFirst().getClass() == other.forms.getFirst().getClass()
                && forms.getLast().getClass() == other.forms.getLast().getClass();
    }

    /** Computes y [n, out], float32, of x that has been split. */
    void run(List<Storage> operands, int n, MemorySegment y) {
        retain();
        try {
            if (next == null) {
                multiply(operands, n, y);
                return;
            }
            Storage inner = Storage.allocate(memory, OnnxType.FLOAT, n, width);
            try {
                multiply(operands, n, inner.memory);
                next.run(inner.memory, n, y);
            } finally {
                inner.release();
            }
        } finally {
            release();
        }
    }

    private void multiply(List<Storage> operands, int n, MemorySegment y) {
        Map<String, OnnxTensor> feeds = HashMap.newHashMap(operands.size());
        for (int i = 0; i < operands.size(); i++)
            feeds.put(names.get(i), operands.get(i).tensor);
        Storage result = Storage.borrow(y.asSlice(0, 4L * n * width), OnnxType.FLOAT, n, width);
        try (var _ = session.run(feeds, Map.of("o0", result.tensor))) {
            // the result went to y
        } catch (OrtException e) {
            throw OnnxBackend.failure("ONNX Runtime failed", e);
        } finally {
            result.release();
        }
    }

    private synchronized void retain() {
        if (holders == 0)
            throw new IllegalStateException("the tensor is closed");
        holders++;
    }

    /** The session is closed once nothing runs in it. */
    synchronized void release() {
        if (--holders > 0)
            return;
        try {
            session.close();
        } catch (OrtException e) {
            throw OnnxBackend.failure("cannot close a session", e);
        } finally {
            scales.forEach(Storage::release);
            memory.discharge(bytes);
            if (next != null)
                next.release();
        }
    }
}
