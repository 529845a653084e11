package io.omni.examples;

import io.omni.api.BackendException;
import io.omni.core.CheckpointException;
import io.omni.processor.ProcessorException;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;

/** The command line, {@code omni}. */
@Command(name = "omni", description = "Qwen3-Omni-MoE on the JVM: text, images, audio and video in, text and speech out.", mixinStandardHelpOptions = true, version = "omni 0.1.0", subcommands = {
        RunCommand.class, ParityCommand.class, BackendsCommand.class, DemoCommand.class, BenchCommand.class,
        QuantizeCommand.class,
        CommandLine.HelpCommand.class})
public final class OmniCli {
    /** Where a full disk or a closed pipe took what was printed. */
    static final String LOST_OUTPUT = "standard output: cannot be written";

    @Option(names = "--debug", scope = ScopeType.INHERIT, description = "Show where an error comes from.")
    boolean debug;

    private OmniCli() {}

    public static void main(String[] args) {
        System.exit(run(new PrintWriter(System.out, true, StandardCharsets.UTF_8),
                new PrintWriter(System.err, true, StandardCharsets.UTF_8), args));
    }

    /** Runs a command line; returns its exit status: 0, 1 for a failure, 2 for a wrong command line. */
    static int run(PrintWriter out, PrintWriter err, String... args) {
        Locale.setDefault(Locale.Category.FORMAT, Locale.ROOT); // numbers are the same everywhere
        OmniCli cli = new OmniCli();
        CommandLine commandLine = new CommandLine(cli);
        commandLine.setOut(out).setErr(err).setCaseInsensitiveEnumValuesAllowed(true);
        commandLine.setExecutionExceptionHandler((e, failed, result) -> {
            if (cli.debug)
                e.printStackTrace(err);
            else
                err.println("omni: " + message(e));
            return CommandLine.ExitCode.SOFTWARE;
        });
        int status = commandLine.execute(args);
        // a PrintWriter keeps its failures to itself
        if (status == CommandLine.ExitCode.OK && out.checkError()) {
            err.println("omni: " + LOST_OUTPUT);
            return CommandLine.ExitCode.SOFTWARE;
        }
        return status;
    }

    /** Tells before the work if its result could not be written. */
    static void expectWritable(Path file) {
        Path folder = file.toAbsolutePath().getParent();
        if (Files.isDirectory(file))
            throw new IllegalArgumentException(file + ": is a folder, expected a file");
        if (!Files.isDirectory(folder))
            throw new IllegalArgumentException(file + ": cannot be written, " + folder + " is no folder");
        if (!Files.isWritable(Files.exists(file) ? file : folder))
            throw new IllegalArgumentException(file + ": cannot be written, permission is missing");
    }

    /** One line for the user: what was foreseen says all itself, the rest its kind too. */
    private static String message(Throwable e) {
        boolean foreseen = e instanceof CheckpointException || e instanceof BackendException
                || e instanceof ProcessorException || e instanceof IllegalArgumentException
                || e instanceof IllegalStateException || e instanceof java.io.UncheckedIOException;
        String text = e.getMessage() == null ? "" : e.getMessage().lines().findFirst().orElse("");
        return foreseen && !text.isEmpty() ? text : e.getClass().getSimpleName() + ": " + text;
    }
}
