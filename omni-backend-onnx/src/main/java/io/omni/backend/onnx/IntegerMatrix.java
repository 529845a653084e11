package io.omni.backend.onnx;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.backend.onnx.Graph.Value;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;

/**
 * A weight [rows, columns] as integers, written once for a session that keeps its own copy, and what multiplies by it.
 * Each activation goes in as one to three parts, integers of 8 bits.
 */
sealed interface IntegerMatrix extends AutoCloseable permits BlockMatrix, HalvesMatrix {
    int columns();

    /** Stores a row; false if it cannot be stored so. Called by several threads. */
    boolean write(int row, float[] values);

    /**
     * {@code n} rows of x, float32 [n, columns], in the form that {@link #product} takes, the same for all matrices of a
     * kind with as many columns. The caller releases them.
     */
    List<Storage> split(NativeMemory memory, MemorySegment x, int n);

    /** x · wᵀ, [n, rows]. */
    Value product(Recording r, List<Storage> split);

    /** What the session reads in each run. */
    Storage scales();

    @Override
    void close();

    /** Whether a matrix can be written so, its values aside. */
    static boolean fits(HostTensor host) {
        return (host.dtype().isQuantized() || host.dtype() == DType.BF16) && host.size() > 0
                && host.shape()[1] % 32 == 0 && bytes(host) < Integer.MAX_VALUE;
    }

    /** About what the runtime keeps for it: integers, scales and sums, and the scales once more. */
    static long bytes(HostTensor host) {
        return switch (host.dtype()) {
            case Q4 -> host.size() / 2 + host.size() / 32 * 12;
            case Q8 -> host.size() + host.size() / 32 * 12;
            default -> 2 * host.size() + host.shape()[0] * 24L;
        };
    }

    /** The matrix, or null if a row is not finite or would lose too much. The caller closes it. */
    static IntegerMatrix of(HostTensor host, NativeMemory memory, int parts) {
        IntegerMatrix matrix = host.dtype() == DType.BF16
                ? new HalvesMatrix(host, memory, parts)
                : new BlockMatrix(host, memory, parts);
        var written = new AtomicBoolean(true);
        int columns = matrix.columns();
        int chunk = Math.max(1, (1 << 16) / columns);
        int rows = host.shape()[0];
        IntStream.range(0, (rows + chunk - 1) / chunk).parallel().forEach(c -> {
            float[] row = new float[columns];
            for (int i = c * chunk; i < Math.min(rows, (c + 1) * chunk); i++) {
                for (int j = 0; j < columns; j++)
                    row[j] = host.getFloat((long) i * columns + j);
                if (!matrix.write(i, row))
                    written.set(false);
            }
        });
        if (written.get())
            return matrix;
        matrix.close();
        return null;
    }
}
