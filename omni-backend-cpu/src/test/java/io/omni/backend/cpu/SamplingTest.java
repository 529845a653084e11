package io.omni.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import io.omni.api.HostSampler;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Sampling draws what the definition draws. */
class SamplingTest extends CpuTest {
    @Test
    void sameTokensAsTheDefinition() {
        for (int round = 0; round < 60; round++) {
            int vocabulary = 1 + size(400);
            int n = 1 + size(5);
            int[] suppressed = random.ints(random.nextInt(vocabulary), 0, vocabulary).toArray();
            Sampling sampling = new Sampling(random.nextInt(3) == 0, 0.8f, size(50), 0.9f,
                    random.nextBoolean() ? 1 : 1.1f, suppressed, round);
            List<Sampler> mine = new ArrayList<>();
            List<HostSampler> expected = new ArrayList<>();
            for (int i = 0; i < n; i++) {
                int[] history = random.ints(3, 0, vocabulary).toArray();
                mine.add(backend.tensorOps().sampler(sampling, vocabulary, history));
                expected.add(new HostSampler(sampling, vocabulary, history));
            }
            for (int step = 0; step < 5; step++) {
                float[] logits = floats((long) n * vocabulary);
                for (int i = 0; i < logits.length; i++)
                    logits[i] = switch (random.nextInt(20)) {
                        case 0 -> Float.NaN;
                        case 1 -> Float.NEGATIVE_INFINITY;
                        default -> Math.round(logits[i] * 4) / 4f;
                    };
                Tensor tokens = backend.tensorOps().sample(backend.tensor(logits, n, vocabulary), mine);
                for (int i = 0; i < n; i++)
                    assertThat(tokens.toInts()[i]).as("round %d", round)
                            .isEqualTo(expected.get(i).next(logits, i * vocabulary));
            }
        }
    }

    @Test
    void nothingToDraw() {
        Sampler sampler = backend.tensorOps().sampler(Sampling.greedy(), 3, new int[0]);
        Tensor logits = backend.tensor(new float[]{Float.NaN, Float.NEGATIVE_INFINITY, Float.NaN}, 1, 3);
        assertThat(backend.tensorOps().sample(logits, List.of(sampler)).toInts()).containsExactly(0);
    }

    @Test
    void arguments() {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> backend.tensorOps().sampler(Sampling.greedy(), 3, new int[]{3}));
        Sampler sampler = backend.tensorOps().sampler(Sampling.greedy(), 4, new int[0]);
        assertThatIllegalArgumentException()
                .isThrownBy(() -> backend.tensorOps().sample(activation(1, 3), List.of(sampler)));
    }
}
