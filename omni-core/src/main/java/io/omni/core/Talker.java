package io.omni.core;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.processor.ModelInputs;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The part that speaks: reads what the Thinker read and writes, and draws a frame of codes a step. Upstream:
 * {@code Qwen3OmniMoeTalkerForConditionalGeneration}. Calls need an open {@link Scope}, to which the results belong.
 */
public final class Talker {
    /** Tokens of the assistant turn before its text: {@code <|im_start|>}, {@code assistant}, the line break. */
    private static final int TURN_START = 3;
    private static final int PADS = 4;

    private final Backend backend;
    private final OmniConfig ids;
    private final TalkerConfig config;
    private final ThinkerConfig thinkerConfig;
    private final Thinker thinker;
    private final ResizeMlp textProjection;
    private final ResizeMlp hiddenProjection;
    private final Tensor codecEmbedding;
    private final Decoder model;
    private final Tensor codecHead;
    private final CodePredictor codePredictor;
    private final DType cacheType;

    Talker(OmniConfig omni, Thinker thinker, Weights weights, DType cacheType) {
        backend = weights.backend();
        ids = omni;
        config = omni.talker();
        thinkerConfig = omni.thinker();
        this.thinker = thinker;
        this.cacheType = cacheType;
        DecoderConfig text = config.text();
        int thinkerLayers = thinkerConfig.text().numHiddenLayers();
        if (config.acceptHiddenLayer() < 0 || config.acceptHiddenLayer() > thinkerLayers)
            throw new CheckpointException("config.json: talker_config: accept_hidden_layer is "
                    + config.acceptHiddenLayer() + ", expected 0 to " + thinkerLayers);
        config.speakerId().forEach((name, id) -> {
            if (id < 0 || id >= text.vocabSize())
                throw new CheckpointException("config.json: talker_config: speaker_id: " + name + " is " + id
                        + ", expected 0 to " + (text.vocabSize() - 1));
        });
        textProjection = new ResizeMlp(config, weights.at("text_projection"));
        hiddenProjection = new ResizeMlp(config, weights.at("hidden_projection"));
        codecEmbedding = weights.embedding("model.codec_embedding.weight", text.vocabSize(), text.hiddenSize());
        model = new Decoder(text, weights.at("model"));
        codecHead = weights.matrix("codec_head.weight", text.vocabSize(), text.hiddenSize());
        codePredictor = new CodePredictor(config.codePredictor(), config.numCodeGroups(), weights.at("code_predictor"));
    }

    /** Its sizes, codec and token ids, and voices. */
    public TalkerConfig config() {
        return config;
    }

    /** What draws a frame's codes after the first. */
    public CodePredictor codePredictor() {
        return codePredictor;
    }

    /** A new cache for one sequence; the caller owns it. */
    public KvCache newCache() {
        return model.newCache(cacheType);
    }

    /**
     * The text of a turn as the Talker hears it.
     *
     * @param tokens
     *            I32 {@code [n]}, the Thinker's
     * @return {@code [n, hidden]}
     */
    public Tensor textHidden(Tensor tokens) {
        return textProjection.forward(thinker.embed(tokens));
    }

    /** {@link #textHidden} of the token that ends the text, and of the one that fills the steps after it. */
    Tensor textHidden(int token) {
        return textHidden(backend.tensor(new int[]{token}, 1));
    }

    /** Embeddings of first codes: {@code [sequences, hidden]}. */
    public Tensor embed(Tensor codes) {
        return backend.tensorOps().embedding(codecEmbedding, codes);
    }

    /**
     * What the Talker reads before its first step.
     *
     * @param ids
     *            the Thinker's tokens of the user's turns, then padding for the assistant's
     * @param embeds
     *            {@code [ids, hidden]}
     * @param rope
     *            positions
     */
    public record Start(int[] ids, Tensor embeds, RopeIndex rope) {}

    /** The text to speak that a prompt holds already: the tokens after the last assistant turn's opening, often none. */
    public int[] promptText(int[] prompt) {
        int start = assistantStart(prompt);
        return Arrays.copyOfRange(prompt, Math.min(start + TURN_START, prompt.length), prompt.length);
    }

    private int assistantStart(int[] prompt) {
        for (int i = prompt.length - 2; i >= 0; i--)
            if (prompt[i] == ids.imStart() && prompt[i + 1] == ids.assistant())
            return i;
        throw new IllegalArgumentException(
                "the prompt has no assistant turn to speak: render it with the generation prompt");
    }

    /**
     * Builds what the Talker reads first: the user's turns, then the opening of the assistant's with the voice and the
     * first text token. Upstream: {@code _get_talker_user_parts}, {@code _get_talker_assistant_parts}.
     *
     * @param acceptHidden
     *            {@code [tokens, thinkerHidden]}: the Thinker's hidden state {@link TalkerConfig#acceptHiddenLayer}
     * @param firstText
     *            the first token of the text to speak
     * @param speaker
     *            codec id of the voice
     */
    public Start start(ModelInputs inputs, Thinker.Prompt prompt, Tensor acceptHidden, int firstText, int speaker) {
        TensorOps ops = backend.tensorOps();
        int[] tokens = prompt.ids();
        boolean[] user = userTurns(tokens);
        int[] userAt = IntStream.range(0, tokens.length).filter(i -> user[i]).toArray();
        int[] userIds = Arrays.stream(userAt).map(i -> tokens[i]).toArray();
        try (Scope scope = backend.scope()) {
            List<Tensor> parts = new ArrayList<>();
            if (userAt.length > 0)
                parts.add(userPart(prompt, acceptHidden, userAt, userIds));
            parts.add(assistantPart(prompt, firstText, speaker));
            int[] all = Arrays.copyOf(userIds, userIds.length + TURN_START + PADS + 2);
            Arrays.fill(all, userIds.length, all.length, ids.ttsPad());
            return new Start(all, scope.keep(ops.concat(parts)), rope(inputs, tokens, user, all));
        }
    }

    private boolean[] userTurns(int[] tokens) {
        boolean[] user = new boolean[tokens.length];
        int turn = 0;
        for (int i = 0; i < tokens.length; i++) {
            if (tokens[i] == ids.imStart())
                turn = i;
            user[i] = tokens[Math.min(turn + 1, tokens.length - 1)] == ids.user();
        }
        return user;
    }

    private Tensor userPart(Thinker.Prompt prompt, Tensor acceptHidden, int[] userAt, int[] userIds) {
        TensorOps ops = backend.tensorOps();
        Tensor text = textProjection.forward(ops.gather(prompt.embeds(), backend.tensor(userAt, userAt.length)));
        int[] media = IntStream.range(0, userIds.length).filter(i -> thinkerConfig.tokens().isMedia(userIds[i]))
                .toArray();
        if (media.length == 0)
            return text;
        int[] mediaAt = Arrays.stream(media).map(i -> userAt[i]).toArray();
        Tensor hidden = hiddenProjection.forward(ops.gather(acceptHidden, backend.tensor(mediaAt, mediaAt.length)));
        return ops.scatter(text, backend.tensor(media, media.length), hidden);
    }

    private Tensor assistantPart(Thinker.Prompt prompt, int firstText, int speaker) {
        TensorOps ops = backend.tensorOps();
        int start = assistantStart(prompt.ids());
        int[] heard = new int[TURN_START + PADS + 2];
        System.arraycopy(prompt.ids(), start, heard, 0, TURN_START);
        Arrays.fill(heard, TURN_START, TURN_START + PADS, ids.ttsPad());
        heard[TURN_START + PADS] = ids.ttsBos();
        heard[TURN_START + PADS + 1] = firstText;
        int[] codec = {config.codecNothink(), config.codecThinkBos(), config.codecThinkEos(), speaker,
                config.codecPad(),
                config.codecBos()};
        int[] at = IntStream.range(TURN_START, heard.length).toArray();
        return ops.scatterAdd(textHidden(backend.tensor(heard, heard.length)), backend.tensor(at, at.length),
                embed(backend.tensor(codec, codec.length)));
    }

    /**
     * Positions of the Talker's own prompt, in which only the media of the user's turns are left. As upstream, which does
     * not tell the Talker that sound is merged into video, those are then positions of plain text.
     */
    private RopeIndex rope(ModelInputs inputs, int[] tokens, boolean[] user, int[] talkerIds) {
        MediaTokens media = thinkerConfig.tokens();
        List<Integer> audioTokens = new ArrayList<>();
        List<RopeIndex.Grid> images = new ArrayList<>();
        List<RopeIndex.Grid> videos = new ArrayList<>();
        List<RopeIndex.Grid> allImages = RopeIndex.Grid.of(inputs.images());
        List<RopeIndex.Grid> allVideos = RopeIndex.Grid.of(inputs.videos());
        int audio = 0;
        int image = 0;
        int video = 0;
        for (int i = 0; i + 1 < tokens.length; i++) {
            if (media.opensSound(tokens, i)) {
                int n = thinkerConfig.audio().tokens(inputs.audios().get(audio++).frames());
                if (user[i])
                    audioTokens.add(n);
            } else if (media.opensImage(tokens, i)) {
                RopeIndex.Grid grid = allImages.get(image++);
                if (user[i])
                    images.add(grid);
            } else if (media.opensVisual(tokens, i)) {
                RopeIndex.Grid grid = allVideos.get(video++);
                if (user[i])
                    videos.add(grid);
            }
        }
        return RopeIndex.of(talkerIds, media, thinkerConfig.vision().spatialMergeSize(),
                audioTokens.stream().mapToInt(Integer::intValue).toArray(), images, videos, false);
    }

    /**
     * Runs the starts through the decoder and fills their caches. Upstream: the Talker's {@code forward}, whose logits are
     * {@link #logits} of this.
     *
     * @return {@code [tokens, hidden]}, the starts one after another, normalised
     */
    public Tensor forward(List<Start> starts, List<KvCache> caches) {
        float[][] positions = RopeIndex.joined(starts.stream().map(Start::rope).toList());
        try (Scope scope = backend.scope()) {
            Tensor embeds = backend.tensorOps().concat(starts.stream().map(Start::embeds).toList());
            return scope.keep(model.forward(embeds, positions, caches, packed(starts), Decoder.Tap.NONE));
        }
    }

    /**
     * The same for the last token of each alone.
     *
     * @return {@code [sequences, hidden]}
     */
    public Tensor prefill(List<Start> starts, List<KvCache> caches) {
        int[] offsets = packed(starts).offsets();
        int[] last = IntStream.rangeClosed(1, starts.size()).map(i -> offsets[i] - 1).toArray();
        try (Scope scope = backend.scope()) {
            return scope.keep(backend.tensorOps().gather(forward(starts, caches),
                    backend.tensor(last, last.length)));
        }
    }

    private static Packed packed(List<Start> starts) {
        return Packed.ofLengths(starts.stream().mapToInt(s -> s.ids().length).toArray());
    }

    /**
     * Runs one frame of each sequence through the decoder.
     *
     * @param embeds
     *            {@code [sequences, hidden]}: the sum of the frame's codes' embeddings, plus the text of this step
     * @return {@code [sequences, hidden]}, normalised
     */
    public Tensor step(Tensor embeds, List<RopeIndex> rope, List<KvCache> caches) {
        float[][] positions = RopeIndex.next(rope, caches);
        int[] one = new int[rope.size()];
        Arrays.fill(one, 1);
        return model.forward(embeds, positions, caches, Packed.ofLengths(one), Decoder.Tap.NONE);
    }

    /** Logits of the first code: {@code [sequences, codec vocabulary]}. */
    public Tensor logits(Tensor hidden) {
        return backend.tensorOps().linear(hidden, codecHead);
    }

    /** From the Thinker's width to the Talker's. */
    private static final class ResizeMlp {
        private final Backend backend;
        private final Activation activation;
        private final Tensor fc1;
        private final Tensor fc1Bias;
        private final Tensor fc2;
        private final Tensor fc2Bias;

        ResizeMlp(TalkerConfig config, Weights weights) {
            backend = weights.backend();
            DecoderConfig text = config.text();
            activation = text.activation();
            fc1 = weights.matrix("linear_fc1.weight", text.intermediateSize(), config.thinkerHiddenSize());
            fc1Bias = weights.vector("linear_fc1.bias", text.intermediateSize());
            fc2 = weights.matrix("linear_fc2.weight", text.hiddenSize(), text.intermediateSize());
            fc2Bias = weights.vector("linear_fc2.bias", text.hiddenSize());
        }

        Tensor forward(Tensor x) {
            TensorOps ops = backend.tensorOps();
            return ops.linear(ops.linear(x, fc1, fc1Bias, activation), fc2, fc2Bias);
        }
    }
}
