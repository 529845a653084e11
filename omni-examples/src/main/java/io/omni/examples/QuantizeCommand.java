package io.omni.examples;

import io.omni.api.DType;
import io.omni.core.Quantizer;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code omni quantize}: a checkpoint folder with smaller weights. */
@Command(name = "quantize", description = "Write a copy of a checkpoint with its large matrices in 8 or 4 bits, from floats or from another tool's quantisation. A run that was interrupted goes on where it stopped.", mixinStandardHelpOptions = true)
final class QuantizeCommand implements Callable<Integer> {
    private static final int WIDTH = 30;

    /** What matrices are written as. */
    enum Weights {
        Q8, Q4
    }

    @Option(names = "--model", required = true, paramLabel = "DIR", description = "Checkpoint folder.")
    private Path model;

    @Option(names = "--out", required = true, paramLabel = "DIR", description = "Where the copy goes.")
    private Path out;

    @Option(names = "--weights", required = true, paramLabel = "TYPE", description = "q8 or q4.")
    private Weights weights;

    @Spec
    private CommandSpec spec;

    private final boolean terminal = System.console() != null && System.console().isTerminal();
    private final long start = System.nanoTime();
    private int shard;
    private long shown = -1;

    @Override
    public Integer call() {
        Quantizer.Summary summary;
        try {
            summary = Quantizer.quantize(model, out, DType.valueOf(weights.name()), this::show);
        } finally {
            if (terminal && shown >= 0)
                spec.commandLine().getErr().println();
        }
        spec.commandLine().getOut().printf(
                "%s: %d matrices in blocks, %.2f GB instead of %.2f; %d other tensors, %.2f GB; %d shards, %d of them there already; %.0f s%n",
                out, summary.quantised(), summary.quantisedTo() / 1e9, summary.quantisedFrom() / 1e9, summary.kept(),
                summary.keptBytes() / 1e9, summary.shards(), summary.thereAlready(), seconds());
        return 0;
    }

    private double seconds() {
        return (System.nanoTime() - start) / 1e9;
    }

    /** A bar that is written over on a terminal, else a line for each shard. */
    private void show(Quantizer.Progress progress) {
        double part = progress.totalBytes() == 0 ? 1 : (double) progress.bytes() / progress.totalBytes();
        long now = (long) (100 * part);
        if (terminal ? now == shown : progress.shard() == shard)
            return;
        shown = now;
        shard = progress.shard();
        PrintWriter err = spec.commandLine().getErr();
        String file = "%s, %d of %d".formatted(progress.file(), shard, progress.shards());
        if (terminal) {
            int filled = (int) (WIDTH * part);
            err.printf("\r[%s%s] %3d %%, %.1f of %.1f GB, %.0f s left, %s ", "#".repeat(filled),
                    " ".repeat(WIDTH - filled), now, progress.bytes() / 1e9, progress.totalBytes() / 1e9,
                    part == 0 ? 0 : seconds() * (1 - part) / part, file);
        } else
            err.printf("%s, %d %% of %.1f GB%n", file, now, progress.totalBytes() / 1e9);
        err.flush();
    }
}
