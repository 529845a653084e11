package io.omni.examples;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.Backend;
import io.omni.api.KvCache;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.core.Code2Wav;
import io.omni.core.Code2WavConfig;
import io.omni.core.CodePredictor;
import io.omni.core.DecoderConfig;
import io.omni.core.OmniConfig;
import io.omni.core.OmniModel;
import io.omni.core.RopeIndex;
import io.omni.core.Talker;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** Speech at full depth: frames of the Talker with its code predictor, and Code2Wav in one pass and in a stream's pieces. */
final class SpeechBench {
    private static final int SECONDS = 10;
    private static final int PROMPT = 64;
    private static final int FRAMES = 12;

    private SpeechBench() {}

    static void run(Bench bench) {
        try (OmniModel model = bench.model(Bench.config(SpeechBench::speechOnly))) {
            talker(bench, model);
            code2Wav(bench, model);
        }
    }

    private static void speechOnly(ObjectNode config) {
        Bench.decoderOnly(config, 0);
        Bench.smallVocabulary(config);
        config.put("enable_audio_output", true);
        ((ObjectNode) config.get("talker_config")).put("accept_hidden_layer", 0);
    }

    /** Seconds of a frame as {@code Generation} makes it: first code, the others, and the step that reads them. */
    private static void talker(Bench bench, OmniModel model) {
        Backend backend = model.backend();
        TensorOps ops = backend.tensorOps();
        Talker talker = model.talker();
        CodePredictor predictor = talker.codePredictor();
        OmniConfig config = model.config();
        double[] steps = new double[bench.rounds() * FRAMES];
        double[] others = new double[steps.length];
        try (KvCache cache = talker.newCache();
                KvCache inner = predictor.newCache();
                Sampler first = ops.sampler(new Sampling(true, 0.9f, 50, 1, 1.05f, new int[0], 1),
                        config.talker().text().vocabSize(), new int[0]);
                Sampler other = ops.sampler(new Sampling(true, 1, 50, 0.8f, 1, new int[0], 2),
                        config.talker().codePredictor().vocabSize(), new int[0])) {
            int[] ids = new Random(1).ints(PROMPT, 0, 1024).toArray();
            RopeIndex rope = RopeIndex.of(ids, config.thinker().tokens(), config.thinker().vision().spatialMergeSize(),
                    new int[0], List.of(), List.of(), false);
            Tensor hidden;
            try (Scope scope = backend.scope()) {
                Tensor embeds = talker.textHidden(backend.tensor(ids, PROMPT));
                hidden = scope.detach(talker.prefill(List.of(new Talker.Start(ids, embeds, rope)), List.of(cache)));
            }
            for (int i = -FRAMES; i < steps.length; i++)
                try (Scope scope = backend.scope(); Tensor last = hidden) {
                    long begin = System.nanoTime();
                    Tensor code = ops.sample(talker.logits(last), List.of(first));
                    CodePredictor.Frame frame = predictor.generate(last, talker.embed(code), List.of(other),
                            List.of(inner));
                    frame.embedding().toFloats();
                    long middle = System.nanoTime();
                    Tensor text = talker.textHidden(backend.tensor(new int[]{7}, 1));
                    hidden = scope.detach(talker.step(ops.add(frame.embedding(), text), List.of(rope),
                            List.of(cache)));
                    hidden.toFloats();
                    if (i >= 0) {
                        others[i] = (middle - begin) / 1e9;
                        steps[i] = (System.nanoTime() - middle) / 1e9;
                    }
                }
            hidden.close();
        }
        double step = Bench.median(steps);
        double codes = Bench.median(others);
        DecoderConfig text = config.talker().text();
        double bytes = text.numHiddenLayers() * DecoderBench.layerBytes(text, bench.type(), 1);
        bench.out().printf("talker:   %6.1f ms a frame (12.5 a second): step %.1f ms, %.0f %% of the read roofline;"
                + " the other %d codes %.1f ms%n", 1000 * (step + codes), 1000 * step,
                bench.percentOfRead(bytes, step), config.talker().numCodeGroups() - 1, 1000 * codes);
    }

    private static void code2Wav(Bench bench, OmniModel model) {
        Code2Wav code2Wav = model.code2Wav();
        Code2WavConfig config = code2Wav.config();
        int frames = SECONDS * Code2WavConfig.SAMPLE_RATE / config.totalUpsample();
        Random random = new Random(1);
        int[][] codes = new int[config.numQuantizers()][];
        for (int g = 0; g < codes.length; g++)
            codes[g] = random.ints(frames, 0, config.codebookSize()).toArray();
        double whole = bench.seconds(() -> code2Wav.decode(codes));
        double streamed = bench.seconds(() -> {
            try (Code2Wav.Stream stream = code2Wav.stream()) {
                int from = 0;
                for (int piece = 0; from < frames; piece++) {
                    int to = Math.min(frames, from + Code2Wav.pieceSize(piece));
                    int begin = from;
                    stream.push(Arrays.stream(codes).map(group -> Arrays.copyOfRange(group, begin, to))
                            .toArray(int[][]::new));
                    from = to;
                }
            }
        });
        bench.out().printf("code2wav: %6.2f s for %d s of speech, real-time factor %.3f; streamed %.2f s, %.3f, ratio"
                + " %.2f%n", whole, SECONDS, whole / SECONDS, streamed, streamed / SECONDS, streamed / whole);
    }
}
