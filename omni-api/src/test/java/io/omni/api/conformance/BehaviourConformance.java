package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.Backend;
import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.KvCache;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.conformance.Cases.Argument;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

/** What a backend does beside computing: ownership, threads, closing. */
public interface BehaviourConformance extends Subject {
    @Test
    default void scopesFreeWhatTheyOwnAndHandOverWhatTheyKeep() {
        Tensor kept;
        Tensor lost;
        Tensor detached;
        try (Scope outer = backend().scope()) {
            try (Scope inner = backend().scope()) {
                lost = cases().activation(3).tensor();
                kept = inner.keep(cases().ids(1, 2));
                detached = inner.detach(cases().ids(3));
            }
            assertThat(kept.toInts()).containsExactly(1, 2);
            assertThatThrownBy(lost::toFloats).isInstanceOf(IllegalStateException.class);
        }
        assertThatThrownBy(kept::toInts).isInstanceOf(IllegalStateException.class);
        assertThat(detached.toInts()).containsExactly(3);
        detached.close();
        detached.close();
        assertThatThrownBy(detached::toInts).isInstanceOf(IllegalStateException.class);
    }

    @Test
    default void closedThingsAreRefused() {
        Tensor closed = cases().activation(2, 2).tensor();
        closed.close();
        Tensor open = cases().activation(2, 2).tensor();
        assertThatThrownBy(() -> backend().tensorOps().add(open, closed)).isInstanceOf(IllegalStateException.class);
        Backend other = another();
        other.close();
        assertThatThrownBy(() -> {
            try (Scope scope = other.scope()) {
                other.tensor(new float[1], 1);
            }
        }).isInstanceOf(IllegalStateException.class);
    }

    @Test
    default void operationsNeedAScopeOnTheirThread() {
        assertThatThrownBy(() -> onAnotherThread(() -> backend().tensor(new float[1], 1)))
                .hasRootCauseInstanceOf(IllegalStateException.class);
    }

    @Test
    default void thousandsOfStepsHoldNoMoreThanAFew() {
        Argument w = cases().matrix(DType.BF16, 64, 64);
        long after100 = 0;
        try (KvCache cache = backend().cache(new CacheSpec(1, 1, 64, 16))) {
            for (int i = 0; i < 3000; i++) {
                try (Scope scope = backend().scope()) {
                    Tensor x = cases().activation(1, 64).tensor();
                    backend().tensorOps().linear(x, w.tensor()).toFloats();
                    backend().attentionOps().append(List.of(cache), 0, x, x, new io.omni.api.Packed(0, 1));
                }
                if (i == 100)
                    after100 = backend().allocatedBytes();
            }
            assertThat(backend().allocatedBytes()).isLessThanOrEqualTo(after100 + (1 << 16));
        }
        w.tensor().close();
        w.tensor().close();
    }

    @Test
    default void severalThreadsComputeAtOnce() throws Exception {
        Argument w = cases().matrix(DType.F32, 48, 33);
        Argument x = cases().activation(7, 33);
        double[] expected = Definitions.linear(x.values(), w.values(), null, 7, 33, 48, Activation.NONE);
        try (ExecutorService pool = Executors.newFixedThreadPool(4)) {
            List<Future<Tensor>> results = new ArrayList<>();
            for (int i = 0; i < 64; i++)
                results.add(pool.submit(() -> {
                    try (Scope scope = backend().scope()) {
                        return scope.detach(backend().tensorOps().linear(x.tensor(), w.tensor()));
                    }
                }));
            for (Future<Tensor> result : results) {
                try (Tensor y = result.get()) {
                    cases().check("linear", y, expected, 7, 48);
                }
            }
        }
    }

    private static void onAnotherThread(Runnable work) throws Exception {
        try (ExecutorService thread = Executors.newSingleThreadExecutor()) {
            thread.submit(work).get();
        }
    }
}
