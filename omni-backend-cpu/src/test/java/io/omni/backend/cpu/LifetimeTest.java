package io.omni.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.OutOfMemoryException;
import io.omni.api.Packed;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

/** Who owns what, what happens afterwards, and that nothing leaks. */
class LifetimeTest extends CpuTest {
    /** As the blocks of a long conversation's cache, which another's may not fit into. */
    @Test
    void memoryThatNobodyUsesIsBounded() {
        long before = backend.allocatedBytes();
        try (Scope _ = backend.scope()) {
            for (int i = 0; i < 2000; i++)
                backend.tensor(new float[1 << 16], 1 << 16);
            assertThat(backend.allocatedBytes()).isGreaterThan(before + (400L << 20));
        }
        assertThat(backend.allocatedBytes()).isLessThanOrEqualTo(before + (256L << 20));
    }

    @Test
    void scopesOwnTensors() {
        Tensor kept;
        Tensor detached;
        Tensor lost;
        try (Scope inner = backend.scope()) {
            lost = activation(3, 4);
            kept = inner.keep(activation(3, 4));
            detached = inner.detach(activation(3, 4));
            assertThat(inner.keep(kept)).isSameAs(kept);
            assertThatIllegalStateException().isThrownBy(scope::close);
        }
        assertThatIllegalStateException().isThrownBy(lost::toFloats).withMessageContaining("closed");
        assertThatIllegalStateException()
                .isThrownBy(() -> backend.tensorOps().activation(lost, Activation.SILU));
        assertThat(kept.toFloats()).hasSize(12);
        scope.close();
        scope.close();
        assertThatIllegalStateException().isThrownBy(kept::toFloats);
        assertThat(detached.toFloats()).hasSize(12);
        detached.close();
        detached.close();
        assertThatIllegalStateException().isThrownBy(() -> activation(1)).withMessageContaining("scope");
        scope = backend.scope();
    }

    @Test
    void views() {
        Tensor x = activation(6, 5);
        float[] values = x.toFloats();
        Tensor rows = backend.tensorOps().slice(x, 2, 4);
        Tensor flat = backend.tensorOps().reshape(rows, 10);
        x.close();
        rows.close();
        activation(6, 5);
        assertThat(flat.toFloats()).isEqualTo(Arrays.copyOfRange(values, 10, 20));
    }

    @Test
    void scopesStayOnTheirThread() throws InterruptedException {
        Throwable[] thrown = new Throwable[1];
        Thread thread = Thread.ofPlatform().start(() -> {
            try {
                scope.close();
            } catch (IllegalStateException e) {
                thrown[0] = e;
            }
        });
        thread.join();
        assertThat(thrown[0]).hasMessageContaining("thread");
    }

    @Test
    void closedBackend() {
        CpuBackend other = start(3);
        Scope inner = other.scope();
        Tensor x = other.tensor(new float[4], 2, 2);
        KvCache cache = other.cache(new CacheSpec(1, 1, 4, 0));
        other.close();
        other.close();
        assertThat(other.allocatedBytes()).isZero();
        assertThatIllegalStateException().isThrownBy(x::toFloats);
        assertThatIllegalStateException().isThrownBy(() -> other.tensorOps().add(x, x));
        assertThatIllegalStateException().isThrownBy(() -> other.tensor(new float[1], 1));
        assertThatIllegalStateException().isThrownBy(other::scope);
        assertThatIllegalStateException().isThrownBy(() -> cache.truncate(0));
        inner.close();
        cache.close();
        x.close();
    }

    @Test
    void closedWeight() {
        Tensor w = weight(WeightRole.MATRIX, 4, 4);
        Tensor x = activation(1, 4);
        w.close();
        assertThatIllegalStateException().isThrownBy(() -> backend.tensorOps().linear(x, w));
    }

    @Test
    void closedCache() {
        KvCache cache = backend.cache(new CacheSpec(1, 1, 4, 0));
        Tensor x = activation(1, 4);
        cache.close();
        cache.close();
        assertThatIllegalStateException()
                .isThrownBy(() -> backend.attentionOps().append(List.of(cache), 0, x, x, Packed.ofLengths(1)));
        assertThat(cache.bytes()).isZero();
    }

    @Test
    void foreignTensors() {
        try (CpuBackend other = start(1); Scope inner = other.scope()) {
            Tensor x = inner.keep(other.tensor(new float[4], 2, 2));
            Tensor mine = activation(2, 2);
            assertThatIllegalArgumentException().isThrownBy(() -> backend.tensorOps().add(x, x));
            assertThatIllegalArgumentException().isThrownBy(() -> backend.tensorOps().add(mine, x));
            KvCache cache = other.cache(new CacheSpec(1, 1, 2, 0));
            assertThatIllegalArgumentException().isThrownBy(
                    () -> backend.attentionOps().append(List.of(cache), 0, mine, mine, Packed.ofLengths(2)));
        }
    }

    @Test
    void arguments() {
        Tensor x = activation(2, 5);
        assertThatIllegalArgumentException().isThrownBy(() -> backend.tensor(new float[5], 2, 3));
        assertThatIllegalArgumentException().isThrownBy(() -> backend.tensor(new float[6], -2, -3));
        assertThatIllegalArgumentException()
                .isThrownBy(() -> backend.tensorOps().linear(x, weight(WeightRole.MATRIX, 3, 4)));
        assertThatIllegalArgumentException()
                .isThrownBy(() -> backend.tensorOps().gather(x, backend.tensor(new int[]{2}, 1)));
        assertThatIllegalArgumentException()
                .isThrownBy(() -> backend.tensorOps().gather(x, backend.tensor(new int[]{-1}, 1)));
        assertThatIllegalArgumentException().isThrownBy(
                () -> backend.weight(new HostTensor("ids", DType.I32, new int[]{1, 1}, host(DType.F32, 1, 1).data()),
                        WeightRole.MATRIX));
        assertThatIllegalArgumentException()
                .isThrownBy(() -> backend.weight(host(DType.F32, 4), WeightRole.MATRIX));
        assertThatThrownBy(() -> Backends.load("cpu", new BackendOptions(1, Map.of("vectorBits", "77"))))
                .isInstanceOf(BackendException.class).hasMessageContaining("77");
    }

    @Test
    void noRoom() {
        long before = backend.allocatedBytes();
        assertThatThrownBy(() -> backend.memory.take(1L << 50)).isInstanceOf(OutOfMemoryException.class);
        assertThat(backend.allocatedBytes()).isEqualTo(before);
        assertThat(activation(3).toFloats()).hasSize(3);
    }

    @Test
    void weightsKeepTheirTypeAndOrder() {
        for (WeightRole role : WeightRole.values())
            for (DType dtype : TYPES) {
                int[] shape = switch (role) {
                    case VECTOR -> new int[]{7};
                    case MATRIX, EMBEDDING -> new int[]{7, 5};
                    case CONV1D, CONV_TRANSPOSE1D -> new int[]{7, 5, 3};
                    case CONV2D -> new int[]{7, 5, 3, 2};
                    case CONV3D -> new int[]{7, 5, 3, 2, 2};
                };
                HostTensor host = host(dtype, shape);
                try (Tensor w = backend.weight(host, role)) {
                    assertThat(w.toFloats()).isEqualTo(host.toFloats());
                    assertThat(w.dtype()).isEqualTo(role == WeightRole.VECTOR ? DType.F32 : dtype);
                }
            }
    }

    @Test
    void cacheGrowsTruncatesAndSlides() {
        Attention a = new Attention(2, 1, 8, true, 0);
        Tensor k = activation(300, 8);
        Tensor v = activation(300, 8);
        Tensor q = activation(1, 16);
        long before = backend.allocatedBytes();
        try (KvCache cache = backend.cache(new CacheSpec(2, 1, 8, 0))) {
            for (int layer = 0; layer < 2; layer++)
                backend.attentionOps().append(List.of(cache), layer, k, v, Packed.ofLengths(300));
            float[] full = backend.attentionOps().attend(q, List.of(cache), 1, Packed.ofLengths(1), a).toFloats();
            assertThatIllegalArgumentException().isThrownBy(() -> cache.truncate(301));
            assertThatIllegalArgumentException().isThrownBy(() -> cache.truncate(-1));
            long bytes = cache.bytes();
            for (int length : new int[]{299, 256, 130, 64, 0}) {
                cache.truncate(length);
                assertThat(cache.length(0)).isEqualTo(length);
                Packed rest = Packed.ofLengths(300 - length);
                for (int layer = 0; layer < 2; layer++)
                    backend.attentionOps().append(List.of(cache), layer, backend.tensorOps().slice(k, length, 300),
                            backend.tensorOps().slice(v, length, 300), rest);
                assertThat(backend.attentionOps().attend(q, List.of(cache), 1, Packed.ofLengths(1), a).toFloats())
                        .isEqualTo(full);
                assertThat(cache.bytes()).isEqualTo(bytes);
            }
        }
        try (KvCache cache = backend.cache(new CacheSpec(1, 1, 8, 100))) {
            for (int i = 0; i < 300; i++) {
                backend.attentionOps().append(List.of(cache), 0, backend.tensorOps().slice(k, i, i + 1),
                        backend.tensorOps().slice(v, i, i + 1), Packed.ofLengths(1));
                // 100 tokens touch at most three blocks of 64
                assertThat(cache.bytes()).isLessThanOrEqualTo(3 * 4 * 64 * (8 + Math.max(8, Lanes.LANES)));
            }
            cache.truncate(300);
            cache.truncate(299);
            assertThatIllegalArgumentException().isThrownBy(() -> cache.truncate(120));
            Tensor many = activation(250, 16);
            assertThatIllegalArgumentException().isThrownBy(() -> backend.attentionOps().attend(many, List.of(cache), 0,
                    Packed.ofLengths(250), new Attention(2, 1, 8, true, 100)));
        }
        assertThat(backend.allocatedBytes()).isLessThan(before + (1 << 20));
    }

    @Test
    void nothingLeaks() {
        Tensor w = weight(DType.BF16, WeightRole.MATRIX, 64, 64);
        Attention a = new Attention(4, 2, 16, true, 0);
        float[] values = floats(64);
        long after = 0;
        for (int i = 0; i < 3000; i++) {
            try (Scope step = backend.scope(); KvCache cache = backend.cache(new CacheSpec(1, 2, 16, 0))) {
                Tensor x = backend.tensor(values, 1, 64);
                Tensor y = backend.tensorOps().linear(x, w);
                Tensor kv = backend.tensorOps().reshape(backend.tensorOps().slice(backend.tensorOps().reshape(y, 2, 32),
                        0, 1), 1, 32);
                backend.attentionOps().append(List.of(cache), 0, kv, kv, Packed.ofLengths(1));
                step.detach(backend.attentionOps().attend(y, List.of(cache), 0, Packed.ofLengths(1), a)).close();
                backend.tensorOps().gatedMlp(y, w, w, w).close();
            }
            if (i == 100)
                after = backend.allocatedBytes();
        }
        // 2899 leaks of the smallest block would be ten times as much; how many workers hold scratch memory at once varies
        assertThat(backend.allocatedBytes()).isLessThan(after + (16 << 10));
    }

    @Test
    void largeBlocksAreNotKept() {
        for (int i = 0; i < 5; i++)
            try (Scope _ = backend.scope()) {
                for (int j = 0; j < 6; j++)
                    backend.tensorOps().embedding(weight(DType.BF16, WeightRole.EMBEDDING, 1, 1 << 14),
                            backend.tensor(new int[1 << 9], 1 << 9));
            }
        assertThat(backend.allocatedBytes()).isLessThan(200L << 20);
    }

    @Test
    void callersDoNotDisturbEachOther() throws Exception {
        Tensor w = weight(DType.BF16, WeightRole.MATRIX, 300, 300);
        float[] x = floats(300);
        float[] expected = backend.tensorOps().linear(backend.tensor(x, 1, 300), w).toFloats();
        try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
            List<Callable<Boolean>> work = new ArrayList<>();
            for (int i = 0; i < 4; i++)
                work.add(() -> {
                    for (int j = 0; j < 300; j++)
                        try (Scope _ = backend.scope()) {
                            Tensor y = backend.tensorOps().linear(backend.tensor(x, 1, 300), w);
                            if (!Arrays.equals(y.toFloats(), expected))
                                return false;
                        }
                    return true;
                });
            for (Future<Boolean> result : threads.invokeAll(work))
                assertThat(result.get()).isTrue();
        }
    }

    @Test
    void failuresReachTheCaller() {
        assertThatThrownBy(() -> backend.workers.run(50, i -> {
            if (i == 37)
                throw new IllegalArgumentException("37");
        })).hasMessage("37");
        int[] done = new int[50];
        backend.workers.run(50, i -> done[i]++);
        assertThat(done).containsOnly(1);
    }
}
