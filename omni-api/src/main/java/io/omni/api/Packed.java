package io.omni.api;

import java.util.Arrays;

/**
 * Where each sequence starts among packed tokens: sequence i is rows {@code offsets[i]} to {@code offsets[i + 1]}.
 * Sequences may be empty. Upstream calls the array {@code cu_seqlens}.
 *
 * @param offsets
 *            non-decreasing, from 0 to the number of tokens
 */
public record Packed(int... offsets) {
    public Packed {
        offsets = offsets.clone();
        if (offsets.length == 0 || offsets[0] != 0)
            throw new IllegalArgumentException("offsets " + Arrays.toString(offsets) + ": expected to start at 0");
        for (int i = 1; i < offsets.length; i++)
            if (offsets[i] < offsets[i - 1])
            throw new IllegalArgumentException("offsets " + Arrays.toString(offsets) + ": expected to grow");
    }

    /** The packing of sequences of these lengths, in this order. */
    public static Packed ofLengths(int... lengths) {
        int[] offsets = new int[lengths.length + 1];
        for (int i = 0; i < lengths.length; i++)
            offsets[i + 1] = offsets[i] + lengths[i];
        return new Packed(offsets);
    }

    /** Number of sequences. */
    public int sequences() {
        return offsets.length - 1;
    }

    /** Number of tokens in all sequences. */
    public int tokens() {
        return offsets[offsets.length - 1];
    }

    /** Number of tokens in sequence {@code i}. */
    public int length(int i) {
        return offsets[i + 1] - offsets[i];
    }
}
