package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.omni.api.Backend;
import io.omni.api.Scope;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code logits-processors.json} holds what {@code _get_logits_processor} of transformers 5.17 leaves. */
class TokenSamplerTest {
    private static final GenerationArguments DEFAULTS = GenerationArguments
            .thinker(OmniConfig.read(Reference.MODEL)).with("eos_token_id", List.of());

    private static List<Case> cases;
    private static Backend backend;

    @BeforeAll
    static void read() throws IOException {
        backend = Reference.cpu();
        try (InputStream file = TokenSamplerTest.class.getResourceAsStream("/logits-processors.json")) {
            cases = new ObjectMapper().readTree(file).valueStream().map(Case::new).toList();
        }
    }

    @AfterAll
    static void close() {
        backend.close();
    }

    private record Case(JsonNode json) {
        @Override
        public String toString() {
            return json.toString();
        }

        GenerationArguments arguments() {
            GenerationArguments arguments = DEFAULTS;
            for (var argument : json.get("arguments").properties())
                arguments = arguments.with(argument.getKey(), argument.getValue());
            return arguments;
        }

        TokenSampler sampler(GenerationArguments arguments) {
            TokenSampler sampler = new TokenSampler(backend, arguments, 7, integers("prompt"), logits().length);
            Arrays.stream(integers("drawn")).forEach(sampler::append);
            return sampler;
        }

        int[] integers(String name) {
            return json.get(name).valueStream().mapToInt(JsonNode::intValue).toArray();
        }

        float[] logits() {
            float[] logits = new float[json.get("logits").size()];
            for (int i = 0; i < logits.length; i++)
                logits[i] = json.get("logits").get(i).floatValue();
            return logits;
        }
    }

    @Test
    void leavesWhatUpstreamLeaves() {
        for (Case each : cases) {
            GenerationArguments arguments = each.arguments();
            // has top-k and top-p done here and not in the backend, and removes nothing
            if (arguments.number("min_p") == 0)
                arguments = arguments.with("min_p", 1e-30);
            BitSet left = new BitSet();
            left.set(0, each.logits().length);
            try (TokenSampler sampler = each.sampler(arguments)) {
                left.andNot(sampler.removed(each.logits(), 0));
            }
            if (!arguments.is("do_sample"))
                arguments.integers("suppress_tokens").forEach(left::clear);
            assertThat(left.stream().toArray()).as(each.toString()).containsExactly(each.integers("kept"));
        }
    }

    /** Rows of one call are sequences of their own, with arguments of their own. */
    @Test
    void drawsOfABatchAreThoseOfEachAlone() {
        List<Case> together = cases.stream().filter(each -> each.logits().length == 12).toList();
        float[] logits = new float[12 * together.size()];
        for (int i = 0; i < together.size(); i++)
            System.arraycopy(together.get(i).logits(), 0, logits, 12 * i, 12);
        List<TokenSampler> samplers = together.stream().map(each -> each.sampler(each.arguments())).toList();
        List<int[]> drawn = new ArrayList<>();
        try (Scope scope = backend.scope()) {
            for (int step = 0; step < 3; step++)
                drawn.add(TokenSampler.sample(backend.tensor(logits, together.size(), 12), samplers));
            for (int i = 0; i < together.size(); i++) {
                Case each = together.get(i);
                int[] kept = each.integers("kept");
                // the backend's penalty knows what it drew, which is not what this test says was drawn; of nothing, 0 is drawn
                if (each.integers("drawn").length == 0)
                    assertThat(kept.length == 0 ? new int[]{0} : kept).as(each.toString())
                            .contains(drawn.getFirst()[i]);
                try (TokenSampler alone = each.sampler(each.arguments())) {
                    for (int[] tokens : drawn)
                        assertThat(TokenSampler.sample(backend.tensor(each.logits(), 1, 12), List.of(alone)))
                                .as(each.toString()).containsExactly(tokens[i]);
                }
            }
        } finally {
            samplers.forEach(TokenSampler::close);
        }
    }

    /** What is drawn with a step that removes nothing, for which the others are done here, is what the backend draws. */
    @ParameterizedTest
    @CsvSource({"50, 1, 1", "0, 0.8, 1.3", "20, 0.8, 1", "7, 0.5, 0.8", "1, 1, 1", "0, 1, 2"})
    void commonArgumentsMeanWhatTheyMeanToTheBackend(int topK, float topP, float penalty) {
        GenerationArguments plain = DEFAULTS.with("do_sample", true).with("top_k", topK).with("top_p", topP)
                .with("repetition_penalty", penalty).with("temperature", 0.7).with("suppress_tokens", List.of(3, 99));
        Random random = new Random(topK);
        int[] prompt = {5, 6, 1000};
        try (TokenSampler one = new TokenSampler(backend, plain, 3, prompt, 100);
                TokenSampler other = new TokenSampler(backend, plain.with("min_p", 1e-30), 3, prompt, 100)) {
            for (int step = 0; step < 200; step++)
                try (Scope scope = backend.scope()) {
                    float[] logits = new float[100];
                    for (int i = 0; i < 100; i++)
                        // equal ones among them, and what no one draws
                        logits[i] = random.nextInt(40) == 0 ? Float.NaN : random.nextInt(-30, 20) / 8f;
                    int[] drawn = TokenSampler.sample(backend.tensor(logits, 1, 100), List.of(one));
                    assertThat(TokenSampler.sample(backend.tensor(logits, 1, 100), List.of(other))).isEqualTo(drawn);
                }
        }
    }

    /** Of a word with a token that the model does not have, and of media in the prompt, which the head does not have. */
    @Test
    void tokensOutsideTheVocabulary() {
        GenerationArguments repeating = DEFAULTS.with("no_repeat_ngram_size", 2).with("min_new_tokens", 9)
                .with("eos_token_id", List.of(-1, 2, 1000)).with("do_sample", true).with("typical_p", 0.99);
        try (TokenSampler sampler = new TokenSampler(backend, repeating, 0, new int[]{100, 100, 7, 100}, 10)) {
            assertThat(sampler.removed(new float[10], 0).stream().toArray()).containsExactly(2, 7);
        }
        for (String name : List.of("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")) {
            Object value = name.equals("bad_words_ids") ? List.of(List.of(1), List.of(2, 10)) : List.of(1, 10);
            assertThatThrownBy(() -> TokenSampler.check("talker_", DEFAULTS.with(name, value), 10))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessage("talker_" + name + " holds token 10, expected 0 to 9");
        }
    }

    @Test
    void longSequencesAreRemembered() {
        try (TokenSampler sampler = new TokenSampler(backend, DEFAULTS.with("no_repeat_ngram_size", 1), 0, new int[0],
                200);
                Scope scope = backend.scope()) {
            int[] drawn = IntStream.range(0, 200)
                    .map(i -> TokenSampler.sample(backend.tensor(new float[200], 1, 200), List.of(sampler))[0])
                    .toArray();
            assertThat(drawn).containsExactly(IntStream.range(0, 200).toArray());
        }
    }

    @Test
    void wholeNumbersMayHaveAnyType() {
        assertThat(DEFAULTS.with("top_k", 3L).with("eos_token_id", new int[]{4, 5}).values()).containsEntry("top_k", 3)
                .containsEntry("eos_token_id", List.of(4, 5));
    }

    /** As upstream, which looks at it only to sample. */
    @Test
    void temperatureZeroIsForThoseWhoDoNotSample() {
        GenerationArguments cold = DEFAULTS.with("temperature", 0);
        TokenSampler.check("thinker_", cold, 10);
        try (TokenSampler sampler = new TokenSampler(backend, cold, 0, new int[0], 3); Scope scope = backend.scope()) {
            assertThat(TokenSampler.sample(backend.tensor(new float[]{1, 3, 2}, 1, 3), List.of(sampler)))
                    .containsExactly(1);
        }
        assertThatThrownBy(() -> TokenSampler.check("thinker_", cold.with("do_sample", true), 10))
                .isInstanceOf(IllegalArgumentException.class).hasMessageStartingWith("thinker_temperature is 0, ");
    }

    @Test
    void valuesThatDoNotFitAreNamed() {
        Object[][] wrong = {{"no_repeat_ngram_size", -1, "an integer of 0 or more"},
                {"no_repeat_ngram_size", 2.5, "an integer"}, {"no_repeat_ngram_size", null, "an integer"},
                {"min_p", -0.1, "a number in [0, 1]"}, {"min_p", 1.1, "a number in [0, 1]"},
                {"min_p", Float.NaN, "a number in [0, 1]"}, {"min_p", true, "a number in [0, 1]"},
                {"typical_p", 0, "a number in (0, 1]"}, {"typical_p", 1.5, "a number in (0, 1]"},
                {"epsilon_cutoff", 1, "a number in [0, 1)"}, {"epsilon_cutoff", -1, "a number in [0, 1)"},
                {"eta_cutoff", 1, "a number in [0, 1)"}, {"eta_cutoff", true, "a number in [0, 1)"},
                {"begin_suppress_tokens", List.of("a"), "an integer or a list of integers"},
                {"bad_words_ids", List.of(), "a list of words, each a list of tokens"},
                {"bad_words_ids", 3, "a list of words"}, {"bad_words_ids", List.of(3), "a list of words"},
                {"bad_words_ids", List.of(List.of(1), List.of()), "a list of words"},
                {"bad_words_ids", List.of(List.of(-1)), "a list of words"},
                {"bad_words_ids", List.of(List.of(1.5)), "a list of words"},
                {"temperature", -1, "0 or a number of at least 1.0E-30"}, {"temperature", 1e-38, "0 or a number of"},
                {"top_p", 0, "a number in (0, 1]"}, {"top_k", -1, "an integer of 0 or more"},
                {"repetition_penalty", -1, "a number above 0"}, {"min_new_tokens", -1, "an integer of 0 or more"},
                {"max_new_tokens", 0, "an integer of 1 or more"}, {"do_sample", 1, "true or false"}};
        for (Object[] each : wrong)
            assertThatThrownBy(() -> DEFAULTS.with((String) each[0], each[1])).as(Arrays.toString(each))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageStartingWith(each[0] + " is " + each[1] + ", expected " + each[2]);
        assertThatThrownBy(() -> DEFAULTS.with("top_k", "3")).hasMessageStartingWith("top_k is \"3\", expected ");
        assertThatThrownBy(() -> DEFAULTS.with("top_k", 1L << 40)).hasMessageStartingWith("top_k is 1099511627776, ");
        assertThatThrownBy(() -> DEFAULTS.with("num_beams", 2)).isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("'num_beams', expected one of max_new_tokens, ").hasMessageContaining(", min_p");
    }
}
