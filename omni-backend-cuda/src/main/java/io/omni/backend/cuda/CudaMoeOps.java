package io.omni.backend.cuda;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.MoeOps;
import io.omni.api.MoeWeights;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import java.util.List;

final class CudaMoeOps implements MoeOps {
    /** Tokens up to which experts are seldom shared, so that each choice reads its own weights. */
    private static final int FEW_TOKENS = 4;

    private final CudaBackend backend;

    CudaMoeOps(CudaBackend backend) {
        this.backend = backend;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public Tensor moe(Tensor x, MoeWeights weights, int topK, boolean normalise) {
        int[] shape = Shapes.moe(x, weights, topK);
        CudaTensor in = backend.activation(x);
        List<CudaTensor> gates = weights.gate().stream().map(backend::matrix).toList();
        List<CudaTensor> ups = weights.up().stream().map(backend::matrix).toList();
        List<CudaTensor> downs = weights.down().stream().map(backend::matrix).toList();
        DType typeIn = gates.getFirst().dtype();
        DType typeOut = downs.getFirst().dtype();
        if (!alike(gates, typeIn) || !alike(ups, typeIn) || !alike(downs, typeOut))
            return MoeOps.super.moe(x, weights, topK, normalise);
        CudaTensorOps ops = (CudaTensorOps) backend.tensorOps();
        int tokens = shape[0];
        int hidden = shape[1];
        int experts = gates.size();
        CudaTensor y = backend.make(shape);
        if (tokens == 0)
            return y;

        // the router's logits decide between experts, so they are not rounded to the compute type
        CudaTensor logits = backend.make(DType.F32, tokens, experts);
        ops.linear(in, backend.matrix(weights.router()), null, Activation.NONE, null, logits);
        CudaTensor chosen = backend.make(DType.I32, tokens, topK);
        CudaTensor share = backend.make(DType.F32, tokens, topK);
        Stream stream = backend.stream();
        stream.kernel("moe_choose").in(logits).out(chosen).out(share).i32(tokens).i32(experts).i32(topK)
                .i32(normalise).launch(Grid.ceil(tokens, 4), 1, 1, 128, 4 * 4 * experts);

        CudaTensor common = null;
        CudaTensor scale = null;
        if (weights.shared() != null) {
            MoeWeights.SharedExpert shared = weights.shared();
            common = backend.make(shape);
            ops.gatedMlp(in, backend.matrix(shared.gate()), backend.matrix(shared.up()),
                    backend.matrix(shared.down()), common);
            scale = backend.make(DType.F32, tokens);
            ops.linear(in, backend.matrix(shared.scale()), null, Activation.SIGMOID, null, scale);
        }

        int intermediate = gates.getFirst().dim(0);
        boolean wideIn = hidden % 8 == 0 && in.wide(hidden) && wide(gates, hidden) && wide(ups, hidden);
        boolean wideOut = intermediate % 8 == 0 && wide(downs, intermediate);
        int choices = Math.multiplyExact(tokens, topK);
        CudaTensor h = backend.make(choices, intermediate);
        Block gateTable = table(stream, gates);
        Block upTable = table(stream, ups);
        Block downTable = table(stream, downs);
        String nameIn = backend.type() + "_" + CudaBackend.type(typeIn);
        String nameOut = backend.type() + "_" + CudaBackend.type(typeOut);
        if (tokens <= FEW_TOKENS) {
            stream.kernel("moe_gated_rows_" + nameIn).in(in).in(gateTable).in(upTable).in(chosen).out(h).i32(hidden)
                    .i32(intermediate).i32(topK).i32(wideIn)
                    .launch(Grid.ceil(intermediate, 8), choices, 1, 256, 0);
            stream.kernel("moe_down_rows_" + nameOut).in(h).in(downTable).in(chosen).in(share).in(common).in(scale)
                    .out(y).i32(intermediate).i32(hidden).i32(topK).i32(wideOut)
                    .launch(Grid.ceil(hidden, 8), tokens, 1, 256, 0);
            return y;
        }
        Tile tile = tile(choices, experts);
        int tiles = tiles(choices, experts, tile.size());
        CudaTensor order = backend.make(DType.I32, choices);
        CudaTensor plan = backend.make(DType.I32, tiles, 3);
        stream.kernel("moe_plan").in(chosen).i32(choices).i32(experts).i32(tile.size()).out(order).out(plan)
                .i32(tiles).launch(1, 1, 1, 1024, 4 * (3 * experts + 2));
        stream.kernel("moe_gated_" + tile.kernel() + "_" + nameIn).in(in).in(gateTable).in(upTable).in(order).in(plan)
                .out(h).i32(hidden).i32(intermediate).i32(topK).i32(wideIn)
                .launch(Grid.ceil(tile.paired(intermediate), tile.size()), tiles, 1, tile.threads(), tile.shared());
        CudaTensor parts = backend.make(choices, hidden);
        stream.kernel("moe_down_" + tile.kernel() + "_" + nameOut).in(h).in(downTable).in(order).in(plan).out(parts)
                .i32(intermediate).i32(hidden).i32(wideOut)
                .launch(Grid.ceil(hidden, tile.size()), tiles, 1, tile.threads(), tile.shared());
        stream.kernel("moe_combine_" + backend.type()).in(parts).in(share).in(common).in(scale).out(y).i32(hidden)
                .i32(topK).launch(tokens, 1, 1, 256, 0);
        return y;
    }

    private Tile tile(int choices, int experts) {
        if (backend.compute() == DType.F32)
            return Tile.PLAIN;
        // a tile is of one expert, and most experts' last tiles are partly empty
        return choices / experts >= 96 ? Tile.LARGE : Tile.SMALL;
    }

    /** The most tiles that the choices can need, however they fall on the experts. */
    static int tiles(int choices, int experts, int rows) {
        return choices / rows + Math.min(choices, experts);
    }

    private static boolean alike(List<CudaTensor> matrices, DType type) {
        return matrices.stream().allMatch(matrix -> matrix.dtype() == type);
    }

    private static boolean wide(List<CudaTensor> matrices, int depth) {
        for (CudaTensor matrix : matrices)
            if (!matrix.wide(depth))
            return false;
        return true;
    }

    private static Block table(Stream stream, List<CudaTensor> matrices) {
        long[] addresses = new long[matrices.size()];
        for (int i = 0; i < addresses.length; i++) {
            stream.use(matrices.get(i).block());
            addresses[i] = matrices.get(i).address();
        }
        return stream.constant(addresses);
    }
}
