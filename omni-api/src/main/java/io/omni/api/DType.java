package io.omni.api;

/** Element type of a {@link Tensor} or {@link HostTensor}, with the number of bytes that one, or a block of them, takes. */
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
     * Blocks of 32 rows by 32 columns of a matrix in 1088 bytes: a binary16 scale for each row, and signed integers q of 8
     * bits. An element is scale · q, which float32 holds exactly. {@link Quantization} is the definition.
     */
    Q8(32, 1088),
    /**
     * Blocks of 32 rows by 32 columns of a matrix in 576 bytes: a binary16 scale for each row, and signed integers q of 4
     * bits. An element is scale · q, which float32 holds exactly. {@link Quantization} is the definition.
     */
    Q4(32, 576);

    private final int blockSize;
    private final int blockBytes;

    DType(int blockSize, int blockBytes) {
        this.blockSize = blockSize;
        this.blockBytes = blockBytes;
    }

    /** Rows and columns of a block: 1 for plain types, 32 for quantised ones, whose matrices are whole blocks. */
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
        int block = blockSize * blockSize;
        if (elements % block != 0)
            throw new IllegalArgumentException(elements + " elements are not whole blocks of " + block + " " + this);
        return elements / block * blockBytes;
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
