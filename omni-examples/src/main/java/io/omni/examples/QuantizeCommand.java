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
@Command(name = "quantize", description = "Write a copy of a checkpoint with its large matrices in 8 or 4 bits. A run that was interrupted goes on where it stopped.", mixinStandardHelpOptions = true)
final class QuantizeCommand implements Callable<Integer> {
    @Option(names = "--model", required = true, paramLabel = "DIR", description = "Checkpoint folder.")
    private Path model;

    @Option(names = "--out", required = true, paramLabel = "DIR", description = "Where the copy goes.")
    private Path out;

    @Option(names = "--weights", required = true, paramLabel = "TYPE", description = "q8 or q4.")
    private String weights;

    @Spec
    private CommandSpec spec;

    private int shard;
    private long percent = -1;

    @Override
    public Integer call() {
        DType type = switch (weights) {
            case "q8" -> DType.Q8;
            case "q4" -> DType.Q4;
            default -> throw new IllegalArgumentException("unknown weights '" + weights + "', expected q8 or q4");
        };
        Quantizer.quantize(model, out, type, this::show);
        return 0;
    }

    /** One line that is written over on a terminal, else a line for each shard. */
    private void show(Quantizer.Progress progress) {
        PrintWriter err = spec.commandLine().getErr();
        boolean terminal = System.console() != null && System.console().isTerminal();
        long now = progress.totalBytes() == 0 ? 100 : 100 * progress.readBytes() / progress.totalBytes();
        if (terminal ? now == percent : progress.shard() == shard)
            return;
        percent = now;
        shard = progress.shard();
        String line = "%s, shard %d of %d, %d %% of %.1f GB".formatted(progress.file(), shard, progress.shards(),
                now, progress.totalBytes() / 1e9);
        if (terminal)
            err.print("\r" + line + (progress.readBytes() == progress.totalBytes() ? "\n" : ""));
        else
            err.println(line);
        err.flush();
    }
}
