package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.omni.api.Activation;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.MoeOps;
import io.omni.api.MoeWeights;
import io.omni.api.Quantization;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** {@link MoeOps}. */
public interface MoeOpsConformance extends Subject {
    @Test
    default void moe() {
        int[][] sizes = {{0, 4, 2}, {1, 1, 1}, {1, 8, 2}, {5, 5, 5}, {40, 6, 3}};
        for (DType type : matrixTypes())
            for (int[] size : sizes)
                for (boolean shared : new boolean[]{false, true}) {
                    Layer layer = layer(size[1], 32, 64, type, shared);
                    check(layer, size[0], size[2], true);
                    check(layer, size[0], size[2], false);
                }
        Layer layer = layer(4, 32, 64, DType.F32, false);
        assertThatThrownBy(() -> backend().moeOps().moe(cases().activation(2, 32).tensor(), layer.weights, 5, true))
                .isInstanceOf(IllegalArgumentException.class);
    }

    /** Equal logits: the lower experts are chosen. */
    @Test
    default void moeTies() {
        Layer layer = layer(6, 32, 32, DType.F32, false);
        Argument x = cases().activation(3, 32);
        Argument zero = cases().weight(WeightRole.MATRIX, DType.F32, new float[6 * 32], 6, 32);
        Layer tied = layer.with(zero);
        for (int topK : new int[]{1, 3})
            cases().check("moe", backend().moeOps().moe(x.tensor(), tied.weights, topK, true),
                    tied.expected(x.values(), 3, topK, true), 3, 32);
    }

    /** Experts, and matrices of an expert, of different types, as a checkpoint that keeps some layers as they were has them. */
    @Test
    default void moeOfMixedTypes() {
        List<DType> types = matrixTypes();
        for (DType router : new DType[]{DType.BF16, DType.F16}) {
            List<Argument> gate = new ArrayList<>();
            List<Argument> up = new ArrayList<>();
            List<Argument> down = new ArrayList<>();
            for (int i = 0; i < 6; i++) {
                gate.add(cases().matrix(types.get(i % types.size()), 64, 32));
                up.add(cases().matrix(types.get((i + 1) % types.size()), 64, 32));
                down.add(cases().matrix(types.get((i + 2) % types.size()), 32, 64));
            }
            // logits of about one, as large ones would make more of a product's error than it is
            float[] small = cases().normal(6, 32);
            for (int i = 0; i < small.length; i++)
                small[i] /= 8;
            List<Argument> shared = List.of(gate.get(0), up.get(1), down.get(2),
                    cases().weight(WeightRole.MATRIX, router, Arrays.copyOf(small, 32), 1, 32));
            Layer layer = new Layer(32, cases().weight(WeightRole.MATRIX, router, small, 6, 32), gate, up, down,
                    shared);
            for (int tokens : new int[]{1, 12})
                check(layer, tokens, 3, true);
        }
    }

    /** The Talker's shared expert is wider than the others; sizes that are no multiples of any vector's. */
    @Test
    default void moeOfOtherWidths() {
        for (DType type : matrixTypes())
            for (int[] size : new int[][]{{64, 32, 96}, {96, 64, 32}, {50, 37, 75}}) {
                if (!Quantization.fits(type, size))
                    continue;
                Layer layer = layer(5, size[0], size[1], type, size[2]);
                for (int tokens : new int[]{1, 4, 40})
                    check(layer, tokens, 2, true);
            }
    }

    /** A token that is not a number is so alone. */
    @Test
    default void moeOfATokenThatIsNoNumber() {
        Layer layer = layer(4, 32, 64, DType.F32, true);
        Argument x = cases().activation(layer.decided(cases(), 3, 2, backend().precision()), 3, 32);
        float[] values = Definitions.round(x.values());
        Arrays.fill(values, 32, 64, Float.NaN);
        double[] expected = layer.expected(x.values(), 3, 2, true);
        Arrays.fill(expected, 32, 64, Double.NaN);
        cases().check("moe", backend().moeOps().moe(backend().tensor(values, 3, 32), layer.weights, 2, true), expected,
                3, 32);
    }

    /** As many experts as the released models have, and choices. */
    @Test
    default void moeOfManyExperts() {
        check(layer(128, 32, 64, DType.BF16, false), 45, 8, true);
    }

    /** Logits so far apart that exp overflows without the maximum, which is the last; of eight bits, so that they are exact. */
    @Test
    default void moeOfLogitsFarApart() {
        Layer layer = layer(4, 32, 32, DType.F32, false);
        float[] far = new float[4 * 32];
        far[0] = 298;
        far[32] = -500;
        far[96] = 300;
        Layer apart = layer.with(cases().weight(WeightRole.MATRIX, DType.F32, far, 4, 32));
        float[] rows = cases().normal(2 * 32);
        rows[0] = rows[32] = 1;
        Argument x = cases().activation(rows, 2, 32);
        for (boolean normalise : new boolean[]{true, false})
            cases().check("moe", backend().moeOps().moe(x.tensor(), apart.weights, 3, normalise),
                    apart.expected(x.values(), 2, 3, normalise), 2, 32);
    }

    private void check(Layer layer, int tokens, int topK, boolean normalise) {
        Argument x = cases().activation(layer.decided(cases(), tokens, topK, backend().precision()), tokens,
                layer.hidden);
        cases().check("moe", backend().moeOps().moe(x.tensor(), layer.weights, topK, normalise),
                layer.expected(x.values(), tokens, topK, normalise), tokens, layer.hidden);
    }

    /** A layer's weights, and what they make of tokens. */
    final class Layer {
        private final int hidden;
        private final Argument router;
        private final List<Argument> gate;
        private final List<Argument> up;
        private final List<Argument> down;
        private final List<Argument> shared;
        private final MoeWeights weights;

        private Layer(int hidden, Argument router, List<Argument> gate, List<Argument> up,
                List<Argument> down, List<Argument> shared) {
            this.hidden = hidden;
            this.router = router;
            this.gate = gate;
            this.up = up;
            this.down = down;
            this.shared = shared;
            weights = new MoeWeights(router.tensor(), gate.stream().map(Argument::tensor).toList(),
                    up.stream().map(Argument::tensor).toList(), down.stream().map(Argument::tensor).toList(),
                    shared == null
                            ? null
                            : new MoeWeights.SharedExpert(shared.get(0).tensor(), shared.get(1).tensor(),
                                    shared.get(2).tensor(), shared.get(3).tensor()));
        }

        private Layer with(Argument otherRouter) {
            return new Layer(hidden, otherRouter, gate, up, down, shared);
        }

        /** Random tokens whose choice of experts does not hang on the last bits that the backend stands for. */
        private float[] decided(Cases cases, int tokens, int topK, double precision) {
            float[] all = new float[tokens * hidden];
            for (int token = 0; token < tokens; token++) {
                float[] row = cases.normal(hidden);
                for (int tries = 0; tries < 100 && gap(row, topK) < 4 * precision; tries++)
                    row = cases.normal(hidden);
                System.arraycopy(row, 0, all, token * hidden, hidden);
            }
            return all;
        }

        /** How far the last chosen logit is above the first one left out, of the logits' norm. */
        private double gap(float[] row, int topK) {
            int experts = gate.size();
            if (topK == experts)
                return Double.POSITIVE_INFINITY;
            double[] logits = Definitions.linear(Definitions.doubles(row), router.values(), null, 1, hidden, experts,
                    Activation.NONE);
            int[] order = Definitions.topK(logits, experts, topK + 1);
            double norm = Math.sqrt(Arrays.stream(logits).map(l -> l * l).sum());
            return (logits[order[topK - 1]] - logits[order[topK]]) / norm;
        }

        private double[] expected(double[] x, int tokens, int topK, boolean normalise) {
            int experts = gate.size();
            double[] probabilities = Definitions.softmax(
                    Definitions.linear(x, router.values(), null, tokens, hidden, experts, Activation.NONE), experts);
            int[] chosen = Definitions.topK(probabilities, experts, topK);
            double[] share = Definitions.shares(probabilities, experts, chosen, topK, normalise);
            double[] y = new double[tokens * hidden];
            for (int i = 0; i < chosen.length; i++) {
                int token = i / topK;
                double[] row = Arrays.copyOfRange(x, token * hidden, (token + 1) * hidden);
                add(y, token * hidden, expert(row, 1, gate.get(chosen[i]), up.get(chosen[i]), down.get(chosen[i])),
                        share[i]);
            }
            if (shared == null)
                return y;
            double[] out = expert(x, tokens, shared.get(0), shared.get(1), shared.get(2));
            double[] scale = Definitions.linear(x, shared.get(3).values(), null, tokens, hidden, 1, Activation.SIGMOID);
            for (int token = 0; token < tokens; token++)
                add(y, token * hidden, Arrays.copyOfRange(out, token * hidden, (token + 1) * hidden),
                        scale[token]);
            return y;
        }

        private double[] expert(double[] x, int n, Argument gate, Argument up, Argument down) {
            return TensorOpsConformance.gated(x, gate.values(), up.values(), down.values(), n, hidden,
                    gate.tensor().dim(0));
        }

        private static void add(double[] y, int at, double[] row, double scale) {
            for (int i = 0; i < row.length; i++)
                y[at + i] += row[i] * scale;
        }
    }

    private Layer layer(int experts, int hidden, int width, DType type, boolean shared) {
        return layer(experts, hidden, width, type, shared ? width : 0);
    }

    private Layer layer(int experts, int hidden, int width, DType type, int sharedWidth) {
        List<Argument> gate = new ArrayList<>();
        List<Argument> up = new ArrayList<>();
        List<Argument> down = new ArrayList<>();
        for (int i = 0; i < experts; i++) {
            gate.add(cases().matrix(type, width, hidden));
            up.add(cases().matrix(type, width, hidden));
            down.add(cases().matrix(type, hidden, width));
        }
        List<Argument> shared = sharedWidth == 0
                ? null
                : List.of(cases().matrix(type, sharedWidth, hidden), cases().matrix(type, sharedWidth, hidden),
                        cases().matrix(type, hidden, sharedWidth), cases().matrix(DType.F32, 1, hidden));
        return new Layer(hidden, cases().matrix(DType.F32, experts, hidden), gate, up, down, shared);
    }
}
