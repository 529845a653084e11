package io.omni.backend.cuda;

import io.omni.api.BackendException;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The compiled kernels in the jar: which file has which kernel, and what it takes.
 *
 * @param architecture
 *            compute capability that the files are compiled for, such as 80
 * @param texts
 *            PTX of each file
 * @param entries
 *            every kernel by name
 */
record Kernels(int architecture, Map<String, String> texts, Map<String, Entry> entries) {
    /** One file for each family of operations, as in src/main/cuda. */
    static final List<String> FILES = List.of("attention", "conv", "elementwise", "linear", "moe", "norm", "rotary",
            "rows",
            "sampling");

    private static final Pattern ENTRY = Pattern
            .compile("\\.visible \\.entry (\\w+)\\(([^)]*)\\)\\s*(?:\\.maxntid (\\d+), 1, 1)?");
    private static final Pattern PARAMETER = Pattern.compile("\\.param \\.(\\w+)");

    /**
     * A kernel.
     *
     * @param file
     *            where it is
     * @param parameters
     *            their PTX types: u64, u32 or f32
     * @param threads
     *            most threads that a block may have
     */
    record Entry(String file, List<String> parameters, int threads) {}

    /** The kernels for a card of this compute capability, times ten. */
    static Kernels load(int capability) {
        int architecture = capability >= 90 ? 90 : 80;
        Map<String, String> texts = new HashMap<>();
        Map<String, Entry> entries = new HashMap<>();
        for (String file : FILES) {
            String name = "compute_" + architecture + "/" + file + ".ptx";
            try (InputStream in = Kernels.class.getResourceAsStream(name)) {
                if (in == null)
                    throw new BackendException("the jar of the CUDA backend lacks " + name);
                texts.put(file, new String(in.readAllBytes(), StandardCharsets.UTF_8));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            parse(file, texts.get(file), entries);
        }
        return new Kernels(architecture, texts, entries);
    }

    static void parse(String file, String text, Map<String, Entry> entries) {
        Matcher entry = ENTRY.matcher(text);
        while (entry.find()) {
            List<String> parameters = new ArrayList<>();
            Matcher parameter = PARAMETER.matcher(entry.group(2));
            while (parameter.find())
                parameters.add(parameter.group(1));
            int threads = entry.group(3) == null ? 1024 : Integer.parseInt(entry.group(3));
            entries.put(entry.group(1), new Entry(file, List.copyOf(parameters), threads));
        }
    }
}
