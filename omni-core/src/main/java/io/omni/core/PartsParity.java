package io.omni.core;

import com.fasterxml.jackson.databind.JsonNode;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.processor.ModelInputs;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.BiConsumer;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.StreamSupport;

/** What the model's parts compute on their own, for {@code parts.json} and {@code parts.safetensors}; see {@link Parity}. */
final class PartsParity {
    private final OmniModel model;
    private final TensorOps ops;
    private final JsonNode json;
    private final Checkpoint golden;
    private final Map<String, Parity.Value> all = new HashMap<>();

    PartsParity(OmniModel model, JsonNode json, Checkpoint golden) {
        this.model = model;
        ops = model.backend().tensorOps();
        this.json = json;
        this.golden = golden;
    }

    /** Whether a tensor is what a part reads rather than what it computes. */
    static boolean isInput(String tensor) {
        return tensor.endsWith(".labels") || tensor.endsWith("_input") || tensor.endsWith(".codes")
                || tensor.equals("code_predictor.hidden");
    }

    /**
     * Computes every tensor.
     *
     * @param inputs
     *            reads a conversation's case
     */
    Map<String, Parity.Value> computed(Function<String, ModelInputs> inputs) {
        for (JsonNode name : json.path("conversations")) {
            ModelInputs conversation = inputs.apply(name.asText());
            try (Scope scope = model.backend().scope()) {
                thinker(name.asText(), conversation);
                if (model.canSpeak())
                    talker(name.asText(), conversation);
            }
        }
        if (model.canSpeak())
            try (Scope scope = model.backend().scope()) {
                codePredictor();
                code2Wav();
            }
        return all;
    }

    private void thinker(String name, ModelInputs inputs) {
        DecoderConfig config = model.config().thinker().text();
        Set<Integer> layers = new HashSet<>(IntStream.rangeClosed(0, config.numHiddenLayers()).boxed().toList());
        int[][] labels = {integers(name + ".labels")};
        Thinker.Evaluation plain = model.thinker().evaluate(List.of(inputs), labels, layers, false);
        Thinker.Evaluation routed = model.thinker().evaluate(List.of(inputs), labels, Set.of(), true);

        put(name + ".hidden_states", stacked(plain.output().hiddenStates()));
        put(name + ".router_logits", stacked(routed.output().routerLogits()));
        put(name + ".loss", scalar(plain.loss()));
        put(name + ".loss_with_aux", scalar(routed.loss()));
        put(name + ".aux_loss", scalar(routed.auxLoss()));

        int tokens = plain.logits().dim(0);
        int vocabulary = plain.logits().dim(1);
        float[] logits = plain.logits().toFloats();
        float[] first = new float[tokens * 64];
        double[] sums = new double[tokens];
        for (int t = 0; t < tokens; t++) {
            System.arraycopy(logits, t * vocabulary, first, t * 64, 64);
            sums[t] = Losses.logSumExp(logits, t * vocabulary, vocabulary);
        }
        put(name + ".logits_first_64", Parity.Value.of(first, tokens, 64));
        put(name + ".logits_logsumexp", new Parity.Value(new int[]{tokens}, sums));
    }

    /** The Talker reads what it read in the conversation's case, whose first text token the case holds. */
    private void talker(String name, ModelInputs inputs) {
        Talker talker = model.talker();
        Thinker.Prompt prompt = model.thinker().prepare(inputs);
        int accept = talker.config().acceptHiddenLayer();
        Tensor hidden = model.thinker().evaluate(List.of(inputs), null, Set.of(accept), false).output().hiddenStates()
                .getFirst();
        JsonNode speech = json.path("speech").path(name);
        int speaker = talker.config().speakerId().get(speech.path("speaker").asText().toLowerCase(Locale.ROOT));
        Talker.Start start = talker.start(inputs, prompt, hidden, speech.path("first_text").asInt(), speaker);
        try (KvCache cache = talker.newCache()) {
            Tensor states = talker.forward(List.of(start), List.of(cache));
            int tokens = states.dim(0);
            put(name + ".talker_hidden", Parity.Value.of(states));
            put(name + ".talker_logits_last_4",
                    Parity.Value.of(talker.logits(ops.slice(states, tokens - 4, tokens))));
        }
    }

    /** Each step reads the code that is given, not the one that its logits favour. */
    private void codePredictor() {
        CodePredictor predictor = model.talker().codePredictor();
        HostTensor hidden = golden.find("code_predictor.hidden");
        int sequences = hidden.shape()[0];
        int width = hidden.shape()[1];
        int[] codes = integers("code_predictor.codes");
        int groups = codes.length / sequences;
        List<KvCache> caches = new ArrayList<>();
        try {
            for (int i = 0; i < sequences; i++)
                caches.add(predictor.newCache());
            List<Tensor> pairs = new ArrayList<>();
            for (int i = 0; i < sequences; i++) {
                pairs.add(tensor(hidden.rows(i, i + 1)));
                pairs.add(model.talker().embed(column(codes, groups, 0, i, i + 1)));
            }
            List<Tensor> logits = new ArrayList<>();
            logits.add(predictor.forward(ops.concat(pairs), 0, caches));
            for (int step = 1; step < groups - 1; step++)
                logits.add(predictor.forward(predictor.embed(step - 1, column(codes, groups, step, 0, sequences)),
                        step, caches));
            put("code_predictor.logits", stacked(logits));
        } finally {
            caches.forEach(KvCache::close);
        }
    }

    private Tensor column(int[] codes, int groups, int group, int from, int to) {
        return model.backend().tensor(IntStream.range(from, to).map(i -> codes[i * groups + group]).toArray(),
                to - from);
    }

    private void code2Wav() {
        Code2Wav vocoder = model.code2Wav();
        int[] flat = integers("code2wav.codes");
        int frames = flat.length / vocoder.config().numQuantizers();
        int[][] codes = new int[vocoder.config().numQuantizers()][];
        for (int g = 0; g < codes.length; g++)
            codes[g] = Arrays.copyOfRange(flat, g * frames, (g + 1) * frames);
        put("code2wav.transformer", Parity.Value.of(vocoder.transformer(codes)));
        for (int i = 0; i < vocoder.config().upsampleRates().length; i++)
            put("code2wav.block_" + i + "_output", Parity.Value
                    .of(vocoder.decoderBlock(i, tensor(golden.find("code2wav.block_" + i + "_input")))));
        float[] wav = vocoder.decode(Arrays.stream(codes).map(c -> Arrays.copyOf(c, 4)).toArray(int[][]::new));
        put("code2wav.wav_first_4", Parity.Value.of(wav, wav.length));
    }

    /**
     * Checks {@code get_chunked_index} and the positions of made-up prompts.
     *
     * @param results
     *            is told each example's name, and what is wrong with it, or the empty string
     */
    void indexes(BiConsumer<String, String> results) {
        int i = 0;
        for (JsonNode example : json.path("chunked_index")) {
            int[][] ours = RopeIndex.chunkedIndex(floats(example.path("positions")), example.path("per_chunk").asInt(),
                    example.path("offset").asInt(0)).toArray(int[][]::new);
            results.accept("chunked_index." + i++, difference(ours, table(example.path("chunks"))));
        }
        for (JsonNode example : json.path("rope")) {
            RopeIndex ours = rope(example);
            float[][] theirs = StreamSupport.stream(example.path("positions").spliterator(), false)
                    .map(PartsParity::floats).toArray(float[][]::new);
            String wrong = difference(ours.positions(), theirs);
            if (wrong.isEmpty() && ours.delta() != example.path("delta").floatValue())
                wrong = "delta " + ours.delta() + ", expected " + example.path("delta");
            results.accept("rope." + example.path("name").asText(), wrong);
        }
    }

    private RopeIndex rope(JsonNode example) {
        ThinkerConfig config = model.config().thinker();
        double[] seconds = StreamSupport.stream(example.path("second_per_grid").spliterator(), false)
                .mapToDouble(JsonNode::asDouble).toArray();
        int[][] videos = table(example.path("video_grid_thw"));
        List<RopeIndex.Grid> videoGrids = IntStream.range(0, videos.length)
                .mapToObj(i -> new RopeIndex.Grid(videos[i][0], videos[i][1], videos[i][2], seconds[i])).toList();
        List<RopeIndex.Grid> imageGrids = Arrays.stream(table(example.path("image_grid_thw")))
                .map(g -> new RopeIndex.Grid(g[0], g[1], g[2], 0)).toList();
        return RopeIndex.of(row(example.path("ids")), config.tokens(), config.vision().spatialMergeSize(),
                row(example.path("audio_tokens")), imageGrids, videoGrids,
                example.path("use_audio_in_video").asBoolean());
    }

    private static String difference(Object[] ours, Object[] theirs) {
        return Arrays.deepEquals(ours, theirs)
                ? ""
                : Arrays.deepToString(ours) + ", expected " + Arrays.deepToString(theirs);
    }

    private static int[] row(JsonNode list) {
        return StreamSupport.stream(list.spliterator(), false).mapToInt(JsonNode::asInt).toArray();
    }

    private static int[][] table(JsonNode list) {
        return StreamSupport.stream(list.spliterator(), false).map(PartsParity::row).toArray(int[][]::new);
    }

    private static float[] floats(JsonNode list) {
        float[] values = new float[list.size()];
        for (int i = 0; i < values.length; i++)
            values[i] = list.get(i).floatValue();
        return values;
    }

    private int[] integers(String tensor) {
        HostTensor stored = golden.find(tensor);
        if (stored == null)
            throw new CheckpointException("parts.safetensors: tensor " + tensor + " is missing");
        return IntStream.range(0, (int) stored.size()).map(i -> (int) stored.getLong(i)).toArray();
    }

    private Tensor tensor(HostTensor stored) {
        float[] values = new float[(int) stored.size()];
        for (int i = 0; i < values.length; i++)
            values[i] = stored.getFloat(i);
        return model.backend().tensor(values, stored.shape());
    }

    private static Parity.Value scalar(float value) {
        return Parity.Value.of(new float[]{value}, 1);
    }

    private static Parity.Value stacked(List<Tensor> parts) {
        double[] elements = parts.stream().flatMapToDouble(part -> {
            float[] values = part.toFloats();
            return IntStream.range(0, values.length).mapToDouble(i -> values[i]);
        }).toArray();
        int[] shape = parts.getFirst().shape();
        return new Parity.Value(
                IntStream.concat(IntStream.of(parts.size()), Arrays.stream(shape)).toArray(), elements);
    }

    private void put(String tensor, Parity.Value value) {
        all.put(tensor, value);
    }
}
