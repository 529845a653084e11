package io.omni.api;

import java.util.stream.IntStream;

/**
 * What every operation means, in plain loops over float64 arrays: the default of a backend that has nothing better, once
 * rounded to float32, and what the conformance suite expects. All arrays are row-major.
 */
public final class Definitions {
    private Definitions() {}

    /** The same values in float64. */
    public static double[] doubles(float[] values) {
        double[] result = new double[values.length];
        for (int i = 0; i < result.length; i++)
            result[i] = values[i];
        return result;
    }

    /** Each value rounded to the nearest float32. */
    public static float[] round(double[] values) {
        float[] result = new float[values.length];
        for (int i = 0; i < result.length; i++)
            result[i] = (float) values[i];
        return result;
    }

    /** x [n, in], weight [out, in], bias [out] or null: [n, out]. */
    public static double[] linear(double[] x, double[] weight, double[] bias, int n, int in, int out, Activation f) {
        double[] y = new double[n * out];
        IntStream.range(0, n).parallel().forEach(i -> {
            for (int o = 0; o < out; o++) {
                double sum = bias == null ? 0 : bias[o];
                for (int j = 0; j < in; j++)
                    sum += x[i * in + j] * weight[o * in + j];
                y[i * out + o] = apply(f, sum);
            }
        });
        return y;
    }

    /** x [rows, features], weight [features]: x / √(mean(x²) + eps) ∘ weight in each row (Zhang and Sennrich, RMSNorm). */
    public static double[] rmsNorm(double[] x, double[] weight, double eps) {
        int features = weight.length;
        double[] y = new double[x.length];
        for (int row = 0; row < x.length; row += features) {
            double squares = 0;
            for (int i = 0; i < features; i++)
                squares += x[row + i] * x[row + i];
            double scale = 1 / Math.sqrt(squares / features + eps);
            for (int i = 0; i < features; i++)
                y[row + i] = x[row + i] * scale * weight[i];
        }
        return y;
    }

    /** x [rows, features], weight and bias [features]: (x − mean) / √(variance + eps) ∘ weight + bias in each row. */
    public static double[] layerNorm(double[] x, double[] weight, double[] bias, double eps) {
        int features = weight.length;
        double[] y = new double[x.length];
        for (int row = 0; row < x.length; row += features) {
            double mean = 0;
            for (int i = 0; i < features; i++)
                mean += x[row + i] / features;
            double variance = 0;
            for (int i = 0; i < features; i++)
                variance += (x[row + i] - mean) * (x[row + i] - mean) / features;
            double scale = 1 / Math.sqrt(variance + eps);
            for (int i = 0; i < features; i++)
                y[row + i] = (x[row + i] - mean) * scale * weight[i] + bias[i];
        }
        return y;
    }

    /** a + b, with b as long as a, or repeated along it: one row added to every row. */
    public static double[] add(double[] a, double[] b) {
        double[] y = new double[a.length];
        for (int i = 0; i < y.length; i++)
            y[i] = a[i] + b[i % b.length];
        return y;
    }

    /** a ∘ b, with b as long as a, or repeated along it: one row that multiplies every row. */
    public static double[] multiply(double[] a, double[] b) {
        double[] y = new double[a.length];
        for (int i = 0; i < y.length; i++)
            y[i] = a[i] * b[i % b.length];
        return y;
    }

    /** The function of every element. */
    public static double[] activation(double[] x, Activation f) {
        double[] y = new double[x.length];
        for (int i = 0; i < y.length; i++)
            y[i] = apply(f, x[i]);
        return y;
    }

    /** The function of one number; see {@link Activation}. */
    public static double apply(Activation f, double x) {
        return switch (f) {
            case NONE -> x;
            case GELU -> x * (1 + erf(x / Math.sqrt(2))) / 2;
            case GELU_TANH -> x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))) / 2;
            case SILU -> x / (1 + Math.exp(-x));
            case RELU -> Math.max(x, 0);
            case SIGMOID -> 1 / (1 + Math.exp(-x));
        };
    }

    /** The error function, to float64 precision: its Taylor series near 0, Lentz's continued fraction of erfc beyond. */
    public static double erf(double x) {
        double a = Math.abs(x);
        if (Double.isNaN(x))
            return x;
        if (a > 6)
            return Math.signum(x);
        if (a < 2.5) {
            double term = a;
            double sum = a;
            for (int n = 1; Math.abs(term) > 1e-17 * sum; n++) {
                term *= -a * a / n;
                sum += term / (2 * n + 1);
            }
            return Math.copySign(2 / Math.sqrt(Math.PI) * sum, x);
        }
        double fraction = 0;
        for (int n = 60; n > 0; n--)
            fraction = n / 2.0 / (a + fraction);
        return Math.copySign(1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction), x);
    }

    /** x [rows, features], alpha and beta [features]: x + sin²(x · e^alpha) / (e^beta + 1e-9). */
    public static double[] snakeBeta(double[] x, double[] alpha, double[] beta) {
        int features = alpha.length;
        double[] y = new double[x.length];
        for (int i = 0; i < y.length; i++) {
            double sine = Math.sin(x[i] * Math.exp(alpha[i % features]));
            y[i] = x[i] + sine * sine / (Math.exp(beta[i % features]) + 1e-9);
        }
        return y;
    }

    /** Every element limited to [min, max]; NaN stays NaN. */
    public static double[] clamp(double[] x, double min, double max) {
        double[] y = new double[x.length];
        for (int i = 0; i < y.length; i++)
            y[i] = Math.min(Math.max(x[i], min), max);
        return y;
    }

    /**
     * Rows of a table.
     *
     * @param table [entries, features]
     * @param ids from 0 to entries − 1
     * @return [ids, features]
     * @throws IllegalArgumentException if an id is out of range
     */
    public static double[] embedding(double[] table, int features, int[] ids) {
        double[] y = new double[ids.length * features];
        for (int i = 0; i < ids.length; i++) {
            checkIndex(ids[i], table.length / features);
            System.arraycopy(table, ids[i] * features, y, i * features, features);
        }
        return y;
    }

    /**
     * For each bag, the weighted sum of the table's rows that it names.
     *
     * @param table [entries, features]
     * @param ids [bags, bag], from 0 to entries − 1
     * @param bag ids to a bag; 0 gives an empty result
     * @param weights [bags, bag], or null for all 1
     * @return [bags, features]
     * @throws IllegalArgumentException if an id is out of range
     */
    public static double[] embeddingBag(double[] table, int features, int[] ids, int bag, double[] weights) {
        double[] y = new double[bag == 0 ? 0 : ids.length / bag * features];
        for (int i = 0; i < ids.length; i++) {
            checkIndex(ids[i], table.length / features);
            for (int j = 0; j < features; j++)
                y[i / bag * features + j] += table[ids[i] * features + j] * (weights == null ? 1 : weights[i]);
        }
        return y;
    }

    /** x of {@code shape}, its dimensions in another order: dimension i of the result is dimension {@code axes[i]} of x. */
    public static double[] permute(double[] x, int[] shape, int[] axes) {
        int rank = shape.length;
        int[] strides = new int[rank];
        int stride = 1;
        for (int i = rank - 1; i >= 0; i--) {
            strides[i] = stride;
            stride *= shape[i];
        }
        double[] y = new double[x.length];
        int[] at = new int[rank];
        for (int i = 0; i < y.length; i++) {
            int from = 0;
            for (int d = 0; d < rank; d++)
                from += at[d] * strides[axes[d]];
            y[i] = x[from];
            for (int d = rank - 1; d >= 0 && ++at[d] == shape[axes[d]]; d--)
                at[d] = 0;
        }
        return y;
    }

    /**
     * A copy of the base in which rows replace others, or are added to them.
     *
     * @param base [n, features]
     * @param index [rows], from 0 to n − 1
     * @param rows [rows, features]
     * @param add whether {@code rows[i]} is added to row {@code index[i]} instead of replacing it
     * @return [n, features]
     * @throws IllegalArgumentException if an index is out of range
     */
    public static double[] scatter(double[] base, int[] index, double[] rows, boolean add) {
        if (index.length == 0)
            return base.clone();
        int features = rows.length / index.length;
        double[] y = base.clone();
        for (int i = 0; i < index.length; i++) {
            checkIndex(index[i], base.length / features);
            for (int j = 0; j < features; j++) {
                int at = index[i] * features + j;
                y[at] = rows[i * features + j] + (add ? y[at] : 0);
            }
        }
        return y;
    }

    /** positions [rows, tokens]: [tokens, 2, pairs]. The angle is rounded to float32 before its cosine is taken. */
    public static double[] rotaryTable(float[] positions, int tokens, Rope rope) {
        int pairs = rope.pairs();
        double[] table = new double[tokens * 2 * pairs];
        for (int t = 0; t < tokens; t++)
            for (int i = 0; i < pairs; i++) {
                float angle = positions[rope.row()[i] * tokens + t] * rope.inverseFrequency()[i];
                table[t * 2 * pairs + i] = Math.cos(angle);
                table[t * 2 * pairs + pairs + i] = Math.sin(angle);
            }
        return table;
    }

    /** x [tokens, heads · 2 · pairs], table [tokens, 2, pairs]. */
    public static double[] rotary(double[] x, double[] table, int tokens, int pairs) {
        double[] y = new double[x.length];
        int row = tokens == 0 ? 0 : x.length / tokens;
        for (int t = 0; t < tokens; t++)
            for (int head = t * row; head < (t + 1) * row; head += 2 * pairs)
                for (int i = 0; i < pairs; i++) {
                    double cos = table[t * 2 * pairs + i];
                    double sin = table[t * 2 * pairs + pairs + i];
                    y[head + i] = x[head + i] * cos - x[head + pairs + i] * sin;
                    y[head + pairs + i] = x[head + pairs + i] * cos + x[head + i] * sin;
                }
        return y;
    }

    /**
     * The queries of each sequence are its last ones: query j of n stands at position keys − n + j. A query that sees no
     * key gives zeros.
     */
    public static double[] attend(double[] q, double[] k, double[] v, Packed queries, Packed keys, Attention a) {
        int dim = a.headDim();
        double[] y = new double[q.length];
        for (int s = 0; s < queries.sequences(); s++)
            for (int j = 0; j < queries.length(s); j++) {
                int position = keys.length(s) - queries.length(s) + j;
                int end = a.causal() ? position + 1 : keys.length(s);
                int start = a.window() > 0 ? Math.max(0, position - a.window() + 1) : 0;
                for (int h = 0; h < a.heads(); h++) {
                    int query = ((queries.offsets()[s] + j) * a.heads() + h) * dim;
                    int kvHead = h / (a.heads() / a.kvHeads());
                    double[] weights = new double[Math.max(0, end - start)];
                    for (int i = start; i < end; i++) {
                        int key = ((keys.offsets()[s] + i) * a.kvHeads() + kvHead) * dim;
                        for (int d = 0; d < dim; d++)
                            weights[i - start] += q[query + d] * k[key + d] * a.scale();
                    }
                    weights = softmax(weights, weights.length);
                    for (int i = start; i < end; i++) {
                        int value = ((keys.offsets()[s] + i) * a.kvHeads() + kvHead) * dim;
                        for (int d = 0; d < dim; d++)
                            y[query + d] += weights[i - start] * v[value + d];
                    }
                }
            }
        return y;
    }

    /** Softmax of each row of {@code n}. */
    public static double[] softmax(double[] x, int n) {
        double[] y = new double[x.length];
        for (int row = 0; row < x.length; row += n) {
            double max = Double.NEGATIVE_INFINITY;
            for (int i = row; i < row + n; i++)
                max = Math.max(max, x[i]);
            double sum = 0;
            for (int i = row; i < row + n; i++)
                sum += y[i] = Math.exp(x[i] - max);
            for (int i = row; i < row + n; i++)
                y[i] /= sum;
        }
        return y;
    }

    /** Indexes of the k largest of each row of {@code n}, the largest first, the lower index first on a tie. */
    public static int[] topK(double[] x, int n, int k) {
        int[] chosen = new int[x.length / n * k];
        for (int row = 0; row < x.length / n; row++) {
            boolean[] taken = new boolean[n];
            for (int i = 0; i < k; i++) {
                int best = -1;
                for (int j = 0; j < n; j++)
                    if (!taken[j] && (best < 0 || x[row * n + j] > x[row * n + best]))
                    best = j;
                taken[best] = true;
                chosen[row * k + i] = best;
            }
        }
        return chosen;
    }

    /** What each chosen expert's output is weighted by: its probability, of the chosen ones' sum if normalised. */
    public static double[] shares(double[] probabilities, int experts, int[] chosen, int k, boolean normalise) {
        double[] share = new double[chosen.length];
        for (int row = 0; row < chosen.length; row += k) {
            double sum = 0;
            for (int i = row; i < row + k; i++)
                sum += share[i] = probabilities[row / k * experts + chosen[i]];
            for (int i = row; normalise && i < row + k; i++)
                share[i] /= sum;
        }
        return share;
    }

    /** x [time, in], weight [out, in / groups, kernel]: [outputLength, out]. */
    public static double[] conv1d(double[] x, double[] weight, double[] bias, int time, int in, int out, int kernel,
            Conv1d conv) {
        int length = conv.outputLength(time, kernel);
        int groupIn = in / conv.groups();
        int groupOut = out / conv.groups();
        double[] y = new double[length * out];
        for (int t = 0; t < length; t++)
            for (int o = 0; o < out; o++) {
                double sum = bias == null ? 0 : bias[o];
                for (int tap = 0; tap < kernel; tap++) {
                    int from = t * conv.stride() + tap * conv.dilation() - conv.padLeft();
                    if (from < 0 || from >= time)
                        continue;
                    for (int c = 0; c < groupIn; c++)
                        sum += x[from * in + o / groupOut * groupIn + c] * weight[(o * groupIn + c) * kernel + tap];
                }
                y[t * out + o] = sum;
            }
        return y;
    }

    /** x [time, in], weight [in, out, kernel]: [length, out], starting {@code trimLeft} steps in. */
    public static double[] convTranspose1d(double[] x, double[] weight, double[] bias, int time, int in, int out,
            int kernel, int stride, int trimLeft, int length) {
        double[] y = new double[length * out];
        for (int t = 0; t < length; t++)
            for (int o = 0; o < out; o++) {
                double sum = bias == null ? 0 : bias[o];
                for (int from = 0; from < time; from++) {
                    int tap = t + trimLeft - from * stride;
                    if (tap < 0 || tap >= kernel)
                        continue;
                    for (int c = 0; c < in; c++)
                        sum += x[from * in + c] * weight[(c * out + o) * kernel + tap];
                }
                y[t * out + o] = sum;
            }
        return y;
    }

    /** x of shape [batch, height, width, in], weight of shape [out, in, kernelHeight, kernelWidth]. */
    public static double[] conv2d(double[] x, double[] weight, double[] bias, int[] shape, int[] kernel, Conv2d conv,
            Activation f) {
        int height = shape[1];
        int width = shape[2];
        int in = shape[3];
        int out = kernel[0];
        int outHeight = conv.outputLength(height, kernel[2]);
        int outWidth = conv.outputLength(width, kernel[3]);
        double[] y = new double[shape[0] * outHeight * outWidth * out];
        for (int i = 0; i < y.length; i++) {
            int o = i % out;
            int column = i / out % outWidth;
            int row = i / out / outWidth % outHeight;
            int image = i / out / outWidth / outHeight;
            double sum = bias == null ? 0 : bias[o];
            for (int kr = 0; kr < kernel[2]; kr++)
                for (int kc = 0; kc < kernel[3]; kc++) {
                    int r = row * conv.stride() + kr - conv.padding();
                    int c = column * conv.stride() + kc - conv.padding();
                    if (r < 0 || r >= height || c < 0 || c >= width)
                        continue;
                    for (int j = 0; j < in; j++)
                        sum += x[((image * height + r) * width + c) * in + j]
                                * weight[((o * in + j) * kernel[2] + kr) * kernel[3] + kc];
                }
            y[i] = apply(f, sum);
        }
        return y;
    }

    private static void checkIndex(int index, int entries) {
        if (index < 0 || index >= entries)
            throw new IllegalArgumentException("index " + index + ", expected 0 to " + (entries - 1));
    }

    /** Keys or values, {@code headDim} numbers a head, as a cache of type {@link DType#I8} keeps them; see {@link CacheSpec}. */
    public static float[] eightBits(float[] x, int headDim) {
        float[] kept = new float[x.length];
        for (int head = 0; head < x.length; head += headDim) {
            float largest = 0;
            for (int i = head; i < head + headDim; i++)
                largest = Math.max(largest, Math.abs(x[i]));
            float scale = largest / 127;
            for (int i = head; i < head + headDim; i++)
                kept[i] = scale == 0 ? 0 : scale * (float) Math.rint(x[i] / scale);
        }
        return kept;
    }
}
