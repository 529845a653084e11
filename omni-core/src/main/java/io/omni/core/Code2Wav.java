package io.omni.core;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.Conv1d;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Codec frames to a waveform: a transformer with a sliding window, then a causal convolutional network that makes 1920
 * samples, at the released rates, of a frame. Upstream: {@code Qwen3OmniMoeCode2Wav}. Activations are
 * {@code [time, channels]}.
 *
 * <p>
 * Everything is causal, so {@link Stream} keeps what each layer needs of the past and gives exactly the samples of one
 * pass over all frames. As upstream, a transposed convolution whose kernel is longer than its stride is cut on both
 * sides, so its output waits for one more step of input, and what waits at the end is never heard.
 */
public final class Code2Wav {
    /** Frames that a stream decodes at once, which bounds its memory. */
    private static final int FRAMES_AT_ONCE = 32;
    /** Frames of a reply's first pieces: small ones first, so that it starts early. All others have the last size. */
    private static final int[] PIECES = {2, 4, 8};

    private final Backend backend;
    private final Code2WavConfig config;
    private final Tensor codeEmbedding;
    private final Decoder preTransformer;
    private final List<Layer> layers = new ArrayList<>();
    private final int decoderStart;

    Code2Wav(Code2WavConfig config, Weights weights) {
        backend = weights.backend();
        this.config = config;
        int hidden = config.transformer().hiddenSize();
        codeEmbedding = weights.embedding("code_embedding.weight", config.codebookSize() * config.numQuantizers(),
                hidden);
        preTransformer = new Decoder(config.transformer(), weights.at("pre_transformer"));
        for (int i = 0; i < config.upsamplingRatios().length; i++) {
            int ratio = config.upsamplingRatios()[i];
            Weights stage = weights.at("upsample").at(i);
            layers.add(new CausalTransConv(hidden, hidden, ratio, ratio, stage.at(0)));
            layers.add(new ConvNeXtBlock(hidden, stage.at(1)));
        }
        decoderStart = layers.size();
        Weights decoder = weights.at("decoder");
        int width = config.decoderDim();
        layers.add(new CausalConv(hidden, width, 7, 1, 1, decoder.at(0)));
        int blocks = config.upsampleRates().length;
        for (int i = 0; i < blocks; i++) {
            layers.add(new DecoderBlock(width, width / 2, config.upsampleRates()[i], decoder.at(i + 1)));
            width /= 2;
        }
        layers.add(new SnakeBeta(width, decoder.at(blocks + 1)));
        layers.add(new CausalConv(width, 1, 7, 1, 1, decoder.at(blocks + 2)));
    }

    /** Its sizes. */
    public Code2WavConfig config() {
        return config;
    }

    /**
     * Decodes all frames in one pass.
     *
     * @param codes
     *            {@code [groups][frames]}
     * @return samples in [−1, 1] at {@link Code2WavConfig#SAMPLE_RATE}
     * @throws IllegalArgumentException
     *             if there are not {@link Code2WavConfig#numQuantizers} groups of the same length, or a code has no embedding
     */
    public float[] decode(int[][] codes) {
        try (Stream stream = new Stream()) {
            return stream.push(codes);
        }
    }

    /**
     * Decodes chunks with some context before each, as upstream does for long speech: an approximation that loses a few
     * samples where chunks meet. Upstream: {@code chunked_decode}.
     *
     * @param chunkSize
     *            frames, at least 1
     * @param leftContextSize
     *            frames, 0 or more
     */
    public float[] chunkedDecode(int[][] codes, int chunkSize, int leftContextSize) {
        if (chunkSize < 1 || leftContextSize < 0)
            throw new IllegalArgumentException("chunks of " + chunkSize + " frames after " + leftContextSize
                    + ", expected at least 1 and 0");
        int frames = frames(codes);
        float[] wav = new float[0];
        for (int start = 0; start < frames; start += chunkSize) {
            int context = start - leftContextSize > 0 ? leftContextSize : start;
            float[] chunk = decode(slice(codes, start - context, Math.min(start + chunkSize, frames)));
            wav = append(wav, chunk, context * config.totalUpsample());
        }
        return wav;
    }

    /** Frames that a reply's stream is given at once, for piece {@code piece}, counted from 0. */
    public static int pieceSize(int piece) {
        return PIECES[Math.min(piece, PIECES.length - 1)];
    }

    /** Starts a stream. The caller owns it. */
    public Stream stream() {
        return new Stream();
    }

    /** What the transformer makes of frames, in one pass: {@code [frames, hidden]}, in the caller's scope. */
    public Tensor transformer(int[][] codes) {
        try (KvCache cache = preTransformer.newCache(DType.F32)) {
            return transformer(codes, cache);
        }
    }

    /**
     * Decoder block {@code index} on its own, in one pass.
     *
     * @param x
     *            {@code [time, channels]}
     * @return {@code [(time − 1) · rate, channels / 2]}
     */
    public Tensor decoderBlock(int index, Tensor x) {
        Layer block = layers.get(decoderStart + 1 + index);
        try (State state = new State()) {
            return block.forward(x, state);
        }
    }

    private Tensor transformer(int[][] codes, KvCache cache) {
        TensorOps ops = backend.tensorOps();
        int frames = frames(codes);
        int groups = config.numQuantizers();
        int[] ids = new int[frames * groups];
        float[] weights = new float[ids.length];
        float[][] positions = new float[1][frames];
        Arrays.fill(weights, 1f / groups);
        for (int t = 0; t < frames; t++) {
            positions[0][t] = cache.length(0) + t;
            for (int g = 0; g < groups; g++)
                ids[t * groups + g] = codes[g][t] + g * config.codebookSize();
        }
        try (Scope scope = backend.scope()) {
            Tensor mean = ops.embeddingBag(codeEmbedding, backend.tensor(ids, frames, groups),
                    backend.tensor(weights, frames, groups));
            return scope.keep(
                    preTransformer.forward(mean, positions, List.of(cache), new Packed(0, frames), Decoder.Tap.NONE));
        }
    }

    private int frames(int[][] codes) {
        if (codes.length != config.numQuantizers())
            throw new IllegalArgumentException(
                    codes.length + " groups of codes, expected " + config.numQuantizers());
        for (int g = 0; g < codes.length; g++)
            if (codes[g].length != codes[0].length)
            throw new IllegalArgumentException("group " + g + " has " + codes[g].length + " codes, group 0 "
                    + codes[0].length);
        // as upstream, a code beyond its own codebook reads on in the next one's embeddings
        for (int g = 0; g < codes.length; g++)
            for (int code : codes[g])
                if (code < 0 || code >= (codes.length - g) * config.codebookSize())
                throw new IllegalArgumentException("code " + code + " of group " + g + ", expected 0 to "
                        + (config.codebookSize() - 1));
        return codes[0].length;
    }

    private static int[][] slice(int[][] codes, int from, int to) {
        return Arrays.stream(codes).map(group -> Arrays.copyOfRange(group, from, to)).toArray(int[][]::new);
    }

    private static float[] append(float[] wav, float[] chunk, int skip) {
        int n = Math.max(0, chunk.length - skip);
        float[] joined = Arrays.copyOf(wav, wav.length + n);
        System.arraycopy(chunk, chunk.length - n, joined, wav.length, n);
        return joined;
    }

    /** Decodes frames as they come. One thread uses a stream at a time. */
    public final class Stream implements AutoCloseable {
        private final KvCache cache = preTransformer.newCache(DType.F32);
        private final State state = new State();

        /**
         * Decodes the next frames.
         *
         * @param codes
         *            {@code [groups][frames]}
         * @return the samples that are final now; fewer than the frames stand for at first, as layers wait for more input
         */
        public float[] push(int[][] codes) {
            int frames = frames(codes);
            float[] wav = new float[0];
            for (int from = 0; from < frames; from += FRAMES_AT_ONCE)
                wav = append(wav, next(slice(codes, from, Math.min(from + FRAMES_AT_ONCE, frames))), 0);
            return wav;
        }

        private float[] next(int[][] codes) {
            state.rewind();
            try (Scope scope = backend.scope()) {
                Tensor x = transformer(codes, cache);
                for (Layer layer : layers) {
                    Tensor y = layer.forward(x, state);
                    x.close();
                    x = y;
                }
                return backend.tensorOps().clamp(x, -1, 1).toFloats();
            }
        }

        /** Frees the state. Closing twice does nothing. */
        @Override
        public void close() {
            state.close();
            cache.close();
        }
    }

    /** The past rows that each convolution of a stream needs, in the order in which the layers ask. */
    private static final class State implements AutoCloseable {
        private final List<Tensor> pasts = new ArrayList<>();
        private int next;

        /** Starts the next call at the first convolution. */
        void rewind() {
            next = 0;
        }

        /** The past of the convolution that asks, or null if it is new. */
        Tensor past() {
            return next < pasts.size() ? pasts.get(next) : null;
        }

        /** Replaces it by a detached tensor, and goes on to the next convolution. */
        void keep(Tensor past) {
            if (next < pasts.size())
                pasts.set(next, past).close();
            else
                pasts.add(past);
            next++;
        }

        @Override
        public void close() {
            pasts.forEach(Tensor::close);
            pasts.clear();
        }
    }

    private interface Layer {
        /** {@code [time, channels]} to what is final of the next rows. */
        Tensor forward(Tensor x, State state);
    }

    /** A convolution that sees the present and the past only. Upstream: {@code Qwen3OmniMoeCausalConvNet}. */
    private static final class CausalConv implements Layer {
        private final Backend backend;
        private final Conv1d conv;
        private final int context;
        private final int in;
        private final Tensor weight;
        private final Tensor bias;

        CausalConv(int in, int out, int kernel, int dilation, int groups, Weights weights) {
            backend = weights.backend();
            conv = new Conv1d(1, dilation, groups, 0, 0);
            context = (kernel - 1) * dilation;
            this.in = in;
            weight = weights.get("conv.weight", WeightRole.CONV1D, out, in / groups, kernel);
            bias = weights.vector("conv.bias", out);
        }

        @Override
        public Tensor forward(Tensor x, State state) {
            if (context == 0)
                return backend.convOps().conv1d(x, weight, bias, conv);
            TensorOps ops = backend.tensorOps();
            try (Scope scope = backend.scope()) {
                Tensor past = state.past();
                if (past == null)
                    past = backend.tensor(new float[context * in], context, in);
                Tensor joined = ops.concat(List.of(past, x));
                state.keep(scope.detach(ops.slice(joined, joined.dim(0) - context, joined.dim(0))));
                return scope.keep(backend.convOps().conv1d(joined, weight, bias, conv));
            }
        }
    }

    /** Makes {@code stride} steps of one. Upstream: {@code Qwen3OmniMoeCausalTransConvNet}. */
    private static final class CausalTransConv implements Layer {
        private final Backend backend;
        private final int stride;
        private final int trim;
        private final Tensor weight;
        private final Tensor bias;

        CausalTransConv(int in, int out, int kernel, int stride, Weights weights) {
            backend = weights.backend();
            this.stride = stride;
            trim = kernel - stride;
            weight = weights.get("conv.weight", WeightRole.CONV_TRANSPOSE1D, in, out, kernel);
            bias = weights.vector("conv.bias", out);
        }

        @Override
        public Tensor forward(Tensor x, State state) {
            if (trim == 0)
                return backend.convOps().convTranspose1d(x, weight, bias, stride, 0, 0);
            TensorOps ops = backend.tensorOps();
            try (Scope scope = backend.scope()) {
                // kernel = 2 · stride: between two input steps, only these two count
                Tensor past = state.past();
                Tensor joined = past == null ? x : ops.concat(List.of(past, x));
                int rows = joined.dim(0);
                state.keep(scope.detach(ops.slice(joined, Math.max(0, rows - 1), rows)));
                return scope.keep(backend.convOps().convTranspose1d(joined, weight, bias, stride, trim, trim));
            }
        }
    }

    /** Upstream: {@code Qwen3OmniMoeConvNeXtBlock}. */
    private static final class ConvNeXtBlock implements Layer {
        private final Backend backend;
        private final CausalConv dwconv;
        private final Tensor norm;
        private final Tensor normBias;
        private final Tensor pwconv1;
        private final Tensor pwconv1Bias;
        private final Tensor pwconv2;
        private final Tensor pwconv2Bias;
        private final Tensor gamma;

        ConvNeXtBlock(int dim, Weights weights) {
            backend = weights.backend();
            dwconv = new CausalConv(dim, dim, 7, 1, dim, weights.at("dwconv"));
            norm = weights.vector("norm.weight", dim);
            normBias = weights.vector("norm.bias", dim);
            pwconv1 = weights.matrix("pwconv1.weight", 4 * dim, dim);
            pwconv1Bias = weights.vector("pwconv1.bias", 4 * dim);
            pwconv2 = weights.matrix("pwconv2.weight", dim, 4 * dim);
            pwconv2Bias = weights.vector("pwconv2.bias", dim);
            gamma = weights.vector("gamma", dim);
        }

        @Override
        public Tensor forward(Tensor x, State state) {
            TensorOps ops = backend.tensorOps();
            try (Scope scope = backend.scope()) {
                Tensor y = ops.layerNorm(dwconv.forward(x, state), norm, normBias, 1e-6f);
                y = ops.linear(ops.linear(y, pwconv1, pwconv1Bias, Activation.GELU), pwconv2, pwconv2Bias);
                return scope.keep(ops.addScaled(x, y, gamma));
            }
        }
    }

    private static final class SnakeBeta implements Layer {
        private final Backend backend;
        private final Tensor alpha;
        private final Tensor beta;

        SnakeBeta(int channels, Weights weights) {
            backend = weights.backend();
            alpha = weights.vector("alpha", channels);
            beta = weights.vector("beta", channels);
        }

        @Override
        public Tensor forward(Tensor x, State state) {
            return backend.tensorOps().snakeBeta(x, alpha, beta);
        }
    }

    /** Upstream: {@code Qwen3OmniMoeCode2WavDecoderResidualUnit}. */
    private static final class ResidualUnit implements Layer {
        private final Backend backend;
        private final SnakeBeta act1;
        private final CausalConv conv1;
        private final SnakeBeta act2;
        private final CausalConv conv2;

        ResidualUnit(int dim, int dilation, Weights weights) {
            backend = weights.backend();
            act1 = new SnakeBeta(dim, weights.at("act1"));
            conv1 = new CausalConv(dim, dim, 7, dilation, 1, weights.at("conv1"));
            act2 = new SnakeBeta(dim, weights.at("act2"));
            conv2 = new CausalConv(dim, dim, 1, 1, 1, weights.at("conv2"));
        }

        @Override
        public Tensor forward(Tensor x, State state) {
            try (Scope scope = backend.scope()) {
                Tensor y = conv1.forward(act1.forward(x, state), state);
                y = conv2.forward(act2.forward(y, state), state);
                return scope.keep(backend.tensorOps().add(y, x));
            }
        }
    }

    /** Upstream: {@code Qwen3OmniMoeCode2WavDecoderBlock}. */
    private static final class DecoderBlock implements Layer {
        private final Backend backend;
        private final List<Layer> block = new ArrayList<>();

        DecoderBlock(int in, int out, int rate, Weights weights) {
            backend = weights.backend();
            Weights parts = weights.at("block");
            block.add(new SnakeBeta(in, parts.at(0)));
            block.add(new CausalTransConv(in, out, 2 * rate, rate, parts.at(1)));
            int[] dilations = {1, 3, 9};
            for (int i = 0; i < dilations.length; i++)
                block.add(new ResidualUnit(out, dilations[i], parts.at(2 + i)));
        }

        @Override
        public Tensor forward(Tensor x, State state) {
            try (Scope scope = backend.scope()) {
                Tensor y = x;
                for (Layer layer : block) {
                    Tensor next = layer.forward(y, state);
                    if (y != x)
                        y.close();
                    y = next;
                }
                return scope.keep(y);
            }
        }
    }
}
