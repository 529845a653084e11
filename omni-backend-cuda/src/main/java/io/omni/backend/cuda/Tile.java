package io.omni.backend.cuda;

import io.omni.api.DType;

/**
 * Which kernel a matrix product of many rows goes to; the sizes are those of gemm.cuh.
 *
 * @param kernel
 *            part of the kernel's name
 * @param size
 *            rows and columns of the result that a block makes
 * @param run
 *            columns of one matrix, then of the other, in a product with a pair
 */
record Tile(String kernel, int size, int threads, int shared, int run) {
    static final Tile LARGE = new Tile("large", 128, 256, 3 * 2 * 128 * 32 * 2, 8);
    static final Tile SMALL = new Tile("small", 64, 128, 3 * 2 * 64 * 32 * 2, 8);
    static final Tile PLAIN = new Tile("plain", 64, 256, 64 * 68 * 4, 1);

    /** Large tiles read less, small ones are enough for every multiprocessor sooner. */
    static Tile of(CudaBackend backend, long rows, long columns) {
        if (backend.compute() == DType.F32)
            return PLAIN;
        return Grid.ceil(rows, LARGE.size) * Grid.ceil(columns, LARGE.size) >= backend.multiprocessors()
                ? LARGE
                : SMALL;
    }

    /** Columns of a pair of matrices laid out in runs. */
    long paired(long columns) {
        return Grid.ceil(columns, run) * run * 2;
    }
}
