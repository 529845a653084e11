package io.omni.backend.onnx;

import static io.omni.backend.onnx.Recording.constant;
import static io.omni.backend.onnx.Recording.integers;
import static io.omni.backend.onnx.Recording.with;

import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import io.omni.api.Activation;
import io.omni.api.BackendException;
import io.omni.backend.onnx.Graph.Attribute;
import io.omni.backend.onnx.Graph.Output;
import io.omni.backend.onnx.Graph.Value;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A session for certain weights, in blocks: the runtime multiplies by blocks fast only if they belong to the session, as it
 * lays them out anew when it opens one. Its integer products take activations in 8 bits. So that nothing is lost, each row
 * goes in three times: rounded to 8 bits a block, what that left likewise, and what is left then, together 22 bits. Three
 * rows cost little more than one, for all are multiplied while the weights pass.
 */
final class Kernel {
    private static final int PARTS = 3;

    private final OrtSession session;
    private final NativeMemory memory;
    private final List<Storage> scales;
    private final long bytes;
    private int holders = 1;

    private Kernel(OrtSession session, NativeMemory memory, List<Storage> scales, long bytes) {
        this.session = session;
        this.memory = memory;
        this.scales = scales;
        this.bytes = bytes;
    }

    /**
     * x · wᵀ for one weight; for three, the gated MLP of gate, up and down.
     *
     * @param alone
     *            whether it runs on the calling thread only, beside others
     * @return null if some weight cannot be laid out in blocks, or has no room and another form
     */
    static Kernel of(OnnxBackend backend, List<OnnxArray> weights, Storage x, boolean alone) {
        NativeMemory memory = backend.memory();
        long bytes = weights.stream().mapToLong(weight -> BlockMatrix.bytes(weight.host())).sum();
        List<BlockMatrix> matrices = new ArrayList<>();
        var r = new Recording(backend);
        boolean must = weights.stream().anyMatch(weight -> weight.dtype().isQuantized());
        if (!must && !memory.hasRoom(bytes, backend.roomForBlocks()))
            return null;
        memory.charge(bytes);
        boolean made = false;
        try {
            for (OnnxArray weight : weights) {
                BlockMatrix matrix = BlockMatrix.of(weight.host(), memory);
                if (matrix == null && must)
                    throw new BackendException(weight.host().name() + " holds numbers that are not finite");
                if (matrix == null)
                    return null;
                matrices.add(matrix);
            }
            Value y = matrices.size() == 1
                    ? product(r, split(r, r.input(x), matrices.getFirst()), matrices.getFirst())
                    : gatedMlp(r, r.input(x), matrices.get(0), matrices.get(1), matrices.get(2));
            OrtSession session = backend.sessions().open(r.graph(List.of((Output) y)), alone);
            // blocks have been laid out anew; scales are still the operator's inputs
            var kernel = new Kernel(session, memory, matrices.stream().map(m -> m.scales.retain()).toList(), bytes);
            made = true;
            return kernel;
        } finally {
            matrices.forEach(BlockMatrix::close);
            r.clear();
            if (!made)
                memory.discharge(bytes);
        }
    }

    private static Value gatedMlp(Recording r, Value x, BlockMatrix gate, BlockMatrix up, BlockMatrix down) {
        Value rows = split(r, x, gate);
        Value others = up.block == gate.block && up.planes == gate.planes ? rows : split(r, x, up);
        Value inner = r.node("Mul", r.activation(product(r, rows, gate), Activation.SILU), product(r, others, up));
        return product(r, split(r, inner, down), down);
    }

    /** x [n, columns] as [3n, planes · columns]: rows as 8-bit integers a block, and twice what the rounding left. */
    private static Value split(Recording r, Value x, BlockMatrix m) {
        Value left = r.reshape(x, -1, m.columns / m.block, m.block);
        Value[] parts = new Value[PARTS];
        for (int i = 0; i < PARTS - 1; i++) {
            Value largest = r.node("ReduceMax", with("keepdims", 1), r.node("Abs", left), integers(-1L));
            Value step = r.node("Max", r.node("Mul", largest, constant(1f / 127)), constant(Float.MIN_NORMAL));
            parts[i] = r.node("Mul", r.node("Round", r.node("Div", left, step)), step);
            left = r.node("Sub", left, parts[i]);
        }
        parts[PARTS - 1] = left;
        Value rows = r.node("Concat", with("axis", 0), parts);
        return r.reshape(m.planes == 1 ? rows : r.node("Concat", with("axis", 1), rows, rows), -1,
                (long) m.planes * m.columns);
    }

    private static Value product(Recording r, Value split, BlockMatrix m) {
        Attribute[] attributes = {with("K", m.planes * m.columns), with("N", m.rows), with("bits", m.bits),
                with("block_size", m.block), with("accuracy_level", 4)};
        Value rows = r.node("MatMulNBits", Recording.MICROSOFT, attributes, split, r.initializer(m.integers),
                r.initializer(m.scales));
        return r.node("Sum", r.split(rows, 0, PARTS));
    }

    /** Computes y [n, out] of x [n, in]. */
    void run(Storage x, Storage y) {
        retain();
        try (var _ = session.run(Map.of("i0", x.tensor), Map.of("o0", y.tensor))) {
            // the result went to y
        } catch (OrtException e) {
            throw OnnxBackend.failure("ONNX Runtime failed", e);
        } finally {
            release();
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
        }
    }
}
