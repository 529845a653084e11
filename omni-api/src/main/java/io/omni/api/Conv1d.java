package io.omni.api;

/**
 * Parameters of a 1-D convolution over time, as PyTorch's {@code Conv1d} names them, with separate zero padding on each
 * side.
 */
public record Conv1d(int stride, int dilation, int groups, int padLeft, int padRight) {
    /** @throws IllegalArgumentException for a stride, dilation or groups below 1, or negative padding */
    public Conv1d {
        if (stride < 1 || dilation < 1 || groups < 1 || padLeft < 0 || padRight < 0)
            throw new IllegalArgumentException("stride " + stride + ", dilation " + dilation + ", groups " + groups
                    + ", padding " + padLeft + " and " + padRight);
    }

    /** Stride 1, no padding. */
    public static Conv1d dilated(int dilation) {
        return new Conv1d(1, dilation, 1, 0, 0);
    }

    /** Output length for {@code input} steps and a kernel of {@code kernel} taps; 0 if the kernel does not fit. */
    public int outputLength(int input, int kernel) {
        int span = input + padLeft + padRight - (kernel - 1) * dilation - 1;
        return span < 0 ? 0 : span / stride + 1;
    }
}
