package io.omni.backend.cuda;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.omni.api.BackendProvider.Availability.Unavailable;
import io.omni.api.DType;

/** What the tests of operations run on. */
enum Setting {
    /** Every block in memory of its own, so that a kernel that leaves it is seen. */
    F32_FORWARD(DType.F32, 0, 256, false), BF16_FORWARD(DType.BF16, 0, 256, false),
    /** Threads in reverse order, copies late, memory used again and again. */
    F32_BACKWARD(DType.F32, 1, 1 << 20, false), F16_BACKWARD(DType.F16, 1, 1 << 20, false),
    /** The same, with launches held back, and replayed where they come again. */
    BF16_GRAPHS(DType.BF16, 1, 1 << 20, true),
    /** An NVIDIA card. */
    F32_CARD(DType.F32, -1, 64 << 20, false), BF16_CARD(DType.BF16, -1, 64 << 20, false), F16_CARD(DType.F16, -1,
            64 << 20, false), BF16_CARD_GRAPHS(DType.BF16, -1, 64 << 20, true);

    final DType compute;
    final int order;
    private final long slab;
    private final boolean graphs;

    Setting(DType compute, int order, long slab, boolean graphs) {
        this.compute = compute;
        this.order = order;
        this.slab = slab;
        this.graphs = graphs;
    }

    /** A backend, or the test is skipped with the reason. */
    CudaBackend open() {
        return new CudaBackend(driver(2L << 30), new CudaOptions(compute, 1L << 30, slab, graphs));
    }

    Driver driver(long memory) {
        if (order < 0) {
            assumeTrue(!(new CudaBackendProvider().availability() instanceof Unavailable(String reason)),
                    () -> "not run on a card: "
                            + ((Unavailable) new CudaBackendProvider().availability()).reason());
            return NvidiaDriver.open();
        }
        assumeTrue(!Boolean.getBoolean("omni.cuda.cardOnly"), "omni.cuda.cardOnly is set");
        assumeTrue(Emulation.missing() == null, Emulation.missing());
        return new EmulatedDriver(order, memory);
    }
}
