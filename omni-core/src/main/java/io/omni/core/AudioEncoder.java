package io.omni.core;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.Backend;
import io.omni.api.Conv2d;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import io.omni.processor.AudioFeatures;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Mel frames to audio tokens: three strided convolutions over chunks, then a transformer whose attention is windowed.
 * Upstream: {@code Qwen3OmniMoeAudioEncoder}.
 */
final class AudioEncoder {
    private static final float EPS = 1e-5f;
    private static final Conv2d HALVE = new Conv2d(2, 1);
    /** Chunks that go through the convolutions at once; their inner channels take megabytes each. */
    private static final int CHUNKS_AT_ONCE = 4;

    private final Backend backend;
    private final AudioEncoderConfig config;
    private final Tensor[] convWeight = new Tensor[3];
    private final Tensor[] convBias = new Tensor[3];
    private final Tensor convOut;
    private final List<Layer> layers = new ArrayList<>();
    private final Tensor postNorm;
    private final Tensor postNormBias;
    private final Tensor proj1;
    private final Tensor proj1Bias;
    private final Tensor proj2;
    private final Tensor proj2Bias;

    AudioEncoder(AudioEncoderConfig config, Weights weights) {
        backend = weights.backend();
        this.config = config;
        int channels = config.downsampleHiddenSize();
        int width = config.dModel();
        for (int i = 0; i < 3; i++) {
            Weights conv = weights.at("conv2d" + (i + 1));
            convWeight[i] = conv.get("weight", WeightRole.CONV2D, channels, i == 0 ? 1 : channels, 3, 3);
            convBias[i] = conv.vector("bias", channels);
        }
        convOut = weights.matrix("conv_out.weight", width,
                channels * AudioEncoderConfig.downsampled(config.numMelBins()));
        for (int i = 0; i < config.encoderLayers(); i++)
            layers.add(new Layer(config, weights.at("layers").at(i)));
        postNorm = weights.vector("ln_post.weight", width);
        postNormBias = weights.vector("ln_post.bias", width);
        proj1 = weights.matrix("proj1.weight", width, width);
        proj1Bias = weights.vector("proj1.bias", width);
        proj2 = weights.matrix("proj2.weight", config.outputDim(), width);
        proj2Bias = weights.vector("proj2.bias", config.outputDim());
    }

    /**
     * Encodes clips. As upstream, a clip shorter than a chunk is padded to the longest chunk of the call, and its last
     * token can see the padding through the convolutions.
     *
     * @return {@code [tokens, outputDim]}, the clips' tokens one after another
     */
    Tensor forward(List<AudioFeatures> clips) {
        TensorOps ops = backend.tensorOps();
        try (Scope scope = backend.scope()) {
            Tensor x = downsample(chunks(clips));
            Packed windows = windows(clips);
            for (Layer layer : layers) {
                Cancellation.checkCurrent();
                Tensor next = layer.forward(x, windows);
                x.close();
                x = next;
            }
            x = ops.layerNorm(x, postNorm, postNormBias, EPS);
            x = ops.linear(x, proj1, proj1Bias, config.activation());
            return scope.keep(ops.linear(x, proj2, proj2Bias));
        }
    }

    /** One chunk of a clip, {@code [mel, frames]}. */
    private record Chunk(AudioFeatures clip, int from, int frames) {}

    private List<Chunk> chunks(List<AudioFeatures> clips) {
        int size = 2 * config.nWindow();
        List<Chunk> chunks = new ArrayList<>();
        for (AudioFeatures clip : clips)
            for (int from = 0; from < clip.frames(); from += size)
                chunks.add(new Chunk(clip, from, Math.min(size, clip.frames() - from)));
        return chunks;
    }

    /** Convolves the chunks and adds positions, which restart in each: {@code [tokens, dModel]}. */
    private Tensor downsample(List<Chunk> chunks) {
        TensorOps ops = backend.tensorOps();
        int longest = chunks.stream().mapToInt(Chunk::frames).max().orElse(0);
        int steps = AudioEncoderConfig.downsampled(longest);
        List<Tensor> parts = new ArrayList<>();
        for (int at = 0; at < chunks.size(); at += CHUNKS_AT_ONCE) {
            List<Chunk> group = chunks.subList(at, Math.min(at + CHUNKS_AT_ONCE, chunks.size()));
            try (Scope scope = backend.scope()) {
                Tensor x = mel(group, longest);
                for (int i = 0; i < 3; i++)
                    x = backend.convOps().conv2d(x, convWeight[i], convBias[i], HALVE, Activation.GELU);
                // [chunks, mel, time, channels] to rows of (channel, mel) features, a row a step of time
                int features = x.dim(1) * x.dim(3);
                x = ops.reshape(ops.permute(x, 0, 2, 3, 1), group.size() * steps, features);
                x = ops.add(ops.linear(x, convOut), positions(group.size(), steps));
                parts.add(scope.keep(ops.gather(x, valid(group, steps))));
            }
        }
        return ops.concat(parts);
    }

    /** {@code [chunks, mel, longest, 1]}, zero after each chunk's end. */
    private Tensor mel(List<Chunk> group, int longest) {
        int bins = config.numMelBins();
        float[] values = new float[group.size() * bins * longest];
        for (int i = 0; i < group.size(); i++) {
            Chunk chunk = group.get(i);
            for (int bin = 0; bin < bins; bin++)
                System.arraycopy(chunk.clip().mel(), bin * chunk.clip().frames() + chunk.from(), values,
                        (i * bins + bin) * longest, chunk.frames());
        }
        return backend.tensor(values, group.size(), bins, longest, 1);
    }

    /** Sinusoids of Vaswani et al., sines before cosines, for {@code steps} positions of every chunk. */
    private Tensor positions(int chunks, int steps) {
        int width = config.dModel();
        float[] values = new float[chunks * steps * width];
        double decrement = Math.log(10000) / (width / 2 - 1);
        for (int step = 0; step < steps; step++)
            for (int i = 0; i < width / 2; i++) {
                float angle = step * (float) Math.exp((float) -decrement * i);
                values[step * width + i] = (float) Math.sin(angle);
                values[step * width + width / 2 + i] = (float) Math.cos(angle);
            }
        for (int chunk = 1; chunk < chunks; chunk++)
            System.arraycopy(values, 0, values, chunk * steps * width, steps * width);
        return backend.tensor(values, chunks * steps, width);
    }

    private Tensor valid(List<Chunk> group, int steps) {
        int[] index = new int[group.size() * steps];
        int n = 0;
        for (int i = 0; i < group.size(); i++)
            for (int step = 0; step < AudioEncoderConfig.downsampled(group.get(i).frames()); step++)
                index[n++] = i * steps + step;
        return backend.tensor(Arrays.copyOf(index, n), n);
    }

    /** Which tokens attend to each other. */
    private Packed windows(List<AudioFeatures> clips) {
        int chunksPerWindow = Math.max(1, config.nWindowInfer() / (2 * config.nWindow()));
        int window = AudioEncoderConfig.downsampled(2 * config.nWindow()) * chunksPerWindow;
        List<Integer> lengths = new ArrayList<>();
        for (AudioFeatures clip : clips)
            for (int left = config.tokens(clip.frames()); left > 0; left -= window)
                lengths.add(Math.min(left, window));
        return Packed.ofLengths(lengths.stream().mapToInt(Integer::intValue).toArray());
    }

    private static final class Layer {
        private final Backend backend;
        private final Attention attention;
        private final Activation activation;
        private final Tensor norm1;
        private final Tensor norm1Bias;
        private final Tensor q;
        private final Tensor qBias;
        private final Tensor k;
        private final Tensor kBias;
        private final Tensor v;
        private final Tensor vBias;
        private final Tensor out;
        private final Tensor outBias;
        private final Tensor norm2;
        private final Tensor norm2Bias;
        private final Tensor fc1;
        private final Tensor fc1Bias;
        private final Tensor fc2;
        private final Tensor fc2Bias;

        Layer(AudioEncoderConfig config, Weights weights) {
            backend = weights.backend();
            int width = config.dModel();
            int heads = config.encoderAttentionHeads();
            attention = new Attention(heads, heads, width / heads, false, 0);
            activation = config.activation();
            norm1 = weights.vector("self_attn_layer_norm.weight", width);
            norm1Bias = weights.vector("self_attn_layer_norm.bias", width);
            Weights self = weights.at("self_attn");
            q = self.matrix("q_proj.weight", width, width);
            qBias = self.vector("q_proj.bias", width);
            k = self.matrix("k_proj.weight", width, width);
            kBias = self.vector("k_proj.bias", width);
            v = self.matrix("v_proj.weight", width, width);
            vBias = self.vector("v_proj.bias", width);
            out = self.matrix("out_proj.weight", width, width);
            outBias = self.vector("out_proj.bias", width);
            norm2 = weights.vector("final_layer_norm.weight", width);
            norm2Bias = weights.vector("final_layer_norm.bias", width);
            fc1 = weights.matrix("fc1.weight", config.encoderFfnDim(), width);
            fc1Bias = weights.vector("fc1.bias", config.encoderFfnDim());
            fc2 = weights.matrix("fc2.weight", width, config.encoderFfnDim());
            fc2Bias = weights.vector("fc2.bias", width);
        }

        Tensor forward(Tensor x, Packed windows) {
            TensorOps ops = backend.tensorOps();
            try (Scope scope = backend.scope()) {
                Tensor normed = ops.layerNorm(x, norm1, norm1Bias, EPS);
                Tensor attended = backend.attentionOps().attend(ops.linear(normed, q, qBias),
                        ops.linear(normed, k, kBias), ops.linear(normed, v, vBias), windows, attention);
                x = ops.add(x, ops.linear(attended, out, outBias));
                normed = ops.layerNorm(x, norm2, norm2Bias, EPS);
                return scope.keep(ops.add(x, ops.linear(ops.linear(normed, fc1, fc1Bias, activation), fc2, fc2Bias)));
            }
        }
    }
}
