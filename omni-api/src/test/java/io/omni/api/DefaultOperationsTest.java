package io.omni.api;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The default of every operation, against values worked out by hand. */
class DefaultOperationsTest {
    private final Backend backend = new PlainBackend();
    private final TensorOps ops = backend.tensorOps();
    private Scope scope;

    @BeforeEach
    void open() {
        scope = backend.scope();
    }

    @AfterEach
    void close() {
        scope.close();
    }

    private Tensor vector(float... values) {
        return backend.tensor(values, values.length);
    }

    private Tensor matrix(int columns, float... values) {
        return backend.tensor(values, values.length / columns, columns);
    }

    private Tensor ids(int... values) {
        return backend.tensor(values, values.length);
    }

    @Test
    void linearIsXTimesTheTransposeOfTheWeightPlusBias() {
        Tensor y = ops.linear(matrix(2, 1, 2, 3, 4), matrix(2, 1, 0, 0, 1, 1, -1), vector(0, 10, 0), Activation.RELU);
        assertThat(y.shape()).containsExactly(2, 3);
        assertThat(y.toFloats()).containsExactly(1, 12, 0, 3, 14, 0);
    }

    @Test
    void gatedMlpIsSiluOfTheGateTimesUp() {
        Tensor y = ops.gatedMlp(matrix(1, 2), matrix(1, 1), matrix(1, 3), matrix(1, 10));
        assertThat(y.toFloats()[0]).isCloseTo((float) (2 / (1 + Math.exp(-2)) * 6 * 10), within(1e-4f));
    }

    @Test
    void normsScaleRows() {
        assertThat(ops.rmsNorm(matrix(2, 3, 4), vector(1, 2), 0).toFloats())
                .usingComparatorWithPrecision(1e-6f).containsExactly(3 / 3.5355339f, 8 / 3.5355339f);
        assertThat(ops.layerNorm(matrix(2, 1, 3), vector(2, 2), vector(0, 1), 0).toFloats())
                .usingComparatorWithPrecision(1e-6f).containsExactly(-2, 3);
    }

    @Test
    void elementwiseOperationsTakeOneRowForAll() {
        assertThat(ops.add(matrix(2, 1, 2, 3, 4), vector(10, 20)).toFloats()).containsExactly(11, 22, 13, 24);
        assertThat(ops.multiply(matrix(2, 1, 2, 3, 4), matrix(2, 1, 2, 3, 4)).toFloats()).containsExactly(1, 4, 9, 16);
        assertThat(ops.addScaled(matrix(2, 1, 1), matrix(2, 2, 3), vector(10, 0)).toFloats()).containsExactly(21, 1);
        assertThat(ops.clamp(vector(-2, 0.5f, 2), -1, 1).toFloats()).containsExactly(-1, 0.5f, 1);
        assertThat(ops.snakeBeta(matrix(1, (float) (Math.PI / 2)), vector(0), vector(0)).toFloats()[0])
                .isCloseTo((float) (Math.PI / 2 + 1), within(1e-6f));
    }

    @Test
    void rowsMoveByIndex() {
        Tensor table = matrix(2, 1, 2, 3, 4, 5, 6);
        assertThat(ops.embedding(table, ids(2, 0)).toFloats()).containsExactly(5, 6, 1, 2);
        assertThat(ops.embeddingBag(table, backend.tensor(new int[]{0, 2}, 1, 2), matrix(2, 1, 0.5f)).toFloats())
                .containsExactly(3.5f, 5);
        assertThat(ops.slice(table, 1, 3).toFloats()).containsExactly(3, 4, 5, 6);
        assertThat(ops.concat(List.of(ops.slice(table, 2, 3), table)).shape()).containsExactly(4, 2);
        assertThat(ops.scatter(table, ids(1), matrix(2, 9, 9)).toFloats()).containsExactly(1, 2, 9, 9, 5, 6);
        assertThat(ops.scatterAdd(table, ids(1, 1), matrix(2, 9, 9, 1, 1)).toFloats())
                .containsExactly(1, 2, 13, 14, 5, 6);
        assertThat(ops.permute(backend.tensor(new float[]{1, 2, 3, 4, 5, 6}, 1, 2, 3), 2, 0, 1).toFloats())
                .containsExactly(1, 4, 2, 5, 3, 6);
    }

    @Test
    void rotaryTurnsPairsThatAreHalfAHeadApart() {
        AttentionOps attention = backend.attentionOps();
        Rope rope = new Rope(new float[]{(float) Math.PI / 2, 0}, new int[2]);
        Tensor table = attention.rotaryTable(matrix(1, 1), rope);
        assertThat(attention.rotary(matrix(4, 1, 2, 3, 4), null, 0, table).toFloats())
                .usingComparatorWithPrecision(1e-6f).containsExactly(-3, 2, 1, 4);
    }

    @Test
    void attentionSeesItsOwnSequenceUpToItselfWithinTheWindow() {
        AttentionOps attention = backend.attentionOps();
        Attention causal = new Attention(1, 1, 1, 1, true, 2);
        // all scores are equal, so each query averages what it sees
        Tensor zeros = matrix(1, 0, 0, 0, 0);
        Tensor values = matrix(1, 1, 3, 5, 100);
        assertThat(attention.attend(zeros, zeros, values, new Packed(0, 3, 4), causal).toFloats())
                .containsExactly(1, 2, 4, 100);
        try (KvCache cache = backend.cache(new CacheSpec(1, 1, 1, 0))) {
            attention.append(List.of(cache), 0, zeros, values, new Packed(0, 4));
            cache.truncate(3);
            assertThat(cache.length(0)).isEqualTo(3);
            Tensor query = matrix(1, 0);
            assertThat(attention.attend(query, List.of(cache), 0, new Packed(0, 1), new Attention(1, 1, 1, 1, true, 0))
                    .toFloats()).containsExactly(3);
        }
    }

    @Test
    void moeTakesTheLowerExpertOnATie() {
        Tensor one = matrix(1, 1);
        List<Tensor> downs = List.of(matrix(1, 1), matrix(1, 10), matrix(1, 100));
        MoeWeights weights = new MoeWeights(matrix(1, 0, 0, -1), List.of(one, one, one), List.of(one, one, one), downs,
                null);
        float silu = (float) (1 / (1 + Math.exp(-1)));
        assertThat(backend.moeOps().moe(one, weights, 1, true).toFloats()[0]).isCloseTo(silu, within(1e-6f));
        assertThat(backend.moeOps().moe(one, weights, 2, true).toFloats()[0]).isCloseTo(5.5f * silu, within(1e-5f));
    }

    @Test
    void convolutionsPadDilateAndTrim() {
        ConvOps conv = backend.convOps();
        Tensor x = matrix(1, 1, 2, 3, 4);
        Tensor weight = backend.tensor(new float[]{1, 10}, 1, 1, 2);
        assertThat(conv.conv1d(x, weight, null, new Conv1d(1, 2, 1, 2, 0)).toFloats()).containsExactly(10, 20, 31, 42);
        assertThat(conv.convTranspose1d(x, backend.tensor(new float[]{1, 10, 100, 1000}, 1, 1, 4), null, 2, 2, 2)
                .toFloats()).containsExactly(102, 1020, 203, 2030, 304, 3040);
        Tensor image = backend.tensor(new float[]{1, 2, 3, 4}, 1, 2, 2, 1);
        Tensor ones = backend.tensor(new float[]{1, 1, 1, 1, 1, 1, 1, 1, 1}, 1, 1, 3, 3);
        assertThat(conv.conv2d(image, ones, vector(0.5f), new Conv2d(2, 1), Activation.NONE).toFloats())
                .containsExactly(10.5f);
    }

    @Test
    void nothingIsSomethingToo() {
        Tensor bags = ops.embeddingBag(matrix(2, 1, 2), backend.tensor(new int[0], 3, 0), null);
        assertThat(bags.shape()).containsExactly(3, 2);
        assertThat(bags.toFloats()).containsOnly(0);
        Tensor noFeatures = backend.tensor(new float[0], 2, 0);
        assertThat(noFeatures.rowCount()).isEqualTo(2);
        assertThat(ops.linear(noFeatures, backend.tensor(new float[0], 3, 0), vector(1, 2, 3)).toFloats())
                .containsExactly(1, 2, 3, 1, 2, 3);
        HostTensor empty = HostTensor.of("empty", new float[0], 0, 4);
        assertThat(empty.rows(0, 0).shape()).containsExactly(0, 4);
        assertThatThrownBy(() -> ops.permute(matrix(2, 1, 2))).isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void wrongArgumentsAreRefused() {
        assertThatThrownBy(() -> ops.linear(matrix(2, 1, 2), matrix(3, 1, 2, 3)))
                .isInstanceOf(IllegalArgumentException.class).hasMessage("x [1, 2], expected 3 features");
        assertThatThrownBy(() -> ops.embedding(matrix(1, 1), ids(1))).isInstanceOf(IllegalArgumentException.class);
        try (Backend other = new PlainBackend(); Scope inner = other.scope()) {
            assertThatThrownBy(() -> ops.add(vector(1), other.tensor(new float[1], 1)))
                    .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("a tensor of backend plain");
        }
        scope.close();
        assertThatThrownBy(() -> vector(1)).isInstanceOf(IllegalStateException.class);
    }
}
