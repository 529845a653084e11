package io.omni.examples;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.DType;
import io.omni.core.OmniConfig;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code omni bench}: parts of the model at the released widths, with random weights made in memory. */
@Command(name = "bench", description = "Measure parts of the model at the real widths, beside what the machine can do at most.", mixinStandardHelpOptions = true)
final class BenchCommand implements Callable<Integer> {
    /** What can be measured. */
    enum Section {
        DECODER, AUDIO, VISION, SPEECH, LATENCY, GROWTH, ALL
    }

    /** What matrices are measured in. */
    enum Weights {
        BF16, F16, F32, Q8, Q4
    }

    @Parameters(arity = "0..*", paramLabel = "SECTION", description = {"What to measure (default: decoder):",
            "decoder  layers of the Thinker: prompt, decoding, head, batches;",
            "audio    the audio encoder on 30 s of sound;",
            "vision   the vision encoder on an image of 768 x 768;",
            "speech   the Talker with its code predictor, and Code2Wav;",
            "latency  a question of 10 s of sound to a whole model: first text, first sound, all of it;",
            "growth   decoder layers against context, prompt, batch and threads;",
            "all      all of these but latency, which needs a folder and memory for all layers."})
    private Set<Section> sections = EnumSet.noneOf(Section.class);

    @Option(names = "--layers", paramLabel = "N", description = "decoder, growth: layers of the Thinker (default: 2; the real model has 48). latency: most layers of Thinker, Talker and audio encoder (default: all, 48, 20 and 32). Other sections have all of theirs.")
    private Integer layers;

    @Option(names = "--prompt", paramLabel = "N", defaultValue = "256", description = "decoder: tokens read at once (default: ${DEFAULT-VALUE}).")
    private int prompt;

    @Option(names = "--decode", paramLabel = "N", defaultValue = "32", description = "Tokens decoded one by one, or of latency's answer (default: ${DEFAULT-VALUE}).")
    private int decode;

    @Option(names = "--model", paramLabel = "DIR", description = "latency: folder with a checkpoint's tokenizer and template, such as reference/tiny/model; its weights are not read.")
    private Path model;

    @Option(names = "--contexts", paramLabel = "N", split = ",", defaultValue = "1,1024,4096,8192,16384,32000", description = "growth: tokens in the cache while decoding (default: ${DEFAULT-VALUE}).")
    private int[] contexts;

    @Option(names = "--prompts", paramLabel = "N", split = ",", defaultValue = "16,64,256,1024,2048", description = "growth: tokens read at once (default: ${DEFAULT-VALUE}).")
    private int[] prompts;

    @Option(names = "--batches", paramLabel = "N", split = ",", description = "decoder, growth: sequences that decode together (default: 1 for decoder, 1,2,4,8,16,32 for growth).")
    private int[] batches;

    @Option(names = "--plot", paramLabel = "FILE", description = "growth: draw the curves, as SVG.")
    private Path plot;

    @Option(names = "--backend", paramLabel = "NAME", converter = BackendsCommand.Name.class, description = "See 'omni backends'; else the best available.")
    private String backend;

    @Option(names = "--weights", paramLabel = "TYPE", defaultValue = "bf16", description = "bf16, f16, f32, q8 or q4 (default: ${DEFAULT-VALUE}).")
    private Weights weights;

    @Option(names = "--kv-cache", paramLabel = "TYPE", defaultValue = "f32", description = "f32 or q8 (default: ${DEFAULT-VALUE}).")
    private RunCommand.Cache kvCache;

    @Option(names = "--threads", paramLabel = "N", defaultValue = "0", description = "Threads (default: all processors).")
    private int threads;

    @Option(names = "--rounds", paramLabel = "N", defaultValue = "5", description = "Repetitions, of which the median counts (default: ${DEFAULT-VALUE}).")
    private int rounds;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        int decoderLayers = layers == null ? 2 : layers;
        int[] together = batches == null ? new int[]{1} : batches;
        int[] growing = batches == null ? new int[]{1, 2, 4, 8, 16, 32} : batches;
        if (decoderLayers < 1 || prompt < 1 || decode < 1 || rounds < 1)
            throw wrong("--layers, --prompt, --decode and --rounds must be 1 or more");
        if (threads < 0)
            throw wrong("--threads is " + threads + ", expected 0 or more");
        for (int[] list : List.of(contexts, prompts, together))
            for (int n : list)
                if (n < 1)
                throw wrong(n + " in --contexts, --prompts or --batches, expected 1 or more");
        if (sections.contains(Section.LATENCY) && model == null)
            throw wrong("latency needs --model, a folder with a tokenizer");
        OmniConfig whole = sections.contains(Section.LATENCY)
                ? LatencyBench.config(model, layers == null ? Integer.MAX_VALUE : layers)
                : null;
        if (plot != null && wants(Section.GROWTH))
            OmniCli.expectWritable(plot);
        PrintWriter out = spec.commandLine().getOut();
        int cores = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
        BackendOptions options = new BackendOptions(threads, Map.of());
        try (Backend chosen = backend != null ? Backends.load(backend, options) : Backends.best(options)) {
            out.printf("backend %s, %s (%s), %d threads; real widths, %s weights, random; %s cache%n", chosen.name(),
                    chosen.device().name(), chosen.device().detail(), cores, lower(weights), lower(kvCache));
            Roofline roofline = Roofline.measure(chosen, cores);
            out.printf(
                    "roofline: %.1f GB/s read, %.0f GFLOP/s float32 multiply-add, on the host; %.1f GB/s copied by the"
                            + " backend%n",
                    roofline.hostGigabytes(), roofline.gigaflops(), roofline.copiedGigabytes());
            Bench bench = new Bench(chosen, DType.valueOf(weights.name()), kvCache.type, rounds, cores, roofline, out);
            if (sections.isEmpty() || wants(Section.DECODER))
                new DecoderBench(bench, Bench.config(config -> Bench.decoderOnly(config, decoderLayers)), prompt,
                        decode,
                        together).run();
            if (wants(Section.AUDIO))
                EncoderBench.audio(bench);
            if (wants(Section.VISION))
                EncoderBench.vision(bench);
            if (wants(Section.SPEECH))
                SpeechBench.run(bench);
            if (sections.contains(Section.LATENCY))
                new LatencyBench(bench, whole, model, decode).run();
            if (wants(Section.GROWTH))
                new GrowthBench(bench, decoderLayers, decode, contexts, prompts, growing, cores).run(plot);
        }
        return 0;
    }

    private ParameterException wrong(String message) {
        return new ParameterException(spec.commandLine(), message);
    }

    private static String lower(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT);
    }

    private boolean wants(Section section) {
        return sections.contains(section) || sections.contains(Section.ALL);
    }
}
