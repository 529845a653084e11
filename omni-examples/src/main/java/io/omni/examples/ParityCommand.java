package io.omni.examples;

import io.omni.core.Omni;
import io.omni.core.Parity;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code omni parity}: compares a backend, a build or a quantisation with dumps of upstream. */
@Command(name = "parity", description = "Compare every tensor of reference cases with what this build computes.", mixinStandardHelpOptions = true)
final class ParityCommand implements Callable<Integer> {
    @Option(names = "--model", required = true, paramLabel = "DIR", description = "Checkpoint folder.")
    private Path model;

    @Option(names = "--cases", required = true, paramLabel = "DIR", description = "NAME.json and NAME.safetensors of each case.")
    private Path cases;

    @Option(names = "--media", required = true, paramLabel = "DIR", description = "Where the cases' media paths start.")
    private Path media;

    @Option(names = "--backend", paramLabel = "NAME", converter = BackendsCommand.Name.class, description = "See 'omni backends'; else the best available.")
    private String backend;

    @Option(names = "--case", paramLabel = "NAME", arity = "1..*", description = "Only these cases.")
    private List<String> only;

    @Spec
    private CommandSpec spec;

    private int passed;
    private int failed;

    @Override
    public Integer call() {
        if (!Files.isDirectory(cases))
            throw new IllegalArgumentException(cases + ": no such folder");
        for (String name : only == null ? List.<String>of() : only)
            if (!Files.exists(cases.resolve(name + ".safetensors")))
            throw new IllegalArgumentException("case " + name + ": found no " + cases.resolve(name + ".safetensors"));
        Omni.Builder builder = Omni.builder();
        if (backend != null)
            builder.backend(backend);
        try (Omni omni = builder.load(model)) {
            Parity parity = new Parity(omni, cases, media);
            for (String name : only == null ? parity.names() : only)
                parity.run(name, this::show);
        }
        if (passed + failed == 0)
            throw new IllegalStateException(cases + ": found no tensors to compare, expected files NAME.safetensors");
        spec.commandLine().getOut().println(passed + " passed, " + failed + " failed");
        return failed == 0 ? 0 : 1;
    }

    private void show(Parity.Result result) {
        PrintWriter out = spec.commandLine().getOut();
        if (result.ok())
            passed++;
        else
            failed++;
        out.printf("%-22s %-32s %9.2e %9.2e  %s%s%n", result.name(), result.tensor(), result.relativeError(),
                result.largestError(), result.ok() ? "ok" : "FAILED",
                result.detail().isEmpty() ? "" : ": " + result.detail());
    }
}
