package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.Backend;
import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.OutOfMemoryException;
import io.omni.api.Packed;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import io.omni.api.conformance.ArgumentsConformance.Call;
import io.omni.api.conformance.Cases.Argument;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;
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

    /** The outermost scope keeps for the caller; a scope takes nothing but its own tensors. */
    @Test
    default void scopesNest() throws Exception {
        Tensor[] kept = new Tensor[1];
        onAnotherThread(() -> {
            Tensor foreign;
            try (Scope outer = backend().scope()) {
                foreign = cases().ids(8);
                try (Scope middle = backend().scope()) {
                    assertThat(middle.keep(foreign)).isSameAs(foreign);
                    assertThat(middle.detach(foreign)).isSameAs(foreign);
                    try (Scope inner = backend().scope()) {
                        kept[0] = inner.keep(cases().ids(7));
                    }
                    kept[0] = middle.keep(kept[0]);
                }
                kept[0] = outer.keep(kept[0]);
            }
            assertThatThrownBy(foreign::toInts).isInstanceOf(IllegalStateException.class);
        });
        assertThat(kept[0].toInts()).containsExactly(7);
        kept[0].close();
        assertThatThrownBy(kept[0]::toInts).isInstanceOf(IllegalStateException.class);
    }

    /** A scope is its thread's alone, and none closes before one within it; a refused call changes nothing. */
    @Test
    default void scopesRefuseOtherThreadsAndAnotherOrder() throws Exception {
        try (Scope outer = backend().scope()) {
            Tensor ids = cases().ids(1, 2);
            try (Scope inner = backend().scope()) {
                assertThatThrownBy(outer::close).isInstanceOf(IllegalStateException.class);
                for (Runnable call : List.<Runnable>of(inner::close, () -> outer.keep(ids), () -> outer.detach(ids)))
                    assertThatThrownBy(() -> onAnotherThread(call)).hasRootCauseInstanceOf(IllegalStateException.class);
                assertThat(inner.keep(cases().ids(3)).toInts()).containsExactly(3);
            }
            assertThat(ids.toInts()).containsExactly(1, 2);
            Scope closed = backend().scope();
            Tensor lost = cases().ids(5);
            closed.close();
            onAnotherThread(closed::close);
            assertThatThrownBy(() -> closed.keep(lost)).isInstanceOf(IllegalStateException.class);
            assertThatThrownBy(() -> closed.detach(ids)).isInstanceOf(IllegalStateException.class);
            assertThat(cases().ids(4).toInts()).containsExactly(4);
        }
    }

    @Test
    default void closingTwiceDoesNothing() {
        Scope scope = backend().scope();
        Tensor tensor = cases().ids(1);
        tensor.close();
        tensor.close();
        scope.close();
        scope.close();
        tensor.close();
        KvCache cache = backend().cache(new CacheSpec(1, 1, 8, 0));
        Tensor kv = cases().activation(3, 8).tensor();
        backend().attentionOps().append(List.of(cache), 0, kv, kv, new Packed(0, 3));
        cache.close();
        cache.close();
        Sampler sampler = backend().tensorOps().sampler(Sampling.greedy(), 8, new int[0]);
        sampler.close();
        sampler.close();
        Backend other = another();
        other.close();
        other.close();
        // what was closed twice is not given to two owners
        Argument a = cases().activation(3, 8);
        Argument b = cases().activation(3, 8);
        cases().check("add", backend().tensorOps().add(a.tensor(), b.tensor()),
                Definitions.add(a.values(), b.values()));
    }

    /** What a scope of a closed backend made is closed with it. */
    @Test
    default void aClosedBackendRefuses() {
        Backend other = another();
        Scope scope = other.scope();
        Tensor x = other.tensor(new float[4], 2, 2);
        Tensor w = other.weight(HostTensor.of("w", new float[4], 2, 2), WeightRole.MATRIX);
        other.close();
        List<Runnable> all = List.of(x::toFloats, other::scope, () -> other.tensor(new float[1], 1),
                () -> other.weight(HostTensor.of("w", new float[4], 2, 2), WeightRole.MATRIX),
                () -> other.tensorOps().linear(x, w), () -> other.tensorOps().add(x, x));
        for (int i = 0; i < all.size(); i++)
            assertThatThrownBy(all.get(i)::run).as("use %d of a closed backend", i)
                    .isInstanceOf(IllegalStateException.class);
        x.close();
        w.close();
        scope.close();
        assertThat(other.allocatedBytes()).as("bytes of a closed backend").isZero();
    }

    /** A thread makes what the next one reads and closes, as the stages of the pipeline do. */
    @Test
    default void detachedTensorsPassBetweenThreads() throws Exception {
        BlockingQueue<Tensor> queue = new ArrayBlockingQueue<>(3);
        Tensor weight = cases().matrix(DType.F32, 8, 8).tensor();
        Argument[] inputs = new Argument[50];
        for (int i = 0; i < inputs.length; i++)
            inputs[i] = cases().activation(2, 8);
        ExecutorService pool = Executors.newSingleThreadExecutor();
        try {
            Future<?> maker = pool.submit(() -> {
                for (Argument input : inputs)
                    try (Scope scope = backend().scope()) {
                        queue.put(scope.detach(backend().tensorOps().linear(input.tensor(), weight)));
                    }
                return null;
            });
            double[] w = Definitions.doubles(weight.toFloats());
            for (Argument input : inputs) {
                Tensor made = queue.poll(60, TimeUnit.SECONDS);
                if (made == null)
                    maker.get();
                try (Scope scope = backend().scope()) {
                    double[] y = Definitions.linear(input.values(), w, null, 2, 8, 8, Activation.NONE);
                    cases().check("add", backend().tensorOps().add(made, made), Definitions.add(y, y));
                }
                made.close();
            }
            maker.get();
        } finally {
            // a maker whose tensors nobody takes any more must not be waited for
            pool.shutdownNow();
        }
    }

    @Test
    default void memoryThatRanOutCanBeFreed() {
        Optional<Backend> small = small();
        Assumptions.assumeTrue(small.isPresent(), "no backend with little memory: override startSmall() to test one");
        try (Backend backend = small.get(); Scope scope = backend.scope()) {
            List<Tensor> held = new ArrayList<>();
            assertThatThrownBy(() -> {
                for (int i = 0; i < 64; i++)
                    held.add(backend.tensor(new float[4 << 20], 4 << 20));
            }).isInstanceOf(OutOfMemoryException.class);
            held.forEach(Tensor::close);
            Tensor again = backend.tensor(new float[]{1, 2}, 2);
            assertThat(backend.tensorOps().add(again, again).toFloats()).containsExactly(2, 4);
        }
    }

    @Test
    default void closedThingsAreRefused() {
        Tensor closed = cases().activation(2, 2).tensor();
        closed.close();
        Tensor open = cases().activation(2, 2).tensor();
        assertThatThrownBy(() -> backend().tensorOps().add(open, closed)).isInstanceOf(IllegalStateException.class);
        KvCache cache = backend().cache(new CacheSpec(1, 1, 2, 0));
        Packed row = Packed.ofLengths(1);
        Tensor one = cases().activation(1, 2).tensor();
        backend().attentionOps().append(List.of(cache), 0, one, one, row);
        cache.close();
        try (KvCache beside = backend().cache(new CacheSpec(1, 1, 2, 0))) {
            assertThatThrownBy(() -> backend().attentionOps().append(List.of(beside, cache), 0, open, open,
                    Packed.ofLengths(1, 1))).isInstanceOf(IllegalStateException.class);
            assertThat(beside.length(0)).isZero();
        }
        cache.close();
        assertThat(cache.bytes()).isZero();
        assertThatThrownBy(() -> cache.truncate(0)).isInstanceOf(IllegalStateException.class);
        assertThatThrownBy(() -> backend().attentionOps().append(List.of(cache), 0, one, one, row))
                .isInstanceOf(IllegalStateException.class);
        assertThatThrownBy(() -> backend().attentionOps().attend(one, List.of(cache), 0, row,
                new Attention(1, 1, 2, true, 0))).isInstanceOf(IllegalStateException.class);
        Backend other = another();
        other.close();
        assertThatThrownBy(() -> {
            try (Scope scope = other.scope()) {
                other.tensor(new float[1], 1);
            }
        }).isInstanceOf(IllegalStateException.class);
    }

    /** Declared, and no excuse for anything: products of bfloat16 activations are well within. */
    @Test
    default void precisionIsThatOfSomeArithmetic() {
        assertThat(backend().precision()).isBetween(1e-9, 0.05);
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
                    backend().attentionOps().append(List.of(cache), 0, x, x, new Packed(0, 1));
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

    /** None may be refused because another is under way, or take its numbers; threads have arguments of their own. */
    @Test
    default void operationsRunOnSeveralThreadsAtOnce() throws Exception {
        int threads = 4;
        List<List<float[]>> alone = new ArrayList<>();
        for (int i = 0; i < threads; i++)
            alone.add(results(i));
        try (ExecutorService pool = Executors.newFixedThreadPool(threads)) {
            List<Future<List<List<float[]>>>> running = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                int variant = i;
                running.add(pool.submit(() -> {
                    List<List<float[]>> repeats = new ArrayList<>();
                    for (int repeat = 0; repeat < 5; repeat++)
                        repeats.add(results(variant));
                    return repeats;
                }));
            }
            for (int i = 0; i < threads; i++)
                for (List<float[]> together : running.get(i).get())
                    for (int call = 0; call < together.size(); call++)
                        cases().check(Call.all().get(call).name(), backend().tensor(together.get(call),
                                together.get(call).length), Definitions.doubles(alone.get(i).get(call)));
        }
    }

    /** Who is interrupted may still wait for other threads, which work on memory that is freed afterwards. */
    @Test
    default void interruptedThreadsComputeAllTheSame() {
        List<float[]> expected = results(0);
        for (int repeat = 0; repeat < 20; repeat++) {
            Thread.currentThread().interrupt();
            List<float[]> results;
            try {
                results = results(0);
                assertThat(Thread.currentThread().isInterrupted()).as("still interrupted").isTrue();
            } finally {
                Thread.interrupted();
            }
            for (int call = 0; call < results.size(); call++)
                cases().check(Call.all().get(call).name(),
                        backend().tensor(results.get(call), results.get(call).length),
                        Definitions.doubles(expected.get(call)));
        }
    }

    /** What each operation makes of the arguments of this variant; nothing for one that makes no tensor. */
    private List<float[]> results(int variant) {
        List<float[]> results = new ArrayList<>();
        for (Call call : Call.all())
            try (Scope scope = backend().scope()) {
                Tensor[] arguments = call.arguments(backend(), variant);
                Tensor result = call.run(backend(), arguments);
                results.add(result == null ? new float[0] : result.toFloats());
                for (Tensor argument : arguments)
                    argument.close();
            }
        return results;
    }

    /** Memory for tasks that happen to run side by side may come on top; what a call leaves would be there 200 times. */
    @Test
    default void operationsHoldNothingAfterwards() {
        try (Backend backend = another()) {
            for (Call call : Call.all()) {
                for (int i = 0; i < 20; i++)
                    inAScope(backend, call);
                long before = backend.allocatedBytes();
                for (int i = 0; i < 200; i++)
                    inAScope(backend, call);
                assertThat(backend.allocatedBytes()).as("bytes after 200 calls of " + call.name())
                        .isLessThanOrEqualTo(before + (1 << 14));
            }
        }
    }

    /** Weights, detached tensors and caches outlive the scope that they were made in, and closing one frees it. */
    @Test
    default void closingFreesWhatNoScopeOwns() {
        try (Backend backend = another()) {
            long before = 0;
            for (int i = 0; i < 50; i++) {
                Tensor weight;
                Tensor detached;
                KvCache cache = backend.cache(new CacheSpec(1, 1, 64, 0));
                try (Scope scope = backend.scope()) {
                    float[] values = new float[64 * 64];
                    weight = backend.weight(HostTensor.of("w", values, 64, 64), WeightRole.MATRIX);
                    detached = scope.detach(backend.tensor(values, 64, 64));
                    backend.attentionOps().append(List.of(cache), 0, detached, detached, new Packed(0, 64));
                }
                assertThat(weight.toFloats()).isEqualTo(detached.toFloats());
                assertThat(cache.length(0)).isEqualTo(64);
                weight.close();
                detached.close();
                cache.close();
                if (i == 5)
                    before = backend.allocatedBytes();
            }
            assertThat(backend.allocatedBytes()).isLessThanOrEqualTo(before + (1 << 14));
        }
    }

    private static void inAScope(Backend backend, Call call) {
        try (Scope scope = backend.scope()) {
            Tensor[] arguments = call.arguments(backend);
            call.run(backend, arguments);
            for (Tensor argument : arguments)
                argument.close();
        }
    }

    private static void onAnotherThread(Runnable work) throws Exception {
        try (ExecutorService thread = Executors.newSingleThreadExecutor()) {
            thread.submit(work).get();
        }
    }
}
