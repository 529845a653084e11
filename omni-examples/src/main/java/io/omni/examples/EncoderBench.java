package io.omni.examples;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.Scope;
import io.omni.core.AudioEncoderConfig;
import io.omni.core.OmniModel;
import io.omni.core.VisionEncoderConfig;
import io.omni.processor.AudioFeatures;
import io.omni.processor.VisualFeatures;
import java.util.List;
import java.util.Random;

/** The encoders at full depth. */
final class EncoderBench {
    private static final int SECONDS = 30;
    private static final int FRAMES_PER_SECOND = 100;
    private static final int PIXELS = 768;

    private EncoderBench() {}

    static void audio(Bench bench) {
        try (OmniModel model = bench.model(Bench.config(config -> without(config, "vision_config")))) {
            AudioEncoderConfig audio = model.config().thinker().audio();
            int frames = SECONDS * FRAMES_PER_SECOND;
            List<AudioFeatures> clip = List
                    .of(new AudioFeatures(noise(audio.numMelBins() * frames), audio.numMelBins(), frames));
            double seconds = bench.seconds(() -> {
                try (Scope scope = model.backend().scope()) {
                    model.thinker().audioFeatures(clip).toFloats();
                }
            });
            print(bench, "audio:    " + SECONDS + " s of sound, " + audio.tokens(frames) + " tokens", seconds,
                    flops(audio, frames));
        }
    }

    static void vision(Bench bench) {
        try (OmniModel model = bench.model(Bench.config(config -> without(config, "audio_config")))) {
            VisionEncoderConfig vision = model.config().thinker().vision();
            int side = PIXELS / vision.patchSize();
            VisualFeatures image = new VisualFeatures(noise(side * side * patchFeatures(vision)), 1, side, side, 0);
            double seconds = bench.seconds(() -> {
                try (Scope scope = model.backend().scope()) {
                    model.thinker().visualFeatures(List.of(image)).embeds().toFloats();
                }
            });
            print(bench, "vision:   " + PIXELS + " x " + PIXELS + " pixels, " + side * side + " patches", seconds,
                    flops(vision, side * side));
        }
    }

    private static void print(Bench bench, String what, double seconds, double flops) {
        bench.out().printf("%-44s %6.2f s   %4.0f GFLOP   %4.0f GFLOP/s   %3.0f %% of the multiply-add roofline%n",
                what, seconds, flops / 1e9, flops / seconds / 1e9, bench.percentOfCompute(flops, seconds));
    }

    /** No decoder layers, no speech, and no layers in the other encoder. */
    private static void without(ObjectNode config, String other) {
        ObjectNode thinker = (ObjectNode) config.get("thinker_config");
        ObjectNode kept = thinker.get(other.startsWith("vision") ? "audio_config" : "vision_config").deepCopy();
        Bench.decoderOnly(config, 0);
        Bench.smallVocabulary(config);
        thinker.set(other.startsWith("vision") ? "audio_config" : "vision_config", kept);
    }

    /** Products of the convolutions, the layers and the projection; norms, softmax and activations count for nothing. */
    private static double flops(AudioEncoderConfig c, int frames) {
        int chunk = 2 * c.nWindow();
        double chunks = (double) frames / chunk;
        double convolutions = 0;
        double channels = 1;
        int bins = c.numMelBins();
        int steps = chunk;
        for (int i = 0; i < 3; i++) {
            bins = (bins + 1) / 2;
            steps = (steps + 1) / 2;
            convolutions += 9 * channels * c.downsampleHiddenSize() * bins * steps;
            channels = c.downsampleHiddenSize();
        }
        convolutions += channels * bins * c.dModel() * steps;
        double tokens = c.tokens(frames);
        double window = Math.min(tokens, steps * (double) (c.nWindowInfer() / chunk));
        double layer = 4.0 * c.dModel() * c.dModel() + 2.0 * c.dModel() * c.encoderFfnDim() + 2 * window * c.dModel();
        double projection = (double) c.dModel() * (c.dModel() + c.outputDim());
        return 2 * (chunks * convolutions + tokens * (c.encoderLayers() * layer + projection));
    }

    private static double flops(VisionEncoderConfig c, int patches) {
        double width = c.hiddenSize();
        double layer = 4 * width * width + 2 * width * c.intermediateSize() + 2 * patches * width;
        double merged = width * c.spatialMergeSize() * c.spatialMergeSize();
        double merger = merged * (merged + c.outHiddenSize());
        double tokens = (double) patches / (c.spatialMergeSize() * c.spatialMergeSize());
        return 2 * (patches * (patchFeatures(c) * width + c.depth() * layer)
                + tokens * merger * (1 + c.deepstackVisualIndexes().length));
    }

    private static int patchFeatures(VisionEncoderConfig c) {
        return c.inChannels() * c.temporalPatchSize() * c.patchSize() * c.patchSize();
    }

    private static float[] noise(int n) {
        Random random = new Random(n);
        float[] values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = 2 * random.nextFloat() - 1;
        return values;
    }
}
