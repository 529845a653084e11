package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.processor.AudioFeatures;
import io.omni.processor.ModelInputs;
import io.omni.processor.VisualFeatures;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * The part that understands and writes: encoders, decoder and head. Upstream:
 * {@code Qwen3OmniMoeThinkerForConditionalGeneration}. Calls need an open {@link Scope}, to which the results belong; any
 * number of threads may call at once.
 */
public final class Thinker {
    /** Tokens of prompts that go through the layers at once. */
    private static final int TOKENS_AT_ONCE = 1024;

    private final Backend backend;
    private final ThinkerConfig config;
    private final AudioEncoder audioTower;
    private final VisionEncoder visual;
    private final Tensor embedTokens;
    private final Decoder model;
    private final Tensor lmHead;
    private final DType cacheType;

    Thinker(ThinkerConfig config, Weights weights, DType cacheType) {
        backend = weights.backend();
        this.config = config;
        this.cacheType = cacheType;
        DecoderConfig text = config.text();
        audioTower = new AudioEncoder(config.audio(), weights.at("audio_tower"));
        visual = new VisionEncoder(config.vision(), weights.at("visual"));
        embedTokens = weights.embedding("model.embed_tokens.weight", text.vocabSize(), text.hiddenSize());
        model = new Decoder(text, weights.at("model"));
        String head = config.tieWordEmbeddings() ? "model.embed_tokens.weight" : "lm_head.weight";
        lmHead = weights.matrix(head, text.vocabSize(), text.hiddenSize());
    }

    /** Its sizes and token ids. */
    public ThinkerConfig config() {
        return config;
    }

    /** A new cache for one sequence; the caller owns it. */
    public KvCache newCache() {
        return model.newCache(cacheType);
    }

    /** Audio tokens of clips, one after another: {@code [tokens, hidden]}. Upstream: {@code get_audio_features}. */
    public Tensor audioFeatures(List<AudioFeatures> clips) {
        return audioTower.forward(clips);
    }

    /**
     * Visual tokens of images or videos.
     *
     * @param embeds
     *            {@code [tokens, hidden]}
     * @param deepstack
     *            the same shape, one for each of the first decoder layers
     */
    public record VisualTokens(Tensor embeds, List<Tensor> deepstack) {}

    /** Visual tokens, one image or video after another. Upstream: {@code get_image_features}, {@code get_video_features}. */
    public VisualTokens visualFeatures(List<VisualFeatures> visuals) {
        VisionEncoder.Output out = visual.forward(visuals);
        return new VisualTokens(out.embeds(), out.deepstack());
    }

    /** Embeddings of text tokens: {@code [tokens, hidden]}. */
    public Tensor embed(Tensor ids) {
        return backend.tensorOps().embedding(embedTokens, ids);
    }

    /**
     * A prompt as the decoder reads it.
     *
     * @param embeds
     *            {@code [tokens, hidden]}, with the media's tokens in their places
     * @param visualRows
     *            which tokens are visual; empty if none
     * @param deepstack
     *            {@code [n, hidden]} to add after each of the first layers
     * @param rope
     *            positions
     */
    public record Prompt(int[] ids, Tensor embeds, int[] visualRows, List<Tensor> deepstack, RopeIndex rope) {
        /** Number of tokens, those of media included. */
        public int length() {
            return ids.length;
        }
    }

    /**
     * Runs the encoders and merges their tokens into the text.
     *
     * @throws IllegalArgumentException
     *             if the media do not make as many tokens as the prompt holds
     */
    public Prompt prepare(ModelInputs inputs) {
        TensorOps ops = backend.tensorOps();
        int[] ids = inputs.inputIds();
        MediaTokens tokens = config.tokens();
        try (Scope scope = backend.scope()) {
            Tensor embeds = embed(backend.tensor(ids, ids.length));
            if (!inputs.audios().isEmpty())
                embeds = merge(embeds, ids, tokens.audio(), audioFeatures(inputs.audios()), "audio");
            VisualTokens images = inputs.images().isEmpty() ? null : visualFeatures(inputs.images());
            if (images != null)
                embeds = merge(embeds, ids, tokens.image(), images.embeds(), "image");
            VisualTokens videos = inputs.videos().isEmpty() ? null : visualFeatures(inputs.videos());
            if (videos != null)
                embeds = merge(embeds, ids, tokens.video(), videos.embeds(), "video");

            int[] visualRows = new int[0];
            List<Tensor> deepstack = new ArrayList<>();
            if (images != null || videos != null) {
                int[] imageAt = positionsOf(ids, tokens.image());
                int[] videoAt = positionsOf(ids, tokens.video());
                visualRows = IntStream.concat(Arrays.stream(imageAt), Arrays.stream(videoAt)).toArray();
                int levels = (images != null ? images : videos).deepstack().size();
                for (int i = 0; i < levels; i++) {
                    List<Tensor> both = new ArrayList<>();
                    if (images != null)
                        both.add(images.deepstack().get(i));
                    if (videos != null)
                        both.add(videos.deepstack().get(i));
                    deepstack.add(scope.keep(both.size() == 1 ? both.getFirst() : ops.concat(both)));
                }
            }
            RopeIndex rope = RopeIndex.of(ids, config, inputs.audios(), inputs.images(), inputs.videos(),
                    inputs.useAudioInVideo());
            return new Prompt(ids, scope.keep(embeds), visualRows, deepstack, rope);
        }
    }

    private Tensor merge(Tensor embeds, int[] ids, int token, Tensor features, String medium) {
        int[] at = positionsOf(ids, token);
        if (at.length != features.dim(0))
            throw new IllegalArgumentException("the prompt holds " + at.length + " " + medium + " tokens, but the "
                    + medium + " makes " + features.dim(0));
        return backend.tensorOps().scatter(embeds, backend.tensor(at, at.length), features);
    }

    private static int[] positionsOf(int[] ids, int token) {
        return IntStream.range(0, ids.length).filter(i -> ids[i] == token).toArray();
    }

    /**
     * What the decoder makes of packed sequences.
     *
     * @param lastHidden
     *            {@code [tokens, hidden]}, after the last layer and the final norm
     * @param hiddenStates
     *            for each layer asked for, in order, {@code [tokens, hidden]}, counted as upstream counts them: 0 are the
     *            embeddings, i is what layer i − 1 made, before DeepStack features are added, and the last is
     *            {@code lastHidden}
     * @param routerLogits
     *            if asked for, {@code [tokens, experts]} of each sparse layer, in order; else empty
     */
    public record Output(Tensor lastHidden, List<Tensor> hiddenStates, List<Tensor> routerLogits) {}

    /**
     * Runs prompts through the decoder and fills their caches.
     *
     * @param caches
     *            one a prompt, empty
     * @param layers
     *            which hidden states to return, 0 to the number of layers
     * @throws IllegalArgumentException
     *             if there are no prompts, or no such layer
     */
    public Output prefill(List<Prompt> prompts, List<KvCache> caches, Set<Integer> layers, boolean routerLogits) {
        TensorOps ops = backend.tensorOps();
        if (prompts.isEmpty())
            throw new IllegalArgumentException("prompts: found none, expected at least one");
        for (int layer : layers)
            if (layer < 0 || layer > config.text().numHiddenLayers())
            throw new IllegalArgumentException(
                    "hidden states of layer " + layer + ", expected 0 to " + config.text().numHiddenLayers());
        try (Scope scope = backend.scope()) {
            List<Output> parts = new ArrayList<>();
            for (List<Piece> group : groups(prompts))
                parts.add(read(group, caches, layers, routerLogits));
            Output first = parts.getFirst();
            Tensor hidden = scope.keep(ops.concat(parts.stream().map(Output::lastHidden).toList()));
            List<Tensor> states = new ArrayList<>();
            for (int i = 0; i < first.hiddenStates().size(); i++) {
                int at = i;
                states.add(scope.keep(ops.concat(parts.stream().map(p -> p.hiddenStates().get(at)).toList())));
            }
            List<Tensor> router = new ArrayList<>();
            for (int i = 0; i < first.routerLogits().size(); i++) {
                int at = i;
                router.add(scope.keep(ops.concat(parts.stream().map(p -> p.routerLogits().get(at)).toList())));
            }
            return new Output(hidden, states, router);
        }
    }

    /** Tokens {@code from} to {@code to} of prompt {@code index} of the call. */
    private record Piece(int index, Prompt prompt, int from, int to) {
        int length() {
            return to - from;
        }
    }

    /** Cuts the prompts into groups of few enough tokens that what their layers compute stays small in memory. */
    private static List<List<Piece>> groups(List<Prompt> prompts) {
        List<List<Piece>> groups = new ArrayList<>();
        List<Piece> group = new ArrayList<>();
        int room = TOKENS_AT_ONCE;
        for (int i = 0; i < prompts.size(); i++)
            for (int from = 0; from < prompts.get(i).length();) {
                int to = Math.min(prompts.get(i).length(), from + room);
                group.add(new Piece(i, prompts.get(i), from, to));
                room -= to - from;
                from = to;
                if (room == 0) {
                    groups.add(group);
                    group = new ArrayList<>();
                    room = TOKENS_AT_ONCE;
                }
            }
        if (!group.isEmpty())
            groups.add(group);
        return groups;
    }

    private Output read(List<Piece> group, List<KvCache> caches, Set<Integer> layers, boolean routerLogits) {
        TensorOps ops = backend.tensorOps();
        Packed packed = Packed.ofLengths(group.stream().mapToInt(Piece::length).toArray());
        try (Scope scope = backend.scope()) {
            Tensor embeds = ops.concat(
                    group.stream().map(p -> ops.slice(p.prompt().embeds(), p.from(), p.to())).toList());
            float[][] positions = RopeIndex.joined(
                    group.stream().map(p -> p.prompt().rope().slice(p.from(), p.to())).toList());
            Recorder tap = new Recorder(group, packed, layers, routerLogits);
            Tensor hidden = model.forward(embeds, positions, group.stream().map(p -> caches.get(p.index())).toList(),
                    packed, tap);
            tap.captured.forEach(scope::keep);
            tap.router.forEach(scope::keep);
            scope.keep(hidden);
            if (layers.contains(config.text().numHiddenLayers()))
                tap.captured.add(hidden);
            return new Output(hidden, tap.captured, tap.router);
        }
    }

    /** Adds the DeepStack features after the first layers, and keeps what was asked for. */
    private final class Recorder implements Decoder.Tap {
        private final Set<Integer> layers;
        private final boolean routerLogits;
        private final List<Tensor> captured = new ArrayList<>();
        private final List<Tensor> router = new ArrayList<>();
        private final List<Tensor> deepstack = new ArrayList<>();
        private Tensor index;

        Recorder(List<Piece> group, Packed packed, Set<Integer> layers, boolean routerLogits) {
            this.layers = layers;
            this.routerLogits = routerLogits;
            List<Integer> rows = new ArrayList<>();
            List<List<Tensor>> features = new ArrayList<>();
            for (int i = 0; i < group.size(); i++) {
                Piece piece = group.get(i);
                int[] visual = piece.prompt().visualRows();
                int[] here = IntStream.range(0, visual.length)
                        .filter(j -> visual[j] >= piece.from() && visual[j] < piece.to()).toArray();
                if (here.length == 0)
                    continue;
                for (int j : here)
                    rows.add(packed.offsets()[i] + visual[j] - piece.from());
                Tensor which = backend.tensor(here, here.length);
                for (int level = 0; level < piece.prompt().deepstack().size(); level++) {
                    if (features.size() == level)
                        features.add(new ArrayList<>());
                    features.get(level).add(backend.tensorOps().gather(piece.prompt().deepstack().get(level), which));
                }
            }
            if (rows.isEmpty())
                return;
            index = backend.tensor(rows.stream().mapToInt(Integer::intValue).toArray(), rows.size());
            for (List<Tensor> level : features)
                deepstack.add(level.size() == 1 ? level.getFirst() : backend.tensorOps().concat(level));
        }

        @Override
        public Tensor before(int layer, Tensor hidden) {
            if (keeps(layer))
                captured.add(hidden);
            return layer > 0 && layer <= deepstack.size()
                    ? backend.tensorOps().scatterAdd(hidden, index, deepstack.get(layer - 1))
                    : hidden;
        }

        @Override
        public boolean keeps(int layer) {
            return layer < config.text().numHiddenLayers() && layers.contains(layer);
        }

        @Override
        public void routed(int layer, Tensor hidden, Tensor weight) {
            if (routerLogits)
                router.add(backend.tensorOps().linear(hidden, weight));
        }

        @Override
        public List<Tensor> made() {
            return router;
        }
    }

    /**
     * Runs one new token of each sequence through the decoder.
     *
     * @param embeds
     *            {@code [sequences, hidden]}
     * @param rope
     *            each sequence's prompt's positions
     * @return {@code [sequences, hidden]}, normalised
     */
    public Tensor step(Tensor embeds, List<RopeIndex> rope, List<KvCache> caches) {
        float[][] positions = RopeIndex.next(rope, caches);
        int[] one = new int[rope.size()];
        Arrays.fill(one, 1);
        return model.forward(embeds, positions, caches, Packed.ofLengths(one), Decoder.Tap.NONE);
    }

    /** Logits of hidden states: {@code [tokens, vocabulary]}. */
    public Tensor logits(Tensor hidden) {
        return backend.tensorOps().linear(hidden, lmHead);
    }

    /**
     * A forward pass for evaluation.
     *
     * @param logits
     *            {@code [tokens, vocabulary]}, the sequences one after another
     * @param loss
     *            mean cross-entropy of the labels, plus the router's auxiliary loss times its coefficient if router logits
     *            were asked for; NaN without labels
     * @param auxLoss
     *            the router's load-balancing loss; NaN unless asked for
     */
    public record Evaluation(Tensor logits, Output output, float loss, float auxLoss) {}

    /**
     * Evaluates whole sequences without keeping a cache. Upstream: the Thinker's {@code forward}.
     *
     * @param labels
     *            one a sequence, or null; each as long as its sequence, the label of a position being predicted from the one
     *            before; −100 is ignored
     */
    public Evaluation evaluate(List<ModelInputs> inputs, int[][] labels, Set<Integer> layers, boolean routerLogits) {
        List<Prompt> prompts = inputs.stream().map(this::prepare).toList();
        List<KvCache> caches = new ArrayList<>();
        try {
            for (int i = 0; i < prompts.size(); i++)
                caches.add(newCache());
            Output output = prefill(prompts, caches, layers, routerLogits);
            Tensor logits = logits(output.lastHidden());
            float aux = routerLogits ? Losses.loadBalancing(output.routerLogits(), config.text()) : Float.NaN;
            float loss = Float.NaN;
            if (labels != null) {
                loss = Losses.crossEntropy(logits, labels, prompts.stream().mapToInt(Prompt::length).toArray());
                if (routerLogits)
                    loss += (float) (config.text().routerAuxLossCoef() * aux);
            }
            return new Evaluation(logits, output, loss, aux);
        } finally {
            caches.forEach(KvCache::close);
        }
    }
}
