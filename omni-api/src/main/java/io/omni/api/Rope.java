package io.omni.api;

/**
 * Rotary position embedding (Su et al., RoFormer) with several position rows. Pair i of a head, its features i and
 * i + pairs, turns by {@code position[row[i]] · inverseFrequency[i]}.
 *
 * @param inverseFrequency
 *            radians per position, one a pair
 * @param row
 *            which row of the positions turns each pair
 */
public record Rope(float[] inverseFrequency, int[] row) {
    /** @throws IllegalArgumentException unless there are as many rows as frequencies */
    public Rope {
        if (inverseFrequency.length != row.length)
            throw new IllegalArgumentException(inverseFrequency.length + " frequencies but " + row.length + " rows");
    }

    /** Number of pairs, half the features of a head. */
    public int pairs() {
        return row.length;
    }

    /** Positions of one row, frequencies base^(−2i / headDim). Upstream: {@code compute_default_rope_parameters}. */
    public static Rope standard(int headDim, double base) {
        return new Rope(frequencies(headDim, base), new int[headDim / 2]);
    }

    /**
     * Time, height and width rows with interleaved sections: pair 3j + 1 turns by height for j &lt; sections[1], pair
     * 3j + 2 by width for j &lt; sections[2], all others by time. Upstream: {@code recomposition_frequencies} of
     * {@code Qwen3OmniMoeThinkerTextRotaryEmbedding}.
     */
    public static Rope multimodal(int headDim, double base, int... sections) {
        int[] row = new int[headDim / 2];
        for (int axis = 1; axis < sections.length; axis++)
            for (int pair = axis; pair < Math.min(3 * sections[axis], row.length); pair += 3)
                row[pair] = axis;
        return new Rope(frequencies(headDim, base), row);
    }

    /** Height and width rows, half of the pairs each. Upstream: {@code Qwen3OmniMoeVisionRotaryEmbedding}. */
    public static Rope axial(int headDim, double base) {
        float[] half = frequencies(headDim / 2, base);
        float[] inverseFrequency = new float[headDim / 2];
        int[] row = new int[headDim / 2];
        for (int i = 0; i < row.length; i++) {
            inverseFrequency[i] = half[i % half.length];
            row[i] = i / half.length;
        }
        return new Rope(inverseFrequency, row);
    }

    private static float[] frequencies(int dim, double base) {
        float[] frequency = new float[dim / 2];
        for (int i = 0; i < frequency.length; i++)
            frequency[i] = 1f / (float) Math.pow(base, (float) (2 * i) / dim);
        return frequency;
    }
}
