package io.omni.api;

/** Parameters of a 2-D convolution, the same in height and width, as PyTorch's {@code Conv2d} names them. */
public record Conv2d(int stride, int padding) {
    /** @throws IllegalArgumentException for a stride below 1 or negative padding */
    public Conv2d {
        if (stride < 1 || padding < 0)
            throw new IllegalArgumentException("stride " + stride + ", padding " + padding);
    }

    /** Output size along one axis for {@code input} cells and {@code kernel} taps; 0 if the kernel does not fit. */
    public int outputLength(int input, int kernel) {
        int span = input + 2 * padding - kernel;
        return span < 0 ? 0 : span / stride + 1;
    }
}
