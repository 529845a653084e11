package io.omni.api.conformance;

import io.omni.api.Backend;
import io.omni.api.OutOfMemoryException;
import io.omni.api.PlainBackend;
import io.omni.api.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** A backend with a limit passes the test of running out of memory, which others skip. */
class SmallMemoryConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return new PlainBackend();
    }

    @Override
    protected Optional<Backend> startSmall() {
        return Optional.of(new Limited());
    }

    private static final class Limited extends PlainBackend {
        private static final long LIMIT = 40 << 20;
        private final List<Tensor> made = new ArrayList<>();

        @Override
        public Tensor tensor(float[] values, int... shape) {
            long bytes = 4L * values.length;
            made.removeIf(Limited::isClosed);
            for (Tensor tensor : made)
                bytes += 4 * tensor.size();
            if (bytes > LIMIT)
                throw new OutOfMemoryException(bytes + " bytes of " + LIMIT);
            Tensor tensor = super.tensor(values, shape);
            made.add(tensor);
            return tensor;
        }

        private static boolean isClosed(Tensor tensor) {
            try {
                tensor.toFloats();
                return false;
            } catch (IllegalStateException e) {
                return true;
            }
        }
    }
}
