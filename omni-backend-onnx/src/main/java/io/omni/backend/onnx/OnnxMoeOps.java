package io.omni.backend.onnx;

import static io.omni.backend.onnx.Recording.integers;
import static io.omni.backend.onnx.Recording.with;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.Definitions;
import io.omni.api.MoeOps;
import io.omni.api.MoeWeights;
import io.omni.api.MoeWeights.SharedExpert;
import io.omni.api.Scope;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.backend.onnx.Graph.Output;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The router's logits leave: which weights the graph reads depends on them. The pending graph ends there, so a decoded
 * token takes one run from router to router, append aside. The runtime's own MoE operators want all experts of a layer in
 * one tensor, in float32 or quantised, and would need a copy of the weights.
 */
final class OnnxMoeOps implements MoeOps {
    /** Experts a run when many tokens spread over many experts. */
    private static final int EXPERTS_A_RUN = 8;

    private final OnnxBackend backend;

    OnnxMoeOps(OnnxBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor moe(Tensor x, MoeWeights weights, int topK, boolean normalise) {
        int[] shape = Shapes.moe(x, weights, topK);
        if (x.size() == 0)
            return backend.record(shape, _ -> null, x);
        int experts = weights.router().dim(0);
        Tensor logits = backend.tensorOps().linear(x, weights.router());
        double[] probabilities = Definitions.softmax(Definitions.doubles(logits.toFloats()), experts);
        logits.close();
        int[] chosen = Definitions.topK(probabilities, experts, topK);
        float[] share = Definitions.round(Definitions.shares(probabilities, experts, chosen, topK, normalise));
        Tensor routed = routed((OnnxArray) x, weights, chosen, share, topK);
        SharedExpert shared = weights.shared();
        if (shared == null)
            return routed;
        Tensor all = backend.tensorOps().gatedMlp(x, shared.gate(), shared.up(), shared.down());
        Tensor scale = backend.tensorOps().linear(x, shared.scale(), null, Activation.SIGMOID);
        return backend.record(shape, r -> r.node("Add", r.floats((OnnxArray) routed),
                r.node("Mul", r.floats((OnnxArray) all), r.floats((OnnxArray) scale))), routed, all, scale);
    }

    private Tensor routed(OnnxArray x, MoeWeights weights, int[] chosen, float[] share, int topK) {
        int[] shape = x.shape();
        if (x.dim(0) == 1 && ((OnnxArray) weights.gate().getFirst()).host() == null
                && Arrays.stream(chosen).allMatch(expert -> isRecordable(weights, expert)))
            return backend.record(shape, r -> one(r, x, weights, chosen, share), x);
        Storage rows = Storage.allocate(backend.memory(), OnnxType.FLOAT, chosen.length, shape[1]);
        try {
            int[] place = runExperts(x, weights, chosen, topK, rows);
            return backend.record(shape, r -> {
                Value perToken = r.reshape(r.node("Gather", with("axis", 0), r.input(rows), r.indexes(place)), -1,
                        topK, shape[1]);
                Value weighted = r.node("Mul", perToken, r.floats(share, x.dim(0), topK, 1));
                return r.node("ReduceSum", with("keepdims", 0), weighted, integers(1L));
            }, x);
        } finally {
            rows.release();
        }
    }

    /** One token: its experts are part of the pending graph, which has the same structure whichever they are. */
    private static Value one(Recording r, OnnxArray x, MoeWeights weights, int[] chosen, float[] share) {
        Value value = r.floats(x);
        Value shares = r.floats(share, share.length, 1);
        Value[] each = chosen.length == 1 ? new Value[]{shares} : r.split(shares, 0, chosen.length);
        Value[] outputs = new Value[chosen.length];
        for (int i = 0; i < chosen.length; i++)
            outputs[i] = expert(r, value, weights, chosen[i], each[i]);
        return outputs.length == 1 ? outputs[0] : r.node("Sum", outputs);
    }

    private static boolean isRecordable(MoeWeights weights, int expert) {
        return OnnxArray.areRecordable(weights.gate().get(expert), weights.up().get(expert),
                weights.down().get(expert));
    }

    private static Value expert(Recording r, Value x, MoeWeights weights, int expert, Value share) {
        return r.gatedMlp(x, (OnnxArray) weights.gate().get(expert), (OnnxArray) weights.up().get(expert),
                (OnnxArray) weights.down().get(expert), share);
    }

    /**
     * Runs each chosen expert on its tokens, in graphs of their own: always {@value #EXPERTS_A_RUN} experts or one, so that
     * two sessions serve every spread.
     *
     * @return for each choice, its row
     */
    private int[] runExperts(OnnxArray x, MoeWeights weights, int[] chosen, int topK, Storage rows) {
        int[] count = new int[weights.router().dim(0)];
        for (int expert : chosen)
            count[expert]++;
        int[] start = new int[count.length];
        for (int i = 1; i < count.length; i++)
            start[i] = start[i - 1] + count[i - 1];
        int[] token = new int[chosen.length];
        int[] place = new int[chosen.length];
        int[] next = start.clone();
        for (int i = 0; i < chosen.length; i++) {
            place[i] = next[chosen[i]]++;
            token[place[i]] = i / topK;
        }
        int[] active = java.util.stream.IntStream.range(0, count.length).filter(i -> count[i] > 0).toArray();
        int width = x.dim(1);
        x.materialize();
        int[] others = runAsIntegers(x, weights, active, start, count, token, rows);
        for (int expert : others)
            if (!isRecordable(weights, expert))
            runMixed(x, weights, expert, Arrays.copyOfRange(token, start[expert], start[expert] + count[expert]),
                    slice(rows, start[expert], count[expert], width));
        int[] recorded = Arrays.stream(others).filter(expert -> isRecordable(weights, expert)).toArray();
        for (int i = 0; i < recorded.length;) {
            int n = recorded.length - i >= EXPERTS_A_RUN ? EXPERTS_A_RUN : 1;
            runExperts(x, weights, Arrays.copyOfRange(recorded, i, i + n), start, count, token, rows);
            i += n;
        }
        return place;
    }

    /**
     * Experts whose weights are integers, each on one thread: small products are better done side by side than shared.
     *
     * @return the other experts
     */
    private int[] runAsIntegers(OnnxArray x, MoeWeights weights, int[] experts, int[] start, int[] count, int[] token,
            Storage rows) {
        // once a layer: else a prompt or a step would wait for each expert that it is the first to choose
        if (!((OnnxArray) weights.gate().getFirst()).hasKernels())
            backend.each(count.length, i -> kernel(weights, i));
        int width = x.dim(1);
        Set<Integer> left = ConcurrentHashMap.newKeySet();
        MemorySegment values = x.storage().memory;
        Kernel first = kernel(weights, experts[0]);
        List<Storage> split = new ArrayList<>();
        Storage sorted = Storage.allocate(backend.memory(), OnnxType.FLOAT, token.length, width);
        try {
            for (int i = 0; i < token.length; i++)
                MemorySegment.copy(values, 4L * token[i] * width, sorted.memory, 4L * i * width, 4L * width);
            // a lone token is the same for all its experts
            if (x.dim(0) == 1 && first != null)
                split.addAll(first.split(values, 1));
            backend.each(experts.length, i -> {
                int expert = experts[i];
                Kernel kernel = kernel(weights, expert);
                MemorySegment result = rows.memory.asSlice(4L * start[expert] * width);
                if (kernel == null)
                    left.add(expert);
                else if (!split.isEmpty() && kernel.isAlike(first))
                    kernel.run(split, 1, result);
                else
                    kernel.run(sorted.memory.asSlice(4L * start[expert] * width), count[expert], result);
            });
        } finally {
            split.forEach(Storage::release);
            sorted.release();
        }
        return Arrays.stream(experts).filter(left::contains).toArray();
    }

    /** An expert of blocks and of floats that cannot be written as integers: each matrix in its own way. */
    private void runMixed(OnnxArray x, MoeWeights weights, int expert, int[] tokens, Storage result) {
        TensorOps ops = backend.tensorOps();
        try (Scope _ = backend.scope()) {
            var y = (OnnxArray) ops.gatedMlp(ops.gather(x, backend.tensor(tokens, tokens.length)),
                    weights.gate().get(expert), weights.up().get(expert), weights.down().get(expert));
            y.materialize();
            result.memory.copyFrom(y.storage().memory);
        } finally {
            result.release();
        }
    }

    private Kernel kernel(MoeWeights weights, int expert) {
        return backend.kernel(true, weights.gate().get(expert), weights.up().get(expert), weights.down().get(expert));
    }

    private static Storage slice(Storage rows, int from, int n, int width) {
        return Storage.borrow(rows.memory.asSlice(4L * from * width, 4L * n * width), OnnxType.FLOAT, n, width);
    }

    private void runExperts(OnnxArray x, MoeWeights weights, int[] experts, int[] start, int[] count, int[] token,
            Storage rows) {
        var r = new Recording(backend);
        List<Output> outputs = new ArrayList<>();
        List<Storage> targets = new ArrayList<>();
        int width = x.dim(1);
        try {
            for (int expert : experts) {
                int from = start[expert];
                int n = count[expert];
                Value some = r.node("Gather", with("axis", 0), r.floats(x),
                        r.indexes(Arrays.copyOfRange(token, from, from + n)));
                outputs.add((Output) expert(r, some, weights, expert, null));
                targets.add(slice(rows, from, n, width));
            }
            r.run(outputs, targets);
        } finally {
            targets.forEach(Storage::release);
            r.clear();
        }
    }
}
