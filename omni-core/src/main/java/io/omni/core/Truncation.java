package io.omni.core;

import io.omni.api.HostSampler;
import io.omni.api.Sampling;
import java.util.stream.IntStream;

/**
 * Which tokens sampling leaves to be drawn. The steps come in upstream's order, each sees what the one before left, and what
 * one removes has the score minus infinity. The first three are {@link HostSampler}'s, which backends
 * know too.
 */
final class Truncation {
    private static final float REMOVED = Float.NEGATIVE_INFINITY;

    private final Sampling known;
    private final float minP;
    private final float typicalP;
    private final float epsilonCutoff;
    private final float etaCutoff;

    Truncation(GenerationArguments arguments) {
        known = new Sampling(true, arguments.number("temperature"), arguments.integer("top_k"),
                arguments.number("top_p"), 1, new int[0], 0);
        minP = arguments.number("min_p");
        typicalP = arguments.number("typical_p");
        epsilonCutoff = arguments.number("epsilon_cutoff");
        etaCutoff = arguments.number("eta_cutoff");
    }

    /** Whether there is sampling with a step that backends do not know. */
    static boolean isWanted(GenerationArguments arguments) {
        return arguments.is("do_sample") && (arguments.number("min_p") > 0 || arguments.number("typical_p") < 1
                || arguments.number("epsilon_cutoff") > 0 || arguments.number("eta_cutoff") > 0);
    }

    /** Removes tokens from a sequence's scores; NaN is removed always. */
    void apply(float[] scores) {
        HostSampler.truncate(scores, known);
        if (minP > 0)
            minP(scores);
        if (typicalP < 1)
            typicalP(scores);
        if (epsilonCutoff > 0)
            cutOff(scores, softmax(scores), epsilonCutoff);
        if (etaCutoff > 0)
            etaCutoff(scores);
    }

    /** Keeps what is at least this part as likely as the likeliest. */
    private void minP(float[] scores) {
        float[] p = softmax(scores);
        float largest = 0;
        for (float each : p)
            largest = Math.max(largest, each);
        cutOff(scores, p, minP * largest);
    }

    /** Keeps tokens whose surprise is nearest to the mean one, the entropy, until their probabilities reach a sum. */
    private void typicalP(float[] scores) {
        float[] p = softmax(scores);
        double entropy = entropy(p);
        float[] distance = new float[p.length];
        for (int i = 0; i < p.length; i++)
            distance[i] = (float) Math.abs(-Math.log(p[i]) - entropy);
        double sum = 0;
        float limit = 0;
        for (int token : rising(distance)) {
            limit = distance[token];
            sum += p[token];
            if ((float) sum >= typicalP)
                break;
        }
        for (int i = 0; i < p.length; i++)
            if (distance[i] > limit)
            scores[i] = REMOVED;
    }

    /** A cut-off that is lower where the entropy is higher. */
    private void etaCutoff(float[] scores) {
        float[] p = softmax(scores);
        cutOff(scores, p, Math.min(etaCutoff, (float) (Math.sqrt(etaCutoff) * Math.exp(-entropy(p)))));
    }

    /** Removes what is less likely than this, but not the likeliest. */
    private static void cutOff(float[] scores, float[] p, float least) {
        float largest = REMOVED;
        for (float score : scores)
            largest = Math.max(largest, score);
        for (int i = 0; i < scores.length; i++)
            if (p[i] < least && scores[i] < largest)
            scores[i] = REMOVED;
    }

    private static float[] softmax(float[] scores) {
        double largest = REMOVED;
        for (float score : scores)
            largest = Math.max(largest, score);
        double sum = 0;
        for (float score : scores)
            sum += Math.exp(score - largest);
        float[] p = new float[scores.length];
        for (int i = 0; i < p.length; i++)
            p[i] = (float) (Math.exp(scores[i] - largest) / sum);
        return p;
    }

    private static double entropy(float[] p) {
        double entropy = 0;
        for (float each : p)
            if (each > 0)
            entropy -= each * Math.log(each);
        return entropy;
    }

    /** Indexes in the order of rising keys, the lower first on a tie, without those of an infinite one. */
    private static int[] rising(float[] keys) {
        // the bits of a float order like the float once those of negative ones are flipped
        return IntStream.range(0, keys.length).filter(i -> keys[i] < Float.POSITIVE_INFINITY).mapToLong(i -> {
            int bits = Float.floatToIntBits(keys[i] + 0f);
            return (long) (bits < 0 ? bits ^ Integer.MAX_VALUE : bits) << 32 | i;
        }).sorted().mapToInt(key -> (int) key).toArray();
    }
}
