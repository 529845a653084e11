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
        for (int i = 0; i < scores.length; i++)
            scores[i] /= sampling.temperature();
        float least = leastKept(scores);
        int[] kept = new int[scores.length];
        int n = 0;
        for (int i = 0; i < scores.length; i++)
            if (scores[i] >= least && scores[i] > Float.NEGATIVE_INFINITY)
            kept[n++] = i;
        if (n == 0)
            return 0;
        // a stable sort by falling score: the bits of a float order like the float once negative ones are flipped
        long[] keys = new long[n];
        for (int i = 0; i < n; i++) {
            int bits = Float.floatToIntBits(scores[kept[i]] + 0f);
            int ascending = bits < 0 ? bits ^ Integer.MAX_VALUE : bits;
            keys[i] = (long) ~ascending << 32 | kept[i];
        }
        Arrays.sort(keys);
        double[] probability = new double[n];
        double max = scores[(int) keys[0]];
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += probability[i] = scores[(int) keys[i]] == max ? 1 : Math.exp(scores[(int) keys[i]] - max);
        int end = n;
        if (sampling.topP() < 1) {
            double cumulative = 0;
            for (end = 0; end < n && (end == 0 || cumulative < sampling.topP() * sum); end++)
                cumulative += probability[end];
            sum = cumulative;
        }
        double target = uniform(sampling.seed(), draws) * sum;
        for (int i = 0; i < end - 1; i++)
            if ((target -= probability[i]) < 0)
            return (int) keys[i];
        return (int) keys[end - 1];
    }

    /** The k-th largest score, so that everything that equals it is kept too. */
    private float leastKept(float[] scores) {
        int k = sampling.topK();
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
