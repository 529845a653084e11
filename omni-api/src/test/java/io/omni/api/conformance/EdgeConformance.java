package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.KvCache;
import io.omni.api.Packed;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Where operations are easily wrong though ordinary arguments go well; each test starts with its operation's name. */
public interface EdgeConformance extends Subject {
    @Test
    default void rmsNormOfNothingButZeros() {
        Argument w = cases().vector(5);
        cases().check("rmsNorm",
                backend().tensorOps().rmsNorm(backend().tensor(new float[10], 2, 5), w.tensor(), 1e-6f),
                new double[10], 2, 5);
    }

    /** Squares that sixteen bits do not hold. */
    @Test
    default void rmsNormOfLargeAndSmallNumbers() {
        for (float scale : new float[]{1000, 1e-3f}) {
            float[] values = cases().normal(3, 67);
            for (int i = 0; i < values.length; i++)
                values[i] *= scale;
            Argument x = cases().activation(values, 3, 67);
            Argument w = cases().vector(67);
            cases().check("rmsNorm", backend().tensorOps().rmsNorm(x.tensor(), w.tensor(), 1e-9f),
                    Definitions.rmsNorm(x.values(), w.values(), 1e-9f), 3, 67);
        }
    }

    /** Sines of whole numbers, which every type holds, far from zero. */
    @Test
    default void snakeBetaFarFromZero() {
        float[] values = new float[4 * 33];
        for (int i = 0; i < values.length; i++)
            values[i] = 3 * i - 200;
        snakeBeta(values, 0);
    }

    /** An exponent of e beside which 1e-9 counts. */
    @Test
    default void snakeBetaOfALowBeta() {
        float[] values = new float[4 * 33];
        for (int i = 0; i < values.length; i++)
            values[i] = Math.scalb(i % 17 - 8f, -10);
        snakeBeta(values, -21);
    }

    private void snakeBeta(float[] values, float beta) {
        Argument x = cases().activation(values, 4, 33);
        Argument a = cases().weight(WeightRole.VECTOR, DType.F32, new float[33], 33);
        float[] same = new float[33];
        Arrays.fill(same, beta);
        Argument b = cases().weight(WeightRole.VECTOR, DType.F32, same, 33);
        cases().check("snakeBeta", backend().tensorOps().snakeBeta(x.tensor(), a.tensor(), b.tensor()),
                Definitions.snakeBeta(x.values(), a.values(), b.values()), 4, 33);
    }

    /** The variance of equal numbers is zero, not what rounding leaves of a difference of squares. */
    @Test
    default void layerNormOfEqualNumbers() {
        float[] equal = new float[64];
        Arrays.fill(equal, 1024);
        Argument w = cases().vector(64);
        Argument b = cases().vector(64);
        cases().check("layerNorm",
                backend().tensorOps().layerNorm(backend().tensor(equal, 64), w.tensor(), b.tensor(), 1e-5f), b.values(),
                64);
    }

    /** An entry twice in a bag, bags of many, of one and of none, and no bags. */
    @Test
    default void embeddingBagOfOtherSizes() {
        Argument table = cases().weight(WeightRole.EMBEDDING, DType.BF16, 9, 13);
        for (int[] size : new int[][]{{3, 11}, {4, 1}, {3, 0}, {0, 4}}) {
            int[] ids = new int[size[0] * size[1]];
            for (int i = 0; i < ids.length; i++)
                ids[i] = i * i % 9;
            Argument weights = cases().activation(size);
            for (boolean weighted : new boolean[]{true, false})
                cases().check("embeddingBag",
                        backend().tensorOps().embeddingBag(table.tensor(), backend().tensor(ids, size),
                                weighted ? weights.tensor() : null),
                        ids.length == 0
                                ? new double[size[0] * 13]
                                : Definitions.embeddingBag(table.values(), 13, ids, size[1],
                                        weighted ? weights.values() : null),
                        size[0], 13);
        }
    }

    @Test
    default void concatOfManyParts() {
        TensorOps ops = backend().tensorOps();
        float[] values = cases().normal(9, 2, 5);
        List<Tensor> parts = new ArrayList<>();
        for (int i = 0; i < 9; i += 2) {
            int n = Math.min(2, 9 - i);
            parts.add(backend().tensor(Arrays.copyOfRange(values, 10 * i, 10 * (i + n)), n, 2, 5));
        }
        cases().check("concat", ops.concat(parts), Definitions.doubles(values), 9, 2, 5);
        Tensor ids = ops.concat(List.of(backend().tensor(new int[]{1, 2}, 1, 2),
                backend().tensor(new int[]{3, 4, 5, 6}, 2, 2), backend().tensor(new int[0], 0, 2),
                backend().tensor(new int[]{7, 8}, 1, 2)));
        assertThat(ids.shape()).containsExactly(4, 2);
        assertThat(ids.toInts()).containsExactly(1, 2, 3, 4, 5, 6, 7, 8);
    }

    @Test
    default void gatherAndScatterOfNoRows() {
        TensorOps ops = backend().tensorOps();
        Argument x = cases().activation(4, 3);
        Tensor none = cases().ids();
        Tensor noRows = backend().tensor(new float[0], 0, 3);
        cases().check("gather", ops.gather(x.tensor(), none), new double[0], 0, 3);
        cases().check("scatter", ops.scatter(x.tensor(), none, noRows), x.values(), 4, 3);
        cases().check("scatterAdd", ops.scatterAdd(x.tensor(), none, noRows), x.values(), 4, 3);
    }

    @Test
    default void clampAtTheInfinities() {
        float[] x = {Float.NEGATIVE_INFINITY, Float.POSITIVE_INFINITY, -3, 3, Float.NaN};
        cases().check("clamp", backend().tensorOps().clamp(backend().tensor(x, 5), -2, 2),
                new double[]{-2, 2, -2, 2, Double.NaN}, 5);
    }

    /** What came of a tensor stays when the tensor itself is closed, though it may share its memory. */
    @Test
    default void reshapeOutlivesWhatItCameFrom() {
        TensorOps ops = backend().tensorOps();
        Argument x = cases().activation(4, 6);
        Tensor seen = ops.reshape(x.tensor(), 6, 4);
        Tensor part = ops.slice(seen, 1, 3);
        Tensor alone = ops.concat(List.of(part));
        Tensor same = ops.permute(seen, 0, 1);
        x.tensor().close();
        seen.close();
        part.close();
        // something else where x was, and what it shared memory with
        for (int i = 0; i < 20; i++)
            cases().activation(1 + i % 6, 6).tensor().toFloats();
        cases().check("concat", alone, Arrays.copyOfRange(x.values(), 4, 12), 2, 4);
        cases().check("permute", same, x.values(), 6, 4);
        assertThat(ops.reshape(cases().ids(1, 2, 3, 4), 2, 2).toInts()).containsExactly(1, 2, 3, 4);
        assertThat(ops.reshape(cases().ids(1, 2, 3, 4), 2, 2).shape()).containsExactly(2, 2);
    }

    /** Encoders: everything sees everything, or all that the window allows to the left and everything to the right. */
    @Test
    default void attendNotCausal() {
        Packed packed = Packed.ofLengths(9, 0, 1, 70);
        for (int window : new int[]{0, 1, 4, 70, 100}) {
            Attention a = new Attention(4, 2, 20, false, window);
            Argument q = cases().activation(80, 80);
            Argument k = cases().activation(80, 40);
            Argument v = cases().activation(80, 40);
            cases().check("attend", backend().attentionOps().attend(q.tensor(), k.tensor(), v.tensor(), packed, a),
                    Definitions.attend(q.values(), k.values(), v.values(), packed, packed, a), 80, 80);
        }
    }

    /** Scores in the thousands, of either sign: a softmax that forgets the maximum gives NaN or zeros. */
    @Test
    default void attendScoresFarFromZero() {
        float[] ones = {1, 1, 1};
        Attention a = new Attention(1, 1, 1, 1, false, 0);
        for (float far : new float[]{1000, -1000}) {
            Argument k = cases().activation(new float[]{far, far, far}, 3, 1);
            Argument v = cases().activation(new float[]{3, 6, 9}, 3, 1);
            cases().check("attend",
                    backend().attentionOps().attend(backend().tensor(ones, 3, 1), k.tensor(), v.tensor(),
                            new Packed(0, 3), a),
                    new double[]{6, 6, 6}, 3, 1);
        }
    }

    /** Scores so far apart that exp overflows without the maximum, which is the last of all, in another block. */
    @Test
    default void attendScoresFarApart() {
        Argument[] kv = farApart();
        Attention a = new Attention(1, 1, 1, 1, false, 0);
        float[] ones = new float[131];
        Arrays.fill(ones, 1);
        Tensor queries = backend().tensor(ones, 131, 1);
        Packed packed = new Packed(0, 131);
        cases().check("attend", backend().attentionOps().attend(queries, kv[0].tensor(), kv[1].tensor(), packed, a),
                Definitions.attend(Definitions.doubles(ones), kv[0].values(), kv[1].values(), packed, packed, a), 131,
                1);
    }

    @Test
    default void attendCachedScoresFarApart() {
        Argument[] kv = farApart();
        Argument q = cases().activation(new float[]{1, -1}, 2, 1);
        attendCached(new Attention(1, 1, 1, 1, false, 0), 0, q, kv[0], kv[1]);
    }

    /** q over a cache of this window that k and v have just been added to. */
    private void attendCached(Attention a, int window, Argument q, Argument k, Argument v) {
        AttentionOps ops = backend().attentionOps();
        int n = q.tensor().dim(0);
        int keys = k.tensor().dim(0);
        try (KvCache cache = backend().cache(new CacheSpec(1, a.kvHeads(), a.headDim(), window))) {
            ops.append(List.of(cache), 0, k.tensor(), v.tensor(), new Packed(0, keys));
            cases().check("attendCached", ops.attend(q.tensor(), List.of(cache), 0, new Packed(0, n), a),
                    Definitions.attend(q.values(), k.values(), v.values(), new Packed(0, n), new Packed(0, keys), a),
                    q.tensor().shape());
        }
    }

    /** 131 keys, whole numbers of eight bits, so that products are exact, and values. */
    private Argument[] farApart() {
        float[] keys = new float[131];
        for (int i = 0; i < keys.length; i++)
            keys[i] = i % 3 == 0 ? 0 : -500;
        keys[20] = 298;
        keys[130] = 300;
        return new Argument[]{cases().activation(keys, 131, 1), cases().activation(131, 1)};
    }

    /** The window of the call, when the cache keeps more. */
    @Test
    default void attendCachedThroughANarrowerWindow() {
        Argument k = cases().activation(90, 16);
        Argument v = cases().activation(90, 16);
        for (int n : new int[]{1, 20})
            attendCached(new Attention(2, 1, 16, true, 5), 64, cases().activation(n, 32), k, v);
    }

    /** A prompt much longer than the window goes in at once: its first queries need keys that its last ones do not. */
    @Test
    default void attendCachedPromptBeyondTheWindow() {
        for (int window : new int[]{1, 8, 64})
            try (KvCache cache = backend().cache(new CacheSpec(1, 1, 16, window))) {
                Attention a = new Attention(2, 1, 16, true, window);
                Argument q = cases().activation(300, 32);
                Argument k = cases().activation(300, 16);
                Argument v = cases().activation(300, 16);
                Packed packed = new Packed(0, 300);
                backend().attentionOps().append(List.of(cache), 0, k.tensor(), v.tensor(), packed);
                cases().check("attendCached", backend().attentionOps().attend(q.tensor(), List.of(cache), 0, packed, a),
                        Definitions.attend(q.values(), k.values(), v.values(), packed, packed, a), 300, 32);
                assertThat(cache.length(0)).isEqualTo(300);
            }
    }

    /** The queries are the last tokens of the cache, not all that were just added; of one sequence there are none. */
    @Test
    default void attendCachedOfTheLastTokens() {
        Attention a = new Attention(2, 2, 16, true, 0);
        try (KvCache first = backend().cache(new CacheSpec(1, 2, 16, 0));
                KvCache second = backend().cache(new CacheSpec(1, 2, 16, 0))) {
            List<KvCache> caches = List.of(first, second);
            Argument k = cases().activation(90, 32);
            Argument v = cases().activation(90, 32);
            backend().attentionOps().append(caches, 0, k.tensor(), v.tensor(), new Packed(0, 20, 90));
            Argument q = cases().activation(3, 32);
            double[] expected = Definitions.attend(q.values(), Arrays.copyOfRange(k.values(), 20 * 32, 90 * 32),
                    Arrays.copyOfRange(v.values(), 20 * 32, 90 * 32), new Packed(0, 3), new Packed(0, 70), a);
            cases().check("attendCached",
                    backend().attentionOps().attend(q.tensor(), caches, 0, new Packed(0, 0, 3), a), expected, 3, 32);
            assertThatThrownBy(() -> backend().attentionOps().attend(cases().activation(21, 32).tensor(),
                    List.of(first), 0, new Packed(0, 21), a)).as("more queries than tokens")
                    .isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> backend().attentionOps().attend(q.tensor(), List.of(first), 1, new Packed(0, 3),
                    a)).as("a layer too many").isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> backend().attentionOps().attend(q.tensor(), List.of(first), 0,
                    new Packed(0, 1, 3), a)).as("a sequence without a cache")
                    .isInstanceOf(IllegalArgumentException.class);
        }
        try (KvCache windowed = backend().cache(new CacheSpec(1, 2, 16, 4))) {
            Argument k = cases().activation(1, 32);
            backend().attentionOps().append(List.of(windowed), 0, k.tensor(), k.tensor(), new Packed(0, 1));
            for (int window : new int[]{0, 5})
                assertThatThrownBy(() -> backend().attentionOps().attend(k.tensor(), List.of(windowed), 0,
                        new Packed(0, 1), new Attention(2, 2, 16, true, window))).as("window %d over one of 4", window)
                        .isInstanceOf(IllegalArgumentException.class);
        }
    }

    @Test
    default void conv1dKernelThatDoesNotFit() {
        Argument w = cases().weight(WeightRole.CONV1D, DType.F32, 4, 3, 5);
        cases().check("conv1d", backend().convOps().conv1d(cases().activation(4, 3).tensor(), w.tensor(), null,
                Conv1d.dilated(1)), new double[0], 0, 4);
        Argument padded = cases().activation(1, 3);
        Conv1d conv = new Conv1d(1, 1, 1, 4, 0);
        cases().check("conv1d", backend().convOps().conv1d(padded.tensor(), w.tensor(), null, conv),
                Definitions.conv1d(padded.values(), w.values(), null, 1, 3, 4, 5, conv), 1, 4);
    }

    @Test
    default void conv3dPatchesOfNone() {
        Argument w = cases().weight(WeightRole.CONV3D, DType.F32, 5, 3, 2, 2, 2);
        cases().check("conv3dPatches", backend().convOps().conv3dPatches(cases().activation(0, 24).tensor(),
                w.tensor(), null), new double[0], 0, 5);
        Argument x = cases().activation(3, 24);
        cases().check("conv3dPatches", backend().convOps().conv3dPatches(x.tensor(), w.tensor(), null),
                Definitions.linear(x.values(), w.values(), null, 3, 24, 5, Activation.NONE), 3, 5);
    }

    @Test
    default void clampOfManyNumbers() {
        float[] values = special(67 * 7);
        float[] expected = new float[values.length];
        for (int i = 0; i < values.length; i++)
            expected[i] = Float.isNaN(values[i]) ? Float.NaN : Math.clamp(values[i], -0.25f, 2);
        cases().check("clamp", backend().tensorOps().clamp(backend().tensor(values, 67, 7), -0.25f, 2),
                Definitions.doubles(expected), 67, 7);
    }

    @Test
    default void activationOfManyNumbers() {
        for (Activation f : Activation.values()) {
            Argument x = cases().activation(special(67 * 7), 67, 7);
            cases().check("activation", backend().tensorOps().activation(x.tensor(), f),
                    Definitions.activation(x.values(), f), 67, 7);
        }
    }

    /** Special numbers, each of them in every lane of a vector, and in the rest. */
    private static float[] special(int n) {
        float[] special = {Float.NaN, Float.POSITIVE_INFINITY, -1, 0.5f, Float.NEGATIVE_INFINITY};
        float[] values = new float[n];
        for (int i = 0; i < n; i++)
            values[i] = special[i % special.length];
        return values;
    }

    /** The mean of the squares less the square of the mean would be wrong; numbers of eight bits, so that they are exact. */
    @Test
    default void layerNormFarFromZero() {
        for (int width : new int[]{64, 2050}) {
            float[] values = cases().normal(3, width);
            for (int i = 0; i < values.length; i++)
                values[i] = 40 + Math.round(4 * values[i]) / 4f;
            Argument x = cases().activation(values, 3, width);
            Argument w = cases().vector(width);
            Argument b = cases().vector(width);
            cases().check("layerNorm", backend().tensorOps().layerNorm(x.tensor(), w.tensor(), b.tensor(), 1e-5f),
                    Definitions.layerNorm(x.values(), w.values(), b.values(), 1e-5f), 3, width);
        }
    }

    /** More entries than sixteen bits number. */
    @Test
    default void embeddingOfManyEntries() {
        Argument table = cases().weight(WeightRole.EMBEDDING, DType.BF16, 70_001, 4);
        int[] ids = {65_535, 65_536, 70_000, 0, 4_464};
        cases().check("embedding", backend().tensorOps().embedding(table.tensor(), cases().ids(ids)),
                Definitions.embedding(table.values(), 4, ids), ids.length, 4);
    }

    /** A weight of zero does not make nothing of what is not a number. */
    @Test
    default void linearOfNoNumberTimesZero() {
        float[] x = new float[3 * 32];
        x[32 + 5] = Float.NaN;
        x[64 + 9] = Float.POSITIVE_INFINITY;
        double[] expected = new double[3 * 7];
        Arrays.fill(expected, 7, 21, Double.NaN);
        Argument w = cases().weight(WeightRole.MATRIX, DType.F32, new float[7 * 32], 7, 32);
        cases().check("linear", backend().tensorOps().linear(backend().tensor(x, 3, 32), w.tensor()), expected, 3, 7);
    }
}
