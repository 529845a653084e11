package io.omni.processor;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Writes the tokenizer.json that a checkpoint with only a vocabulary and merges leaves out. */
final class TokenizerDefinition {
    // Qwen2's split: contractions, words with one leading other character, single digits, punctuation, newlines, spaces.
    private static final String SPLIT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
            + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

    private TokenizerDefinition() {}

    static JsonNode fromVocabAndMerges(Path modelDir) {
        ObjectNode root = JsonFiles.JSON.createObjectNode();
        root.put("version", "1.0").putNull("truncation").putNull("padding");
        root.set("added_tokens", addedTokens(JsonFiles.readIfThere(modelDir.resolve("tokenizer_config.json"))));
        root.putObject("normalizer").put("type", "NFC");
        ArrayNode steps = root.putObject("pre_tokenizer").put("type", "Sequence").putArray("pretokenizers");
        ObjectNode split = steps.addObject().put("type", "Split").put("behavior", "Isolated").put("invert", false);
        split.putObject("pattern").put("Regex", SPLIT);
        byteLevel(steps.addObject());
        byteLevel(root.putObject("post_processor"));
        byteLevel(root.putObject("decoder"));
        ObjectNode model = root.putObject("model").put("type", "BPE").putNull("dropout").putNull("unk_token");
        model.put("continuing_subword_prefix", "").put("end_of_word_suffix", "");
        model.put("fuse_unk", false).put("byte_fallback", false);
        model.set("vocab", JsonFiles.read(modelDir.resolve("vocab.json")));
        model.set("merges", merges(modelDir.resolve("merges.txt")));
        return root;
    }

    private static void byteLevel(ObjectNode node) {
        node.put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", false).put("use_regex", false);
    }

    private static ArrayNode addedTokens(JsonNode config) {
        ArrayNode tokens = JsonFiles.JSON.createArrayNode();
        config.path("added_tokens_decoder").properties().stream()
                .sorted((a, b) -> Integer.compare(Integer.parseInt(a.getKey()), Integer.parseInt(b.getKey())))
                .forEach(entry -> {
                    JsonNode token = entry.getValue();
                    ObjectNode added = tokens.addObject().put("id", Integer.parseInt(entry.getKey()));
                    added.set("content", token.path("content"));
                    for (String flag : new String[]{"single_word", "lstrip", "rstrip", "normalized", "special"}) {
                        added.put(flag, token.path(flag).asBoolean());
                    }
                });
        return tokens;
    }

    private static ArrayNode merges(Path file) {
        ArrayNode merges = JsonFiles.JSON.createArrayNode();
        try {
            for (String line : Files.readString(file).split("\n")) {
                if (line.startsWith("#version") || line.isBlank())
                    continue;
                int space = line.indexOf(' ');
                if (space < 0)
                    throw new ProcessorException(file + ": found '" + line + "', expected two tokens");
                merges.addArray().add(line.substring(0, space)).add(line.substring(space + 1).strip());
            }
        } catch (IOException e) {
            throw new ProcessorException(file + ": cannot be read: " + e, e);
        }
        return merges;
    }
}
