package io.omni.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import io.omni.api.Activation;
import io.omni.api.Definitions;
import io.omni.api.Tensor;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** Accuracy and edges of the elementwise functions. */
class FunctionsTest extends CpuTest {
    private static final float[] EDGES = {0, -0f, 1, -1, 88, 89, -88, -103, -104, -150, 1e-30f, -1e-30f, 1e10f, -1e10f,
            Float.MAX_VALUE, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, Float.NaN, 10, -10, 5.5f, -5.5f, 3};

    @Test
    void activations() {
        float[] x = floats(4000);
        for (int i = 0; i < x.length; i++)
            x[i] *= 4;
        Tensor t = backend.tensor(x, x.length);
        for (Activation f : Activation.values()) {
            float[] y = backend.tensorOps().activation(t, f).toFloats();
            for (int i = 0; i < x.length; i++) {
                double expected = Definitions.apply(f, x[i]);
                // GELU's definition in float64 loses its tail to cancellation
                if (Math.abs(expected) > 1e-8)
                    assertThat((double) y[i]).as("%s(%s)", f, x[i]).isCloseTo(expected,
                            within(2e-6 * Math.abs(expected) + 1e-12));
            }
        }
    }

    @Test
    void edges() {
        Tensor t = backend.tensor(EDGES, EDGES.length);
        for (Activation f : Activation.values()) {
            float[] y = backend.tensorOps().activation(t, f).toFloats();
            for (int i = 0; i < EDGES.length; i++) {
                float expected = (float) Definitions.apply(f, EDGES[i]);
                if (Float.isFinite(expected))
                    assertThat(y[i]).as("%s(%s)", f, EDGES[i]).isCloseTo(expected,
                            within(1e-6f * Math.abs(expected) + 1e-20f));
                else
                    assertThat(y[i]).as("%s(%s)", f, EDGES[i]).isEqualTo(Float.valueOf(expected));
            }
        }
        assertThat(backend.tensorOps().clamp(t, -2, 2).toFloats())
                .isEqualTo(Definitions.round(Definitions.clamp(doubles(t), -2, 2)));
    }

    @Test
    void exponentialsBelowTheLargest() {
        for (int n : new int[]{1, 2, 15, 16, 17, 33, 64, 257}) {
            float[] x = floats(n);
            for (int i = 0; i < n; i++)
                x[i] *= 30;
            long at = ((CpuTensor) backend.tensor(x, n)).address();
            long to = ((CpuTensor) backend.tensor(new float[n], n)).address();
            float max = Rows.max(at, n);
            float sum = Rows.exp(at, max, to, n);
            double expected = 0;
            float largest = Float.NEGATIVE_INFINITY;
            for (int i = 0; i < n; i++) {
                double e = Math.exp((double) (x[i] - max));
                assertThat((double) Lanes.get(to + 4L * i)).as("%s below %s", x[i], max).isCloseTo(e,
                        within(3e-7 * e + 1e-37));
                expected += e;
                largest = Math.max(largest, x[i]);
            }
            assertThat(max).isEqualTo(largest);
            assertThat((double) sum).isCloseTo(expected, within(1e-6 * expected));
        }
    }

    @Test
    void exponentialsOfWhatIsNoNumber() {
        for (int n : new int[]{3, 16, 40}) {
            float[] x = new float[n];
            x[1] = Float.NEGATIVE_INFINITY;
            x[2] = -1e30f;
            long at = ((CpuTensor) backend.tensor(x, n)).address();
            assertThat(Rows.max(at, n)).isEqualTo(0);
            assertThat(Rows.exp(at, 0, at, n)).isEqualTo(n - 2);
            x[n - 1] = Float.NaN;
            at = ((CpuTensor) backend.tensor(x, n)).address();
            assertThat(Rows.max(at, n)).isEqualTo(0);
            assertThat(Rows.exp(at, 0, at, n)).isNaN();
            Arrays.fill(x, Float.NEGATIVE_INFINITY);
            at = ((CpuTensor) backend.tensor(x, n)).address();
            assertThat(Rows.max(at, n)).isEqualTo(Float.NEGATIVE_INFINITY);
        }
    }

    @Test
    void snakeOfLargeArguments() {
        float[] x = floats(3000);
        for (int i = 0; i < x.length; i++)
            x[i] *= (float) Math.pow(10, random.nextInt(8));
        Tensor zero = backend.tensor(new float[1], 1);
        float[] y = backend.tensorOps().snakeBeta(backend.tensor(x, x.length, 1), zero, zero).toFloats();
        for (int i = 0; i < x.length; i++) {
            double sine = Math.sin(x[i]);
            assertThat((double) y[i]).as("%s", x[i]).isCloseTo(x[i] + sine * sine,
                    within(1e-6 + 1e-7 * Math.abs(x[i])));
        }
    }
}
