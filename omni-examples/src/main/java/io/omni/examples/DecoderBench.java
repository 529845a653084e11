package io.omni.examples;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.OutOfMemoryException;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.core.DecoderConfig;
import io.omni.core.MediaTokens;
import io.omni.core.OmniConfig;
import io.omni.core.OmniModel;
import io.omni.core.RopeIndex;
import io.omni.core.Thinker;
import io.omni.processor.ModelInputs;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;

/** Layers of the Thinker: a prompt, tokens decoded one by one, the head, and sequences that decode together. */
final class DecoderBench {
    /** For the compiler, a second for each round. */
    private static final long WARM_UP_NANOS = 1_000_000_000L;

    private final Bench bench;
    private final int layers;
    private final int prompt;
    private final int decode;
    private final int[] batches;
    private final OmniConfig config;

    DecoderBench(Bench bench, OmniConfig config, int prompt, int decode, int[] batches) {
        this.bench = bench;
        this.config = config;
        layers = config.thinker().text().numHiddenLayers();
        this.prompt = prompt;
        this.decode = decode;
        this.batches = batches;
    }

    void run() {
        long start = System.nanoTime();
        try (OmniModel model = bench.model(config)) {
            bench.out().printf("decoder, %d layers, made in %.1f s%n", layers, (System.nanoTime() - start) / 1e9);
            measure(model);
            for (int n : batches)
                batch(model, n);
        }
    }

    private void measure(OmniModel model) {
        DecoderConfig text = model.config().thinker().text();
        double layerBytes = layerBytes(text, bench.type(), 1);
        double headBytes = headBytes(text, bench.type());
        double flops = layers * layerFlops(text, prompt);
        double[] prefills = new double[bench.rounds()];
        double[] steps = new double[bench.rounds()];
        double[] heads = new double[bench.rounds()];
        double[][] percents = new double[3][bench.rounds()];
        long start = System.nanoTime();
        do
            round(model, -1);
        while (System.nanoTime() - start < bench.rounds() * WARM_UP_NANOS);
        for (int i = 0; i < bench.rounds(); i++) {
            Bench now = bench.measuredAgain();
            double[] seconds = round(model, i);
            prefills[i] = seconds[0];
            steps[i] = seconds[1];
            heads[i] = seconds[2];
            percents[0][i] = now.percentOfCompute(flops, seconds[0]);
            percents[1][i] = now.percentOfRead(layers * layerBytes, seconds[1]);
            percents[2][i] = now.percentOfRead(headBytes, seconds[2]);
        }
        double prefill = Bench.median(prefills);
        double step = Bench.median(steps);
        double head = Bench.median(heads);
        double perLayer = step / layers;
        bench.out().printf("prefill:  %8.0f token-layers/s   %6.0f GFLOP/s   %3.0f %% of the multiply-add roofline%n",
                prompt * layers / prefill, flops / prefill / 1e9, Bench.median(percents[0]));
        bench.out().printf("decode:   %8.2f ms/layer         %6.1f GB/s      %3.0f %% of the read roofline%n",
                1000 * perLayer, layerBytes / perLayer / 1e9, Bench.median(percents[1]));
        bench.out().printf("head:     %8.2f ms               %6.1f GB/s      %3.0f %% of the read roofline%n",
                1000 * head, headBytes / head / 1e9, Bench.median(percents[2]));
        bench.out().printf("(each percentage is the median of rounds, of the roofline measured before that round)%n");
        bench.out().printf("prompt of %d through %d layers: %.1f ms, %.0f tokens/s%n", prompt, layers, 1000 * prefill,
                prompt / prefill);
        bench.out().printf("decode of %d layers and head: %.1f ms%n", layers, 1000 * (step + head));
    }

    /**
     * Sequences that decode together, head and choice of the token included, each with as many tokens before it as the
     * prompt has. The floor is the time to read once what the step needs, caches too.
     */
    private void batch(OmniModel model, int n) {
        List<KvCache> caches = new ArrayList<>();
        List<Sampler> samplers = new ArrayList<>();
        try {
            for (int i = 0; i < n; i++) {
                caches.add(GrowthBench.filled(model, prompt));
                samplers.add(model.backend().tensorOps().sampler(Sampling.greedy(),
                        config.thinker().text().vocabSize(), new int[0]));
            }
            double cached = caches.stream().mapToLong(KvCache::bytes).sum();
            double step = step(model, caches, samplers);
            DecoderConfig text = config.thinker().text();
            double bytes = layers * layerBytes(text, bench.type(), n) + headBytes(text, bench.type()) + cached;
            double floor = bench.secondsToRead(bytes);
            bench.out().printf("batch %2d: %8.2f ms a step  %8.1f tokens/s      memory floor %.2f ms, %.1f tokens/s,"
                    + " %.0f %% of it%n", n, 1000 * step, n / step, 1000 * floor, n / floor, 100 * floor / step);
        } catch (OutOfMemoryException e) {
            bench.out().printf("batch %2d: does not fit: %s%n", n, e.getMessage());
        } finally {
            caches.forEach(KvCache::close);
            samplers.forEach(Sampler::close);
        }
    }

    /** Median seconds of a token of each sequence, the last one's choice being what is fed. */
    private double step(OmniModel model, List<KvCache> caches, List<Sampler> samplers) {
        Backend backend = model.backend();
        Thinker thinker = model.thinker();
        List<RopeIndex> ropes = Collections.nCopies(caches.size(), GrowthBench.thinkerRope(model, new int[]{0}));
        int[] tokens = new Random(caches.size()).ints(caches.size(), 0, textTokens()).toArray();
        double[] seconds = new double[decode];
        // the first half warms up
        for (int i = -decode / 2; i < decode; i++)
            try (Scope scope = backend.scope()) {
                long start = System.nanoTime();
                Tensor embeds = thinker.embed(backend.tensor(tokens, tokens.length));
                Tensor hidden = thinker.step(embeds, ropes, caches);
                tokens = backend.tensorOps().sample(thinker.logits(hidden), samplers).toInts();
                if (i >= 0)
                    seconds[i] = (System.nanoTime() - start) / 1e9;
            }
        return Bench.median(seconds);
    }

    /** Seconds of the prefill, of one decode step without head, and of the head. */
    private double[] round(OmniModel model, int seed) {
        Backend backend = model.backend();
        Thinker thinker = model.thinker();
        int vocabulary = config.thinker().text().vocabSize();
        int[] ids = new Random(seed).ints(prompt, 0, textTokens()).toArray();
        ModelInputs inputs = new ModelInputs("", ids, List.of(), List.of(), List.of(), false);
        try (KvCache cache = thinker.newCache();
                Sampler greedy = backend.tensorOps().sampler(Sampling.greedy(), vocabulary, new int[0])) {
            double prefill;
            Thinker.Prompt ready;
            try (Scope scope = backend.scope()) {
                ready = thinker.prepare(inputs);
                long start = System.nanoTime();
                thinker.prefill(List.of(ready), List.of(cache), Set.of(), false).lastHidden().toFloats();
                prefill = (System.nanoTime() - start) / 1e9;
            }
            double[] steps = new double[decode];
            double[] heads = new double[decode];
            Random random = new Random(seed);
            for (int i = 0; i < decode; i++)
                try (Scope scope = backend.scope()) {
                    Tensor embeds = thinker.embed(backend.tensor(new int[]{random.nextInt(textTokens())}, 1));
                    long start = System.nanoTime();
                    Tensor hidden = thinker.step(embeds, List.of(ready.rope()), List.of(cache));
                    hidden.toFloats();
                    long middle = System.nanoTime();
                    backend.tensorOps().sample(thinker.logits(hidden), List.of(greedy)).toInts();
                    steps[i] = (middle - start) / 1e9;
                    heads[i] = (System.nanoTime() - middle) / 1e9;
                }
            return new double[]{prefill, Bench.median(steps), Bench.median(heads)};
        }
    }

    /** Tokens below which there are none that stand for media, which a prompt would lack. */
    private int textTokens() {
        MediaTokens media = config.thinker().tokens();
        return IntStream.of(media.image(), media.video(), media.audio(), media.visionStart(), media.audioStart(),
                config.thinker().text().vocabSize()).min().getAsInt();
    }

    /** Bytes that a step of this many tokens reads in a layer of experts, if they choose evenly. */
    static double layerBytes(DecoderConfig c, DType type, int tokens) {
        double experts = c.numExperts() * (1 - Math.pow(1 - (double) c.numExpertsPerTok() / c.numExperts(), tokens));
        long expert = 3L * c.hiddenSize() * c.moeIntermediateSize();
        // the router is never quantised
        long router = (long) c.hiddenSize() * c.numExperts();
        double others = layerWeights(c) - router - expert * c.numExpertsPerTok();
        return bytes(type, others + experts * expert) + bytes(type.isQuantized() ? DType.BF16 : type, router);
    }

    private static double headBytes(DecoderConfig c, DType type) {
        return bytes(type, (double) c.vocabSize() * c.hiddenSize());
    }

    private static double bytes(DType type, double elements) {
        return elements * type.blockBytes() / (type.blockSize() * type.blockSize());
    }

    /** Products of a layer with its weights, and of queries with the keys and values before them, as in the encoders. */
    private static double layerFlops(DecoderConfig c, int prompt) {
        double pairs = prompt * (prompt + 1.0) / 2;
        return 2.0 * layerWeights(c) * prompt + 4.0 * c.numAttentionHeads() * c.headDim() * pairs;
    }

    /** Weights that one token reads in a layer: attention, router, its experts and the shared one. */
    static long layerWeights(DecoderConfig c) {
        long attention = (long) c.hiddenSize() * c.headDim() * (2 * c.numAttentionHeads() + 2 * c.numKeyValueHeads());
        long experts = 3L * c.hiddenSize()
                * (c.moeIntermediateSize() * c.numExpertsPerTok() + c.sharedExpertIntermediateSize());
        return attention + experts + (long) c.hiddenSize() * c.numExperts();
    }
}
