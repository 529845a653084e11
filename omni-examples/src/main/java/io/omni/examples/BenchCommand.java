package io.omni.examples;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.DType;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code omni bench}: parts of the model at the released widths, with random weights made in memory. */
@Command(name = "bench", description = "Measure parts of the model at the real widths, beside what the machine can do at most.", mixinStandardHelpOptions = true)
final class BenchCommand implements Callable<Integer> {
    /** What can be measured. */
    enum Section {
        DECODER, AUDIO, VISION, SPEECH, GROWTH, ALL
    }

    @Parameters(arity = "0..*", paramLabel = "SECTION", description = {"What to measure (default: decoder):",
            "decoder  layers of the Thinker: prompt, decoding, head;", "audio    the audio encoder on 30 s of sound;",
            "vision   the vision encoder on an image of 768 x 768;",
            "speech   the Talker with its code predictor, and Code2Wav;",
            "growth   decoder layers against context, prompt, batch and threads;", "all      all of these."})
    private Set<Section> sections = EnumSet.noneOf(Section.class);

    @Option(names = "--layers", paramLabel = "N", defaultValue = "2", description = "Decoder layers (default: ${DEFAULT-VALUE}; the real model has 48). The other sections but growth have all of theirs.")
    private int layers;

    @Option(names = "--prompt", paramLabel = "N", defaultValue = "256", description = "decoder: tokens read at once (default: ${DEFAULT-VALUE}).")
    private int prompt;

    @Option(names = "--decode", paramLabel = "N", defaultValue = "32", description = "Tokens decoded one by one (default: ${DEFAULT-VALUE}).")
    private int decode;

    @Option(names = "--contexts", paramLabel = "N", split = ",", defaultValue = "1,1024,4096,8192,16384,32000", description = "growth: tokens in the cache while decoding (default: ${DEFAULT-VALUE}).")
    private int[] contexts;

    @Option(names = "--prompts", paramLabel = "N", split = ",", defaultValue = "16,64,256,1024,2048", description = "growth: tokens read at once (default: ${DEFAULT-VALUE}).")
    private int[] prompts;

    @Option(names = "--batches", paramLabel = "N", split = ",", defaultValue = "1,2,4,8,16,32", description = "growth: sequences that decode together (default: ${DEFAULT-VALUE}).")
    private int[] batches;

    @Option(names = "--plot", paramLabel = "FILE", description = "growth: draw the curves, as SVG.")
    private Path plot;

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
        for (int[] list : List.of(contexts, prompts, batches))
            for (int n : list)
                if (n < 1)
                throw new IllegalArgumentException(
                        n + " in --contexts, --prompts or --batches, expected 1 or more");
        PrintWriter out = spec.commandLine().getOut();
        int cores = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
        BackendOptions options = new BackendOptions(threads, Map.of());
        try (Backend chosen = backend != null ? Backends.load(backend, options) : Backends.best(options)) {
            out.printf("backend %s, %s (%s), %d threads; real widths, %s weights, random%n", chosen.name(),
                    chosen.device().name(), chosen.device().detail(), cores, weights);
            Roofline roofline = Roofline.measure(cores);
            out.printf("roofline: %.1f GB/s read, %.0f GFLOP/s float32 multiply-add, on the host%n",
                    roofline.readGigabytes(), roofline.gigaflops());
            Bench bench = new Bench(chosen, type(), rounds, roofline, out);
            if (sections.isEmpty() || wants(Section.DECODER))
                new DecoderBench(bench, layers, prompt, decode).run();
            if (wants(Section.AUDIO))
                EncoderBench.audio(bench);
            if (wants(Section.VISION))
                EncoderBench.vision(bench);
            if (wants(Section.SPEECH))
                SpeechBench.run(bench);
            if (wants(Section.GROWTH))
                new GrowthBench(bench, layers, decode, contexts, prompts, batches, cores).run(plot);
        }
        return 0;
    }

    private boolean wants(Section section) {
        return sections.contains(section) || sections.contains(Section.ALL);
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
}
