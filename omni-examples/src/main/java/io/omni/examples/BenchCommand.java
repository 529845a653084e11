package io.omni.examples;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.core.DecoderConfig;
import io.omni.core.OmniConfig;
import io.omni.core.OmniModel;
import io.omni.core.Thinker;
import io.omni.processor.ModelInputs;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code omni bench}: the Thinker's decoder at the real model's widths, with random weights made in memory. */
@Command(name = "bench", description = "Measure decoder layers at the real widths, beside what the machine can do at most.", mixinStandardHelpOptions = true)
final class BenchCommand implements Callable<Integer> {
    @Option(names = "--layers", paramLabel = "N", defaultValue = "2", description = "Decoder layers (default: ${DEFAULT-VALUE}; the real model has 48).")
    private int layers;

    @Option(names = "--prompt", paramLabel = "N", defaultValue = "256", description = "Tokens read at once (default: ${DEFAULT-VALUE}).")
    private int prompt;

    @Option(names = "--decode", paramLabel = "N", defaultValue = "32", description = "Tokens decoded one by one (default: ${DEFAULT-VALUE}).")
    private int decode;

    @Option(names = "--backend", paramLabel = "NAME", description = "See 'omni backends'; else the best available.")
    private String backend;

    @Option(names = "--weights", paramLabel = "TYPE", defaultValue = "bf16", description = "bf16, f16, f32, q8 or q4 (default: ${DEFAULT-VALUE}).")
    private String weights;

    @Option(names = "--threads", paramLabel = "N", defaultValue = "0", description = "Threads (default: all processors).")
    private int threads;

    @Option(names = "--rounds", paramLabel = "N", defaultValue = "5", description = "Repetitions, of which the median counts (default: ${DEFAULT-VALUE}).")
    private int rounds;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        if (layers < 1 || prompt < 1 || decode < 1 || rounds < 1)
            throw new IllegalArgumentException("--layers, --prompt, --decode and --rounds must be 1 or more");
        PrintWriter out = spec.commandLine().getOut();
        int cores = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
        BackendOptions options = new BackendOptions(threads, Map.of());
        try (Backend chosen = backend != null ? Backends.load(backend, options) : Backends.best(options);
                OmniModel model = OmniModel.random(chosen, config(), 1, type())) {
            out.printf("backend %s, %s (%s), %d threads; %d layers at real widths, %s weights, random%n", chosen.name(),
                    chosen.device().name(), chosen.device().detail(), cores, layers, weights);
            Roofline roofline = Roofline.measure(cores);
            out.printf("roofline: %.1f GB/s read, %.0f GFLOP/s float32 multiply-add, on the host%n",
                    roofline.readGigabytes(), roofline.gigaflops());
            measure(model, roofline, out);
        }
        return 0;
    }

    private DType type() {
        return switch (weights) {
            case "bf16" -> DType.BF16;
            case "f16" -> DType.F16;
            case "f32" -> DType.F32;
            case "q8" -> DType.Q8;
            case "q4" -> DType.Q4;
            default -> throw new IllegalArgumentException(
                    "unknown weights '" + weights + "', expected bf16, f16, f32, q8 or q4");
        };
    }

    /** The released model's configuration, cut to the decoder layers asked for. */
    private OmniConfig config() {
        try (InputStream stream = BenchCommand.class.getResourceAsStream("qwen3-omni-30b-a3b.json")) {
            ObjectNode config = (ObjectNode) new ObjectMapper().readTree(stream);
            config.put("enable_audio_output", false);
            ObjectNode thinker = (ObjectNode) config.get("thinker_config");
            ((ObjectNode) thinker.get("audio_config")).put("encoder_layers", 0);
            ((ObjectNode) thinker.get("vision_config")).put("depth", 0).putArray("deepstack_visual_indexes");
            ((ObjectNode) thinker.get("text_config")).put("num_hidden_layers", layers);
            return OmniConfig.parse("qwen3-omni-30b-a3b.json", config.toString());
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("the bundled configuration is malformed", e);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void measure(OmniModel model, Roofline roofline, PrintWriter out) {
        DecoderConfig text = model.config().thinker().text();
        double[] prefill = new double[rounds];
        double[] step = new double[rounds];
        double[] head = new double[rounds];
        for (int round = -1; round < rounds; round++) {
            // the first round warms up
            double[] seconds = round(model, round);
            if (round < 0)
                continue;
            prefill[round] = seconds[0];
            step[round] = seconds[1];
            head[round] = seconds[2];
        }
        double perLayer = median(step) / layers;
        // the router is never quantised
        long router = (long) text.hiddenSize() * text.numExperts();
        DType routerType = type().isQuantized() ? DType.BF16 : type();
        long layerBytes = type().bytes(layerWeights(text) - router) + routerType.bytes(router);
        long headBytes = type().bytes((long) text.vocabSize() * text.hiddenSize());
        double flops = 2.0 * layerWeights(text) * layers * prompt;
        out.printf("prefill:  %8.0f token-layers/s   %6.0f GFLOP/s   %3.0f %% of the multiply-add roofline%n",
                prompt * layers / median(prefill), flops / median(prefill) / 1e9,
                100 * flops / median(prefill) / 1e9 / roofline.gigaflops());
        out.printf("decode:   %8.2f ms/layer         %6.1f GB/s      %3.0f %% of the read roofline%n", 1000 * perLayer,
                layerBytes / perLayer / 1e9, 100 * layerBytes / perLayer / 1e9 / roofline.readGigabytes());
        out.printf("head:     %8.2f ms               %6.1f GB/s      %3.0f %% of the read roofline%n",
                1000 * median(head), headBytes / median(head) / 1e9,
                100 * headBytes / median(head) / 1e9 / roofline.readGigabytes());
        out.printf("decode of %d layers and head: %.1f ms%n", layers, 1000 * (median(step) + median(head)));
    }

    /** Seconds of the prefill, of one decode step without head, and of the head. */
    private double[] round(OmniModel model, int seed) {
        Backend chosen = model.backend();
        Thinker thinker = model.thinker();
        int vocabulary = model.config().thinker().text().vocabSize();
        int[] ids = new Random(seed).ints(prompt, 0, 150_000).toArray();
        ModelInputs inputs = new ModelInputs("", ids, List.of(), List.of(), List.of(), false);
        try (KvCache cache = thinker.newCache();
                Sampler greedy = chosen.tensorOps().sampler(Sampling.greedy(), vocabulary, new int[0])) {
            double prefill;
            Thinker.Prompt ready;
            try (Scope scope = chosen.scope()) {
                ready = thinker.prepare(inputs);
                long start = System.nanoTime();
                thinker.prefill(List.of(ready), List.of(cache), Set.of(), false).lastHidden().toFloats();
                prefill = (System.nanoTime() - start) / 1e9;
            }
            double[] steps = new double[decode];
            double[] heads = new double[decode];
            Random random = new Random(seed);
            for (int i = 0; i < decode; i++)
                try (Scope scope = chosen.scope()) {
                    Tensor embeds = thinker.embed(chosen.tensor(new int[]{random.nextInt(150_000)}, 1));
                    long start = System.nanoTime();
                    Tensor hidden = thinker.step(embeds, List.of(ready.rope()), List.of(cache));
                    hidden.toFloats();
                    long middle = System.nanoTime();
                    chosen.tensorOps().sample(thinker.logits(hidden), List.of(greedy)).toInts();
                    steps[i] = (middle - start) / 1e9;
                    heads[i] = (System.nanoTime() - middle) / 1e9;
                }
            return new double[]{prefill, median(steps), median(heads)};
        }
    }

    /** Weights that one token reads in a layer: attention, router, and its experts. */
    private static long layerWeights(DecoderConfig c) {
        long attention = (long) c.hiddenSize() * c.headDim() * (2 * c.numAttentionHeads() + 2 * c.numKeyValueHeads());
        long experts = 3L * c.hiddenSize() * c.moeIntermediateSize() * c.numExpertsPerTok();
        return attention + experts + (long) c.hiddenSize() * c.numExperts();
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }
}
