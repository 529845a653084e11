package io.omni.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.HashSet;
import java.util.Set;
import org.junit.jupiter.api.Test;

class HostSamplerTest {
    private static final int[] NONE = {};

    private static Sampling sampled(float temperature, int topK, float topP) {
        return new Sampling(true, temperature, topK, topP, 1, NONE, 1);
    }

    /** The tokens that many draws give. */
    private static Set<Integer> drawn(Sampling sampling, float... logits) {
        HostSampler sampler = new HostSampler(sampling, logits.length, NONE);
        Set<Integer> tokens = new HashSet<>();
        for (int i = 0; i < 2000; i++)
            tokens.add(sampler.next(logits, 0));
        return tokens;
    }

    @Test
    void greedyTakesTheLargestAndTheLowerOnATie() {
        assertThat(new HostSampler(Sampling.greedy(), 4, NONE).next(new float[]{1, 5, Float.NaN, 5}, 0)).isEqualTo(1);
    }

    @Test
    void infiniteLogitsAndTheLeastTemperatureLeaveTheLargest() {
        assertThat(drawn(sampled(1, 0, 1), 1, Float.POSITIVE_INFINITY, 3)).containsExactly(1);
        assertThat(drawn(sampled(1, 2, 0.9f), 1, Float.POSITIVE_INFINITY, 3)).containsExactly(1);
        assertThat(drawn(sampled(Sampling.LEAST_TEMPERATURE, 0, 1), 1, 300, 299.9f)).containsExactly(1);
        assertThatThrownBy(() -> sampled(1e-38f, 0, 1)).isInstanceOf(IllegalArgumentException.class)
                .hasMessage("temperature 1.0E-38, expected at least 1.0E-30");
    }

    @Test
    void thePenaltyCountsHistoryAndWhatWasDrawn() {
        Sampling penalty = new Sampling(false, 1, 0, 1, 2, NONE, 0);
        HostSampler sampler = new HostSampler(penalty, 3, new int[]{0});
        float[] logits = {5, 4, 3};
        assertThat(sampler.next(logits, 0)).isEqualTo(1);
        assertThat(sampler.next(logits, 0)).isEqualTo(2);
        assertThat(new HostSampler(penalty, 2, new int[]{0}).next(new float[]{-1, -1.5f}, 0)).isEqualTo(1);
    }

    @Test
    void suppressedTokensAreNeverDrawn() {
        Sampling suppress = new Sampling(true, 1, 0, 1, 1, new int[]{1}, 3);
        assertThat(drawn(suppress, 0, 10, 0)).containsExactlyInAnyOrder(0, 2);
    }

    @Test
    void topKKeepsAllThatEqualTheKth() {
        assertThat(drawn(sampled(1, 2, 1), 1, 3, 2, 2)).containsExactlyInAnyOrder(1, 2, 3);
    }

    @Test
    void topKKeepsTheLargestOfMany() {
        float[] logits = new float[300];
        Set<Integer> largest = new HashSet<>();
        for (int i = 0; i < logits.length; i++) {
            // a permutation, as 7 and 300 have no common divisor
            int rank = 7 * i % logits.length;
            logits[i] = rank / 1000f;
            if (rank >= logits.length - 20)
                largest.add(i);
        }
        logits[0] = Float.NaN;
        assertThat(drawn(sampled(1, 20, 1), logits)).isEqualTo(largest);
    }

    @Test
    void topPKeepsTheFewestThatReachIt() {
        float[] logits = {(float) Math.log(0.6), (float) Math.log(0.3), (float) Math.log(0.1)};
        assertThat(drawn(sampled(1, 0, 0.5f), logits)).containsExactly(0);
        assertThat(drawn(sampled(1, 0, 0.7f), logits)).containsExactlyInAnyOrder(0, 1);
    }

    @Test
    void drawsFollowTheProbabilities() {
        HostSampler sampler = new HostSampler(sampled(0.5f, 0, 1), 2, NONE);
        int ones = 0;
        for (int i = 0; i < 10_000; i++)
            ones += sampler.next(new float[]{0, 0.5f}, 0);
        // sigmoid(0.5 / 0.5) = 0.731; five standard deviations are 0.022
        assertThat(ones / 10_000.0).isBetween(0.709, 0.753);
    }

    @Test
    void aSeedRepeats() {
        HostSampler a = new HostSampler(sampled(1, 0, 1), 100, NONE);
        HostSampler b = new HostSampler(sampled(1, 0, 1), 100, NONE);
        for (int i = 0; i < 50; i++)
            assertThat(a.next(new float[100], 0)).isEqualTo(b.next(new float[100], 0));
    }

    @Test
    void tokensOutsideTheVocabularyAreRefused() {
        assertThatThrownBy(() -> new HostSampler(Sampling.greedy(), 3, new int[]{3}))
                .isInstanceOf(IllegalArgumentException.class).hasMessage("token 3, expected 0 to 2");
    }
}
