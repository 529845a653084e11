package io.omni.core;

import com.fasterxml.jackson.databind.JsonNode;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.processor.AudioFeatures;
import io.omni.processor.Batch;
import io.omni.processor.Conversations;
import io.omni.processor.Message;
import io.omni.processor.ModelInputs;
import io.omni.processor.ProcessorOptions;
import io.omni.processor.VisualFeatures;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import javax.sound.sampled.AudioSystem;
import javax.sound.sampled.UnsupportedAudioFileException;

/**
 * Compares what a model computes with dumps of upstream, tensor by tensor. A case is {@code NAME.json}, a conversation and
 * the call's arguments, beside {@code NAME.safetensors}, what upstream computed; {@code code2wav.safetensors} holds codes
 * and waveforms only, {@code parts.safetensors} what the parts compute on their own.
 */
public final class Parity {
    private static final double RELATIVE = 1e-4;
    private static final double WAVEFORM = 1e-3;
    private static final double FEATURES = 1e-4;
    /** Where another decoder or resampler than upstream's was at work. */
    private static final double DECODED = 1e-2;

    private final Omni omni;
    private final Path cases;
    private final Path media;

    /**
     * @param cases
     *            folder of the cases
     * @param media
     *            where their media paths start
     */
    public Parity(Omni omni, Path cases, Path media) {
        this.omni = omni;
        this.cases = cases;
        this.media = media;
    }

    /**
     * How one tensor compares.
     *
     * @param relativeError
     *            ‖ours − theirs‖ / ‖theirs‖; NaN if the shapes differ
     * @param largestError
     *            largest absolute difference
     * @param detail
     *            what is wrong beyond the numbers, or empty
     */
    public record Result(String name, String tensor, double relativeError, double largestError, boolean ok,
            String detail) {}

    /** The names of all cases in the folder. */
    public List<String> names() {
        try (Stream<Path> files = Files.list(cases)) {
            return files.map(file -> file.getFileName().toString()).filter(name -> name.endsWith(".safetensors"))
                    .map(name -> name.substring(0, name.length() - ".safetensors".length())).sorted().toList();
        } catch (IOException e) {
            throw new UncheckedIOException(cases + ": cannot be listed: " + e.getMessage(), e);
        }
    }

    /**
     * Compares every tensor of one case.
     *
     * @throws CheckpointException
     *             if the case cannot be read
     */
    public void run(String name, Consumer<Result> results) {
        try (Checkpoint golden = Checkpoint.file(cases.resolve(name + ".safetensors"))) {
            if (name.equals("parts")) {
                parts(golden, results);
                return;
            }
            Case conversation = Files.exists(cases.resolve(name + ".json")) ? new Case(name) : null;
            Map<String, Supplier<Value>> computed = conversation == null ? code2Wav(golden) : conversation.computed();
            boolean decoded = conversation != null && conversation.isDecoded();
            for (String tensor : golden.names()) {
                if (name.equals("code2wav") && tensor.equals("codes"))
                    continue;
                Supplier<Value> ours = computed.get(tensor);
                results.accept(ours == null
                        ? new Result(name, tensor, Double.NaN, Double.NaN, false, "not computed here")
                        : compare(name, tensor, golden.find(tensor), ours.get(), decoded));
            }
        }
    }

    private void parts(Checkpoint golden, Consumer<Result> results) {
        PartsParity parts = new PartsParity(omni.model(), Fields.read(cases.resolve("parts.json")).node(), golden);
        Map<String, Value> computed = parts.computed(conversation -> new Case(conversation).inputs.getFirst());
        for (String tensor : golden.names())
            if (!PartsParity.isInput(tensor) && computed.containsKey(tensor))
            results.accept(compare("parts", tensor, golden.find(tensor), computed.get(tensor), false));
        parts.indexes((example, wrong) -> results.accept(
                new Result("parts", example, wrong.isEmpty() ? 0 : Double.NaN, 0, wrong.isEmpty(), wrong)));
    }

    private Map<String, Supplier<Value>> code2Wav(Checkpoint golden) {
        HostTensor stored = golden.find("codes");
        if (stored == null)
            throw new CheckpointException(cases.resolve("code2wav.safetensors") + ": tensor codes is missing");
        int groups = stored.shape()[1];
        int frames = stored.shape()[2];
        int[][] codes = new int[groups][frames];
        for (int g = 0; g < groups; g++)
            for (int t = 0; t < frames; t++)
                codes[g][t] = (int) stored.getLong(g * frames + t);
        Code2Wav vocoder = omni.model().code2Wav();
        Map<String, Supplier<Value>> all = new HashMap<>();
        for (String tensor : golden.names())
            if (tensor.startsWith("wav_first_")) {
                int first = Integer.parseInt(tensor.substring("wav_first_".length()));
                all.put(tensor, () -> wave(vocoder
                        .decode(Arrays.stream(codes).map(c -> Arrays.copyOf(c, first)).toArray(int[][]::new))));
            } else if (tensor.startsWith("wav_chunked_")) {
                String[] sizes = tensor.substring("wav_chunked_".length()).split("_");
                all.put(tensor, () -> wave(
                        vocoder.chunkedDecode(codes, Integer.parseInt(sizes[0]), Integer.parseInt(sizes[1]))));
            }
        return all;
    }

    /**
     * What was computed: a shape and its elements.
     *
     * @param padded
     *            whether NaN stands for padding, where upstream leaves whatever is there
     */
    record Value(int[] shape, double[] elements, boolean padded) {
        Value(int[] shape, double[] elements) {
            this(shape, elements, false);
        }

        static Value of(float[] elements, int... shape) {
            double[] doubles = new double[elements.length];
            for (int i = 0; i < doubles.length; i++)
                doubles[i] = elements[i];
            return new Value(shape, doubles);
        }

        static Value of(int[][] rows) {
            int width = rows.length == 0 ? 0 : rows[0].length;
            return new Value(new int[]{rows.length, width},
                    Arrays.stream(rows).flatMapToInt(Arrays::stream).asDoubleStream().toArray());
        }

        static Value of(Tensor tensor, int... shape) {
            return of(tensor.toFloats(), shape.length == 0 ? tensor.shape() : shape);
        }
    }

    private static Value wave(float[] samples) {
        return Value.of(samples, samples.length);
    }

    private static Result compare(String name, String tensor, HostTensor golden, Value ours, boolean decoded) {
        int[] theirs = golden.shape();
        if (golden.size() != ours.elements.length || !sameButOnes(theirs, ours.shape))
            return new Result(name, tensor, Double.NaN, Double.NaN, false,
                    "shape " + Arrays.toString(ours.shape) + ", expected " + Arrays.toString(theirs));
        double difference = 0;
        double norm = 0;
        double largest = 0;
        int exact = 0;
        int compared = 0;
        for (int i = 0; i < ours.elements.length; i++) {
            if (Double.isNaN(ours.elements[i]) && ours.padded)
                continue;
            compared++;
            double expected = golden.dtype() == DType.F32 ? golden.getFloat(i) : golden.getLong(i);
            double error = Math.abs(ours.elements[i] - expected);
            difference += error * error;
            norm += expected * expected;
            largest = Double.isNaN(error) ? Double.POSITIVE_INFINITY : Math.max(largest, error);
            if (error < 1e-6)
                exact++;
        }
        double relative = norm == 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
        double share = compared == 0 ? 1 : (double) exact / compared;
        // one 8-bit level of a normalised pixel
        double level = 2 / 255.0 + 1e-6;
        boolean integers = golden.dtype() != DType.F32 || tensor.equals("thinker.position_ids")
                || tensor.equals("thinker.rope_deltas");
        boolean ok = integers
                ? largest == 0
                : switch (tensor) {
                    case "processor.input_features" -> largest <= FEATURES || decoded && relative <= DECODED;
                    case "processor.pixel_values" -> largest <= level && share >= 0.999;
                    case "processor.pixel_values_videos" -> largest <= 2 * level && relative <= DECODED;
                    default -> relative <= (tensor.contains("wav") ? WAVEFORM : RELATIVE);
                };
        return new Result(name, tensor, relative, largest, ok, "");
    }

    private static boolean sameButOnes(int[] a, int[] b) {
        return Arrays.equals(Arrays.stream(a).filter(n -> n != 1).toArray(),
                Arrays.stream(b).filter(n -> n != 1).toArray());
    }

    /** One conversation, or a batch, and everything that is computed for it. */
    private final class Case {
        private final JsonNode json;
        private final List<ModelInputs> inputs;
        private final Batch batch;
        private final Map<String, Supplier<Value>> all = new HashMap<>();

        Case(String name) {
            Fields fields = Fields.read(cases.resolve(name + ".json"));
            json = fields.node();
            Fields arguments = fields.at("arguments");
            List<List<Message>> conversations = Conversations.read(json.path("conversations").toString(), media);
            ProcessorOptions options = ProcessorOptions.builder().fps(arguments.number("fps", 1))
                    .useAudioInVideo(arguments.bool("use_audio_in_video", false))
                    .enableThinking(
                            arguments.has("enable_thinking") ? arguments.bool("enable_thinking", true) : null)
                    .build();
            inputs = omni.processor().process(conversations, options);
            batch = omni.processor().pad(inputs);
        }

        /** Whether sound was decoded or resampled on its way, where upstream's libraries may round otherwise. */
        boolean isDecoded() {
            if (json.path("arguments").path("use_audio_in_video").asBoolean())
                return true;
            return json.findValues("audio").stream().filter(JsonNode::isTextual)
                    .anyMatch(path -> !isPlain(media.resolve(path.asText())));
        }

        private static boolean isPlain(Path file) {
            try {
                return AudioSystem.getAudioFileFormat(file.toFile()).getFormat().getSampleRate() == 16_000;
            } catch (IOException | UnsupportedAudioFileException e) {
                return false;
            }
        }

        Map<String, Supplier<Value>> computed() {
            processor();
            thinker();
            if (json.has("speaker") && omni.model().canSpeak())
                speech();
            else
                generate(Options.text());
            return all;
        }

        private void processor() {
            all.put("processor.input_ids", () -> Value.of(batch.inputIds()));
            all.put("processor.attention_mask", () -> Value.of(batch.attentionMask()));
            all.put("processor.input_features", this::inputFeatures);
            all.put("processor.feature_attention_mask", () -> Value.of(batch.featureAttentionMask()));
            all.put("processor.image_grid_thw", () -> Value.of(batch.imageGridThw()));
            all.put("processor.video_grid_thw", () -> Value.of(batch.videoGridThw()));
            all.put("processor.pixel_values", () -> pixels(batch.pixelValues(), batch.imageGridThw()));
            all.put("processor.pixel_values_videos", () -> pixels(batch.pixelValuesVideos(), batch.videoGridThw()));
            all.put("processor.video_second_per_grid",
                    () -> new Value(new int[]{batch.videoSecondPerGrid().length}, batch.videoSecondPerGrid()));
        }

        /** The frames of the sounds; what pads a shorter one is masked and not compared. */
        private Value inputFeatures() {
            int sounds = batch.featureAttentionMask().length;
            int frames = batch.audioFrames();
            double[] values = Definitions.doubles(batch.inputFeatures());
            for (int i = 0; i < values.length; i++)
                if (batch.featureAttentionMask()[i / (batch.melBins() * frames)][i % frames] == 0)
                values[i] = Double.NaN;
            return new Value(new int[]{sounds, batch.melBins(), frames}, values, true);
        }

        private static Value pixels(float[] values, int[][] grids) {
            int patches = Arrays.stream(grids).mapToInt(g -> g[0] * g[1] * g[2]).sum();
            return Value.of(values, patches, patches == 0 ? 0 : values.length / patches);
        }

        private void thinker() {
            Thinker thinker = omni.model().thinker();
            List<AudioFeatures> audios = inputs.stream().flatMap(i -> i.audios().stream()).toList();
            List<VisualFeatures> images = inputs.stream().flatMap(i -> i.images().stream()).toList();
            List<VisualFeatures> videos = inputs.stream().flatMap(i -> i.videos().stream()).toList();
            int levels = omni.model().config().thinker().vision().deepstackVisualIndexes().length;
            try (Scope scope = omni.model().backend().scope()) {
                if (!audios.isEmpty())
                    put("thinker.audio_embeds", Value.of(thinker.audioFeatures(audios)));
                for (String kind : new String[]{"image", "video"}) {
                    List<VisualFeatures> visuals = kind.equals("image") ? images : videos;
                    if (visuals.isEmpty())
                        continue;
                    Thinker.VisualTokens tokens = thinker.visualFeatures(visuals);
                    put("thinker." + kind + "_embeds", Value.of(tokens.embeds()));
                    for (int i = 0; i < levels; i++)
                        put("thinker." + kind + "_deepstack." + i, Value.of(tokens.deepstack().get(i)));
                }
            }
            forward(thinker);
        }

        private void forward(Thinker thinker) {
            OmniModel model = omni.model();
            TensorOps ops = model.backend().tensorOps();
            int accept = model.config().talker().acceptHiddenLayer();
            Set<Integer> layers = accept <= model.config().thinker().text().numHiddenLayers()
                    ? Set.of(accept)
                    : Set.of();
            List<KvCache> caches = new ArrayList<>();
            try (Scope scope = model.backend().scope()) {
                List<Thinker.Prompt> prompts = inputs.stream().map(thinker::prepare).toList();
                positions(prompts.stream().map(Thinker.Prompt::rope).toList());
                for (int i = 0; i < prompts.size(); i++)
                    caches.add(thinker.newCache());
                Thinker.Output output = thinker.prefill(prompts, caches, layers, false);
                int[] last = new int[prompts.size()];
                int end = 0;
                for (int i = 0; i < last.length; i++) {
                    end += prompts.get(i).length();
                    last[i] = end - 1;
                }
                put("thinker.inputs_embeds", Value.of(prompts.getFirst().embeds()));
                if (!layers.isEmpty())
                    put("thinker.accept_hidden", Value.of(output.hiddenStates().getFirst()));
                put("thinker.last_hidden", Value.of(output.lastHidden()));
                Tensor hidden = ops.gather(output.lastHidden(), model.backend().tensor(last, last.length));
                put("thinker.logits_last", Value.of(thinker.logits(hidden)));
            } finally {
                caches.forEach(KvCache::close);
            }
        }

        /** Upstream's padded layout; where there is padding it holds 0, or 1 if the batch has nothing visual. */
        private void positions(List<RopeIndex> ropes) {
            int width = batch.inputIds()[0].length;
            boolean visual = batch.imageGridThw().length + batch.videoGridThw().length > 0;
            double[] positions = new double[3 * ropes.size() * width];
            double[] deltas = new double[ropes.size()];
            for (int i = 0; i < ropes.size(); i++) {
                deltas[i] = ropes.get(i).delta();
                for (int row = 0; row < 3; row++) {
                    float[] own = ropes.get(i).positions()[row];
                    int from = (row * ropes.size() + i) * width;
                    Arrays.fill(positions, from, from + width - own.length, visual ? 0 : 1);
                    for (int t = 0; t < own.length; t++)
                        positions[from + width - own.length + t] = own[t];
                }
            }
            put("thinker.position_ids", new Value(new int[]{3, ropes.size(), width}, positions));
            put("thinker.rope_deltas", new Value(new int[]{ropes.size(), 1}, deltas));
        }

        private List<Reply> generate(Options options) {
            Options chosen = options.argument("thinker_do_sample", false).argument("talker_do_sample", false)
                    .argument("thinker_eos_token_id", omni.model().config().imEnd())
                    .argument("thinker_repetition_penalty", 1.0).argument("talker_repetition_penalty", 1.05)
                    .thinkerMaxNewTokens(json.path("thinker_max_new_tokens").asInt(1024))
                    .talkerMaxNewTokens(json.path("talker_max_new_tokens").asInt(4096));
            List<Reply> replies = new Generation(omni.model(), omni.processor().tokenizer(), inputs,
                    Collections.nCopies(inputs.size(), Generation.Request.of(omni.model(), chosen)), event -> {
                    }, new Cancellation(), System.nanoTime()).run();
            int pad = omni.model().config().imEnd();
            int generated = replies.stream().mapToInt(r -> r.sequence().length - r.promptTokens()).max().orElse(0);
            int[][] sequences = new int[replies.size()][];
            for (int i = 0; i < sequences.length; i++) {
                Reply reply = replies.get(i);
                int[] prompt = batch.inputIds()[i];
                sequences[i] = Arrays.copyOf(prompt, prompt.length + generated);
                Arrays.fill(sequences[i], prompt.length, sequences[i].length, pad);
                System.arraycopy(reply.sequence(), reply.promptTokens(), sequences[i], prompt.length,
                        reply.sequence().length - reply.promptTokens());
            }
            put("generate.sequences", Value.of(sequences));
            return replies;
        }

        private void speech() {
            OmniModel model = omni.model();
            List<Reply> replies = generate(Options.speech(json.path("speaker").asText()));
            put("generate.talker_sequences", Value.of(padded(replies.stream().map(Reply::talkerSequence).toList(),
                    model.config().talker().codecEos())));
            int frames = replies.stream().mapToInt(r -> r.codes()[0].length).max().orElse(0);
            int groups = replies.getFirst().codes().length;
            double[] codes = new double[replies.size() * groups * frames];
            for (int i = 0; i < replies.size(); i++) {
                int[][] own = replies.get(i).codes();
                for (int g = 0; g < groups; g++)
                    for (int t = 0; t < own[g].length; t++)
                        codes[(i * groups + g) * frames + t] = own[g][t];
                int index = i;
                all.put("generate.wav." + i,
                        () -> wave(model.code2Wav().chunkedDecode(replies.get(index).codes(), 300, 25)));
            }
            put("generate.codes", new Value(new int[]{replies.size(), groups, frames}, codes));
            talker(replies);
        }

        private static int[][] padded(List<int[]> rows, int pad) {
            int width = rows.stream().mapToInt(r -> r.length).max().orElse(0);
            return rows.stream().map(row -> {
                int[] all = Arrays.copyOf(row, width);
                Arrays.fill(all, row.length, width, pad);
                return all;
            }).toArray(int[][]::new);
        }

        /** What the Talker reads, in upstream's layout: padded on the left, to the longest. */
        private void talker(List<Reply> replies) {
            OmniModel model = omni.model();
            Talker talker = model.talker();
            int speaker = talker.config().speakerId()
                    .get(json.path("speaker").asText().toLowerCase(java.util.Locale.ROOT));
            List<Talker.Start> starts = new ArrayList<>();
            List<float[]> trailing = new ArrayList<>();
            List<KvCache> caches = new ArrayList<>();
            int hidden = talker.config().text().hiddenSize();
            try (Scope scope = model.backend().scope()) {
                for (int i = 0; i < replies.size(); i++) {
                    Reply reply = replies.get(i);
                    Thinker.Prompt prompt = model.thinker().prepare(inputs.get(i));
                    caches.add(model.thinker().newCache());
                    Tensor accept = model.thinker().prefill(List.of(prompt), List.of(caches.getLast()),
                            Set.of(talker.config().acceptHiddenLayer()), false).hiddenStates().getFirst();
                    int[] text = IntStream.concat(Arrays.stream(talker.promptText(prompt.ids())), Arrays.stream(
                            reply.sequence(), reply.promptTokens(), reply.sequence().length - 1)).toArray();
                    if (text.length == 0)
                        continue;
                    starts.add(talker.start(inputs.get(i), prompt, accept, text[0], speaker));
                    int[] rest = Arrays.copyOfRange(text, 1, text.length + 1);
                    rest[rest.length - 1] = model.config().ttsEos();
                    trailing.add(talker.textHidden(model.backend().tensor(rest, rest.length)).toFloats());
                }
                int width = starts.stream().mapToInt(s -> s.ids().length).max().orElse(0);
                double[] embeds = new double[starts.size() * width * hidden];
                double[] ids = new double[starts.size() * width];
                Arrays.fill(embeds, Double.NaN);
                Arrays.fill(ids, Double.NaN);
                for (int i = 0; i < starts.size(); i++) {
                    Talker.Start start = starts.get(i);
                    int from = width - start.ids().length;
                    for (int t = 0; t < start.ids().length; t++)
                        ids[i * width + from + t] = start.ids()[t];
                    double[] values = Definitions.doubles(start.embeds().toFloats());
                    System.arraycopy(values, 0, embeds, (i * width + from) * hidden, values.length);
                }
                put("talker.inputs_embeds", new Value(new int[]{starts.size(), width, hidden}, embeds, true));
                put("talker.talker_input_ids", new Value(new int[]{starts.size(), width}, ids, true));
                int steps = trailing.stream().mapToInt(t -> t.length / hidden).max().orElse(0);
                float[] pad = talker.textHidden(model.config().ttsPad()).toFloats();
                float[] all = new float[trailing.size() * steps * hidden];
                for (int i = 0; i < all.length; i++)
                    all[i] = pad[i % hidden];
                for (int i = 0; i < trailing.size(); i++)
                    System.arraycopy(trailing.get(i), 0, all, i * steps * hidden, trailing.get(i).length);
                put("talker.trailing_text_hidden", Value.of(all, trailing.size(), steps, hidden));
            } finally {
                caches.forEach(KvCache::close);
            }
        }

        private void put(String tensor, Value value) {
            all.put(tensor, () -> value);
        }
    }
}
