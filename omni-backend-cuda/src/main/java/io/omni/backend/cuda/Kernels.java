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
 * @param texts
 *            PTX of each file
 * @param entries
 *            every kernel by name
 */
record Kernels(Map<String, String> texts, Map<String, Entry> entries) {
    /** Files of src/main/cuda, one for each family of operations, and type where that is long. */
    static final List<String> FILES = List.of("attention", "conv", "elementwise", "linear_bf16", "linear_f16",
            "linear_f32", "moe", "moe_bf16", "moe_f16", "moe_f32", "norm", "rotary", "rows", "sampling");

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

    /** The kernels, for cards of compute capability 8.0 and newer. */
    static Kernels load() {
        Map<String, String> texts = new HashMap<>();
        Map<String, Entry> entries = new HashMap<>();
        for (String file : FILES) {
            String name = file + ".ptx";
            try (InputStream in = Kernels.class.getResourceAsStream(name)) {
                if (in == null)
                    throw new BackendException("the jar of the CUDA backend lacks " + name);
                texts.put(file, new String(in.readAllBytes(), StandardCharsets.UTF_8));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            parse(file, texts.get(file), entries);
        }
        return new Kernels(texts, entries);
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
