package io.omni.processor;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The checkpoint's byte-pair tokenizer, upstream's {@code Qwen2TokenizerFast}: Hugging Face tokenizers through DJL,
 * whose native library comes in its jar. Safe for use by several threads until closed.
 */
public final class Tokenizer implements AutoCloseable {
    private final HuggingFaceTokenizer tokenizer;
    private final Map<String, Integer> addedTokens = new HashMap<>();

    private Tokenizer(JsonNode definition) {
        for (JsonNode token : definition.path("added_tokens")) {
            addedTokens.put(token.path("content").asText(), token.path("id").asInt());
        }
        bundledLibraryOnly();
        byte[] json = definition.toString().getBytes(StandardCharsets.UTF_8);
        Thread thread = Thread.currentThread();
        ClassLoader loader = thread.getContextClassLoader();
        try {
            // DJL looks for a file of its jar there
            thread.setContextClassLoader(HuggingFaceTokenizer.class.getClassLoader());
            tokenizer = HuggingFaceTokenizer.newInstance(
                    new ByteArrayInputStream(json),
                    Map.of("truncation", "false", "padding", "false", "addSpecialTokens", "true"));
        } catch (IOException | RuntimeException | LinkageError e) {
            Throwable root = ProcessorException.root(e);
            throw new ProcessorException("tokenizer: " + e.getMessage() + (root == e ? "" : " " + root), e);
        } finally {
            thread.setContextClassLoader(loader);
        }
    }

    /** For the whole process: DJL would else report to its makers and, on a machine with a GPU, download another build of the library. */
    private static void bundledLibraryOnly() {
        if (System.getProperty("ai.djl.offline") == null)
            System.setProperty("ai.djl.offline", "true");
        if (System.getProperty("OPT_OUT_TRACKING") == null)
            System.setProperty("OPT_OUT_TRACKING", "true");
    }

    /**
     * Reads {@code tokenizer.json}, or else {@code vocab.json}, {@code merges.txt} and {@code tokenizer_config.json}.
     *
     * @throws ProcessorException if a file is missing or malformed, or no native library is there for this platform
     */
    public static Tokenizer load(Path modelDir) {
        Path whole = modelDir.resolve("tokenizer.json");
        return new Tokenizer(
                Files.exists(whole) ? JsonFiles.read(whole) : TokenizerDefinition.fromVocabAndMerges(modelDir));
    }

    /** The ids of a text; special tokens in the text become their ids. */
    public int[] encode(String text) {
        long[] ids = tokenizer.encode(text, true, false).getIds();
        int[] narrow = new int[ids.length];
        for (int i = 0; i < ids.length; i++) narrow[i] = (int) ids[i];
        return narrow;
    }

    /**
     * The text of ids; bytes that are no UTF-8 become U+FFFD, spaces stay as they are.
     *
     * @param skipSpecialTokens whether special tokens leave no trace
     */
    public String decode(int[] ids, boolean skipSpecialTokens) {
        long[] wide = new long[ids.length];
        for (int i = 0; i < ids.length; i++) wide[i] = ids[i];
        return tokenizer.decode(wide, skipSpecialTokens);
    }

    /**
     * The id of a token such as {@code <|im_end|>}.
     *
     * @throws ProcessorException if the vocabulary has no such token
     */
    public int id(String token) {
        Integer added = addedTokens.get(token);
        if (added != null)
            return added;
        int[] ids = encode(token);
        if (ids.length != 1)
            throw new ProcessorException("tokenizer: '" + token + "' is not one token");
        return ids[0];
    }

    /** A decoder for ids that come one at a time. */
    public TextStream stream(boolean skipSpecialTokens) {
        return new TextStream(this, skipSpecialTokens);
    }

    /** Decodes several sequences. */
    public List<String> batchDecode(List<int[]> sequences, boolean skipSpecialTokens) {
        List<String> texts = new ArrayList<>();
        for (int[] ids : sequences) texts.add(decode(ids, skipSpecialTokens));
        return texts;
    }

    @Override
    public void close() {
        tokenizer.close();
    }
}
