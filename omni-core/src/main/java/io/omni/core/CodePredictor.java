package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Sampler;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Draws a frame's other codes, one after another, from the Talker's hidden state and the first code. Upstream:
 * {@code Qwen3OmniMoeTalkerCodePredictorModelForConditionalGeneration}.
 */
public final class CodePredictor {
    private final Backend backend;
    private final DecoderConfig config;
    private final Decoder model;
    private final List<Tensor> codecEmbedding = new ArrayList<>();
    private final List<Tensor> lmHead = new ArrayList<>();

    CodePredictor(DecoderConfig config, int numCodeGroups, Weights weights) {
        backend = weights.backend();
        this.config = config;
        model = new Decoder(config, weights.at("model"));
        for (int i = 0; i < numCodeGroups - 1; i++) {
            codecEmbedding.add(weights.at("model").at("codec_embedding").at(i).embedding("weight", config.vocabSize(),
                    config.hiddenSize()));
            lmHead.add(weights.at("lm_head").at(i).matrix("weight", config.vocabSize(), config.hiddenSize()));
        }
    }

    DecoderConfig config() {
        return config;
    }

    /** Codes that it draws for a frame. */
    int steps() {
        return lmHead.size();
    }

    /** A new cache for one sequence; {@link KvCache#truncate} empties it for the next frame. */
    public KvCache newCache() {
        return model.newCache();
    }

    /** Embeddings of the codes of step {@code step}: {@code [sequences, hidden]}. */
    public Tensor embed(int step, Tensor codes) {
        return backend.tensorOps().embedding(codecEmbedding.get(step), codes);
    }

    /**
     * One step: the logits of code {@code step} after tokens that the caches do not hold yet.
     *
     * @param embeds
     *            {@code [sequences · n, hidden]}, n tokens of each sequence: the hidden state and the first code's embedding
     *            for step 0, the last code's embedding after that
     * @return {@code [sequences, codebook]}
     */
    public Tensor forward(Tensor embeds, int step, List<KvCache> caches) {
        int n = embeds.dim(0) / caches.size();
        try (Scope scope = backend.scope()) {
            float[][] positions = new float[1][embeds.dim(0)];
            for (int i = 0; i < positions[0].length; i++)
                positions[0][i] = caches.get(i / n).length(0) + i % n;
            return scope.keep(forward(embeds, model.rotaryTable(positions), step, caches));
        }
    }

    private Tensor forward(Tensor embeds, Tensor table, int step, List<KvCache> caches) {
        TensorOps ops = backend.tensorOps();
        int sequences = caches.size();
        int n = embeds.dim(0) / sequences;
        try (Scope scope = backend.scope()) {
            int[] lengths = new int[sequences];
            Arrays.fill(lengths, n);
            Tensor hidden = model.forward(embeds, table, caches, Packed.ofLengths(lengths), Decoder.Tap.NONE);
            if (n > 1)
                hidden = last(hidden, n);
            return scope.keep(ops.linear(hidden, lmHead.get(step)));
        }
    }

    /** The last of each n rows. */
    private Tensor last(Tensor hidden, int n) {
        int rows = hidden.dim(0);
        if (rows == n)
            return backend.tensorOps().slice(hidden, n - 1, n);
        int[] last = new int[rows / n];
        for (int i = 0; i < last.length; i++)
            last[i] = i * n + n - 1;
        return backend.tensorOps().gather(hidden, backend.tensor(last, last.length));
    }

    /**
     * What a frame becomes.
     *
     * @param codes
     *            one I32 {@code [sequences]} for each step
     * @param embedding
     *            {@code [sequences, hidden]}: the sum of the embeddings of these codes and of the first one
     */
    public record Frame(List<Tensor> codes, Tensor embedding) {}

    /**
     * Draws the other codes of one frame of each sequence. Nothing goes to or from the host between the steps, so that a
     * device can have all of them in its queue.
     *
     * @param hidden
     *            {@code [sequences, hidden]}, the Talker's last
     * @param firstCode
     *            {@code [sequences, hidden]}, its embedding
     * @param caches
     *            one a sequence, emptied first
     */
    public Frame generate(Tensor hidden, Tensor firstCode, List<Sampler> samplers, List<KvCache> caches) {
        TensorOps ops = backend.tensorOps();
        caches.forEach(cache -> cache.truncate(0));
        int sequences = caches.size();
        try (Scope scope = backend.scope()) {
            List<Tensor> codes = new ArrayList<>();
            Tensor input = ops.concat(List.of(hidden, firstCode));
            if (sequences > 1) {
                int[] interleaved = new int[2 * sequences];
                for (int i = 0; i < interleaved.length; i++)
                    interleaved[i] = i / 2 + i % 2 * sequences;
                input = ops.gather(input, backend.tensor(interleaved, interleaved.length));
            }
            // two tokens of each sequence, then one a step
            float[][] positions = new float[1][(steps() + 1) * sequences];
            for (int i = 0; i < positions[0].length; i++)
                positions[0][i] = i < 2 * sequences ? i % 2 : i / sequences;
            Tensor table = model.rotaryTable(positions);
            Tensor sum = firstCode;
            for (int step = 0, from = 0; step < steps(); step++) {
                int to = from + input.dim(0);
                Tensor code = ops.sample(forward(input, ops.slice(table, from, to), step, caches), samplers);
                from = to;
                codes.add(scope.keep(code));
                input = embed(step, code);
                sum = ops.add(sum, input);
            }
            return new Frame(codes, scope.keep(sum));
        }
    }
}
