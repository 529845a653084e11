package io.omni.examples;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.stream.Stream;
import javax.sound.sampled.AudioSystem;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class OmniCliTest {
    private static final Path REFERENCE = Path.of("..", "reference");
    private static final Path MODEL = REFERENCE.resolve("tiny/model");
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    private Path folder;

    private record Outcome(int status, String out, String err) {
        JsonNode json() throws IOException {
            return JSON.readTree(out);
        }
    }

    private static Outcome omni(Object... args) {
        StringWriter out = new StringWriter();
        StringWriter err = new StringWriter();
        String[] words = Stream.of(args).map(Object::toString).toArray(String[]::new);
        int status = OmniCli.run(new PrintWriter(out, true), new PrintWriter(err, true), words);
        return new Outcome(status, out.toString(), err.toString());
    }

    /** The conversations of a reference case as a file of its own. */
    private Path conversation(String name) throws IOException {
        JsonNode conversations = JSON.readTree(REFERENCE.resolve("tiny/cases/" + name + ".json").toFile())
                .get("conversations");
        return file(name + ".json", conversations.toString());
    }

    private Path file(String name, String text) throws IOException {
        return Files.writeString(folder.resolve(name), text);
    }

    @Test
    void quantizesACheckpointThatThenRuns() throws IOException {
        Path small = folder.resolve("q8");
        Outcome outcome = omni("quantize", "--model", MODEL, "--out", small, "--weights", "q8");
        assertThat(outcome.status()).as(outcome.err()).isZero();
        assertThat(outcome.err()).contains("model-00007-of-00007.safetensors, 7 of 7");
        outcome = omni("run", "--model", small, "--conversation", conversation("text"), "--media",
                REFERENCE.resolve("media"), "--greedy", "--no-audio", "--thinker-max-new-tokens", 3, "--json");
        assertThat(outcome.status()).as(outcome.err()).isZero();
    }

    @Test
    void runPrintsOneJsonObjectWithWhatUpstreamGenerates() throws IOException {
        JsonNode golden = JSON.readTree(REFERENCE.resolve("tiny/cases/batch_text_and_audio.json").toFile());
        Outcome outcome = omni("run", "--model", MODEL, "--conversation", conversation("batch_text_and_audio"),
                "--media",
                REFERENCE.resolve("media"), "--greedy", "--thinker-max-new-tokens", 12, "--talker-max-new-tokens", 14,
                "--audio-out", folder.resolve("speech"), "--json");
        assertThat(outcome.status()).as(outcome.err()).isZero();
        JsonNode json = outcome.json();
        assertThat(json.get("backend").asText()).isEqualTo("cpu");
        assertThat(json.get("text")).isEqualTo(golden.get("text"));
        assertThat(json.get("sample_rate").asInt()).isEqualTo(24_000);
        for (int i = 0; i < 2; i++) {
            assertThat(json.get("sequences").get(i)).hasSize(json.get("prompt_tokens").get(i).asInt() + 12);
            assertThat(json.get("codes").get(i)).hasSize(4);
            assertThat(json.get("codes").get(i).get(0)).hasSize(13);
            Path wav = Path.of(json.get("audio").get(i).asText());
            assertThat(wav).isEqualTo(folder.resolve("speech").resolve(i + ".wav")).exists();
        }
        JsonNode timings = json.get("timings");
        assertThat(timings.get("prefill").asDouble()).isPositive()
                .isLessThanOrEqualTo(timings.get("first_text").asDouble());
        assertThat(timings.get("first_text").asDouble()).isLessThan(timings.get("text_done").asDouble());
        assertThat(timings.get("first_audio").asDouble()).isLessThanOrEqualTo(timings.get("audio_done").asDouble());
    }

    @Test
    void runStreamsTextAndWritesSpeechToAFile() throws Exception {
        Locale.setDefault(Locale.Category.FORMAT, Locale.GERMANY);
        Path wav = folder.resolve("answer.wav");
        Outcome outcome = omni("run", "--model", MODEL, "--conversation", conversation("text"), "--greedy",
                "--thinker-max-new-tokens", 12, "--talker-max-new-tokens", 14, "--speaker", "CHELSIE", "--audio-out",
                wav);
        assertThat(outcome.status()).as(outcome.err()).isZero();
        assertThat(outcome.out()).startsWith(" die testwattrffect").endsWith(System.lineSeparator());
        assertThat(outcome.err()).startsWith("1.02 s of speech in " + wav);
        try (var sound = AudioSystem.getAudioInputStream(wav.toFile())) {
            assertThat(sound.getFormat().getSampleRate()).isEqualTo(24_000);
            assertThat(sound.getFrameLength()).isEqualTo(24_405);
        }
    }

    @Test
    void noAudioGivesTextAlone() throws IOException {
        Outcome outcome = omni("run", "--model", MODEL, "--conversation", conversation("text"), "--no-audio",
                "--greedy",
                "--thinker-max-new-tokens", 3, "--json");
        assertThat(outcome.json().get("codes")).isEmpty();
        assertThat(outcome.json().get("audio")).isEmpty();
        assertThat(outcome.json().get("timings").get("first_audio").isNull()).isTrue();
    }

    @Test
    void parityPassesAndSaysSo() {
        Outcome outcome = omni("parity", "--model", MODEL, "--cases", REFERENCE.resolve("tiny/cases"), "--media",
                REFERENCE.resolve("media"), "--case", "text");
        assertThat(outcome.status()).as(outcome.out()).isZero();
        assertThat(outcome.out().lines().toList().getLast()).matches("\\d+ passed, 0 failed");
    }

    @Test
    void parityFailsWithStatusOne() throws IOException {
        // the same tensors under another conversation
        Files.copy(REFERENCE.resolve("tiny/cases/text.safetensors"), folder.resolve("text.safetensors"));
        Files.copy(REFERENCE.resolve("tiny/cases/text_multi_turn.json"), folder.resolve("text.json"));
        Outcome outcome = omni("parity", "--model", MODEL, "--cases", folder, "--media", REFERENCE.resolve("media"));
        assertThat(outcome.status()).isEqualTo(1);
        assertThat(outcome.out()).contains("FAILED");
    }

    @Test
    void parityThatComparesNothingFails() throws IOException {
        Path empty = Files.createDirectory(folder.resolve("empty"));
        assertParityFails(empty, ": found no tensors to compare, expected files NAME.safetensors");
        assertParityFails(folder.resolve("nope"), ": no such folder");
        assertParityFails(empty, "omni: case nope: found no " + empty.resolve("nope.safetensors"), "--case", "nope");
    }

    private static void assertParityFails(Path cases, String message, String... more) {
        Object[] args = Stream.concat(Stream.of("parity", "--model", MODEL, "--cases", cases, "--media", cases),
                Stream.of(more)).toArray();
        Outcome outcome = omni(args);
        assertThat(outcome.status()).isEqualTo(1);
        assertThat(outcome.out()).isEmpty();
        assertThat(outcome.err().lines()).singleElement().asString().startsWith("omni: ").endsWith(message);
    }

    @Test
    void backendsListsTheCpu() {
        assertThat(omni("backends").out()).containsPattern("cpu +available: .+");
    }

    /** Status 2, before anything is read; the usage follows. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            run --model x --conversation x --kv-cache q5                | '--kv-cache': expected one of [F32, Q8] (case-insensitive) but was 'q5'
            run --model x --conversation x --backend abacus             | unknown backend 'abacus', expected one of
            run --model x --conversation x --fps 0                      | --fps is 0.0, expected more than 0
            run --model x --conversation x --fps Infinity               | --fps is Infinity, expected a finite number
            run --model x --conversation x --thinker-max-new-tokens 0   | --thinker-max-new-tokens is 0, expected more than 0
            run --model x --conversation x --talker-max-new-tokens -1   | --talker-max-new-tokens is -1, expected more than 0
            run --model x --conversation x --no-audio --speaker Ethan   | --speaker with --no-audio
            run --model x --conversation x --no-audio --audio-out x.wav | --audio-out with --no-audio
            run --model x --conversation x --seed much                  | '--seed': 'much' is not a long
            quantize --model x --out x --weights q5                     | '--weights': expected one of [Q8, Q4] (case-insensitive) but was 'q5'
            bench --weights q5                                          | '--weights': expected one of [BF16, F16, F32, Q8, Q4]
            bench --kv-cache i8                                         | '--kv-cache': expected one of [F32, Q8]
            bench --rounds 0                                            | --rounds must be 1 or more
            bench --threads -1                                          | --threads is -1, expected 0 or more
            bench --contexts 1,0                                        | 0 in --contexts, --prompts or --batches
            bench ears                                                  | Unmatched argument at index 1: 'ears'
            parity --model x --cases x --media x --backend abacus       | unknown backend 'abacus'
            demo --backend abacus                                       | unknown backend 'abacus'
            """)
    void wrongUsageIsToldFirstAndHasAStatusOfItsOwn(String line, String message) {
        Outcome outcome = omni((Object[]) line.split(" "));
        assertThat(outcome.status()).isEqualTo(2);
        assertThat(outcome.out()).isEmpty();
        assertThat(outcome.err().lines().toList()).element(0).asString().contains(message);
        assertThat(outcome.err()).contains("Usage: omni " + line.split(" ")[0]).doesNotContain("\tat ");
    }

    @Test
    void whatTheModelDoesNotHaveGivesOneLine() throws IOException {
        Outcome outcome = omni("run", "--model", MODEL, "--conversation",
                file("hi.json", "[{\"role\":\"user\",\"content\":\"hi\"}]"), "--speaker", "Bob");
        assertThat(outcome.status()).isEqualTo(1);
        assertThat(outcome.out()).isEmpty();
        assertThat(outcome.err().lines()).singleElement().asString()
                .startsWith("omni: unknown speaker 'Bob', expected one of [aiden, chelsie, ethan]");
    }

    /** A full disk or a closed pipe. */
    private static final class Full extends Writer {
        int writes;

        @Override
        public void write(char[] text, int from, int length) throws IOException {
            writes++;
            throw new IOException("No space left on device");
        }

        @Override
        public void flush() {}

        @Override
        public void close() {}
    }

    private static void assertOutputIsLost(Full out, Object... args) {
        StringWriter err = new StringWriter();
        String[] words = Stream.of(args).map(Object::toString).toArray(String[]::new);
        assertThat(OmniCli.run(new PrintWriter(out, true), new PrintWriter(err, true), words)).isEqualTo(1);
        assertThat(err.toString().lines()).containsExactly("omni: standard output: cannot be written");
    }

    @Test
    void lostOutputIsAFailureAndEndsTheAnswer() throws IOException {
        assertOutputIsLost(new Full(), "backends");
        Full out = new Full();
        assertOutputIsLost(out, "run", "--model", MODEL, "--conversation", conversation("text"), "--no-audio",
                "--greedy", "--thinker-max-new-tokens", 12);
        assertThat(out.writes).isEqualTo(1);
    }

    private void assertFailsBeforeTheModelIsRead(String message, Object... args) {
        Object[] all = Stream.concat(Stream.of(args), Stream.of("--model", folder.resolve("no-model"))).toArray();
        Outcome outcome = omni(all);
        assertThat(outcome.status()).isEqualTo(1);
        assertThat(outcome.out()).isEmpty();
        assertThat(outcome.err().lines()).containsExactly("omni: " + message);
    }

    @Test
    void placesForSpeechAreCheckedFirst() throws IOException {
        Path hi = file("hi.json", "[{\"role\":\"user\",\"content\":\"hi\"}]");
        Path two = file("two.json",
                "[[{\"role\":\"user\",\"content\":\"a\"}],[{\"role\":\"user\",\"content\":\"b\"}]]");
        Path nowhere = folder.resolve("nowhere");
        assertFailsBeforeTheModelIsRead(
                nowhere.resolve("a.wav") + ": cannot be written, " + nowhere + " is no folder", "run",
                "--conversation", hi, "--audio-out", nowhere.resolve("a.wav"));
        assertFailsBeforeTheModelIsRead(
                "--audio-out: found the file " + folder.resolve("a.wav") + ", expected a folder for 2 answers", "run",
                "--conversation", two, "--audio-out", folder.resolve("a.wav"));
        assertFailsBeforeTheModelIsRead(hi.resolve("speech") + ": cannot be made a folder", "run",
                "--conversation", hi, "--audio-out", hi.resolve("speech"));
    }

    @Test
    void aModelWithoutTalkerHasNoSpeechToWrite() throws IOException {
        Path silent = Files.createDirectory(folder.resolve("silent"));
        try (Stream<Path> files = Files.list(MODEL)) {
            for (Path file : files.toList())
                Files.copy(file, silent.resolve(file.getFileName()));
        }
        Path config = silent.resolve("config.json");
        Files.writeString(config, Files.readString(config).replace("\"enable_audio_output\": true",
                "\"enable_audio_output\": false"));
        Outcome outcome = omni("run", "--model", silent, "--conversation", conversation("text"), "--audio-out",
                folder.resolve("a.wav"));
        assertThat(outcome.status()).isEqualTo(1);
        assertThat(outcome.out()).isEmpty();
        assertThat(outcome.err().lines())
                .containsExactly("omni: --audio-out: " + silent + " has no Talker, so there is no speech");
    }

    @Test
    @EnabledOnOs(OS.LINUX)
    void theAnswerIsPrintedWhereItsSpeechCannotBeWritten() throws IOException {
        Outcome outcome = omni("run", "--model", MODEL, "--conversation", conversation("text"), "--greedy",
                "--thinker-max-new-tokens", 3, "--talker-max-new-tokens", 3, "--json", "--audio-out", "/dev/full");
        assertThat(outcome.status()).isEqualTo(1);
        assertThat(outcome.json().get("text").get(0).asText()).isNotEmpty();
        assertThat(outcome.json().get("audio")).isEmpty();
        assertThat(outcome.err().lines()).singleElement().asString()
                .startsWith("omni: /dev/full: cannot be written: ");
    }

    @Test
    void benchmarksCheckTheirFilesFirst() {
        Path plot = folder.resolve("nowhere").resolve("a.svg");
        assertFailsBeforeTheModelIsRead(plot + ": cannot be written, " + plot.getParent() + " is no folder", "bench",
                "growth", "--plot", plot);
        assertFailsBeforeTheModelIsRead(folder.resolve("no-model").resolve("config.json") + ": no such file", "bench",
                "latency");
    }

    @Test
    @EnabledOnOs({OS.LINUX, OS.MAC})
    void theScriptFindsItsFolderThroughLinks() throws Exception {
        Path home = Files.createDirectory(folder.resolve("home")).toRealPath();
        Path script = Files.copy(Path.of("..", "omni"), home.resolve("omni"));
        Path build = Files.writeString(home.resolve("mvnw"), "#!/bin/sh\necho built in \"$PWD\"\nexit 1\n");
        assertThat(build.toFile().setExecutable(true)).isTrue();
        Path link = Files.createSymbolicLink(folder.resolve("first"), script);
        Path further = Files.createSymbolicLink(folder.resolve("second"), link.getFileName());
        ProcessBuilder command = new ProcessBuilder("sh", further.toString(), "help").redirectErrorStream(true);
        command.environment().put("JAVA_HOME", System.getProperty("java.home"));
        Process process = command.start();
        assertThat(new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8))
                .contains("built in " + home);
        assertThat(process.waitFor()).isEqualTo(1);
    }

    @Test
    void debugShowsWhereAnErrorComesFrom() throws IOException {
        Outcome outcome = omni("--debug", "run", "--model", folder.resolve("nothing"), "--conversation",
                file("hi.json", "[{\"role\":\"user\",\"content\":\"hi\"}]"));
        assertThat(outcome.err()).contains("no such folder").contains("\tat ");
    }
}
