package io.omni.backend.cuda;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;

/** Compilers that the tests run where they are installed. */
final class Tools {
    private Tools() {}

    static boolean has(String tool) {
        for (String folder : System.getenv().getOrDefault("PATH", "").split(File.pathSeparator))
            if (Path.of(folder, tool).toFile().canExecute())
            return true;
        return false;
    }

    static Process start(String... command) throws IOException {
        return new ProcessBuilder(command).redirectErrorStream(true).start();
    }

    /** What a command prints. */
    static String output(String... command) throws IOException {
        Process process = start(command);
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        if (exit(process) != 0)
            throw new AssertionError(String.join(" ", command) + "\n" + output);
        return output;
    }

    static void await(List<Process> processes) throws IOException {
        for (Process process : processes) {
            String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            if (exit(process) != 0)
                throw new AssertionError(output);
        }
        processes.clear();
    }

    private static int exit(Process process) {
        try {
            return process.waitFor();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }
}
