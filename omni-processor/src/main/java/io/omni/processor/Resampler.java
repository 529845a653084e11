package io.omni.processor;

/**
 * Converts sampling rates with a Kaiser-windowed sinc, in the manner of soxr's high quality, which librosa uses: flat to
 * 0.913 of the lower Nyquist frequency, silent from it on, linear phase, ceil(length · to / from) samples.
 */
final class Resampler {
    private static final double PASS = 0.913;
    private static final double ATTENUATION = 125; // dB
    private static final double BETA = 0.1102 * (ATTENUATION - 8.7);

    private static final int SLOWEST = 1000; // hertz
    private static final int FASTEST = 1_000_000;

    private Resampler() {}

    static float[] resample(float[] in, int from, int to) {
        if (from < SLOWEST || from > FASTEST) {
            throw new ProcessorException(
                    "audio: found a sampling rate of " + from + " Hz, expected " + SLOWEST + " to " + FASTEST);
        }
        if (from == to)
            return in;
        int gcd = java.math.BigInteger.valueOf(from).gcd(java.math.BigInteger.valueOf(to)).intValue();
        int up = to / gcd;
        int down = from / gcd;
        double scale = Math.min(1, (double) to / from); // of the output's Nyquist frequency in the input's
        double cutoff = scale * (1 + PASS) / 2; // the middle of the transition
        double transition = Math.PI * scale * (1 - PASS); // radians per input sample
        int half = (int) Math.ceil((ATTENUATION - 7.95) / (2.285 * transition) / 2);
        int taps = 2 * half;
        float[][] phases = new float[up][];
        int length = (int) Math.ceilDiv((long) in.length * up, down);
        float[] out = new float[length];
        for (int i = 0; i < length; i++) {
            long position = (long) i * down;
            int phase = (int) (position % up);
            if (phases[phase] == null)
                phases[phase] = phase((double) phase / up, cutoff, half);
            float[] filter = phases[phase];
            int first = (int) (position / up) - half + 1;
            int begin = Math.max(0, -first);
            int end = Math.min(taps, in.length - first);
            double sum = 0;
            for (int k = begin; k < end; k++) sum += (double) filter[k] * in[first + k];
            out[i] = (float) sum;
        }
        return out;
    }

    /** The filter for an output sample that lies {@code fraction} of an input sample behind tap half - 1. */
    private static float[] phase(double fraction, double cutoff, int half) {
        float[] filter = new float[2 * half];
        for (int k = 0; k < filter.length; k++) {
            double x = k - half + 1 - fraction;
            double r = x / half;
            double window = Math.abs(r) >= 1 ? 0 : bessel(BETA * Math.sqrt(1 - r * r)) / bessel(BETA);
            double sinc = x == 0 ? cutoff : Math.sin(Math.PI * cutoff * x) / (Math.PI * x);
            filter[k] = (float) (sinc * window);
        }
        return filter;
    }

    /** The modified Bessel function of the first kind, order 0. */
    private static double bessel(double x) {
        double sum = 1;
        double term = 1;
        for (int k = 1; term > 1e-17 * sum; k++) {
            term *= x * x / (4.0 * k * k);
            sum += term;
        }
        return sum;
    }
}
