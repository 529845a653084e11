package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenizerTest {
    private static final Path FULL = Reference.DIR.resolve("qwen3-tokenizer");

    @TempDir
    Path dir;

    @Test
    void encodesAndDecodesTheReferenceLines() {
        try (Tokenizer tokenizer = Tokenizer.load(Reference.MODEL)) {
            assertLines(tokenizer, JsonFiles.read(Reference.CASES.resolve("tokenizer.json")));
        }
    }

    @Test
    void encodesAndDecodesWithTheFullVocabulary() throws IOException {
        Files.write(dir.resolve("tokenizer.json"), fullTokenizer());
        try (Tokenizer tokenizer = Tokenizer.load(dir)) {
            assertLines(tokenizer, JsonFiles.read(FULL.resolve("cases.json")));
        }
    }

    @Test
    void readsVocabularyAndMergesWhenThereIsNoTokenizerJson() throws IOException {
        JsonNode whole = JsonFiles.JSON.readTree(fullTokenizer());
        Files.writeString(dir.resolve("vocab.json"), whole.get("model").get("vocab").toString());
        StringBuilder merges = new StringBuilder("#version: 0.2\n");
        for (JsonNode pair : whole.get("model").get("merges")) {
            merges.append(pair.isTextual() ? pair.asText() : pair.get(0).asText() + " " + pair.get(1).asText())
                    .append('\n');
        }
        Files.writeString(dir.resolve("merges.txt"), merges);
        ObjectNode added = JsonFiles.JSON.createObjectNode();
        for (JsonNode token : whole.get("added_tokens")) added.set(token.get("id").asText(), token);
        Files.writeString(
                dir.resolve("tokenizer_config.json"),
                JsonFiles.JSON.createObjectNode().set("added_tokens_decoder", added).toString());
        try (Tokenizer tokenizer = Tokenizer.load(dir)) {
            assertLines(tokenizer, JsonFiles.read(FULL.resolve("cases.json")));
        }
    }

    @Test
    void readsTheTinyVocabularyToo() throws IOException {
        for (String name : List.of("vocab.json", "merges.txt", "tokenizer_config.json")) {
            Files.copy(Reference.MODEL.resolve(name), dir.resolve(name));
        }
        try (Tokenizer tokenizer = Tokenizer.load(dir)) {
            assertLines(tokenizer, JsonFiles.read(Reference.CASES.resolve("tokenizer.json")));
        }
    }

    @Test
    void holdsBackUnfinishedCharacters() {
        try (Tokenizer tokenizer = Tokenizer.load(Reference.MODEL)) {
            String text = "a🙂é数\uFFFDz नमस्ते👩‍👩‍👧‍👦";
            TextStream stream = tokenizer.stream(true);
            StringBuilder streamed = new StringBuilder();
            for (int id : tokenizer.encode(text)) {
                String piece = stream.push(id);
                assertThat(text).startsWith(streamed + piece);
                streamed.append(piece);
            }
            assertThat(streamed.append(stream.finish())).hasToString(text);
        }
    }

    @Test
    void streamsBytesThatAreNoText() {
        try (Tokenizer tokenizer = Tokenizer.load(Reference.MODEL)) {
            var random = new java.util.Random(5);
            int[] ids = random.ints(400, 0, 3000).map(i -> i % 3 == 0 ? i : 94 + i % 160).toArray(); // mostly lone bytes
            assertThat(stream(tokenizer, ids, true)).isEqualTo(tokenizer.decode(ids, true));
        }
    }

    @Test
    void doesNotCutLongTexts() {
        try (Tokenizer tokenizer = Tokenizer.load(Reference.MODEL)) {
            String pads = "<|audio_pad|>".repeat(20_000);
            assertThat(tokenizer.encode(pads)).hasSize(20_000).containsOnly(tokenizer.id("<|audio_pad|>"));
        }
    }

    @Test
    void skipsSpecialTokens() {
        try (Tokenizer tokenizer = Tokenizer.load(Reference.MODEL)) {
            int[] ids = tokenizer.encode("<think>hi</think> there<|im_end|>");
            assertThat(tokenizer.decode(ids, true)).isEqualTo("<think>hi</think> there");
            assertThat(tokenizer.decode(ids, false)).endsWith("<|im_end|>");
            assertThatThrownBy(() -> tokenizer.id("<|no_such_token|>")).isInstanceOf(ProcessorException.class);
        }
    }

    @Test
    void namesTheBrokenFile() throws IOException {
        Files.writeString(dir.resolve("tokenizer.json"), "{\"version\": \n 1.0,");
        assertThatThrownBy(() -> Tokenizer.load(dir)).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("tokenizer.json, line 2");
        Files.delete(dir.resolve("tokenizer.json"));
        assertThatThrownBy(() -> Tokenizer.load(dir)).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("vocab.json");
    }

    private static byte[] fullTokenizer() throws IOException {
        try (var in = new GZIPInputStream(Files.newInputStream(FULL.resolve("tokenizer.json.gz")))) {
            return in.readAllBytes();
        }
    }

    private static void assertLines(Tokenizer tokenizer, JsonNode lines) {
        List<String> wrong = new ArrayList<>();
        for (JsonNode line : lines) {
            int[] ids = JsonFiles.JSON.convertValue(line.get("ids"), int[].class);
            String text = line.get("text").asText();
            String decoded = line.path("decoded").asText(Normalizer.normalize(text, Normalizer.Form.NFC));
            if (!java.util.Arrays.equals(tokenizer.encode(text), ids))
                wrong.add("encode " + text);
            if (!tokenizer.decode(ids, false).equals(decoded))
                wrong.add("decode " + text);
            if (!stream(tokenizer, ids, false).equals(decoded))
                wrong.add("stream " + text);
        }
        assertThat(lines).isNotEmpty();
        assertThat(wrong).isEmpty();
    }

    private static String stream(Tokenizer tokenizer, int[] ids, boolean skipSpecialTokens) {
        TextStream stream = tokenizer.stream(skipSpecialTokens);
        StringBuilder text = new StringBuilder();
        for (int id : ids) text.append(stream.push(id));
        return text.append(stream.finish()).toString();
    }
}
