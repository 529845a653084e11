package io.omni.examples;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.core.Code2WavConfig;
import io.omni.core.Omni;
import io.omni.core.OmniConfig;
import io.omni.core.Options;
import io.omni.core.Reply;
import io.omni.processor.Message;
import io.omni.processor.OmniProcessor;
import io.omni.processor.Part;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.ToDoubleFunction;

/**
 * How long someone waits who asks in speech: the whole way of a request, from 10 s of sound to text and speech, through the
 * stages that run beside each other. What a random model says means nothing, and does not end by itself.
 */
final class LatencyBench {
    private static final int SECONDS = 10;
    private static final int SAMPLE_RATE = 16_000;
    /** Frames of speech for a token of text: 12.5 frames and about three tokens are a second. */
    private static final int FRAMES_PER_TOKEN = 4;

    private final Bench bench;
    private final OmniConfig config;
    private final Path folder;
    private final int tokens;

    /**
     * @param folder
     *            a checkpoint's, of which the tokenizer and the template are used
     * @param tokens
     *            of the answer
     */
    LatencyBench(Bench bench, OmniConfig config, Path folder, int tokens) {
        this.bench = bench;
        this.config = config;
        this.folder = folder;
        this.tokens = tokens;
    }

    /**
     * The released configuration with a folder's tokens and no vision; Thinker, Talker and audio encoder have at most
     * {@code layers} layers.
     */
    static OmniConfig config(Path folder, int layers) {
        JsonNode theirs = read(folder.resolve("config.json"));
        return Bench.config(config -> {
            ObjectNode thinker = (ObjectNode) config.get("thinker_config");
            takeTokens(config, theirs);
            takeTokens(thinker, theirs.path("thinker_config"));
            ((ObjectNode) thinker.get("vision_config")).put("depth", 0).putArray("deepstack_visual_indexes");
            ObjectNode talker = (ObjectNode) config.get("talker_config");
            limit(thinker.get("audio_config"), "encoder_layers", layers);
            limit(thinker.get("text_config"), "num_hidden_layers", layers);
            limit(talker.get("text_config"), "num_hidden_layers", layers);
            limit(talker, "accept_hidden_layer", layers);
        });
    }

    private static JsonNode read(Path file) {
        if (!Files.exists(file))
            throw new IllegalArgumentException(file + ": no such file");
        try {
            return new ObjectMapper().readTree(file.toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(file + ": cannot be read: " + e.getMessage(), e);
        }
    }

    private static void takeTokens(ObjectNode config, JsonNode theirs) {
        theirs.properties().stream().filter(field -> field.getKey().endsWith("_token_id"))
                .forEach(field -> config.set(field.getKey(), field.getValue()));
    }

    private static void limit(JsonNode config, String field, int layers) {
        ((ObjectNode) config).put(field, Math.min(config.get(field).asInt(), layers));
    }

    void run() {
        long start = System.nanoTime();
        try (Omni omni = open()) {
            bench.out().printf("latency, Thinker of %d layers, Talker of %d, made in %.1f s%n",
                    config.thinker().text().numHiddenLayers(), config.talker().text().numHiddenLayers(),
                    (System.nanoTime() - start) / 1e9);
            Options limits = Options.speech().thinkerMaxNewTokens(tokens)
                    // the last code drawn is not spoken
                    .talkerMaxNewTokens(FRAMES_PER_TOKEN * tokens + 1);
            List<Reply> spoken = replies(omni, limits);
            List<Reply> written = replies(omni, Options.text().thinkerMaxNewTokens(tokens));
            print(spoken, written);
        }
    }

    private Omni open() {
        OmniProcessor processor = OmniProcessor.load(folder);
        try {
            return Omni.of(processor, bench.model(config));
        } catch (RuntimeException | Error e) {
            processor.close();
            throw e;
        }
    }

    /** Answers to the same question, after one that warms up. */
    private List<Reply> replies(Omni omni, Options options) {
        Message question = Message.user(Part.audio(noise(), SAMPLE_RATE));
        List<Reply> replies = new ArrayList<>();
        omni.chat(question, options);
        for (int i = 0; i < bench.rounds(); i++)
            replies.add(omni.chat(question, options));
        return replies;
    }

    private void print(List<Reply> spoken, List<Reply> written) {
        bench.out().printf("asked:       %d s of sound, %d tokens, read after %.1f ms%n", SECONDS,
                spoken.getFirst().promptTokens(), 1000 * median(spoken, reply -> reply.timings().prefill()));
        bench.out().printf("first text:  %8.1f ms%n", 1000 * median(spoken, reply -> reply.timings().firstText()));
        bench.out().printf("first sound: %8.1f ms%n", 1000 * median(spoken, reply -> reply.timings().firstAudio()));
        bench.out().printf("speech:      %8.2f s in %.2f s, real-time factor %.3f, all included%n",
                median(spoken, LatencyBench::seconds), median(spoken, reply -> reply.timings().audioDone()),
                median(spoken, reply -> reply.timings().audioDone() / seconds(reply)));
        bench.out().printf("text:        %8.1f tokens/s beside speech, %.1f alone%n",
                median(spoken, LatencyBench::tokensPerSecond), median(written, LatencyBench::tokensPerSecond));
    }

    private static double median(List<Reply> replies, ToDoubleFunction<Reply> figure) {
        return Bench.median(replies.stream().mapToDouble(figure).toArray());
    }

    private static double seconds(Reply reply) {
        return (double) reply.audio().samples().length / Code2WavConfig.SAMPLE_RATE;
    }

    /** Of the tokens after the first. */
    private static double tokensPerSecond(Reply reply) {
        int after = reply.sequence().length - reply.promptTokens() - 1;
        return after / (reply.timings().textDone() - reply.timings().firstText());
    }

    private static float[] noise() {
        Random random = new Random(1);
        float[] samples = new float[SECONDS * SAMPLE_RATE];
        for (int i = 0; i < samples.length; i++)
            samples[i] = random.nextFloat() - 0.5f;
        return samples;
    }
}
