package io.omni.examples;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.CacheSpec;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.core.OmniConfig;
import io.omni.core.OmniModel;
import io.omni.core.RopeIndex;
import io.omni.core.Thinker;
import io.omni.processor.ModelInputs;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;

/** How the cost of decoder layers grows with the context, the prompt, the batch and the number of threads. */
final class GrowthBench {
    /** Tokens that a cache is filled with at once. */
    private static final int FILL = 1024;
    /** Tokens in each cache where batches and threads are compared. */
    private static final int SHORT_CONTEXT = 256;

    private final Bench bench;
    private final int layers;
    private final int decode;
    private final int[] contexts;
    private final int[] prompts;
    private final int[] batches;
    private final int threads;
    private final OmniConfig config;

    GrowthBench(Bench bench, int layers, int decode, int[] contexts, int[] prompts, int[] batches, int threads) {
        this.bench = bench;
        this.layers = layers;
        this.decode = decode;
        this.contexts = contexts;
        this.prompts = prompts;
        this.batches = batches;
        this.threads = threads;
        config = Bench.config(json -> {
            Bench.decoderOnly(json, layers);
            Bench.smallVocabulary(json);
        });
    }

    /** Measures, prints tables, and draws them if there is a file to draw into. */
    void run(Path plot) {
        List<Plot.Curve> curves = new ArrayList<>();
        try (OmniModel model = bench.model(config)) {
            warmUp(model);
            curves.add(context(model));
            curves.add(prompt(model));
            curves.add(batch(model));
        }
        curves.add(threads());
        if (plot != null) {
            Plot.write(plot, curves);
            bench.out().println("drawn in " + plot);
        }
    }

    /** Runs until the JVM has compiled everything, so that the first point is as fast as it would be later. */
    private void warmUp(OmniModel model) {
        for (int i = 0; i < 5; i++)
            try (KvCache cache = filled(model, SHORT_CONTEXT)) {
                step(model, List.of(cache));
            }
    }

    private Plot.Curve context(OmniModel model) {
        bench.out().printf("decoding against context: tokens, ms a layer, MB of cache a layer%n");
        return curve("Decoding against context", "tokens in the cache", "ms a layer and token", contexts, n -> {
            try (KvCache cache = filled(model, n)) {
                double ms = 1000 * step(model, List.of(cache)) / layers;
                bench.out().printf("%8d %8.2f %8.1f%n", n, ms, cache.bytes() / 1e6 / layers);
                return ms;
            }
        });
    }

    private Plot.Curve prompt(OmniModel model) {
        bench.out().printf("reading against prompt: tokens, token-layers a second, seconds%n");
        return curve("Reading a prompt", "tokens of the prompt", "token-layers a second", prompts, n -> {
            double seconds = read(model, n);
            bench.out().printf("%8d %8.0f %8.3f%n", n, n * layers / seconds, seconds);
            return n * layers / seconds;
        });
    }

    private Plot.Curve batch(OmniModel model) {
        bench.out().printf("decoding against batch: sequences, ms a layer and step, ms a layer and token%n");
        return curve("Decoding in a batch", "sequences", "ms a layer and token", batches, n -> {
            List<KvCache> caches = IntStream.range(0, n).mapToObj(i -> filled(model, SHORT_CONTEXT)).toList();
            try {
                double ms = 1000 * step(model, caches) / layers;
                bench.out().printf("%8d %8.2f %8.2f%n", n, ms, ms / n);
                return ms / n;
            } finally {
                caches.forEach(KvCache::close);
            }
        });
    }

    private Plot.Curve threads() {
        bench.out().printf("threads: threads, decode ms a layer, token-layers a second of a prompt of %d%n",
                SHORT_CONTEXT);
        return curve("Threads", "threads", "ms a layer and token", IntStream.rangeClosed(1, threads).toArray(), n -> {
            try (Backend backend = Backends.load(bench.backend().name(), new BackendOptions(n, Map.of()));
                    OmniModel model = OmniModel.random(backend, config, 1, bench.type(), bench.cacheType());
                    KvCache cache = filled(model, SHORT_CONTEXT)) {
                double ms = 1000 * step(model, List.of(cache)) / layers;
                bench.out().printf("%8d %8.2f %8.0f%n", n, ms, SHORT_CONTEXT * layers / read(model, SHORT_CONTEXT));
                return ms;
            }
        });
    }

    private interface Measurement {
        double at(int n);
    }

    private static Plot.Curve curve(String title, String xAxis, String yAxis, int[] at, Measurement measurement) {
        double[] x = IntStream.of(at).asDoubleStream().toArray();
        double[] y = IntStream.of(at).mapToDouble(measurement::at).toArray();
        return new Plot.Curve(title, xAxis, yAxis, x, y);
    }

    /** A cache of random keys and values, as if {@code tokens} tokens had been read. */
    static KvCache filled(OmniModel model, int tokens) {
        Backend backend = model.backend();
        KvCache cache = model.thinker().newCache();
        CacheSpec spec = cache.spec();
        int width = spec.kvHeads() * spec.headDim();
        Random random = new Random(tokens);
        for (int from = 0; from < tokens; from += FILL)
            try (Scope scope = backend.scope()) {
                int n = Math.min(FILL, tokens - from);
                Tensor k = backend.tensor(noise(random, n * width), n, width);
                Tensor v = backend.tensor(noise(random, n * width), n, width);
                for (int layer = 0; layer < spec.layers(); layer++)
                    backend.attentionOps().append(List.of(cache), layer, k, v, new Packed(0, n));
            }
        return cache;
    }

    /** Median seconds of one token of each sequence through all layers. */
    private double step(OmniModel model, List<KvCache> caches) {
        Thinker thinker = model.thinker();
        Random random = new Random(1);
        RopeIndex start = thinkerRope(model, new int[]{0});
        List<RopeIndex> ropes = caches.stream().map(cache -> start).toList();
        double[] seconds = new double[decode];
        // the first half warms up
        for (int i = -decode / 2; i < decode; i++)
            try (Scope scope = model.backend().scope()) {
                int[] tokens = random.ints(caches.size(), 0, 1024).toArray();
                Tensor embeds = thinker.embed(model.backend().tensor(tokens, tokens.length));
                long begin = System.nanoTime();
                thinker.step(embeds, ropes, caches).toFloats();
                if (i >= 0)
                    seconds[i] = (System.nanoTime() - begin) / 1e9;
            }
        return Bench.median(seconds);
    }

    /** Median seconds of a prompt through all layers. */
    private double read(OmniModel model, int tokens) {
        int[] ids = new Random(tokens).ints(tokens, 0, 1024).toArray();
        ModelInputs inputs = new ModelInputs("", ids, List.of(), List.of(), List.of(), false);
        return bench.seconds(() -> {
            try (KvCache cache = model.thinker().newCache(); Scope scope = model.backend().scope()) {
                Thinker.Prompt prompt = model.thinker().prepare(inputs);
                model.thinker().prefill(List.of(prompt), List.of(cache), Set.of(), false).lastHidden().toFloats();
            }
        });
    }

    static RopeIndex thinkerRope(OmniModel model, int[] ids) {
        return RopeIndex.of(ids, model.config().thinker().tokens(),
                model.config().thinker().vision().spatialMergeSize(), new int[0], List.of(), List.of(), false);
    }

    private static float[] noise(Random random, int n) {
        float[] values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = 2 * random.nextFloat() - 1;
        return values;
    }
}
