package io.omni.api;

import java.util.Arrays;
import java.util.BitSet;

/**
 * The definition of sampling, on logits in host memory. Candidates are the kept tokens in order of falling logit, the
 * lower id first on a tie; the first whose cumulative probability exceeds a uniform number is drawn.
 */
public final class HostSampler implements Sampler {
    private final Sampling sampling;
    private final BitSet seen = new BitSet();
    private final BitSet suppressed = new BitSet();
    private final int vocabulary;
    private long draws;

    /**
     * A sampler over {@code vocabulary} tokens whose sequence holds {@code history}.
     *
     * @throws IllegalArgumentException
     *             if a suppressed token or a token of the history is not in the vocabulary
     */
    public HostSampler(Sampling sampling, int vocabulary, int[] history) {
        this.sampling = sampling;
        this.vocabulary = vocabulary;
        for (int token : history)
            seen.set(check(token));
        for (int token : sampling.suppressTokens())
            suppressed.set(check(token));
    }

    @Override
    public Sampling sampling() {
        return sampling;
    }

    /** Number of logits that it draws from. */
    int vocabulary() {
        return vocabulary;
    }

    /** Draws from the logits that start at {@code from}, and notes the token. */
    public int next(float[] logits, int from) {
        float[] scores = Arrays.copyOfRange(logits, from, from + vocabulary);
        float penalty = sampling.repetitionPenalty();
        if (penalty != 1)
            for (int i = seen.nextSetBit(0); i >= 0; i = seen.nextSetBit(i + 1))
                scores[i] = scores[i] < 0 ? scores[i] * penalty : scores[i] / penalty;
        for (int i = suppressed.nextSetBit(0); i >= 0; i = suppressed.nextSetBit(i + 1))
            scores[i] = Float.NEGATIVE_INFINITY;
        int token = sampling.doSample() ? draw(scores) : largest(scores);
        seen.set(token);
        draws++;
        return token;
    }

    @Override
    public void close() {}

    private static int largest(float[] scores) {
        int best = 0;
        float max = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < scores.length; i++)
            if (scores[i] > max)
            max = scores[best = i];
        return best;
    }

    private int draw(float[] scores) {
        int[] kept = nucleus(scores, falling(scores, largest(scores, sampling)), sampling.topP());
        if (kept.length == 0)
            return 0;
        double[] weights = weights(scores, kept);
        double target = uniform(sampling.seed(), draws) * sum(weights);
        for (int i = 0; i < kept.length - 1; i++)
            if ((target -= weights[i]) < 0)
            return kept[i];
        return kept[kept.length - 1];
    }

    /**
     * Divides scores by the temperature, and gives minus infinity to what top-k and top-p do not keep, and to what is no
     * number. The other steps of {@code sampling} are left out.
     */
    public static void truncate(float[] scores, Sampling sampling) {
        int[] kept = largest(scores, sampling);
        if (sampling.topP() < 1)
            kept = nucleus(scores, falling(scores, kept), sampling.topP());
        float[] rest = new float[scores.length];
        Arrays.fill(rest, Float.NEGATIVE_INFINITY);
        for (int token : kept)
            rest[token] = scores[token];
        System.arraycopy(rest, 0, scores, 0, rest.length);
    }

    /** Divides scores by the temperature; returns what top-k keeps, by id. */
    private static int[] largest(float[] scores, Sampling sampling) {
        for (int i = 0; i < scores.length; i++)
            scores[i] /= sampling.temperature();
        float least = leastKept(scores, sampling.topK());
        int[] kept = new int[scores.length];
        int n = 0;
        for (int i = 0; i < scores.length; i++)
            if (scores[i] >= least && scores[i] > Float.NEGATIVE_INFINITY)
            kept[n++] = i;
        return Arrays.copyOf(kept, n);
    }

    /** Tokens in the order of falling score, the lower id first on a tie. */
    private static int[] falling(float[] scores, int[] tokens) {
        long[] keys = new long[tokens.length];
        for (int i = 0; i < keys.length; i++) {
            // the bits of a float order like the float once negative ones are flipped
            int bits = Float.floatToIntBits(scores[tokens[i]] + 0f);
            int ascending = bits < 0 ? bits ^ Integer.MAX_VALUE : bits;
            keys[i] = (long) ~ascending << 32 | tokens[i];
        }
        Arrays.sort(keys);
        return Arrays.stream(keys).mapToInt(key -> (int) key).toArray();
    }

    /** The first of some tokens, as many as their probabilities take to reach a sum. */
    private static int[] nucleus(float[] scores, int[] falling, float topP) {
        if (topP == 1)
            return falling;
        double[] weights = weights(scores, falling);
        double sum = sum(weights);
        double cumulative = 0;
        int end = 0;
        for (; end < weights.length && (end == 0 || cumulative < topP * sum); end++)
            cumulative += weights[end];
        return Arrays.copyOf(falling, end);
    }

    /** Probabilities over that of the first. */
    private static double[] weights(float[] scores, int[] falling) {
        double[] weights = new double[falling.length];
        for (int i = 0; i < weights.length; i++) {
            double max = scores[falling[0]];
            weights[i] = scores[falling[i]] == max ? 1 : Math.exp(scores[falling[i]] - max);
        }
        return weights;
    }

    private static double sum(double[] weights) {
        double sum = 0;
        for (double weight : weights)
            sum += weight;
        return sum;
    }

    /** The k-th largest score, so that everything that equals it is kept too. */
    private static float leastKept(float[] scores, int k) {
        if (k == 0 || k >= scores.length)
            return Float.NEGATIVE_INFINITY;
        // a heap of the k largest, the least of them first; not a number is none
        float[] largest = new float[k];
        Arrays.fill(largest, Float.NEGATIVE_INFINITY);
        for (float score : scores)
            if (score > largest[0])
            replaceFirst(largest, score);
        return largest[0];
    }

    private static void replaceFirst(float[] heap, float value) {
        int at = 0;
        for (int child = 1; child < heap.length; child = 2 * at + 1) {
            if (child + 1 < heap.length && heap[child + 1] < heap[child])
                child++;
            if (heap[child] >= value)
                break;
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = value;
    }

    /** Number {@code index} of the random sequence of a seed, in [0, 1): Steele et al.'s SplitMix64, by counter. */
    public static double uniform(long seed, long index) {
        long z = seed + (index + 1) * 0x9e3779b97f4a7c15L;
        z = (z ^ z >>> 30) * 0xbf58476d1ce4e5b9L;
        z = (z ^ z >>> 27) * 0x94d049bb133111ebL;
        return ((z ^ z >>> 31) >>> 11) * 0x1p-53;
    }

    private int check(int token) {
        if (token < 0 || token >= vocabulary)
            throw new IllegalArgumentException("token " + token + ", expected 0 to " + (vocabulary - 1));
        return token;
    }
}
