package io.omni.processor;

/** The discrete Fourier transform of a fixed size, by mixed-radix decimation in time; any size, fast for small factors. */
final class FourierTransform {
    private final int size;
    private final double[] cos;
    private final double[] sin;

    FourierTransform(int size) {
        this.size = size;
        cos = new double[size];
        sin = new double[size];
        for (int i = 0; i < size; i++) {
            cos[i] = Math.cos(2 * Math.PI * i / size);
            sin[i] = -Math.sin(2 * Math.PI * i / size);
        }
    }

    /** Transforms real input to the complex {@code re + i · im}; all arrays hold {@code size} numbers. */
    void transform(double[] in, double[] re, double[] im) {
        transform(in, 0, 1, size, re, im, 0, new double[size], new double[size]);
    }

    private void transform(double[] in, int at, int stride, int n, double[] re, double[] im, int out, double[] tr,
            double[] ti) {
        if (n == 1) {
            re[out] = in[at];
            im[out] = 0;
            return;
        }
        int radix = n % 4 == 0 ? 4 : smallestFactor(n);
        int m = n / radix;
        for (int r = 0; r < radix; r++) transform(in, at + r * stride, stride * radix, m, re, im, out + r * m, tr, ti);
        for (int k = 0; k < m; k++) {
            for (int q = 0; q < radix; q++) {
                double sumRe = 0;
                double sumIm = 0;
                for (int r = 0; r < radix; r++) {
                    int turn = (int) ((long) r * (k + q * m) % n) * stride; // stride · n = size
                    double a = re[out + r * m + k];
                    double b = im[out + r * m + k];
                    sumRe += a * cos[turn] - b * sin[turn];
                    sumIm += a * sin[turn] + b * cos[turn];
                }
                tr[k + q * m] = sumRe;
                ti[k + q * m] = sumIm;
            }
        }
        System.arraycopy(tr, 0, re, out, n);
        System.arraycopy(ti, 0, im, out, n);
    }

    private static int smallestFactor(int n) {
        for (int f = 2; f * f <= n; f++) if (n % f == 0)
            return f;
        return n;
    }
}
