package io.omni.examples;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.core.DecoderConfig;
import io.omni.core.OmniModel;
import io.omni.core.Thinker;
import io.omni.processor.ModelInputs;
import java.util.List;
import java.util.Random;
import java.util.Set;

/** Layers of the Thinker: a prompt, tokens decoded one by one, and the head. */
final class DecoderBench {
    private final Bench bench;
    private final int layers;
    private final int prompt;
    private final int decode;

    DecoderBench(Bench bench, int layers, int prompt, int decode) {
        this.bench = bench;
        this.layers = layers;
        this.prompt = prompt;
        this.decode = decode;
    }

    void run() {
        long start = System.nanoTime();
        try (OmniModel model = bench.model(Bench.config(config -> Bench.decoderOnly(config, layers)))) {
            bench.out().printf("decoder, %d layers, made in %.1f s%n", layers, (System.nanoTime() - start) / 1e9);
            measure(model);
        }
    }

    private void measure(OmniModel model) {
        DecoderConfig text = model.config().thinker().text();
        double[] prefills = new double[bench.rounds()];
        double[] steps = new double[bench.rounds()];
        double[] heads = new double[bench.rounds()];
        // the first round warms up
        round(model, -1);
        for (int round = 0; round < bench.rounds(); round++) {
            double[] seconds = round(model, round);
            prefills[round] = seconds[0];
            steps[round] = seconds[1];
            heads[round] = seconds[2];
        }
        double prefill = Bench.median(prefills);
        double step = Bench.median(steps);
        double head = Bench.median(heads);
        double perLayer = step / layers;
        double layerBytes = layerBytes(text, bench.type());
        double headBytes = bench.type().bytes((long) text.vocabSize() * text.hiddenSize());
        double flops = 2.0 * layerWeights(text) * layers * prompt;
        bench.out().printf("prefill:  %8.0f token-layers/s   %6.0f GFLOP/s   %3.0f %% of the multiply-add roofline%n",
                prompt * layers / prefill, flops / prefill / 1e9, bench.percentOfCompute(flops, prefill));
        bench.out().printf("decode:   %8.2f ms/layer         %6.1f GB/s      %3.0f %% of the read roofline%n",
                1000 * perLayer, layerBytes / perLayer / 1e9, bench.percentOfRead(layerBytes, perLayer));
        bench.out().printf("head:     %8.2f ms               %6.1f GB/s      %3.0f %% of the read roofline%n",
                1000 * head, headBytes / head / 1e9, bench.percentOfRead(headBytes, head));
        bench.out().printf("decode of %d layers and head: %.1f ms%n", layers, 1000 * (step + head));
    }

    /** Seconds of the prefill, of one decode step without head, and of the head. */
    private double[] round(OmniModel model, int seed) {
        Backend backend = model.backend();
        Thinker thinker = model.thinker();
        int vocabulary = model.config().thinker().text().vocabSize();
        int[] ids = new Random(seed).ints(prompt, 0, 150_000).toArray();
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
                    Tensor embeds = thinker.embed(backend.tensor(new int[]{random.nextInt(150_000)}, 1));
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

    /** Bytes that one token reads in a layer of experts. */
    static long layerBytes(DecoderConfig c, DType type) {
        // the router is never quantised
        long router = (long) c.hiddenSize() * c.numExperts();
        DType routerType = type.isQuantized() ? DType.BF16 : type;
        return type.bytes(layerWeights(c) - router) + routerType.bytes(router);
    }

    /** Weights that one token reads in a layer: attention, router, its experts and the shared one. */
    static long layerWeights(DecoderConfig c) {
        long attention = (long) c.hiddenSize() * c.headDim() * (2 * c.numAttentionHeads() + 2 * c.numKeyValueHeads());
        long experts = 3L * c.hiddenSize()
                * (c.moeIntermediateSize() * c.numExpertsPerTok() + c.sharedExpertIntermediateSize());
        return attention + experts + (long) c.hiddenSize() * c.numExperts();
    }
}
