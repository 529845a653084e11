package io.omni.examples;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** New JVMs with one backend's jar on the class path: slow, as each starts cold. */
class OneBackendAloneTest {
    @TempDir
    private Path folder;

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "onnx"})
    void theModelRunsOnWhatThereIs(String backend) throws Exception {
        String out = run(backend);
        assertThat(out).startsWith("{");
        JsonNode json = new ObjectMapper().readTree(out);
        assertThat(json.get("backend").asText()).isEqualTo(backend);
        assertThat(json.get("text").get(0).asText()).startsWith(" die testwattrffect");
        assertThat(json.get("codes").get(0).get(0).get(0).asInt()).isEqualTo(13);
    }

    @Test
    void withoutAnyTheErrorSaysWhatToAdd() throws Exception {
        assertThat(run("none").trim()).endsWith("omni: no backend on the class path: add omni-backend-cpu or another");
    }

    /** What the reference case {@code text} prints with the other backends' jars taken away. */
    private String run(String only) throws IOException, InterruptedException {
        JsonNode conversations = new ObjectMapper()
                .readTree(Path.of("..", "reference", "tiny", "cases", "text.json").toFile()).get("conversations");
        Path conversation = Files.writeString(folder.resolve("conversation.json"), conversations.toString());
        String classPath = Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
                .filter(entry -> !entry.contains("omni-backend-") || entry.contains("omni-backend-" + only))
                .collect(Collectors.joining(File.pathSeparator));
        Path err = folder.resolve("err");
        Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules", "jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED", "-Domni.warmUp=0", "-cp",
                classPath, "io.omni.examples.OmniCli", "run", "--model", "../reference/tiny/model", "--conversation",
                conversation.toString(), "--greedy", "--thinker-max-new-tokens", "12", "--talker-max-new-tokens", "14",
                "--json").redirectError(err.toFile()).start();
        String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        int status = process.waitFor();
        return status == 0 ? out : "exit status " + status + "\n" + out + Files.readString(err);
    }
}
