package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.processor.Message;
import io.omni.processor.Part;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CancellationException;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class GenerationTest {
    private static final List<Message> TEXT = List.of(Message.user("Who are you?"));
    private static final List<Message> LONGER = List
            .of(Message.user("Tell me a rather longer story, and take your time."));
    private static final List<Message> AUDIO = List.of(
            Message.user(Part.audio(Reference.MEDIA.resolve("sweep_16k.wav")), Part.text("What is it?")));
    private static final List<Message> IMAGE = List
            .of(Message.user(Part.image(Reference.MEDIA.resolve("gray.png")), Part.text("What is it?")));
    private static final Options SAMPLED = Options.speech().seed(5).thinkerMaxNewTokens(6).talkerMaxNewTokens(9);

    private static Backend backend;
    private static Omni omni;

    @BeforeAll
    static void load() {
        backend = Reference.cpu();
        omni = Reference.omni(backend);
    }

    @AfterAll
    static void close() {
        omni.close();
        backend.close();
    }

    private static void assertSame(Reply actual, Reply expected) {
        assertThat(actual.text()).isEqualTo(expected.text());
        assertThat(actual.sequence()).isEqualTo(expected.sequence());
        assertThat(actual.talkerSequence()).isEqualTo(expected.talkerSequence());
        assertThat(actual.codes()).isDeepEqualTo(expected.codes());
        assertThat(actual.audio().samples()).isEqualTo(expected.audio().samples());
    }

    private static Generation generation(List<List<Message>> conversations, Cancellation cancellation) {
        return omni.generation(conversations, java.util.Collections.nCopies(conversations.size(), SAMPLED), event -> {
        }, cancellation, System.nanoTime());
    }

    @Test
    void stagesSideBySideComputeWhatTheyDoOneAfterAnother() {
        List<List<Message>> conversations = List.of(AUDIO, TEXT);
        List<Reply> side = generation(conversations, new Cancellation()).run();
        List<Reply> sequential = generation(conversations, new Cancellation()).runSequentially();
        for (int i = 0; i < 2; i++)
            assertSame(side.get(i), sequential.get(i));
        assertThat(side.getFirst().audio().samples()).isNotEmpty();
    }

    @Test
    void aBatchAnswersEachAsAlone() {
        List<List<Message>> conversations = List.of(TEXT, IMAGE, LONGER, AUDIO);
        List<Reply> batch = omni.chatBatch(conversations, SAMPLED);
        for (int i = 0; i < conversations.size(); i++) {
            Reply alone = omni.chat(conversations.get(i), SAMPLED);
            assertThat(batch.get(i).sequence()).isEqualTo(alone.sequence());
            assertThat(batch.get(i).codes()).isDeepEqualTo(alone.codes());
            // the codes are the same, and Code2Wav never batches
            assertThat(batch.get(i).audio().samples()).isEqualTo(alone.audio().samples());
        }
    }

    @Test
    void seedsRepeatAndDiffer() {
        assertSame(omni.chat(TEXT, SAMPLED), omni.chat(TEXT, SAMPLED));
        Reply other = omni.chat(TEXT, SAMPLED.seed(6));
        assertThat(other.sequence()).isNotEqualTo(omni.chat(TEXT, SAMPLED).sequence());
    }

    private static int[] written(Reply reply) {
        return Arrays.copyOfRange(reply.sequence(), reply.promptTokens(), reply.sequence().length);
    }

    /** Until the least number of tokens is drawn, the end is suppressed. */
    @Test
    void neitherTextNorSpeechEndsEarly() {
        Options greedy = Options.speech().greedy().thinkerMaxNewTokens(6).talkerMaxNewTokens(6)
                .argument("thinker_repetition_penalty", 1.3);
        Reply plain = omni.chat(TEXT, greedy);
        int end = written(plain)[1];
        int silence = plain.talkerSequence()[1];
        Options ending = greedy.argument("thinker_eos_token_id", end).argument("talker_eos_token_id", silence);
        Reply one = omni.chat(TEXT, ending.argument("thinker_min_new_tokens", 1));
        assertThat(written(one)).containsExactly(written(plain)[0], end);
        Reply never = omni.chat(TEXT,
                ending.argument("thinker_min_new_tokens", 6).argument("talker_min_new_tokens", 6));
        Reply suppressed = omni.chat(TEXT, greedy.argument("thinker_suppress_tokens", end).argument(
                "talker_suppress_tokens", IntStream.concat(IntStream.of(silence),
                        Arrays.stream(omni.model().config().talker().suppressed())).boxed().toList()));
        assertSame(never, suppressed);
        Options random = Options.speech().thinkerMaxNewTokens(6).talkerMaxNewTokens(6).seed(4);
        Reply other = omni.chat(TEXT, random);
        int otherEnd = written(other)[2];
        assertSame(
                omni.chat(TEXT,
                        random.argument("thinker_eos_token_id", otherEnd).argument("thinker_min_new_tokens", 6)),
                omni.chat(TEXT, random.argument("thinker_suppress_tokens", otherEnd)));
        assertThat(written(omni.chat(TEXT, random.argument("thinker_eos_token_id", List.of(otherEnd, -1))
                .argument("thinker_min_new_tokens", 2)))).startsWith(written(other)[0], written(other)[1]);

        Options wordy = ending.argument("thinker_eos_token_id", List.of(end, written(suppressed)[3]))
                .argument("thinker_min_new_tokens", 3).argument("talker_min_new_tokens", 3)
                .argument("talker_eos_token_id", List.of(silence, suppressed.talkerSequence()[3]));
        assertThat(written(omni.chat(TEXT, wordy))).isEqualTo(Arrays.copyOf(written(suppressed), 4));
        Options spoken = wordy.argument("thinker_eos_token_id", end).argument("thinker_min_new_tokens", 6);
        assertThat(omni.chat(TEXT, spoken).talkerSequence())
                .isEqualTo(Arrays.copyOf(suppressed.talkerSequence(), 4));
    }

    /** What upstream writes and says; without the argument, the 49th token and the 34th frame would be others. */
    @Test
    void noPairOfTokensComesTwice() {
        Reply reply = omni.chat(TEXT, Options.speech().greedy().thinkerMaxNewTokens(50).talkerMaxNewTokens(36)
                .argument("talker_repetition_penalty", 1).argument("thinker_no_repeat_ngram_size", 2)
                .argument("talker_no_repeat_ngram_size", 2));
        assertThat(written(reply)).containsExactly(2181, 995, 3195, 764, 300, 2549, 659, 1427, 1494, 307, 86, 2471,
                3049,
                3111, 1053, 352, 1420, 688, 2260, 384, 61, 177, 1572, 2605, 273, 1983, 307, 669, 669, 2981, 2337, 2361,
                3027,
                1181, 3319, 1361, 2680, 3097, 1420, 1300, 81, 762, 1156, 3303, 92, 2995, 307, 2549, 958, 2624);
        assertThat(reply.talkerSequence()).containsExactly(57, 60, 47, 47, 125, 91, 105, 107, 4, 13, 67, 23, 13, 100,
                59, 0,
                67, 77, 36, 67, 64, 122, 115, 101, 106, 6, 114, 98, 90, 60, 67, 104, 107, 67, 114, 44);
    }

    /** What upstream writes and says; a pair that opens the speech is overlooked there, as the Talker has no prompt of tokens. */
    @Test
    void badWordsAreNotWritten() {
        Options brief = Options.speech().greedy().thinkerMaxNewTokens(16).talkerMaxNewTokens(16);
        Reply one = omni.chat(TEXT, brief.argument("thinker_bad_words_ids", List.of(List.of(2181), List.of(995, 3195)))
                .argument("talker_bad_words_ids", List.of(List.of(47), List.of(57, 60), List.of(47, 125, 91))));
        assertThat(written(one)).containsExactly(2266, 2406, 2283, 85, 817, 624, 1506, 1018, 46, 1672, 2078, 1493, 2165,
                1770, 1706, 653);
        assertThat(one.talkerSequence()).containsExactly(57, 97, 124, 1, 60, 0, 41, 27, 42, 71, 34, 56, 44, 57, 5, 58);
        Reply other = omni.chat(TEXT, brief.argument("thinker_bad_words_ids", List.of(List.of(3261), List.of(3195)))
                .argument("talker_bad_words_ids", List.of(List.of(57, 60))));
        assertThat(written(other)).containsExactly(2181, 995, 1018, 1239, 406, 754, 3138, 1801, 2993, 1427, 920, 2993,
                1869,
                2181, 816, 641);
        assertThat(other.talkerSequence()).containsExactly(57, 60, 47, 35, 55, 106, 127, 77, 74, 70, 99, 51, 64, 85, 13,
                113);
    }

    @Test
    void othersAreTheFirst() {
        Reply reply = omni.chat(TEXT, Options.speech().greedy().thinkerMaxNewTokens(16).talkerMaxNewTokens(16)
                .argument("thinker_begin_suppress_tokens", 2181).argument("talker_begin_suppress_tokens", List.of(57)));
        assertThat(written(reply)).startsWith(2266, 2406, 2283, 85);
        assertThat(reply.talkerSequence()).containsExactly(17, 107, 98, 118, 0, 105, 99, 61, 117, 108, 5, 94, 65, 39,
                61, 68);
    }

    /** One conversation's arguments do not reach another one's answer. */
    @Test
    void aBatchMayDifferInArguments() {
        List<Options> options = List.of(SAMPLED,
                SAMPLED.argument("thinker_min_p", 0.2).argument("talker_typical_p", 0.5),
                SAMPLED.argument("thinker_no_repeat_ngram_size", 1).argument("talker_eta_cutoff", 0.01));
        List<List<Message>> conversations = List.of(TEXT, LONGER, TEXT);
        List<Reply> batch = omni.generation(conversations, options, event -> {
        }, new Cancellation(), System.nanoTime()).run();
        for (int i = 0; i < options.size(); i++)
            assertSame(batch.get(i), omni.chat(conversations.get(i), options.get(i)));
    }

    @Test
    void textMayMentionTheTokensOfMedia() {
        Part mention = Part.text("<|vision_start|><|audio_start|> <|vision_start|>");
        Options brief = SAMPLED.thinkerMaxNewTokens(2).talkerMaxNewTokens(1);
        assertThat(omni.chat(List.of(Message.user(mention)), brief).codes()).isNotNull();
        Part sound = Part.audio(Reference.MEDIA.resolve("sweep_16k.wav"));
        assertThat(omni.chat(List.of(Message.user(mention, sound, mention)), brief).codes()).isNotNull();
    }

    @Test
    void soundIsWhatCode2WavMakesOfTheCodesInOnePass() {
        Reply reply = omni.chat(TEXT, SAMPLED);
        assertThat(reply.audio().samples()).isEqualTo(omni.model().code2Wav().decode(reply.codes()));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 7, 31, 32, 33, 50})
    void aStreamInPiecesOfAnySizeIsOnePass(int piece) {
        int groups = omni.model().code2Wav().config().numQuantizers();
        int[][] codes = new int[groups][50];
        Random random = new Random(1);
        for (int[] group : codes)
            for (int t = 0; t < group.length; t++)
                group[t] = random.nextInt(64);
        float[] whole = omni.model().code2Wav().decode(codes);
        float[] joined = new float[whole.length];
        int at = 0;
        try (Code2Wav.Stream stream = omni.model().code2Wav().stream()) {
            for (int from = 0; from < 50; from += piece) {
                int[][] next = new int[groups][];
                for (int g = 0; g < groups; g++)
                    next[g] = java.util.Arrays.copyOfRange(codes[g], from, Math.min(50, from + piece));
                float[] samples = stream.push(next);
                System.arraycopy(samples, 0, joined, at, samples.length);
                at += samples.length;
            }
        }
        assertThat(at).isEqualTo(whole.length);
        assertThat(joined).isEqualTo(whole);
    }

    /** With one thread: of several, how many hold scratch memory at once depends on their timing. */
    @Test
    void requestsLeaveNoMemoryBehind() {
        try (Backend alone = Backends.load("cpu", new BackendOptions(1, Map.of())); Omni one = Reference.omni(alone)) {
            long after5 = 0;
            for (int i = 1; i <= 50; i++) {
                one.generation(List.of(i % 2 == 0 ? AUDIO : TEXT), List.of(SAMPLED), event -> {
                }, new Cancellation(), System.nanoTime()).runSequentially();
                if (i == 5)
                    after5 = alone.allocatedBytes();
            }
            assertThat(alone.allocatedBytes()).isEqualTo(after5);
        }
    }

    /** Side by side, how much the stages hold at once depends on their timing; a leak would still grow without end. */
    @Test
    void requestsSideBySideLeaveNoMemoryBehind() {
        long after10 = 0;
        for (int i = 1; i <= 110; i++) {
            omni.chat(i % 2 == 0 ? AUDIO : TEXT, SAMPLED.thinkerMaxNewTokens(3).talkerMaxNewTokens(3));
            if (i == 10)
                after10 = backend.allocatedBytes();
        }
        // 100 leaks of the smallest thing that a request holds, its prompt's embeddings, would be four times as much
        assertThat(backend.allocatedBytes() - after10).isLessThan(512 * 1024);
    }

    @Test
    void cancellingFreesEverything() {
        Cancellation cancelled = new Cancellation();
        cancelled.cancel();
        assertThatThrownBy(() -> generation(List.of(AUDIO, TEXT), cancelled).run())
                .isInstanceOf(CancellationException.class);

        Options long40 = SAMPLED.thinkerMaxNewTokens(40).talkerMaxNewTokens(40);
        for (int i = 0; i < 3; i++)
            omni.chat(AUDIO, long40);
        long after20 = 0;
        for (int i = 1; i <= 120; i++) {
            try (ReplyStream stream = omni.stream(AUDIO, long40)) {
                for (int event = 0; event < i % 5; event++)
                    stream.next();
            }
            if (i == 20)
                after20 = backend.allocatedBytes();
        }
        assertThat(backend.allocatedBytes() - after20).isLessThan(512 * 1024);
    }

    /** A prompt may take minutes; so do the encoders. */
    @Test
    void cancellingStopsBetweenLayers() {
        Thinker thinker = omni.model().thinker();
        var inputs = omni.processor().process(List.of(TEXT), omni.processorDefaults()).getFirst();
        var media = omni.processor().process(List.of(AUDIO), omni.processorDefaults()).getFirst();
        var picture = omni.processor().process(List.of(IMAGE), omni.processorDefaults()).getFirst();
        Cancellation cancelled = new Cancellation();
        cancelled.cancel();
        try (var scope = backend.scope(); var cache = thinker.newCache()) {
            var prompt = thinker.prepare(inputs);
            assertThatThrownBy(() -> cancelled
                    .during(() -> thinker.prefill(List.of(prompt), List.of(cache), java.util.Set.of(), false)))
                    .isInstanceOf(CancellationException.class);
            for (var each : List.of(media, picture))
                assertThatThrownBy(() -> cancelled.during(() -> thinker.prepare(each)))
                        .isInstanceOf(CancellationException.class);
        }
    }

    /** Weights that a call reads must not go before it has ended. */
    @Test
    void closingStopsWhatRunsAndRefusesWhatComes() throws Exception {
        Options endless = SAMPLED.thinkerMaxNewTokens(50_000).argument("thinker_min_new_tokens", 50_000);
        for (int i = 0; i < 8; i++) {
            Omni own = Reference.omni(backend);
            ReplyStream stream = own.stream(AUDIO, endless);
            for (int event = 0; event < i; event++)
                stream.next();
            var chat = java.util.concurrent.CompletableFuture.supplyAsync(() -> own.chat(TEXT, endless));
            Thread.sleep(10L * i);
            own.close();
            assertThatThrownBy(stream::replies).isInstanceOf(CancellationException.class);
            // it may have come too late to begin
            assertThatThrownBy(chat::join).satisfiesAnyOf(e -> assertThat(e).isInstanceOf(CancellationException.class),
                    e -> assertThat(e).hasRootCauseMessage("the request was cancelled"),
                    e -> assertThat(e).hasRootCauseMessage("this Omni is closed"));
            assertThatThrownBy(() -> own.chat(TEXT, Options.text())).isInstanceOf(IllegalStateException.class)
                    .hasMessage("this Omni is closed");
            assertThatThrownBy(() -> own.stream(TEXT, Options.text())).isInstanceOf(IllegalStateException.class)
                    .hasMessage("this Omni is closed");
            own.close();
        }
    }

    @Test
    void aStreamAnswersTheConversationAsItWasWhenAsked() {
        List<Message> conversation = new java.util.ArrayList<>(TEXT);
        Options options = Options.text().greedy().thinkerMaxNewTokens(3);
        Reply expected = omni.chat(conversation, options);
        try (ReplyStream stream = omni.stream(conversation, options)) {
            conversation.clear();
            assertThat(stream.replies().getFirst().sequence()).isEqualTo(expected.sequence());
            assertThat(stream.hasNext()).isFalse();
        }
    }

    @Test
    void evaluationTakesLabelsOfItsLengthOnly() {
        var inputs = omni.processor().process(List.of(TEXT), omni.processorDefaults());
        assertThatThrownBy(() -> {
            try (var scope = backend.scope()) {
                omni.model().thinker().evaluate(inputs, new int[][]{{1, 2}}, java.util.Set.of(), false);
            }
        }).isInstanceOf(IllegalArgumentException.class).hasMessageStartingWith("2 labels for ");
    }

    /** Before media are read, and before the Thinker has anything to say. */
    @Test
    void badOptionsAreNamedBeforeAnythingIsDone() {
        List<Message> unreadable = List.of(Message.user(Part.image(Reference.MEDIA.resolve("nowhere.png"))));
        for (Options options : List.of(Options.speech().argument("talker_suppress_tokens", 99_999),
                Options.speech().argument("talker_temperature", -1), Options.speech("Bob"),
                Options.text().argument("thinker_temperature", 0).argument("thinker_do_sample", true)))
            assertThatThrownBy(() -> omni.chat(unreadable, options)).isInstanceOf(IllegalArgumentException.class);
        List<Event> events = new java.util.ArrayList<>();
        try (ReplyStream stream = omni.stream(TEXT, Options.speech().processor(p -> p.addGenerationPrompt(false)))) {
            assertThatThrownBy(() -> stream.forEach(events::add)).isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("no assistant turn to speak");
        }
        assertThat(events).isEmpty();
    }

    @Test
    void badOptionsAreNamed() {
        assertThatThrownBy(() -> omni.chat(TEXT, Options.speech("Bob"))).isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("'Bob'").hasMessageContaining("chelsie");
        assertThatThrownBy(() -> omni.chat(TEXT, Options.text().argument("thinker_beams", 3)))
                .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("beams");
        assertThatThrownBy(() -> omni.chat(TEXT, Options.text().thinkerMaxNewTokens(0)))
                .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("max_new_tokens is 0");
        assertThatThrownBy(() -> omni.model().code2Wav().decode(new int[1][4]))
                .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("1 groups");
        int[][] ragged = new int[omni.model().code2Wav().config().numQuantizers()][2];
        assertThatThrownBy(() -> omni.model().code2Wav().chunkedDecode(ragged, 0, 1))
                .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("chunks of 0 frames");
        ragged[1] = new int[1];
        assertThatThrownBy(() -> omni.model().code2Wav().decode(ragged)).isInstanceOf(IllegalArgumentException.class)
                .hasMessage("group 1 has 1 codes, group 0 2");
        assertThatThrownBy(() -> omni.model().thinker().prefill(List.of(), List.of(), java.util.Set.of(), false))
                .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("found none");
        assertThatThrownBy(() -> omni.model().thinker().evaluate(
                omni.processor().process(List.of(TEXT), omni.processorDefaults()), null, java.util.Set.of(99), false))
                .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("layer 99");
    }

    @Test
    void optionsKeepWhatTheyWereGiven() {
        List<Object> list = new java.util.ArrayList<>(List.of(5));
        Options options = Options.text().argument("thinker_eos_token_id", list)
                .argument("talker_suppress_tokens", new int[]{1, 2});
        list.add(7);
        assertThat(options.arguments()).containsEntry("thinker_eos_token_id", List.of(5))
                .containsEntry("talker_suppress_tokens", List.of(1, 2));
        assertThatThrownBy(() -> Options.speech(null)).isInstanceOf(NullPointerException.class)
                .hasMessage("speaker");
    }
}
