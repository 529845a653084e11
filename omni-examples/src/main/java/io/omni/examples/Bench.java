package io.omni.examples;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.core.OmniConfig;
import io.omni.core.OmniModel;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.function.Consumer;

/**
 * What all sections of {@code omni bench} measure with.
 *
 * @param type
 *            of the weights
 * @param cacheType
 *            of keys and values
 * @param rounds
 *            repetitions, of which the median counts
 */
record Bench(Backend backend, DType type, DType cacheType, int rounds, int threads, Roofline roofline,
        PrintWriter out) {
    private static final String CONFIG = "qwen3-omni-30b-a3b.json";

    /** The released model's configuration with something cut away. */
    static OmniConfig config(Consumer<ObjectNode> cut) {
        try (InputStream stream = Bench.class.getResourceAsStream(CONFIG)) {
            ObjectNode config = (ObjectNode) new ObjectMapper().readTree(stream);
            cut.accept(config);
            return OmniConfig.parse(CONFIG, config.toString());
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("the bundled configuration is malformed", e);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** No encoders and no speech, and that many decoder layers. */
    static void decoderOnly(ObjectNode config, int layers) {
        config.put("enable_audio_output", false);
        ObjectNode thinker = (ObjectNode) config.get("thinker_config");
        ((ObjectNode) thinker.get("audio_config")).put("encoder_layers", 0);
        ((ObjectNode) thinker.get("vision_config")).put("depth", 0).putArray("deepstack_visual_indexes");
        ((ObjectNode) thinker.get("text_config")).put("num_hidden_layers", layers);
    }

    /** A vocabulary that takes no time to make, where neither embeddings nor head are measured. */
    static void smallVocabulary(ObjectNode config) {
        ((ObjectNode) config.get("thinker_config").get("text_config")).put("vocab_size", 1024);
    }

    /** The same with the machine's limits as they are now: on one that is shared they change from second to second. */
    Bench measuredAgain() {
        return new Bench(backend, type, cacheType, rounds, threads, Roofline.measure(backend, threads), out);
    }

    OmniModel model(OmniConfig config) {
        return OmniModel.random(backend, config, 1, type, cacheType);
    }

    /** Median seconds of the work, after one run that warms up. */
    double seconds(Runnable work) {
        double[] seconds = new double[rounds];
        work.run();
        for (int i = 0; i < rounds; i++) {
            long start = System.nanoTime();
            work.run();
            seconds[i] = (System.nanoTime() - start) / 1e9;
        }
        return median(seconds);
    }

    static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }

    double percentOfCompute(double flops, double seconds) {
        return 100 * flops / seconds / 1e9 / roofline.gigaflops();
    }

    double percentOfRead(double bytes, double seconds) {
        return 100 * secondsToRead(bytes) / seconds;
    }

    double secondsToRead(double bytes) {
        return bytes / 1e9 / roofline.readGigabytes();
    }
}
