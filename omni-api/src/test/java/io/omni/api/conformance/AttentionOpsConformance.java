package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.conformance.Cases.Argument;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** {@link AttentionOps} and {@link KvCache}. */
public interface AttentionOpsConformance extends Subject {
    @Test
    default void rotaryTable() {
        for (Rope rope : new Rope[]{Rope.standard(32, 1e4), Rope.multimodal(24, 1e6, 4, 4, 4), Rope.axial(16, 1e4)}) {
            float[] positions = new float[3 * 5];
            for (int i = 0; i < positions.length; i++)
                positions[i] = i * 377.5f;
            cases().check("rotaryTable",
                    backend().attentionOps().rotaryTable(backend().tensor(positions, 3, 5), rope),
                    Definitions.rotaryTable(positions, 5, rope), 5, 2, rope.pairs());
        }
        assertThat(backend().attentionOps().rotaryTable(backend().tensor(new float[0], 3, 0), Rope.axial(16, 1e4))
                .shape()).containsExactly(0, 2, Rope.axial(16, 1e4).pairs());
        assertThatThrownBy(() -> backend().attentionOps().rotaryTable(backend().tensor(new float[5], 1, 5),
                Rope.axial(16, 1e4))).isInstanceOf(IllegalArgumentException.class);
    }

    /** Long contexts, and positions before the first, as far as float32 angles tell them apart. */
    @Test
    default void rotaryTableFarFromZero() {
        Rope rope = Rope.standard(64, 1e6);
        float[] positions = {-1, -300, 1, 32_767, 32_768, 65_537, 131_071, 1e6f};
        cases().check("rotaryTable", backend().attentionOps().rotaryTable(backend().tensor(positions, 1, 8), rope),
                Definitions.rotaryTable(positions, 8, rope), 8, 2, rope.pairs());
    }

    @Test
    default void rotary() {
        for (int[] size : new int[][]{{0, 2, 8}, {1, 1, 1}, {3, 4, 16}, {7, 3, 18}, {2, 2, 64}}) {
            int pairs = size[2];
            Argument x = cases().activation(size[0], size[1] * 2 * pairs);
            Argument table = cases().activation(size[0], 2, pairs);
            Argument norm = cases().vector(2 * pairs);
            cases().check("rotary", backend().attentionOps().rotary(x.tensor(), null, 0, table.tensor()),
                    Definitions.rotary(x.values(), table.values(), size[0], pairs), x.tensor().shape());
            cases().check("rotary", backend().attentionOps().rotary(x.tensor(), norm.tensor(), 0.1f, table.tensor()),
                    Definitions.rotary(Definitions.rmsNorm(x.values(), norm.values(), 0.1f), table.values(), size[0],
                            pairs),
                    x.tensor().shape());
        }
    }

    @Test
    default void attend() {
        int[][] lengths = {{1}, {5, 0, 3}, {130, 1}, {64, 65}, {}};
        for (int[] length : lengths)
            for (Attention a : new Attention[]{new Attention(1, 1, 8, false, 0), new Attention(4, 2, 12, true, 0),
                    new Attention(6, 1, 33, 0.3f, true, 1), new Attention(2, 2, 16, true, 7),
                    new Attention(3, 3, 72, true, 64)}) {
                        Packed packed = Packed.ofLengths(length);
                        Argument q = cases().activation(packed.tokens(), a.heads() * a.headDim());
                        Argument k = cases().activation(packed.tokens(), a.kvHeads() * a.headDim());
                        Argument v = cases().activation(packed.tokens(), a.kvHeads() * a.headDim());
                        cases().check("attend",
                                backend().attentionOps().attend(q.tensor(), k.tensor(), v.tensor(), packed, a),
                                Definitions.attend(q.values(), k.values(), v.values(), packed, packed, a),
                                q.tensor().shape());
                    }
    }

    /** Appending to some sequences and one layer leaves the others as they were, and a refused append changes nothing. */
    @Test
    default void append() {
        AttentionOps ops = backend().attentionOps();
        Attention a = new Attention(1, 1, 8, false, 0);
        try (KvCache first = backend().cache(new CacheSpec(2, 1, 8, 0));
                KvCache second = backend().cache(new CacheSpec(2, 1, 8, 0))) {
            Argument k = cases().activation(3, 8);
            Argument v = cases().activation(3, 8);
            ops.append(List.of(first, second), 0, k.tensor(), v.tensor(), new Packed(0, 3, 3));
            for (List<KvCache> caches : List.of(List.of(first), List.of(first, first), List.<KvCache>of()))
                assertThatThrownBy(() -> ops.append(caches, 0, k.tensor(), v.tensor(), new Packed(0, 1, 3)))
                        .isInstanceOf(IllegalArgumentException.class);
            for (int layer : new int[]{-1, 2})
                assertThatThrownBy(() -> ops.append(List.of(first), layer, k.tensor(), v.tensor(), new Packed(0, 3)))
                        .isInstanceOf(IllegalArgumentException.class);
            Tensor narrow = cases().activation(3, 7).tensor();
            assertThatThrownBy(() -> ops.append(List.of(first), 0, k.tensor(), narrow, new Packed(0, 3)))
                    .isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> ops.append(List.of(first), 0, k.tensor(), v.tensor(), new Packed(0, 2)))
                    .isInstanceOf(IllegalArgumentException.class);
            assertThat(new int[]{first.length(0), first.length(1), second.length(0), second.length(1)})
                    .containsExactly(3, 0, 0, 0);
            Argument q = cases().activation(2, 8);
            cases().check("append", ops.attend(q.tensor(), List.of(first), 0, new Packed(0, 2), a),
                    Definitions.attend(q.values(), k.values(), v.values(), new Packed(0, 2), new Packed(0, 3), a), 2,
                    8);
            // layers of different lengths have no common length beyond the shortest
            assertThatThrownBy(() -> first.truncate(1)).isInstanceOf(IllegalArgumentException.class);
            first.truncate(0);
            assertThat(first.length(0)).isZero();
        }
    }

    @Test
    default void attendCachedRefusesWhatDoesNotGoWithTheCache() {
        AttentionOps ops = backend().attentionOps();
        try (KvCache cache = backend().cache(new CacheSpec(1, 2, 8, 4))) {
            Tensor kv = cases().activation(2, 16).tensor();
            ops.append(List.of(cache), 0, kv, kv, new Packed(0, 2));
            Tensor three = cases().activation(3, 16).tensor();
            Attention fits = new Attention(2, 2, 8, true, 4);
            assertThatThrownBy(() -> ops.attend(three, List.of(cache), 0, new Packed(0, 3), fits))
                    .isInstanceOf(IllegalArgumentException.class);
            for (Attention wrong : new Attention[]{new Attention(1, 1, 16, true, 4), new Attention(4, 1, 4, true, 4),
                    new Attention(2, 2, 8, true, 0), new Attention(2, 2, 8, true, 5)})
                assertThatThrownBy(() -> ops.attend(kv, List.of(cache), 0, new Packed(0, 2), wrong)).as("%s", wrong)
                        .isInstanceOf(IllegalArgumentException.class);
            for (int layer : new int[]{-1, 1})
                assertThatThrownBy(() -> ops.attend(kv, List.of(cache), layer, new Packed(0, 2), fits))
                        .isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> ops.attend(kv, List.of(), 0, new Packed(0, 2), fits))
                    .isInstanceOf(IllegalArgumentException.class);
        }
    }

    /** Queries that see all keys, their later ones too, with a scale of their own. */
    @Test
    default void attendCachedWithoutOrder() {
        Attention a = new Attention(6, 2, 16, 0.7f, false, 0);
        try (KvCache first = backend().cache(new CacheSpec(2, 2, 16, 0));
                KvCache second = backend().cache(new CacheSpec(2, 2, 16, 0))) {
            List<Sequence> sequences = List.of(new Sequence(first), new Sequence(second));
            for (int[] steps : new int[][]{{63, 2}, {2, 0}, {5, 70}})
                step(sequences, steps, a);
        }
    }

    /** Several sequences grow over block limits by uneven steps; every query must see just what it should. */
    @Test
    default void attendCached() {
        for (int window : new int[]{0, 1, 5, 64, 100}) {
            Attention a = new Attention(4, 2, 16, true, window);
            List<Sequence> sequences = new ArrayList<>();
            try {
                for (int i = 0; i < 3; i++)
                    sequences.add(new Sequence(backend().cache(new CacheSpec(2, 2, 16, window))));
                for (int[] steps : new int[][]{{3, 0, 130}, {60, 1, 1}, {1, 127, 0}, {1, 1, 1}, {70, 5, 128},
                        {1, 1, 1}})
                    step(sequences, steps, a);
                for (Sequence sequence : sequences) {
                    assertThat(sequence.cache.length(1)).isEqualTo(sequence.length(32));
                    assertThat(sequence.cache.bytes()).isPositive();
                }
            } finally {
                sequences.forEach(s -> s.cache.close());
            }
        }
    }

    /** Keys and values in eight bits, over block limits and from short appends, against the definition of their rounding. */
    @Test
    default void attendCachedInEightBits() {
        assumeTrue(backend().cacheTypes().contains(DType.I8), "no caches in eight bits");
        AttentionOps ops = backend().attentionOps();
        for (Attention a : new Attention[]{new Attention(4, 2, 16, true, 0), new Attention(2, 1, 33, true, 40)}) {
            int width = a.kvHeads() * a.headDim();
            float[] keys = {};
            float[] values = {};
            CacheSpec spec = new CacheSpec(2, a.kvHeads(), a.headDim(), a.window(), DType.I8);
            try (KvCache cache = backend().cache(spec)) {
                for (int n : new int[]{3, 60, 1, 1, 130, 1}) {
                    // a head of zeros has no largest number to divide by
                    float[] some = cases().normal(n, width);
                    Arrays.fill(some, 0, a.headDim(), 0);
                    Argument k = cases().activation(some, n, width);
                    Argument v = cases().activation(n, width);
                    keys = joined(keys, Definitions.eightBits(k.tensor().toFloats(), a.headDim()));
                    values = joined(values, Definitions.eightBits(v.tensor().toFloats(), a.headDim()));
                    ops.append(List.of(cache), 1, k.tensor(), v.tensor(), new Packed(0, n));
                    Argument q = cases().activation(n, a.heads() * a.headDim());
                    cases().check("attendCached",
                            ops.attend(q.tensor(), List.of(cache), 1, new Packed(0, n), a),
                            Definitions.attend(q.values(), Definitions.doubles(keys), Definitions.doubles(values),
                                    new Packed(0, n), new Packed(0, keys.length / width), a),
                            q.tensor().shape());
                }
            }
        }
        assertThatThrownBy(() -> new CacheSpec(1, 1, 8, 0, DType.Q8)).isInstanceOf(IllegalArgumentException.class);
    }

    /** Several sequences, and a prefix of them that goes on. */
    @Test
    default void truncateInEightBits() {
        assumeTrue(backend().cacheTypes().contains(DType.I8), "no caches in eight bits");
        AttentionOps ops = backend().attentionOps();
        Attention a = new Attention(2, 1, 32, true, 0);
        CacheSpec spec = new CacheSpec(1, 1, 32, 0, DType.I8);
        try (KvCache first = backend().cache(spec); KvCache second = backend().cache(spec)) {
            List<KvCache> caches = List.of(first, second);
            Argument kv = cases().activation(70 + 9, 32);
            ops.append(caches, 0, kv.tensor(), kv.tensor(), new Packed(0, 70, 79));
            first.truncate(65);
            second.truncate(3);
            Argument more = cases().activation(2, 32);
            ops.append(caches, 0, more.tensor(), more.tensor(), new Packed(0, 1, 2));
            float[] all = Definitions.eightBits(Definitions.round(kv.values()), 32);
            float[] last = Definitions.eightBits(Definitions.round(more.values()), 32);
            double[] keys = Definitions.doubles(joined(joined(Arrays.copyOf(all, 65 * 32), Arrays.copyOf(last, 32)),
                    joined(Arrays.copyOfRange(all, 70 * 32, 73 * 32), Arrays.copyOfRange(last, 32, 64))));
            Argument q = cases().activation(2, 64);
            cases().check("truncate", ops.attend(q.tensor(), caches, 0, new Packed(0, 1, 2), a),
                    Definitions.attend(q.values(), keys, keys, new Packed(0, 1, 2), new Packed(0, 66, 70), a), 2, 64);
        }
    }

    /** A cache keeps keys and values, not the tensors that they came in. */
    @Test
    default void appendCopies() {
        AttentionOps ops = backend().attentionOps();
        Attention a = new Attention(1, 1, 8, false, 0);
        try (KvCache cache = backend().cache(new CacheSpec(1, 1, 8, 0))) {
            Argument k = cases().activation(3, 8);
            Argument v = cases().activation(3, 8);
            ops.append(List.of(cache), 0, k.tensor(), v.tensor(), new Packed(0, 3));
            k.tensor().close();
            v.tensor().close();
            for (int i = 0; i < 20; i++)
                cases().activation(3, 8).tensor().toFloats();
            Argument q = cases().activation(2, 8);
            cases().check("append", ops.attend(q.tensor(), List.of(cache), 0, new Packed(0, 2), a),
                    Definitions.attend(q.values(), k.values(), v.values(), new Packed(0, 2), new Packed(0, 3), a), 2,
                    8);
        }
    }

    /** A half goes to the even number, and what is nearer to another is not cut off. */
    @Test
    default void attendCachedInEightBitsRounds() {
        assumeTrue(backend().cacheTypes().contains(DType.I8), "no caches in eight bits");
        AttentionOps ops = backend().attentionOps();
        float[] values = new float[32];
        for (int i = 1; i < values.length; i++)
            values[i] = (i % 2 == 0 ? 0.5f : 0.9f) * (i % 4 < 2 ? 1 : -1) + i / 8;
        values[0] = 127;
        float[] butTheFirst = new float[32];
        Arrays.fill(butTheFirst, 1, 32, 1);
        try (KvCache cache = backend().cache(new CacheSpec(1, 1, 32, 0, DType.I8))) {
            Argument v = cases().activation(values, 1, 32);
            ops.append(List.of(cache), 0, v.tensor(), v.tensor(), new Packed(0, 1));
            // of one key, attention gives the value, and without its largest number precision counts for the others
            Tensor kept = backend().tensorOps().multiply(ops.attend(cases().activation(1, 32).tensor(), List.of(cache),
                    0, new Packed(0, 1), new Attention(1, 1, 32, true, 0)), backend().tensor(butTheFirst, 32));
            double[] expected = Definitions.doubles(Definitions.eightBits(values, 32));
            expected[0] = 0;
            cases().check("attendCached", kept, expected, 1, 32);
        }
    }

    /** Caches do not mix, as tensors do not. */
    @Test
    default void attendCachedRefusesACacheOfAnotherBackend() {
        AttentionOps ops = backend().attentionOps();
        Tensor x = cases().activation(1, 8).tensor();
        Packed one = new Packed(0, 1);
        try (Backend other = another();
                Scope scope = other.scope();
                KvCache cache = other.cache(new CacheSpec(1, 1, 8, 0))) {
            assertThatThrownBy(() -> ops.append(List.of(cache), 0, x, x, one))
                    .isInstanceOf(IllegalArgumentException.class);
            assertThat(cache.length(0)).isZero();
            Tensor foreign = other.tensor(new float[8], 1, 8);
            other.attentionOps().append(List.of(cache), 0, foreign, foreign, one);
            assertThatThrownBy(() -> ops.attend(x, List.of(cache), 0, one, new Attention(1, 1, 8, true, 0)))
                    .isInstanceOf(IllegalArgumentException.class);
        }
    }

    private static float[] joined(float[] a, float[] b) {
        float[] all = Arrays.copyOf(a, a.length + b.length);
        System.arraycopy(b, 0, all, a.length, b.length);
        return all;
    }

    @Test
    default void truncate() {
        Attention a = new Attention(2, 1, 16, true, 0);
        try (KvCache cache = backend().cache(new CacheSpec(2, 1, 16, 0))) {
            Sequence sequence = new Sequence(cache);
            for (int[] lengths : new int[][]{{150, 64}, {3, 65}, {128, 10}, {5, 0}, {70, 70}}) {
                step(List.of(sequence), new int[]{lengths[0]}, a);
                cache.truncate(lengths[1]);
                sequence.truncate(lengths[1] * 16);
                assertThat(cache.length(0)).isEqualTo(lengths[1]);
                step(List.of(sequence), new int[]{1}, a);
            }
            assertThatThrownBy(() -> cache.truncate(cache.length(0) + 1)).isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> cache.truncate(-1)).isInstanceOf(IllegalArgumentException.class);
            Argument twice = cases().activation(2, 16);
            assertThatThrownBy(() -> backend().attentionOps().append(List.of(cache, cache), 0, twice.tensor(),
                    twice.tensor(), new Packed(0, 1, 2))).isInstanceOf(IllegalArgumentException.class);
        }
    }

    /** With a window, a prefix is either refused, as its keys are gone, and nothing changes; or it is right. */
    @Test
    default void truncateOfAWindow() {
        Attention a = new Attention(2, 1, 8, true, 5);
        for (int length : new int[]{300, 299, 256, 255, 64, 3, 0})
            truncate(a, List.of(100, 100, 100), length);
        for (int length = 0; length <= 140; length++)
            truncate(a, List.of(9, 131), length);
    }

    private void truncate(Attention a, List<Integer> steps, int length) {
        int all = steps.stream().mapToInt(n -> n).sum();
        try (KvCache cache = backend().cache(new CacheSpec(2, 1, 8, a.window()))) {
            Sequence sequence = new Sequence(cache);
            for (int n : steps)
                step(List.of(sequence), new int[]{n}, a);
            boolean refused = false;
            try {
                cache.truncate(length);
                sequence.truncate(length * 8);
            } catch (IllegalArgumentException e) {
                refused = true;
            }
            assertThat(refused && (length == all || length == 0)).as("refusing %d of %d", length, all).isFalse();
            assertThat(cache.length(0)).isEqualTo(refused ? all : length);
            step(List.of(sequence), new int[]{1}, a);
            step(List.of(sequence), new int[]{7}, a);
        }
    }

    /** A cache, and what was appended to each of its two layers. */
    final class Sequence {
        private final KvCache cache;
        private double[][] keys = new double[2][0];
        private double[][] values = new double[2][0];

        Sequence(KvCache cache) {
            this.cache = cache;
        }

        private int length(int width) {
            return keys[1].length / width;
        }

        private void truncate(int elements) {
            for (int layer = 0; layer < 2; layer++) {
                keys[layer] = Arrays.copyOf(keys[layer], elements);
                values[layer] = Arrays.copyOf(values[layer], elements);
            }
        }

        private static double[] join(double[] a, double[] b, int from, int to) {
            double[] joined = Arrays.copyOf(a, a.length + to - from);
            System.arraycopy(b, from, joined, a.length, to - from);
            return joined;
        }
    }

    private void step(List<Sequence> sequences, int[] lengths, Attention a) {
        Packed packed = Packed.ofLengths(lengths);
        int width = a.kvHeads() * a.headDim();
        List<KvCache> caches = sequences.stream().map(s -> s.cache).toList();
        for (int layer = 0; layer < 2; layer++) {
            Argument q = cases().activation(packed.tokens(), a.heads() * a.headDim());
            Argument k = cases().activation(packed.tokens(), width);
            Argument v = cases().activation(packed.tokens(), width);
            backend().attentionOps().append(caches, layer, k.tensor(), v.tensor(), packed);
            Tensor actual = backend().attentionOps().attend(q.tensor(), caches, layer, packed, a);
            double[] expected = new double[q.values().length];
            for (int i = 0; i < lengths.length; i++) {
                Sequence s = sequences.get(i);
                int from = packed.offsets()[i];
                int to = packed.offsets()[i + 1];
                s.keys[layer] = Sequence.join(s.keys[layer], k.values(), from * width, to * width);
                s.values[layer] = Sequence.join(s.values[layer], v.values(), from * width, to * width);
                int row = a.heads() * a.headDim();
                double[] part = Definitions.attend(Arrays.copyOfRange(q.values(), from * row, to * row), s.keys[layer],
                        s.values[layer], new Packed(0, lengths[i]), new Packed(0, s.keys[layer].length / width), a);
                System.arraycopy(part, 0, expected, from * row, part.length);
            }
            cases().check("attendCached", actual, expected, q.tensor().shape());
        }
    }
}
