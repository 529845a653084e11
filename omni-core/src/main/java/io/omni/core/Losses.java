package io.omni.core;

import io.omni.api.Definitions;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import java.util.Arrays;
import java.util.List;

/** Training losses, for evaluation. */
final class Losses {
    private static final int IGNORED = -100;
    // of logits that are read at once: those of a long text are more than an array holds
    private static final int ROWS = 256;

    private Losses() {}

    /**
     * Mean −log probability of each label but the first of a sequence, given the logits one position earlier. NaN if every
     * label is ignored. Upstream: {@code ForCausalLMLoss}.
     *
     * @param logits
     *            {@code [tokens, vocabulary]}, the sequences one after another
     */
    static float crossEntropy(Tensor logits, int[][] labels, int[] lengths) {
        int vocabulary = logits.dim(1);
        int[] targets = targets(labels, lengths, vocabulary);
        double sum = 0;
        int counted = 0;
        TensorOps ops = logits.backend().tensorOps();
        for (int from = 0; from < targets.length; from += ROWS) {
            float[] values;
            try (Tensor some = ops.slice(logits, from, Math.min(targets.length, from + ROWS))) {
                values = some.toFloats();
            }
            for (int row = 0; row < values.length / vocabulary; row++) {
                int label = targets[from + row];
                if (label == IGNORED)
                    continue;
                sum += logSumExp(values, row * vocabulary, vocabulary) - values[row * vocabulary + label];
                counted++;
            }
        }
        return (float) (sum / counted);
    }

    /** What each row should predict: the next label of its sequence. */
    private static int[] targets(int[][] labels, int[] lengths, int vocabulary) {
        int[] targets = new int[Arrays.stream(lengths).sum()];
        Arrays.fill(targets, IGNORED);
        int row = 0;
        for (int i = 0; i < lengths.length; i++) {
            if (labels[i].length != lengths[i])
                throw new IllegalArgumentException(labels[i].length + " labels for " + lengths[i] + " tokens");
            for (int t = 0; t < lengths[i] - 1; t++) {
                int label = labels[i][t + 1];
                if (label != IGNORED && (label < 0 || label >= vocabulary))
                    throw new IllegalArgumentException(
                            "label " + label + ", expected 0 to " + (vocabulary - 1) + ", or " + IGNORED);
                targets[row + t] = label;
            }
            row += lengths[i];
        }
        return targets;
    }

    static double logSumExp(float[] values, int from, int n) {
        double max = Double.NEGATIVE_INFINITY;
        for (int i = from; i < from + n; i++)
            max = Math.max(max, values[i]);
        double sum = 0;
        for (int i = from; i < from + n; i++)
            sum += Math.exp(values[i] - max);
        return max + Math.log(sum);
    }

    /**
     * How unevenly tokens spread over the experts: experts · Σ (share of choices · mean probability), Switch Transformer
     * (Fedus et al.), equations 4 to 6. Upstream: {@code load_balancing_loss_func}.
     */
    static float loadBalancing(List<Tensor> routerLogits, DecoderConfig config) {
        int experts = config.numExperts();
        double[] choices = new double[experts];
        double[] probability = new double[experts];
        double rows = 0;
        for (Tensor layer : routerLogits) {
            double[] probabilities = Definitions.softmax(Definitions.doubles(layer.toFloats()), experts);
            for (int expert : Definitions.topK(probabilities, experts, config.numExpertsPerTok()))
                choices[expert]++;
            for (int i = 0; i < probabilities.length; i++)
                probability[i % experts] += probabilities[i];
            rows += layer.dim(0);
        }
        double sum = 0;
        for (int i = 0; i < experts; i++)
            sum += choices[i] / rows * (probability[i] / rows);
        return (float) (sum * experts);
    }
}
