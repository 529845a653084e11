package io.omni.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/**
 * The calls that {@link NvidiaDriver} makes through JCuda, in a JVM of its own whose libcuda.so.1 is src/test/cuda/driver.cpp:
 * what a card's tests do, but for the card.
 */
class JCudaTest {
    private record Outcome(int status, String output) {}

    @BeforeAll
    static void needsACompiler() {
        assumeTrue(Emulation.missing() == null, Emulation.missing());
    }

    private static Outcome onCard(Map<String, String> environment, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(
                List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "--enable-native-access=ALL-UNNAMED", "-Domni.conformance.seed=1", "-cp",
                        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                        RunOnCard.class.getName()));
        command.addAll(Arrays.asList(arguments));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().putAll(environment);
        builder.environment().put("LD_LIBRARY_PATH", Emulation.driver() + File.pathSeparator
                + System.getenv().getOrDefault("LD_LIBRARY_PATH", ""));
        Process process = builder.start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Outcome(process.waitFor(), output);
    }

    @Test
    void operationsPassThroughJCuda() throws Exception {
        Outcome outcome = onCard(Map.of(), "OperationsTest");
        assertThat(outcome.status()).as(outcome.output()).isZero();
        assertThat(outcome.output()).containsPattern("[1-9]\\d passed, 0 failed");
    }

    @Test
    void saysWhyThereIsNoCard() throws Exception {
        assertThat(onCard(Map.of(), "--ask").status()).isZero();
        assertRefused("FAKE_INIT", "100", "the NVIDIA driver finds no card");
        assertRefused("FAKE_INIT", "803", "the NVIDIA driver does not start: cuInit gave error 803");
        assertRefused("FAKE_VERSION", "11080", "the NVIDIA driver is for CUDA 11.8, 12.0 or newer is needed");
        assertRefused("FAKE_MAJOR", "7", "emulated card has compute capability 7.0, 8.0 or newer is needed");
    }

    private static void assertRefused(String variable, String value, String reason) throws Exception {
        Outcome outcome = onCard(Map.of(variable, value), "--ask");
        assertThat(outcome.status()).isEqualTo(2);
        assertThat(outcome.output()).contains("no card to run on: " + reason);
    }
}
