package io.omni.core;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.Backend;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import io.omni.processor.VisualFeatures;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Patches of images and video frames to visual tokens, with the features of inner layers that DeepStack adds in the
 * decoder. Upstream: {@code Qwen3OmniMoeVisionEncoder}.
 */
final class VisionEncoder {
    private static final float EPS = 1e-6f;
    /** Patches that are encoded at once, whole frames at least: attention stays within a frame, so this changes nothing. */
    private static final int PATCHES_AT_ONCE = 4096;

    private final Backend backend;
    private final VisionEncoderConfig config;
    private final Rope rope;
    private final Tensor patchEmbed;
    private final Tensor patchEmbedBias;
    private final Tensor positionEmbed;
    private final List<Block> blocks = new ArrayList<>();
    private final PatchMerger merger;
    private final List<PatchMerger> deepstackMergers = new ArrayList<>();

    VisionEncoder(VisionEncoderConfig config, Weights weights) {
        backend = weights.backend();
        this.config = config;
        rope = Rope.axial(config.hiddenSize() / config.numHeads(), config.ropeTheta());
        Weights patch = weights.at("patch_embed").at("proj");
        patchEmbed = patch.get("weight", WeightRole.CONV3D, config.hiddenSize(), config.inChannels(),
                config.temporalPatchSize(), config.patchSize(), config.patchSize());
        patchEmbedBias = patch.vector("bias", config.hiddenSize());
        positionEmbed = weights.embedding("pos_embed.weight", config.numPositionEmbeddings(), config.hiddenSize());
        for (int i = 0; i < config.depth(); i++)
            blocks.add(new Block(config, weights.at("blocks").at(i)));
        merger = new PatchMerger(config, false, weights.at("merger"));
        for (int i = 0; i < config.deepstackVisualIndexes().length; i++)
            deepstackMergers.add(new PatchMerger(config, true, weights.at("merger_list").at(i)));
    }

    /**
     * What the encoder makes of images or videos.
     *
     * @param embeds
     *            {@code [tokens, outHiddenSize]}, one token for each merged block of patches
     * @param deepstack
     *            the same shape, one for each decoder layer that they are added after
     */
    record Output(Tensor embeds, List<Tensor> deepstack) {}

    /** Encodes images or videos, their tokens one after another. */
    Output forward(List<VisualFeatures> visuals) {
        TensorOps ops = backend.tensorOps();
        try (Scope scope = backend.scope()) {
            List<List<Tensor>> parts = new ArrayList<>();
            for (int i = 0; i <= deepstackMergers.size(); i++)
                parts.add(new ArrayList<>());
            for (VisualFeatures visual : visuals) {
                int frame = visual.gridH() * visual.gridW();
                int framesAtOnce = Math.max(1, PATCHES_AT_ONCE / frame);
                for (int from = 0; from < visual.gridT(); from += framesAtOnce) {
                    int frames = Math.min(framesAtOnce, visual.gridT() - from);
                    List<Tensor> out = encode(visual, from, frames);
                    for (int i = 0; i < out.size(); i++)
                        parts.get(i).add(out.get(i));
                }
            }
            List<Tensor> joined = parts.stream().map(p -> scope.keep(ops.concat(p))).toList();
            return new Output(joined.getFirst(), joined.subList(1, joined.size()));
        }
    }

    /** Some frames of one image or video: its tokens, then the DeepStack features. */
    private List<Tensor> encode(VisualFeatures visual, int fromFrame, int frames) {
        TensorOps ops = backend.tensorOps();
        int height = visual.gridH();
        int width = visual.gridW();
        int patches = frames * height * width;
        int features = visual.pixelValues().length / (visual.gridT() * height * width);
        int from = fromFrame * height * width * features;
        try (Scope scope = backend.scope()) {
            Tensor pixels = backend.tensor(
                    Arrays.copyOfRange(visual.pixelValues(), from, from + patches * features), patches, features);
            int[][] cells = mergeOrder(frames, height, width);
            Tensor x = backend.convOps().conv3dPatches(pixels, patchEmbed, patchEmbedBias);
            pixels.close();
            x = ops.add(x, positionEmbeddings(cells, height, width));
            Tensor table = backend.attentionOps().rotaryTable(rotaryPositions(cells), rope);
            int[] lengths = new int[frames];
            Arrays.fill(lengths, height * width);
            Packed packed = Packed.ofLengths(lengths);

            List<Tensor> out = new ArrayList<>();
            List<Tensor> deepstack = new ArrayList<>(); // in the order of the layers, whatever that of the indexes
            for (int i = 0; i < blocks.size(); i++) {
                Cancellation.checkCurrent();
                Tensor next = blocks.get(i).forward(x, table, packed);
                x.close();
                x = next;
                for (int j = 0; j < deepstackMergers.size(); j++)
                    if (config.deepstackVisualIndexes()[j] == i)
                    deepstack.add(scope.keep(deepstackMergers.get(j).forward(x)));
            }
            out.add(scope.keep(merger.forward(x)));
            out.addAll(deepstack);
            return out;
        }
    }

    /** Row and column of every patch, in the order of the merged blocks. */
    private int[][] mergeOrder(int frames, int height, int width) {
        int merge = config.spatialMergeSize();
        int[] rows = new int[frames * height * width];
        int[] columns = new int[rows.length];
        int n = 0;
        for (int frame = 0; frame < frames; frame++)
            for (int row = 0; row < height; row += merge)
                for (int column = 0; column < width; column += merge)
                    for (int i = 0; i < merge * merge; i++) {
                        rows[n] = row + i / merge;
                        columns[n++] = column + i % merge;
                    }
        return new int[][]{rows, columns};
    }

    private Tensor rotaryPositions(int[][] cells) {
        int n = cells[0].length;
        float[] positions = new float[2 * n];
        for (int i = 0; i < n; i++) {
            positions[i] = cells[0][i];
            positions[n + i] = cells[1][i];
        }
        return backend.tensor(positions, 2, n);
    }

    /** The learned square grid of positions, resampled bilinearly with aligned corners. */
    private Tensor positionEmbeddings(int[][] cells, int height, int width) {
        int side = (int) Math.sqrt(config.numPositionEmbeddings());
        int n = cells[0].length;
        int[] ids = new int[4 * n];
        float[] weights = new float[4 * n];
        for (int i = 0; i < n; i++) {
            float row = aligned(cells[0][i], height, side);
            float column = aligned(cells[1][i], width, side);
            for (int corner = 0; corner < 4; corner++) {
                int r = Math.min((int) row + corner / 2, side - 1);
                int c = Math.min((int) column + corner % 2, side - 1);
                ids[4 * i + corner] = r * side + c;
                weights[4 * i + corner] = share(row, corner / 2) * share(column, corner % 2);
            }
        }
        return backend.tensorOps().embeddingBag(positionEmbed, backend.tensor(ids, n, 4),
                backend.tensor(weights, n, 4));
    }

    private static float aligned(int index, int size, int side) {
        return size == 1 ? 0 : (float) index * (side - 1) / (size - 1);
    }

    private static float share(float at, int upper) {
        float fraction = at - (int) at;
        return upper == 1 ? fraction : 1 - fraction;
    }

    private static final class Block {
        private final Backend backend;
        private final Attention attention;
        private final Activation activation;
        private final Tensor norm1;
        private final Tensor norm1Bias;
        private final List<Tensor> qkv;
        private final List<Tensor> qkvBias;
        private final Tensor proj;
        private final Tensor projBias;
        private final Tensor norm2;
        private final Tensor norm2Bias;
        private final Tensor fc1;
        private final Tensor fc1Bias;
        private final Tensor fc2;
        private final Tensor fc2Bias;

        Block(VisionEncoderConfig config, Weights weights) {
            backend = weights.backend();
            int width = config.hiddenSize();
            attention = new Attention(config.numHeads(), config.numHeads(), width / config.numHeads(), false, 0);
            activation = config.activation();
            norm1 = weights.vector("norm1.weight", width);
            norm1Bias = weights.vector("norm1.bias", width);
            qkv = weights.at("attn").matrices("qkv.weight", 3, width, width);
            qkvBias = weights.at("attn").vectors("qkv.bias", 3, width);
            proj = weights.matrix("attn.proj.weight", width, width);
            projBias = weights.vector("attn.proj.bias", width);
            norm2 = weights.vector("norm2.weight", width);
            norm2Bias = weights.vector("norm2.bias", width);
            fc1 = weights.matrix("mlp.linear_fc1.weight", config.intermediateSize(), width);
            fc1Bias = weights.vector("mlp.linear_fc1.bias", config.intermediateSize());
            fc2 = weights.matrix("mlp.linear_fc2.weight", width, config.intermediateSize());
            fc2Bias = weights.vector("mlp.linear_fc2.bias", width);
        }

        Tensor forward(Tensor x, Tensor table, Packed frames) {
            TensorOps ops = backend.tensorOps();
            try (Scope scope = backend.scope()) {
                Tensor normed = ops.layerNorm(x, norm1, norm1Bias, EPS);
                Tensor q = backend.attentionOps().rotary(ops.linear(normed, qkv.get(0), qkvBias.get(0)), null, 0,
                        table);
                Tensor k = backend.attentionOps().rotary(ops.linear(normed, qkv.get(1), qkvBias.get(1)), null, 0,
                        table);
                Tensor v = ops.linear(normed, qkv.get(2), qkvBias.get(2));
                x = ops.add(x, ops.linear(backend.attentionOps().attend(q, k, v, frames, attention), proj, projBias));
                normed = ops.layerNorm(x, norm2, norm2Bias, EPS);
                return scope.keep(ops.add(x, ops.linear(ops.linear(normed, fc1, fc1Bias, activation), fc2, fc2Bias)));
            }
        }
    }

    /** Joins the patches of a block to one token, normalising before or after the join. */
    private static final class PatchMerger {
        private final Backend backend;
        private final boolean normAfterJoin;
        private final int joined;
        private final Tensor norm;
        private final Tensor normBias;
        private final Tensor fc1;
        private final Tensor fc1Bias;
        private final Tensor fc2;
        private final Tensor fc2Bias;

        PatchMerger(VisionEncoderConfig config, boolean normAfterJoin, Weights weights) {
            backend = weights.backend();
            this.normAfterJoin = normAfterJoin;
            joined = config.hiddenSize() * config.spatialMergeSize() * config.spatialMergeSize();
            int width = normAfterJoin ? joined : config.hiddenSize();
            norm = weights.vector("ln_q.weight", width);
            normBias = weights.vector("ln_q.bias", width);
            fc1 = weights.matrix("mlp.0.weight", joined, joined);
            fc1Bias = weights.vector("mlp.0.bias", joined);
            fc2 = weights.matrix("mlp.2.weight", config.outHiddenSize(), joined);
            fc2Bias = weights.vector("mlp.2.bias", config.outHiddenSize());
        }

        Tensor forward(Tensor x) {
            TensorOps ops = backend.tensorOps();
            try (Scope scope = backend.scope()) {
                int tokens = (int) (x.size() / joined);
                x = normAfterJoin
                        ? ops.layerNorm(ops.reshape(x, tokens, joined), norm, normBias, EPS)
                        : ops.reshape(ops.layerNorm(x, norm, normBias, EPS), tokens, joined);
                return scope.keep(ops.linear(ops.linear(x, fc1, fc1Bias, Activation.GELU), fc2, fc2Bias));
            }
        }
    }
}
