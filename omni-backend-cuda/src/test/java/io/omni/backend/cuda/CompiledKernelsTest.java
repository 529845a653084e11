package io.omni.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The PTX in the jar: it is what the sources compile to, and it fits the cards it is for. */
class CompiledKernelsTest {
    private static final Path RESOURCES = Path.of("src/main/resources/io/omni/backend/cuda");
    private static final Pattern RESOURCE = Pattern.compile("entry function '(\\w+)' for '\\w+'|"
            + "(\\d+) bytes stack frame, (\\d+) bytes spill stores, (\\d+) bytes spill loads|Used (\\d+) registers");
    private static final Pattern SHARED = Pattern.compile("(\\d+) bytes smem");

    @TempDir
    Path scratch;

    @Test
    void isWhatTheSourcesCompileTo() throws IOException {
        assumeTrue(Tools.has("nvcc"), "nvcc not found, so that the PTX in the jar is not compared with a fresh one");
        String release = Tools.output("nvcc", "--version");
        assumeTrue(release.contains("release 13.0"), "the PTX in the jar is of nvcc 13.0, this is " + release);
        Tools.output("sh", "compile-kernels.sh", scratch.toString());
        for (String file : Kernels.FILES) {
            String name = file + ".ptx";
            // not assertThat(String), whose message would hold both files
            assertThat(Files.mismatch(RESOURCES.resolve(name), scratch.resolve(name)))
                    .as("first byte of %s that differs: run compile-kernels.sh and commit the result", name)
                    .isEqualTo(-1);
        }
        try (var sources = Files.list(Path.of("src/main/cuda"))) {
            assertThat(sources.map(source -> source.getFileName().toString()).filter(name -> name.endsWith(".cu"))
                    .map(name -> name.substring(0, name.length() - 3)))
                    .containsExactlyInAnyOrderElementsOf(Kernels.FILES);
        }
    }

    /** PTX 8.0 is what the drivers of CUDA 12.0 take, and sm_80 what all newer cards run. */
    @Test
    void loadsWithDriversOfCuda12() {
        for (String text : Kernels.load().texts().values())
            assertThat(text).startsWith(".version 8.0\n.target sm_80\n");
    }

    /** A kernel whose registers overflow into memory is slower by a factor; one that needs too many does not start. */
    @ParameterizedTest
    @ValueSource(ints = {80, 89, 90})
    void fitsTheCard(int card) throws IOException {
        assumeTrue(Tools.has("ptxas"), "ptxas not found, so that registers are not counted");
        Kernels kernels = Kernels.load();
        Map<String, String> report = new TreeMap<>();
        for (String output : Kernels.FILES.parallelStream().map(file -> assemble(file, card)).toList()) {
            String kernel = null;
            int stack = 0;
            for (String line : output.lines().toList()) {
                Matcher found = RESOURCE.matcher(line);
                if (!found.find())
                    continue;
                if (found.group(1) != null) {
                    kernel = found.group(1);
                } else if (found.group(2) != null) {
                    stack = Integer.parseInt(found.group(2));
                    assertThat(found.group(3) + found.group(4)).as("spills of %s", kernel).isEqualTo("00");
                } else {
                    int registers = Integer.parseInt(found.group(5));
                    Matcher shared = SHARED.matcher(line);
                    int bytes = shared.find() ? Integer.parseInt(shared.group(1)) : 0;
                    int threads = kernels.entries().get(kernel).threads();
                    assertThat(registers * threads).as("registers of %s", kernel).isLessThanOrEqualTo(65536);
                    assertThat(bytes).as("shared memory of %s", kernel).isLessThanOrEqualTo(48 << 10);
                    // sine and cosine of large angles need a table's row of scratch, on the stack
                    if (!kernel.startsWith("snake") && !kernel.startsWith("rotary_table"))
                        assertThat(stack).as("stack of %s", kernel).isZero();
                    report.put(kernel, registers + " registers, " + bytes + " bytes of shared memory, blocks of "
                            + threads);
                }
            }
        }
        assertThat(report.keySet()).isEqualTo(new java.util.TreeSet<>(kernels.entries().keySet()));
        StringBuilder text = new StringBuilder();
        report.forEach((kernel, resources) -> text.append(kernel + ": " + resources + "\n"));
        Files.createDirectories(Path.of("target"));
        Files.writeString(Path.of("target/resources-sm_" + card + ".txt"), text);
    }

    private String assemble(String file, int card) {
        try {
            return Tools.output("ptxas", "-v", "-arch=sm_" + card, "-o", scratch.resolve(file + ".cubin").toString(),
                    RESOURCES.resolve(file + ".ptx").toString());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
