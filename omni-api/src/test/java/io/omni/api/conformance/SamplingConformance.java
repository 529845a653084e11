package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Definitions;
import io.omni.api.HostSampler;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Tensor;
import io.omni.api.conformance.Cases.Argument;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Drawing tokens: the very tokens of {@link HostSampler}. */
public interface SamplingConformance extends Subject {
    /** State is each sampler's own, whichever rows of whichever call it is drawn in. */
    @Test
    default void sampler() {
        Sampling drawing = new Sampling(true, 0.9f, 8, 0.95f, 1.2f, new int[]{0}, 5);
        Sampling penalised = new Sampling(false, 1, 0, 1, 1.5f, new int[]{4, 2}, 0);
        List<HostSampler> expected = List.of(new HostSampler(drawing, 30, new int[]{1}),
                new HostSampler(penalised, 30, new int[0]), new HostSampler(Sampling.greedy(), 30, new int[]{3, 3}));
        try (Sampler a = backend().tensorOps().sampler(drawing, 30, new int[]{1});
                Sampler b = backend().tensorOps().sampler(penalised, 30, new int[0]);
                Sampler c = backend().tensorOps().sampler(Sampling.greedy(), 30, new int[]{3, 3})) {
            assertThat(a.sampling()).isSameAs(drawing);
            List<Sampler> all = List.of(a, b, c);
            for (int[] rows : new int[][]{{0, 1, 2}, {2, 0}, {1}, {}, {2, 1, 0}, {0, 1}, {0}, {1, 2, 0}}) {
                Argument logits = cases().activation(rows.length, 30);
                cases().exact("sampler");
                int[] tokens = new int[rows.length];
                for (int i = 0; i < rows.length; i++)
                    tokens[i] = expected.get(rows[i]).next(Definitions.round(logits.values()), 30 * i);
                assertThat(backend().tensorOps()
                        .sample(logits.tensor(), Arrays.stream(rows).mapToObj(all::get).toList()).toInts())
                        .as("rows of samplers " + Arrays.toString(rows)).containsExactly(tokens);
            }
            Tensor two = cases().activation(2, 30).tensor();
            assertThatThrownBy(() -> backend().tensorOps().sample(two, all))
                    .isInstanceOf(IllegalArgumentException.class);
            for (int vocabulary : new int[]{29, 31}) {
                Tensor other = cases().activation(1, vocabulary).tensor();
                assertThatThrownBy(() -> backend().tensorOps().sample(other, List.of(c))).as("%d logits", vocabulary)
                        .isInstanceOf(IllegalArgumentException.class);
            }
        }
        Sampling outside = new Sampling(false, 1, 0, 1, 1, new int[]{4}, 0);
        assertThatThrownBy(() -> backend().tensorOps().sampler(outside, 4, new int[0]))
                .isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> backend().tensorOps().sampler(Sampling.greedy(), 4, new int[]{-1}))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    default void sample() {
        Sampling[] all = {Sampling.greedy(), new Sampling(false, 1, 0, 1, 1.3f, new int[]{3}, 0),
                new Sampling(true, 0.7f, 5, 1, 1, new int[]{1, 2}, 9),
                new Sampling(true, 1.3f, 0, 0.8f, 1.1f, new int[0], 4)};
        int[] history = {0, 7};
        for (Sampling sampling : all) {
            HostSampler expected = new HostSampler(sampling, 50, history);
            try (Sampler sampler = backend().tensorOps().sampler(sampling, 50, history)) {
                for (int i = 0; i < 20; i++) {
                    Argument logits = cases().activation(1, 50);
                    cases().exact("sample");
                    assertThat(backend().tensorOps().sample(logits.tensor(), List.of(sampler)).toInts())
                            .as(sampling.toString())
                            .containsExactly(expected.next(Definitions.round(logits.values()), 0));
                }
                sampler.close();
            }
        }
        try (Sampler greedy = backend().tensorOps().sampler(Sampling.greedy(), 4, new int[0])) {
            Argument ties = cases().activation(new float[]{1, 3, 3, Float.NaN}, 1, 4);
            assertThat(backend().tensorOps().sample(ties.tensor(), List.of(greedy)).toInts()).containsExactly(1);
        }
        assertThatThrownBy(() -> backend().tensorOps().sampler(Sampling.greedy(), 4, new int[]{4}))
                .isInstanceOf(IllegalArgumentException.class);
    }

    /** The lowest of equal ids however far apart, no NaN, and 0 where there is nothing to draw. */
    @Test
    default void sampleAtTheEdges() {
        int vocabulary = 70_001;
        float nan = Float.NaN;
        float low = Float.NEGATIVE_INFINITY;
        for (Sampling sampling : new Sampling[]{Sampling.greedy(), new Sampling(true, 1, 1, 1, 1, new int[0], 3)})
            try (Sampler few = backend().tensorOps().sampler(sampling, 4, new int[0]);
                    Sampler many = backend().tensorOps().sampler(sampling, vocabulary, new int[0])) {
                        float[][] rows = {{nan, nan, nan, nan}, {low, low, low, low}, {nan, low, -1, -2},
                                {low, nan, nan, 7}};
                        for (float[] row : rows) {
                            int expected = new HostSampler(sampling, 4, new int[0]).next(row, 0);
                            assertThat(backend().tensorOps().sample(backend().tensor(row, 1, 4), List.of(few)).toInts())
                                    .as(sampling + " of " + Arrays.toString(row)).containsExactly(expected);
                        }
                        if (sampling.doSample())
                            continue;
                        for (int[] tied : new int[][]{{1, 70_000}, {16, 17}, {127, 128}, {4095, 4096, 65_536},
                                {0, 70_000}}) {
                            float[] logits = new float[vocabulary];
                            for (int id : tied)
                                logits[id] = 1;
                            assertThat(
                                    backend().tensorOps().sample(backend().tensor(logits, 1, vocabulary), List.of(many))
                                            .toInts())
                                    .containsExactly(tied[0]);
                        }
                    }
    }

    /** Equal logits at the limit of top-k are all kept; NaN never is; where nothing is left, token 0. */
    @Test
    default void sampleTiesAndNothing() {
        float nan = Float.NaN;
        float inf = Float.POSITIVE_INFINITY;
        float[][] rows = {{nan, nan, nan, nan}, {-inf, -inf, -inf, -inf}, {nan, -inf, 2, 2}, {nan, -1e30f, nan, nan},
                {1, 1, 1, 1}, {0, -0f, 0, -0f}, {5, 4, 4, 4}, {-inf, 3, nan, -inf}};
        for (float[] row : rows)
            for (int topK : new int[]{0, 1, 2, 4, 9})
                for (boolean random : new boolean[]{false, true}) {
                    Sampling sampling = new Sampling(random, 1, topK, 1, 1, new int[0], topK);
                    HostSampler expected = new HostSampler(sampling, 4, new int[0]);
                    try (Sampler sampler = backend().tensorOps().sampler(sampling, 4, new int[0])) {
                        for (int i = 0; i < 6; i++)
                            assertThat(backend().tensorOps().sample(backend().tensor(row, 1, 4), List.of(sampler))
                                    .toInts()).as("%s of %s", sampling, Arrays.toString(row))
                                    .containsExactly(expected.next(row, 0));
                    }
                }
        Sampling all = new Sampling(false, 1, 0, 1, 1, new int[]{0, 1, 2}, 0);
        try (Sampler sampler = backend().tensorOps().sampler(all, 3, new int[0])) {
            assertThat(backend().tensorOps().sample(backend().tensor(new float[]{1, 2, 3}, 1, 3), List.of(sampler))
                    .toInts()).as("everything suppressed").containsExactly(0);
        }
    }

    /** The penalty multiplies what is negative, once for a token however often it was seen, and not what is suppressed. */
    @Test
    default void samplePenalty() {
        Sampling sampling = new Sampling(false, 1, 0, 1, 2, new int[]{3}, 0);
        try (Sampler sampler = backend().tensorOps().sampler(sampling, 4, new int[]{0, 0, 3})) {
            // 3 would win; 0 counts as 1.5, twice penalised as 0.75
            assertThat(backend().tensorOps().sample(backend().tensor(new float[]{3, 1, -9, 9}, 1, 4), List.of(sampler))
                    .toInts()).containsExactly(0);
        }
        try (Sampler sampler = backend().tensorOps().sampler(sampling, 4, new int[]{0})) {
            // −1 counts as −2, and then the drawn token is in the sequence as well
            Tensor logits = backend().tensor(new float[]{-1, -1.5f, -2.5f, 9}, 1, 4);
            assertThat(backend().tensorOps().sample(logits, List.of(sampler)).toInts()).containsExactly(1);
            assertThat(backend().tensorOps().sample(logits, List.of(sampler)).toInts()).containsExactly(0);
        }
    }

    /** As many sequences as a batch has, choosing from more tokens than a block of them. */
    @Test
    default void sampleOfManyTokens() {
        drawTogether(new Sampling(true, 0.9f, 100, 0.95f, 1.05f, new int[]{5}, 1L << 40), 3001, 12);
        drawTogether(new Sampling(true, 1, 0, 1, 0.8f, new int[0], -3), 3001, 12);
        drawTogether(new Sampling(true, 1, 100, 1, 1, new int[]{70_000}, 6), 70_001, 3);
    }

    private void drawTogether(Sampling sampling, int vocabulary, int rows) {
        List<HostSampler> expected = new ArrayList<>();
        List<Sampler> samplers = new ArrayList<>();
        for (int i = 0; i < rows; i++) {
            expected.add(new HostSampler(sampling, vocabulary, new int[]{i}));
            samplers.add(backend().tensorOps().sampler(sampling, vocabulary, new int[]{i}));
        }
        for (int step = 0; step < 3; step++) {
            float[] logits = cases().normal(rows, vocabulary);
            int[] tokens = new int[rows];
            for (int i = 0; i < rows; i++)
                tokens[i] = expected.get(i).next(logits, i * vocabulary);
            cases().exact("sample");
            assertThat(backend().tensorOps().sample(backend().tensor(logits, rows, vocabulary), samplers).toInts())
                    .as("%s, step %d", sampling, step).containsExactly(tokens);
        }
        samplers.forEach(Sampler::close);
    }

    /** Tokens are kept until their probabilities reach top-p: of four equal ones, at 0.5, two and no third. */
    @Test
    default void sampleTopPAtItsLimit() {
        for (float topP : new float[]{0.25f, 0.5f, 0.75f})
            draw(new Sampling(true, 1, 0, topP, 1, new int[0], 7), new float[]{2, 2, 2, 2}, 40);
    }

    /** Of probabilities 4/8, 2/8, 1/8 and 1/8, top-k leaves 4/6 and 2/6, so that the first alone reaches 0.6. */
    @Test
    default void sampleTopKBeforeTopP() {
        float[] logits = {(float) Math.log(4), (float) Math.log(2), 0, 0};
        draw(new Sampling(true, 1, 2, 0.6f, 1, new int[0], 7), logits, 40);
    }

    /** Probabilities are those of the logits divided by the temperature. */
    @Test
    default void sampleTopPOfATemperature() {
        float[] logits = {4, 3, 2, 1, 0};
        for (float temperature : new float[]{0.25f, 4})
            draw(new Sampling(true, temperature, 0, 0.9f, 1, new int[0], 11), logits, 40);
    }

    private void draw(Sampling sampling, float[] logits, int times) {
        HostSampler expected = new HostSampler(sampling, logits.length, new int[0]);
        Tensor row = backend().tensor(logits, 1, logits.length);
        try (Sampler sampler = backend().tensorOps().sampler(sampling, logits.length, new int[0])) {
            for (int i = 0; i < times; i++)
                assertThat(backend().tensorOps().sample(row, List.of(sampler)).toInts())
                        .as("draw %d of %s", i, sampling).containsExactly(expected.next(logits, 0));
        }
    }

    /** The first of many largest, in whichever lanes they are. */
    @Test
    default void sampleTheFirstOfMany() {
        try (Sampler greedy = backend().tensorOps().sampler(Sampling.greedy(), 333, new int[0])) {
            for (int repeat = 0; repeat < 40; repeat++) {
                int[] drawn = cases().randomIds(333, 12);
                float[] logits = new float[333];
                for (int i = 0; i < logits.length; i++)
                    logits[i] = drawn[i];
                int first = IntStream.range(0, 333).filter(i -> drawn[i] == Arrays.stream(drawn).max().getAsInt())
                        .findFirst().getAsInt();
                assertThat(backend().tensorOps().sample(backend().tensor(logits, 1, 333), List.of(greedy)).toInts())
                        .containsExactly(first);
            }
        }
    }
}
