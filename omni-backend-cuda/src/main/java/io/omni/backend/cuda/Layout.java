package io.omni.backend.cuda;

import io.omni.api.WeightRole;

/** How convolutions' weights are stored: taps first, then outputs, inputs last, so that a tap is a matrix. */
final class Layout {
    private static final int[] CONV1D = {2, 0, 1};
    private static final int[] CONV_TRANSPOSE1D = {2, 1, 0};
    private static final int[] CONV2D = {2, 3, 0, 1};

    private Layout() {}

    /** Which dimension of the weight each stored dimension is, or null if they are as given. */
    static int[] axes(WeightRole role) {
        return switch (role) {
            case CONV1D -> CONV1D;
            case CONV_TRANSPOSE1D -> CONV_TRANSPOSE1D;
            case CONV2D -> CONV2D;
            case null, default -> null;
        };
    }

    static int[] stored(int[] shape, WeightRole role) {
        int[] axes = axes(role);
        int[] stored = new int[axes.length];
        for (int i = 0; i < axes.length; i++)
            stored[i] = shape[axes[i]];
        return stored;
    }
}
