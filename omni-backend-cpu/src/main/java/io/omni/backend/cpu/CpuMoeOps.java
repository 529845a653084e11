package io.omni.backend.cpu;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.MoeOps;
import io.omni.api.MoeWeights;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Expert layers: the tokens of each chosen expert together, so that its weights are read once; all experts' outputs of a
 * few features by one task, which adds them up by expert number, so that a token's sum has one order.
 */
final class CpuMoeOps implements MoeOps {
    private final CpuBackend backend;

    CpuMoeOps(CpuBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    /**
     * An expert and its tokens.
     *
     * @param share
     *            what each token's output is weighted by
     * @param hidden
     *            byte offset of its first row of intermediates
     */
    private record Group(Matrix gate, Matrix up, Matrix down, int[] tokens, float[] share, long hidden) {}

    @Override
    public Tensor moe(Tensor x, MoeWeights weights, int topK, boolean normalise) {
        int[] shape = Shapes.moe(x, weights, topK);
        long from = CpuTensorOps.floats(backend, x);
        Matrix router = Matrix.of(backend.mine(weights.router()));
        int tokens = shape[0];
        int hidden = shape[1];
        int experts = router.out();
        List<Matrix[]> matrices = new ArrayList<>(experts);
        for (int i = 0; i < experts; i++)
            matrices.add(new Matrix[]{Matrix.of(backend.mine(weights.gate().get(i))),
                    Matrix.of(backend.mine(weights.up().get(i))), Matrix.of(backend.mine(weights.down().get(i)))});
        MoeWeights.SharedExpert shared = weights.shared();
        Matrix[] everyone = shared == null
                ? null
                : new Matrix[]{Matrix.of(backend.mine(shared.gate())), Matrix.of(backend.mine(shared.up())),
                        Matrix.of(backend.mine(shared.down())), Matrix.of(backend.mine(shared.scale()))};
        CpuTensor y = backend.make(shape);
        if (tokens == 0)
            return y;
        long[] rows = Product.addresses(from, 4L * hidden, tokens);

        List<Group> groups = new ArrayList<>();
        long bytes = 0;
        int[] chosen = new int[tokens * topK];
        float[] share = new float[tokens * topK];
        route(rows, router, topK, normalise, chosen, share);
        int[] count = new int[experts];
        for (int expert : chosen)
            count[expert]++;
        for (int expert = 0; expert < experts; expert++) {
            if (count[expert] == 0)
                continue;
            Matrix[] m = matrices.get(expert);
            groups.add(new Group(m[0], m[1], m[2], new int[count[expert]], new float[count[expert]], bytes));
            bytes += 4L * count[expert] * m[0].out();
        }
        fill(groups, experts, count, chosen, share, topK);
        if (everyone != null) {
            int[] all = new int[tokens];
            Arrays.setAll(all, i -> i);
            groups.add(new Group(everyone[0], everyone[1], everyone[2], all, scales(rows, everyone[3]), bytes));
            bytes += 4L * tokens * everyone[0].out();
        }
        long intermediates = backend.memory.take(bytes);
        try {
            raise(rows, groups, intermediates);
            lower(groups, intermediates, y, tokens, hidden);
        } finally {
            backend.memory.give(intermediates, bytes);
        }
        return y;
    }

    private static void fill(List<Group> groups, int experts, int[] count, int[] chosen, float[] share, int topK) {
        int[] groupOf = new int[experts];
        for (int expert = 0, n = 0; expert < experts; expert++)
            groupOf[expert] = count[expert] == 0 ? -1 : n++;
        int[] at = new int[groups.size()];
        for (int i = 0; i < chosen.length; i++) {
            int group = groupOf[chosen[i]];
            groups.get(group).tokens[at[group]] = i / topK;
            groups.get(group).share[at[group]++] = share[i];
        }
    }

    /** Chooses each token's experts. */
    private void route(long[] rows, Matrix router, int topK, boolean normalise, int[] chosen, float[] share) {
        int experts = router.out();
        long bytes = 4L * experts * rows.length;
        long logits = backend.memory.take(bytes);
        try {
            CpuTensorOps.linear(backend, rows, router, 0, Activation.NONE, logits);
            int each = 16;
            backend.workers.run(CpuTensorOps.parts(rows.length, each), task -> {
                for (int t = task * each; t < Math.min(rows.length, (task + 1) * each); t++)
                    choose(logits + 4L * experts * t, experts, topK, normalise, chosen, share, t * topK);
            });
        } finally {
            backend.memory.give(logits, bytes);
        }
    }

    private static void choose(long logits, int experts, int topK, boolean normalise, int[] chosen, float[] share,
            int at) {
        float sum = Rows.exp(logits, Rows.max(logits, experts), logits, experts);
        Rows.divide(logits, sum, logits, experts);
        float total = 0;
        for (int i = at; i < at + topK; i++) {
            // probabilities are 0 or more, but for those taken before, or all NaN
            int most = Rows.argMax(logits, 0, experts, -1);
            int best = most < 0 ? i - at : most;
            chosen[i] = best;
            total += share[i] = Lanes.get(logits + 4L * best);
            Lanes.put(logits + 4L * best, -1);
        }
        for (int i = at; normalise && i < at + topK; i++)
            share[i] /= total;
    }

    private float[] scales(long[] rows, Matrix scale) {
        long bytes = 4L * rows.length;
        long scales = backend.memory.take(bytes);
        try {
            CpuTensorOps.linear(backend, rows, scale, 0, Activation.SIGMOID, scales);
            float[] result = new float[rows.length];
            for (int i = 0; i < result.length; i++)
                result[i] = Lanes.get(scales + 4L * i);
            return result;
        } finally {
            backend.memory.give(scales, bytes);
        }
    }

    /** The intermediates of every group. */
    private void raise(long[] rows, List<Group> groups, long intermediates) {
        CpuTensorOps.Grid[] grids = new CpuTensorOps.Grid[groups.size()];
        int[] first = new int[groups.size() + 1];
        // many experts are tasks enough
        int threads = Math.ceilDiv(backend.workers.threads(), groups.size());
        boolean quantised = groups.stream().anyMatch(g -> g.gate.dtype().isQuantized() || g.up.dtype().isQuantized());
        for (int i = 0; i < grids.length; i++) {
            Group group = groups.get(i);
            grids[i] = CpuTensorOps.Grid.of(group.tokens.length, group.gate, group.up, threads);
            first[i + 1] = first[i] + grids[i].tasks();
        }
        try (BlockSums sums = BlockSums.of(backend, rows, groups.getFirst().gate.in(), quantised)) {
            long[][] inputs = new long[groups.size()][];
            long[][] blockSums = new long[groups.size()][];
            for (int i = 0; i < inputs.length; i++) {
                inputs[i] = picked(rows, groups.get(i).tokens);
                blockSums[i] = picked(BlockSums.addresses(sums), groups.get(i).tokens);
            }
            backend.workers.run(first[grids.length], task -> {
                int i = indexOf(first, task);
                CpuTensorOps.Grid grid = grids[i];
                int part = task - first[i];
                Group group = groups.get(i);
                CpuTensorOps.swiglu(backend.memory, inputs[i], blockSums[i], grid.firstRow(part), grid.endRow(part),
                        group.gate, group.up, grid.firstOut(part), grid.endOut(part), intermediates + group.hidden);
            });
        }
    }

    private static long[] picked(long[] addresses, int[] tokens) {
        if (addresses == null)
            return null;
        long[] picked = new long[tokens.length];
        for (int i = 0; i < picked.length; i++)
            picked[i] = addresses[tokens[i]];
        return picked;
    }

    private static int indexOf(int[] first, int task) {
        int i = Arrays.binarySearch(first, task);
        if (i < 0)
            return -i - 2;
        // an empty group starts where the next one does
        while (i + 1 < first.length && first[i + 1] == task)
            i++;
        return i;
    }

    /** y = Σ share · intermediates · downᵀ, by expert number, then the shared one. */
    private void lower(List<Group> groups, long intermediates, CpuTensor y, int tokens, int hidden) {
        int most = 0;
        int routed = 0;
        int width = groups.getFirst().gate.out();
        long[][] inputs = new long[groups.size()][];
        for (int i = 0; i < inputs.length; i++) {
            Group group = groups.get(i);
            most = Math.max(most, group.tokens.length);
            inputs[i] = Product.addresses(intermediates + group.hidden, 4L * group.gate.out(), group.tokens.length);
            // the shared expert may be of another width
            routed += group.gate.out() == width ? group.tokens.length : 0;
        }
        int longest = most;
        boolean quantised = groups.stream().anyMatch(group -> group.down.dtype().isQuantized());
        int each = outputsPerTask(hidden, tokens, quantised);
        long[] all = Product.addresses(intermediates, 4L * width, routed);
        try (BlockSums sums = BlockSums.of(backend, all, width, quantised)) {
            long[][] blockSums = new long[groups.size()][];
            for (int i = 0, from = 0; sums != null && i < blockSums.length; i++)
                if (groups.get(i).gate.out() == width)
                blockSums[i] = Arrays.copyOfRange(BlockSums.addresses(sums), from, from += inputs[i].length);
            backend.workers.run(CpuTensorOps.parts(hidden, each), task -> {
                int o = task * each;
                int n = Math.min(each, hidden - o);
                long bytes = 4L * n * longest;
                long scratch = backend.memory.take(bytes);
                try {
                    for (int t = 0; t < tokens; t++)
                        Rows.fill(0, y.address() + 4L * ((long) hidden * t + o), n);
                    for (int i = 0; i < inputs.length; i++) {
                        Group group = groups.get(i);
                        Product.rows(backend.memory, inputs[i], blockSums[i], 0, inputs[i].length, group.down, o, o + n,
                                scratch - 4L * o, 4L * n, false);
                        for (int j = 0; j < group.tokens.length; j++)
                            Rows.addScaled(group.share[j], scratch + 4L * n * j,
                                    y.address() + 4L * ((long) hidden * group.tokens[j] + o), n);
                    }
                } finally {
                    backend.memory.give(scratch, bytes);
                }
            });
        }
    }

    private int outputsPerTask(int hidden, int tokens, boolean quantised) {
        if (!quantised)
            return Product.MOST_OUTS;
        return tokens < Quantized.MANY
                ? Quantized.outputsPerTask(hidden, backend.workers.threads())
                : 4 * Quantized.BLOCK;
    }
}
