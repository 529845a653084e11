package io.omni.api.conformance;

import io.omni.api.Backend;
import io.omni.api.Scope;
import java.util.Optional;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.TestInstance;

/**
 * What every backend must do. An author extends this class, says how to start the backend, and runs it with JUnit; each
 * operation has a test of its name. Expected values are the definitions' in float64, and the tolerance is what the
 * backend declares in {@link Backend#precision}.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
public abstract class BackendConformance
        implements
            TensorOpsConformance,
            AttentionOpsConformance,
            MoeOpsConformance,
            ConvOpsConformance,
            ArgumentsConformance,
            BehaviourConformance,
            SmallModelConformance,
            EdgeConformance,
            RankConformance,
            TypeConformance,
            LargeConformance,
            SamplingConformance,
            WeightMemoryConformance {
    /** System property with the seed that repeats a failure. */
    public static final String SEED = "omni.conformance.seed";

    private Backend backend;
    private Cases cases;
    private Scope scope;

    /** Starts the backend to test; the suite closes it. */
    protected abstract Backend start();

    /**
     * Starts a backend that runs out of memory before it holds a gigabyte; the suite closes it. Without one, which is the
     * default, the test of {@link io.omni.api.OutOfMemoryException} is skipped.
     */
    protected Optional<Backend> startSmall() {
        return Optional.empty();
    }

    @BeforeAll
    final void startBackend() {
        backend = start();
        cases = new Cases(backend, Long.getLong(SEED, System.nanoTime()));
    }

    @AfterAll
    final void closeBackend() {
        // a start that was skipped, for want of a device, leaves nothing to close
        if (cases == null)
            return;
        System.out.print(cases.report());
        backend.close();
        backend.close();
        cases.close();
    }

    @BeforeEach
    final void openScope(TestInfo test) {
        cases.begin(test.getTestMethod().orElseThrow().getName());
        scope = backend.scope();
    }

    @AfterEach
    final void closeScope() {
        scope.close();
        scope.close();
    }

    @Override
    public final Backend backend() {
        return backend;
    }

    @Override
    public final Backend another() {
        return start();
    }

    @Override
    public final Optional<Backend> small() {
        return startSmall();
    }

    @Override
    public final Cases cases() {
        return cases;
    }
}
