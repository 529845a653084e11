package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.KvCache;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.processor.ModelInputs;
import io.omni.processor.TextStream;
import io.omni.processor.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/**
 * One call's way through the model: a batch of prompts in, texts and speech out. The Thinker, the Talker and Code2Wav are
 * three stages that hand tokens and frames on as they come; run side by side or one after another, they compute the same.
 * Upstream: {@code Qwen3OmniMoeForConditionalGeneration.generate}.
 */
final class Generation {
    /** Text tokens that the Thinker writes before it lets the first sound out, which shares the cores with it. */
    private static final int HEAD_START = 8;
    /** Upstream's constants for the codes that the predictor draws, when the Talker samples. */
    private static final int PREDICTOR_TOP_K = 50;
    private static final float PREDICTOR_TOP_P = 0.8f;

    private final OmniModel model;
    private final Backend backend;
    private final Tokenizer tokenizer;
    private final Consumer<Event> sink;
    private final Cancellation cancellation;
    private final List<Answer> answers = new ArrayList<>();
    private final long start;

    /**
     * What options ask of a model, and all of it there is.
     *
     * @param speaker
     *            codec id of the voice; −1 without speech
     */
    record Request(GenerationConfig arguments, boolean speaks, int speaker, long seed) {
        /**
         * @throws IllegalArgumentException
         *             if an option does not fit
         * @throws IllegalStateException
         *             if speech is wanted of a model that has none
         */
        static Request of(OmniModel model, Options options) {
            GenerationConfig arguments = model.generationConfig().with(options.arguments());
            TokenSampler.check("thinker_", arguments.thinker(), model.config().thinker().text().vocabSize());
            boolean speaks = options.speak() == null ? model.canSpeak() : options.speak();
            if (!speaks)
                return new Request(arguments, false, -1, options.seed());
            TalkerConfig talker = model.talker().config();
            TokenSampler.check("talker_", arguments.talker(), talker.text().vocabSize());
            Integer speaker = talker.speakerId().get(options.speaker().toLowerCase(Locale.ROOT));
            if (speaker == null)
                throw new IllegalArgumentException("unknown speaker '" + options.speaker() + "', expected one of "
                        + talker.speakerId().keySet());
            return new Request(arguments, true, speaker, options.seed());
        }
    }

    /**
     * @param sink
     *            hears the events, on several threads
     * @param start
     *            {@link System#nanoTime} of the request
     * @throws IllegalArgumentException
     *             if a prompt is empty or longer than the context, or has no turn to speak where speech is wanted
     */
    Generation(OmniModel model, Tokenizer tokenizer, List<ModelInputs> inputs, List<Request> requests,
            Consumer<Event> sink, Cancellation cancellation, long start) {
        this.model = model;
        backend = model.backend();
        this.tokenizer = tokenizer;
        this.sink = sink;
        this.cancellation = cancellation;
        this.start = start;
        for (int i = 0; i < inputs.size(); i++)
            answers.add(new Answer(i, inputs.get(i), requests.get(i)));
    }

    /** One conversation's answer while it is made. */
    private final class Answer {
        final int index;
        final ModelInputs inputs;
        final GenerationConfig arguments;
        final long seed;
        final boolean speaks;
        final int speaker;
        final TextStream text = tokenizer.stream(true);
        final StringBuilder shown = new StringBuilder();
        final List<Integer> tokens = new ArrayList<>();
        /** The start of the text to speak, which the prompt holds already. */
        final int[] promptText;
        final TextFeed spoken = new TextFeed(cancellation);
        final FrameFeed frames = new FrameFeed(cancellation);
        final List<Integer> firstCodes = new ArrayList<>();
        /** What the Talker needs of the Thinker's reading; set before the first token. */
        Thinker.Prompt prompt;
        Tensor acceptHidden;
        /** Whether the first piece of sound is out, or there will be none. */
        volatile boolean heard;
        double prefill = Double.NaN;
        double firstText = Double.NaN;
        double textDone = Double.NaN;
        double firstAudio = Double.NaN;
        double audioDone = Double.NaN;
        final List<float[]> samples = new ArrayList<>();

        Answer(int index, ModelInputs inputs, Request request) {
            this.index = index;
            this.inputs = inputs;
            arguments = request.arguments();
            seed = request.seed();
            speaks = request.speaks();
            speaker = request.speaker();
            int context = model.config().thinker().text().maxPositionEmbeddings();
            if (inputs.inputIds().length > context)
                throw new IllegalArgumentException("the prompt has " + inputs.inputIds().length
                        + " tokens, but the model's context holds " + context);
            if (inputs.inputIds().length == 0)
                throw new IllegalArgumentException("the prompt is empty");
            promptText = speaks ? model.talker().promptText(inputs.inputIds()) : new int[0];
        }

        /** Whether the prompt and the tokens so far fill the context. */
        boolean isFull() {
            return inputs.inputIds().length + tokens.size() >= model.config().thinker().text().maxPositionEmbeddings();
        }

        void show(String delta) {
            if (delta.isEmpty())
                return;
            shown.append(delta);
            sink.accept(new Event.TextDelta(index, delta));
        }

        Reply reply() {
            int[] prompt = inputs.inputIds();
            int[] sequence = Arrays.copyOf(prompt, prompt.length + tokens.size());
            for (int i = 0; i < tokens.size(); i++)
                sequence[prompt.length + i] = tokens.get(i);
            int[][] codes = speaks
                    ? frames.codes(0, Integer.MAX_VALUE, model.code2Wav().config().numQuantizers())
                    : null;
            Audio audio = speaks ? new Audio(joined(samples), Code2WavConfig.SAMPLE_RATE) : null;
            Timings timings = new Timings(prefill, firstText, textDone, firstAudio, audioDone);
            int[] talker = speaks ? firstCodes.stream().mapToInt(Integer::intValue).toArray() : null;
            return new Reply(shown.toString(), sequence, prompt.length, codes, talker, audio, timings);
        }
    }

    /**
     * Runs the stages side by side, the Thinker on the calling thread.
     *
     * @throws CancellationException
     *             if it was cancelled
     */
    List<Reply> run() {
        List<Answer> speaking = answers.stream().filter(a -> a.speaks).toList();
        if (speaking.isEmpty()) {
            cancellation.during(() -> think(false));
        } else {
            AtomicReference<Throwable> failure = new AtomicReference<>();
            List<Thread> stages = new ArrayList<>();
            try {
                guarded(() -> {
                    stages.add(stage("omni-talker", () -> talk(speaking), failure));
                    stages.add(stage("omni-code2wav", () -> sound(speaking), failure));
                    think(true);
                }, failure).run();
            } finally {
                stages.forEach(Generation::join);
                speaking.forEach(Generation::free);
            }
            if (failure.get() instanceof RuntimeException e)
                throw e;
            if (failure.get() instanceof Error e)
                throw e;
        }
        return finish();
    }

    /** Runs the stages one after another on the calling thread. */
    List<Reply> runSequentially() {
        List<Answer> speaking = answers.stream().filter(a -> a.speaks).toList();
        try {
            think(false);
            if (!speaking.isEmpty()) {
                talk(speaking);
                sound(speaking);
            }
        } finally {
            speaking.forEach(Generation::free);
        }
        return finish();
    }

    private List<Reply> finish() {
        List<Reply> replies = new ArrayList<>();
        for (Answer answer : answers) {
            Reply reply = answer.reply();
            replies.add(reply);
            sink.accept(new Event.Done(answer.index, reply));
        }
        return replies;
    }

    private static float[] joined(List<float[]> pieces) {
        float[] all = new float[pieces.stream().mapToInt(piece -> piece.length).sum()];
        int at = 0;
        for (float[] piece : pieces) {
            System.arraycopy(piece, 0, all, at, piece.length);
            at += piece.length;
        }
        return all;
    }

    private Thread stage(String name, Runnable work, AtomicReference<Throwable> failure) {
        return Thread.ofPlatform().name(name).daemon().start(guarded(work, failure));
    }

    /** Notes the first failure, and stops the other stages. */
    private Runnable guarded(Runnable work, AtomicReference<Throwable> failure) {
        return () -> {
            try {
                cancellation.during(work);
            } catch (RuntimeException | Error e) {
                failure.compareAndSet(null, e);
                cancellation.cancel();
            }
        };
    }

    /** Waits for a thread to end; an interrupt is left for later. */
    static void join(Thread thread) {
        boolean interrupted = false;
        while (true)
            try {
                thread.join();
                break;
            } catch (InterruptedException e) {
                interrupted = true;
            }
        if (interrupted)
            Thread.currentThread().interrupt();
    }

    private static void free(Answer answer) {
        if (answer.prompt != null)
            answer.prompt.embeds().close();
        if (answer.acceptHidden != null)
            answer.acceptHidden.close();
        answer.prompt = null;
        answer.acceptHidden = null;
    }

    private double now() {
        return (System.nanoTime() - start) / 1e9;
    }

    // The Thinker: reads the prompts, writes the texts.

    /** @param pacing whether the first sound goes before the rest of the text */
    private void think(boolean pacing) {
        List<KvCache> caches = new ArrayList<>();
        List<TokenSampler> samplers = new ArrayList<>();
        try {
            for (Answer answer : answers) {
                caches.add(model.thinker().newCache());
                samplers.add(
                        new TokenSampler(backend, answer.arguments.thinker(), answer.seed, answer.inputs.inputIds(),
                                model.config().thinker().text().vocabSize()));
            }
            List<RopeIndex> ropes = new ArrayList<>();
            int[] tokens = read(caches, samplers, ropes);
            double prefill = now();
            answers.forEach(answer -> answer.prefill = prefill);
            List<Integer> active = accept(IntStream.range(0, answers.size()).boxed().toList(), tokens);
            while (!active.isEmpty()) {
                cancellation.check();
                if (pacing)
                    letSoundOut();
                tokens = write(active, ropes, caches, samplers);
                active = accept(active, tokens);
            }
        } finally {
            caches.forEach(KvCache::close);
            samplers.forEach(TokenSampler::close);
        }
    }

    /** A listener waits for the first sound and a reader has something to read: waits until it is out. */
    private void letSoundOut() {
        for (Answer answer : answers)
            if (answer.speaks && answer.tokens.size() >= HEAD_START)
            cancellation.await(() -> answer.heard);
    }

    /** Fills the caches with the prompts and draws the first tokens. */
    private int[] read(List<KvCache> caches, List<TokenSampler> samplers, List<RopeIndex> ropes) {
        TensorOps ops = backend.tensorOps();
        boolean speech = answers.stream().anyMatch(a -> a.speaks);
        Set<Integer> layers = speech ? Set.of(model.talker().config().acceptHiddenLayer()) : Set.of();
        try (Scope scope = backend.scope()) {
            List<Thinker.Prompt> prompts = new ArrayList<>();
            for (Answer answer : answers) {
                cancellation.check();
                Thinker.Prompt prompt = model.thinker().prepare(answer.inputs);
                prompts.add(prompt);
                ropes.add(prompt.rope());
            }
            Thinker.Output output = model.thinker().prefill(prompts, caches, layers, false);
            int[] last = new int[answers.size()];
            int end = 0;
            for (int i = 0; i < last.length; i++) {
                Answer answer = answers.get(i);
                int from = end;
                end += prompts.get(i).length();
                last[i] = end - 1;
                if (!answer.speaks)
                    continue;
                Tensor accept = ops.slice(output.hiddenStates().getFirst(), from, end);
                Thinker.Prompt prompt = prompts.get(i);
                Tensor embeds = scope.detach(ops.slice(prompt.embeds(), 0, prompt.length()));
                answer.acceptHidden = scope.detach(accept);
                answer.prompt = new Thinker.Prompt(prompt.ids(), embeds, new int[0], List.of(), prompt.rope());
                for (int token : answer.promptText)
                    answer.spoken.add(token);
            }
            Tensor hidden = ops.gather(output.lastHidden(), backend.tensor(last, last.length));
            return TokenSampler.sample(model.thinker().logits(hidden), samplers);
        }
    }

    /** Feeds the last token of each active answer and draws the next ones. */
    private int[] write(List<Integer> active, List<RopeIndex> ropes, List<KvCache> caches,
            List<TokenSampler> samplers) {
        int[] last = active.stream().mapToInt(i -> answers.get(i).tokens.getLast()).toArray();
        try (Scope scope = backend.scope()) {
            Tensor embeds = model.thinker().embed(backend.tensor(last, last.length));
            Tensor hidden = model.thinker().step(embeds, pick(ropes, active), pick(caches, active));
            return TokenSampler.sample(model.thinker().logits(hidden), pick(samplers, active));
        }
    }

    /** Takes in the tokens drawn for the active answers; returns those that go on. */
    private List<Integer> accept(List<Integer> active, int[] drawn) {
        List<Integer> rest = new ArrayList<>();
        for (int i = 0; i < drawn.length; i++) {
            Answer answer = answers.get(active.get(i));
            GenerationArguments arguments = answer.arguments.thinker();
            answer.tokens.add(drawn[i]);
            if (answer.tokens.size() == 1)
                answer.firstText = now();
            boolean eos = arguments.integers("eos_token_id").contains(drawn[i]);
            answer.show(answer.text.push(drawn[i]));
            if (eos || answer.tokens.size() == arguments.integer("max_new_tokens") || answer.isFull()) {
                // the last token is never read by the Thinker, nor spoken
                answer.show(answer.text.finish());
                answer.textDone = now();
                answer.spoken.end();
                sink.accept(new Event.TextDone(answer.index, answer.shown.toString()));
            } else {
                answer.spoken.add(drawn[i]);
                rest.add(active.get(i));
            }
        }
        return rest;
    }

    private static <T> List<T> pick(List<T> all, List<Integer> indexes) {
        return indexes.stream().map(all::get).toList();
    }

    // The Talker: reads the texts as they come, draws frames of codes.

    private void talk(List<Answer> speaking) {
        List<Answer> active = new ArrayList<>();
        for (Answer answer : speaking)
            if (answer.spoken.isEmpty())
            answer.frames.end();
            else
            active.add(answer);
        if (active.isEmpty())
            return;

        List<Voice> voices = new ArrayList<>();
        try {
            for (Answer answer : active)
                voices.add(new Voice(answer));
            Tensor hidden = begin(voices);
            for (int step = 0; !voices.isEmpty(); step++)
                hidden = speak(voices, hidden, step);
        } finally {
            voices.forEach(Voice::close);
        }
    }

    /** One answer's state in the Talker. */
    private final class Voice implements AutoCloseable {
        final Answer answer;
        final KvCache cache = model.talker().newCache();
        final KvCache predictorCache = model.talker().codePredictor().newCache();
        final Sampler predictorSampler;
        final TokenSampler sampler;
        RopeIndex rope;

        Voice(Answer answer) {
            this.answer = answer;
            TalkerConfig config = model.talker().config();
            GenerationArguments arguments = answer.arguments.talker();
            sampler = new TokenSampler(backend, arguments, answer.seed + 1, new int[0], config.text().vocabSize());
            Sampling others = arguments.is("do_sample")
                    ? new Sampling(true, 1, PREDICTOR_TOP_K, PREDICTOR_TOP_P, 1, new int[0], answer.seed + 2)
                    : Sampling.greedy();
            predictorSampler = backend.tensorOps().sampler(others, config.codePredictor().vocabSize(), new int[0]);
        }

        @Override
        public void close() {
            cache.close();
            predictorCache.close();
            sampler.close();
            predictorSampler.close();
        }
    }

    /** Reads the prompts and the first text token; returns the last hidden state of each, detached. */
    private Tensor begin(List<Voice> voices) {
        OmniConfig config = model.config();
        try (Scope scope = backend.scope()) {
            List<Talker.Start> starts = new ArrayList<>();
            for (Voice voice : voices) {
                Answer answer = voice.answer;
                int first = answer.spoken.take(0, config.ttsEos(), config.ttsPad());
                Talker.Start opening = model.talker().start(answer.inputs, answer.prompt, answer.acceptHidden, first,
                        answer.speaker);
                voice.rope = opening.rope();
                starts.add(opening);
            }
            Tensor hidden = model.talker().prefill(starts, voices.stream().map(v -> v.cache).toList());
            voices.forEach(voice -> free(voice.answer));
            return scope.detach(hidden);
        }
    }

    /** Draws one frame of each voice, ends those that are done, and runs the others on; returns their hidden states. */
    private Tensor speak(List<Voice> voices, Tensor hidden, int step) {
        TensorOps ops = backend.tensorOps();
        OmniConfig config = model.config();
        try (Scope scope = backend.scope(); hidden) {
            cancellation.check();
            int[] drawn = TokenSampler.sample(model.talker().logits(hidden),
                    voices.stream().map(v -> v.sampler).toList());
            int[] rows = IntStream.range(0, drawn.length).filter(i -> goesOn(voices.get(i), drawn[i])).toArray();
            List<Voice> rest = Arrays.stream(rows).mapToObj(voices::get).toList();
            voices.stream().filter(v -> !rest.contains(v)).forEach(Voice::close);
            voices.retainAll(rest);
            if (rest.isEmpty())
                return null;

            Tensor kept = rows.length == drawn.length ? hidden : ops.gather(hidden, backend.tensor(rows, rows.length));
            int[] first = Arrays.stream(rows).map(i -> drawn[i]).toArray();
            CodePredictor.Frame frame = model.talker().codePredictor().generate(kept,
                    model.talker().embed(backend.tensor(first, first.length)),
                    rest.stream().map(v -> v.predictorSampler).toList(),
                    rest.stream().map(v -> v.predictorCache).toList());
            hand(rest, first, ops.concat(frame.codes()).toInts());

            int[] text = rest.stream().mapToInt(v -> v.answer.spoken.take(step + 1, config.ttsEos(), config.ttsPad()))
                    .toArray();
            Tensor embeds = ops.add(frame.embedding(), model.talker().textHidden(backend.tensor(text, text.length)));
            return scope.detach(model.talker().step(embeds, rest.stream().map(v -> v.rope).toList(),
                    rest.stream().map(v -> v.cache).toList()));
        }
    }

    private boolean goesOn(Voice voice, int code) {
        GenerationArguments arguments = voice.answer.arguments.talker();
        List<Integer> drawn = voice.answer.firstCodes;
        drawn.add(code);
        boolean done = arguments.integers("eos_token_id").contains(code)
                || drawn.size() == arguments.integer("max_new_tokens");
        if (done)
            voice.answer.frames.end();
        return !done;
    }

    /** Hands on a frame of each voice: the first codes, and the others, all voices' of one step after another. */
    private static void hand(List<Voice> voices, int[] first, int[] others) {
        int n = voices.size();
        for (int i = 0; i < n; i++) {
            int[] frame = new int[1 + others.length / n];
            frame[0] = first[i];
            for (int g = 1; g < frame.length; g++)
                frame[g] = others[(g - 1) * n + i];
            voices.get(i).answer.frames.add(frame);
        }
    }

    // Code2Wav: makes sound of the frames as they come.

    private void sound(List<Answer> speaking) {
        List<Sound> sounds = new ArrayList<>();
        try {
            for (Answer answer : speaking)
                sounds.add(new Sound(answer));
            while (!sounds.isEmpty()) {
                cancellation.await(() -> sounds.stream().anyMatch(Sound::isReady));
                for (Sound sound : List.copyOf(sounds))
                    if (sound.isReady() && !sound.advance()) {
                        sound.close();
                        sounds.remove(sound);
                    }
            }
        } finally {
            sounds.forEach(Sound::close);
        }
    }

    /** One answer's state in Code2Wav. */
    private final class Sound implements AutoCloseable {
        final Answer answer;
        final Code2Wav.Stream stream = model.code2Wav().stream();
        int piece;
        int done;

        Sound(Answer answer) {
            this.answer = answer;
        }

        boolean isReady() {
            return answer.frames.isReady(done + Code2Wav.pieceSize(piece));
        }

        /** Decodes the next piece; returns whether there may be more. */
        boolean advance() {
            int size = Code2Wav.pieceSize(piece);
            int[][] codes = answer.frames.codes(done, size, model.code2Wav().config().numQuantizers());
            int n = codes[0].length;
            if (n > 0) {
                hear(stream.push(codes));
                done += n;
                piece++;
            }
            cancellation.update(() -> answer.heard = true);
            if (n == size)
                return true;
            answer.audioDone = now();
            return false;
        }

        private void hear(float[] samples) {
            if (samples.length == 0)
                return;
            if (answer.samples.isEmpty())
                answer.firstAudio = now();
            answer.samples.add(samples);
            sink.accept(new Event.Sound(answer.index, samples));
        }

        @Override
        public void close() {
            stream.close();
        }
    }
}
