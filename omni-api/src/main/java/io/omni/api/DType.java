package io.omni.api;

/** Element type of a {@link Tensor} or {@link HostTensor}, with the number of bytes that a block of elements takes. */
public enum DType {
    /** IEEE 754 binary32. */
    F32(1, 4),
    /** IEEE 754 binary16. */
    F16(1, 2),
    /** The upper half of a binary32. */
    BF16(1, 2),
    /** Two's complement, 32 bits. */
    I32(1, 4),
    /** Two's complement, 64 bits. */
    I64(1, 8),
    /** Two's complement, 8 bits. */
    I8(1, 1),
    /** One byte, 0 or 1. */
    BOOL(1, 1),
    /**
     * Blocks of 32 elements along a row in 34 bytes: a binary16 scale, little-endian, then 32 signed bytes q in the order
     * of the elements. An element is scale · q, which float32 holds exactly. {@link Quantization} says how values are
     * rounded. GGML's {@code q8_0} lies in memory the same way.
     */
    Q8(32, 34),
    /**
     * Blocks of 32 elements along a row in 18 bytes: a binary16 scale, little-endian, then 16 bytes, of which byte j holds
     * element j in its low four bits and element j + 16 in its high ones, each as q + 8 for a q from −8 to 7. An element is
     * scale · q, which float32 holds exactly; the scale may be negative. {@link Quantization} says how values are
     * rounded. GGML's {@code q4_0} lies in memory the same way.
     */
    Q4(32, 18);

    private final int blockSize;
    private final int blockBytes;

    DType(int blockSize, int blockBytes) {
        this.blockSize = blockSize;
        this.blockBytes = blockBytes;
    }

    /** Elements stored together; 1 for plain types, more for block-quantised ones, whose rows are whole blocks. */
    public int blockSize() {
        return blockSize;
    }

    /** Bytes that one block takes. */
    public int blockBytes() {
        return blockBytes;
    }

    /**
     * Bytes that {@code elements} elements take.
     *
     * @throws IllegalArgumentException if {@code elements} is not a whole number of blocks
     */
    public long bytes(long elements) {
        if (elements % blockSize != 0)
            throw new IllegalArgumentException(
                    elements + " elements are not whole blocks of " + blockSize + " " + this);
        return elements / blockSize * blockBytes;
    }

    /** Whether elements are real numbers rather than integers or truth values. */
    public boolean isFloating() {
        return this == F32 || this == F16 || this == BF16 || isQuantized();
    }

    /** Whether elements are stored in blocks that share a scale. */
    public boolean isQuantized() {
        return blockSize > 1;
    }
}
