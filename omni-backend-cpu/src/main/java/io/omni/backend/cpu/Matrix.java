package io.omni.backend.cpu;

import io.omni.api.DType;

/**
 * A weight matrix in memory, rows of {@code in} elements one after another, or bands of 32 rows if it is quantised.
 *
 * @param address
 *            of the first row; any alignment
 */
record Matrix(long address, DType dtype, int out, int in) {
    static Matrix of(CpuTensor weight) {
        if (weight.layout() != Layout.PLAIN)
            throw new IllegalArgumentException("a convolution's weight used as a matrix");
        if (!weight.dtype().isFloating())
            throw new IllegalArgumentException("a weight of type " + weight.dtype() + ", expected floats");
        int out = weight.dim(0);
        return new Matrix(weight.address(), weight.dtype(), out, out == 0 ? 0 : (int) (weight.size() / out));
    }

    long rowBytes() {
        return dtype.bytes((long) dtype.blockSize() * in) / dtype.blockSize();
    }

    /** Where a row is, or, if the matrix is quantised, the band that it is the first of. */
    long row(int i) {
        return address + i * rowBytes();
    }
}
