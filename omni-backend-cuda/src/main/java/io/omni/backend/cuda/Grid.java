package io.omni.backend.cuda;

/** How many blocks a launch has. */
final class Grid {
    /** Blocks that fill the largest card a few times over; kernels over elements go round. */
    private static final long MOST = 4096;

    private Grid() {}

    static long ceil(long n, long size) {
        return (n + size - 1) / size;
    }

    /** For a kernel over elements, 256 threads a block, eight elements a thread if wide. */
    static long elements(long n, boolean wide) {
        return Math.min(MOST, ceil(n, wide ? 2048 : 256));
    }
}
