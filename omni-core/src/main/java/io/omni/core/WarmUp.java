package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.processor.AudioFeatures;
import io.omni.processor.Message;
import io.omni.processor.ModelInputs;
import io.omni.processor.OmniProcessor;
import io.omni.processor.Part;
import io.omni.processor.ProcessorOptions;
import io.omni.processor.VisualFeatures;
import java.awt.image.BufferedImage;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;

/**
 * Runs a small random model on a backend for a while, so that the JVM has compiled what the first request needs. The
 * checkpoint is not touched. Widths are chosen to reach the kernels' whole vectors and their tails.
 */
final class WarmUp implements AutoCloseable {
    private static final String CONFIG = """
            {"model_type": "qwen3_omni_moe",
             "im_start_token_id": 1, "user_token_id": 2, "assistant_token_id": 3, "tts_pad_token_id": 4,
             "tts_bos_token_id": 5, "tts_eos_token_id": 6,
             "thinker_config": {
               "audio_token_id": 10, "audio_start_token_id": 11, "image_token_id": 12, "vision_start_token_id": 13,
               "audio_config": {"d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 128,
                 "output_dim": 64, "downsample_hidden_size": 16},
               "vision_config": {"depth": 1, "hidden_size": 72, "num_heads": 1, "intermediate_size": 104,
                 "out_hidden_size": 64, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
               "text_config": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "moe_intermediate_size": 48,
                 "num_experts": 8, "num_experts_per_tok": 2, "rope_scaling": {"mrope_section": [6, 5, 5]}}},
             "talker_config": {"num_code_groups": 4, "thinker_hidden_size": 64, "accept_hidden_layer": 1,
               "codec_pad_id": 64, "codec_bos_id": 65, "codec_eos_token_id": 66, "codec_nothink_id": 67,
               "codec_think_bos_id": 68, "codec_think_eos_id": 69,
               "text_config": {"vocab_size": 1200, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "moe_intermediate_size": 32,
                 "shared_expert_intermediate_size": 40, "num_experts": 8, "num_experts_per_tok": 2,
                 "rope_scaling": {"mrope_section": [6, 5, 5]}},
               "code_predictor_config": {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64,
                 "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}},
             "code2wav_config": {"codebook_size": 64, "num_quantizers": 4, "hidden_size": 32, "num_hidden_layers": 1,
               "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 48, "sliding_window": 16,
               "decoder_dim": 64, "upsample_rates": [8, 5, 4, 3], "upsampling_ratios": [2, 2]}}
            """;

    private final Thread thread;

    /** Starts rounds on a thread of its own until about {@code seconds} have passed; none for 0. */
    WarmUp(Backend backend, boolean speech, double seconds) {
        thread = Thread.ofPlatform().name("omni-warm-up").daemon().start(() -> {
            long start = System.nanoTime();
            if (seconds > 0)
                try (OmniModel model = OmniModel.random(backend, OmniConfig.parse("warm-up", CONFIG), 1, null,
                        DType.F32)) {
                    while ((System.nanoTime() - start) / 1e9 < seconds)
                        round(model, speech);
                }
        });
    }

    /** Reads an image and a sound a few times, for as long as the rounds go on. */
    void read(OmniProcessor processor) {
        List<Message> conversation = List
                .of(Message.user(Part.image(new BufferedImage(96, 64, BufferedImage.TYPE_INT_RGB)),
                        Part.audio(noise(24_000), 24_000), Part.text("What do you see and hear?")));
        for (int i = 0; i < 5 && thread.isAlive(); i++)
            processor.process(List.of(conversation), ProcessorOptions.defaults());
    }

    /** Waits for the rounds to end. */
    @Override
    public void close() {
        Generation.join(thread);
    }

    private static void round(OmniModel model, boolean speech) {
        ModelInputs inputs = inputs(model.config());
        Thinker thinker = model.thinker();
        try (KvCache cache = thinker.newCache(); Scope scope = model.backend().scope()) {
            Thinker.Prompt prompt = thinker.prepare(inputs);
            Thinker.Output output = thinker.prefill(List.of(prompt), List.of(cache), Set.of(1), false);
            for (int i = 0; i < 8; i++)
                try (Scope step = model.backend().scope()) {
                    Tensor embeds = thinker.embed(model.backend().tensor(new int[]{20 + i}, 1));
                    thinker.logits(thinker.step(embeds, List.of(prompt.rope()), List.of(cache))).toFloats();
                }
            if (speech)
                speak(model, inputs, prompt, output.hiddenStates().getFirst());
        }
    }

    private static void speak(OmniModel model, ModelInputs inputs, Thinker.Prompt prompt, Tensor acceptHidden) {
        TensorOps ops = model.backend().tensorOps();
        Talker talker = model.talker();
        CodePredictor predictor = talker.codePredictor();
        int[][] codes = new int[predictor.steps() + 1][8];
        try (KvCache cache = talker.newCache();
                KvCache inner = predictor.newCache();
                Sampler greedy = ops.sampler(Sampling.greedy(), predictor.config().vocabSize(), new int[0]);
                Code2Wav.Stream stream = model.code2Wav().stream()) {
            Talker.Start opening = talker.start(inputs, prompt, acceptHidden, 20, 70);
            Tensor hidden = talker.prefill(List.of(opening), List.of(cache));
            for (int t = 0; t < codes[0].length; t++) {
                Tensor first = talker.embed(model.backend().tensor(new int[]{t}, 1));
                CodePredictor.Frame frame = predictor.generate(hidden, first, List.of(greedy), List.of(inner));
                for (int g = 1; g < codes.length; g++)
                    codes[g][t] = frame.codes().get(g - 1).toInts()[0];
                hidden = talker.step(ops.add(frame.embedding(), talker.textHidden(21)), List.of(opening.rope()),
                        List.of(cache));
            }
            stream.push(codes);
        }
    }

    /** A user's turn with a second of sound and a small image, and the assistant's opening. */
    private static ModelInputs inputs(OmniConfig config) {
        MediaTokens media = config.thinker().tokens();
        AudioFeatures audio = new AudioFeatures(noise(128 * 120), 128, 120);
        VisualFeatures image = new VisualFeatures(noise(24 * 1536), 1, 4, 6, 0);
        int sound = config.thinker().audio().tokens(audio.frames());
        int[] ids = new int[sound + 6 + 40];
        Arrays.fill(ids, 20);
        ids[0] = config.imStart();
        ids[1] = config.user();
        ids[2] = media.audioStart();
        Arrays.fill(ids, 3, 3 + sound, media.audio());
        ids[4 + sound] = media.visionStart();
        Arrays.fill(ids, 5 + sound, 11 + sound, media.image());
        ids[ids.length - 3] = config.imStart();
        ids[ids.length - 2] = config.assistant();
        return new ModelInputs("", ids, List.of(audio), List.of(image), List.of(), false);
    }

    private static float[] noise(int n) {
        Random random = new Random(n);
        float[] values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = random.nextFloat() - 0.5f;
        return values;
    }
}
