package io.omni.processor;

/**
 * Converts sampling rates with a Kaiser-windowed sinc, the filter of soxr's high quality, which librosa uses: flat to 0.914
 * of the lower Nyquist frequency, silent from it on, linear phase, ceil(length · to / from) samples. Where soxr needs one
 * stage, as from 8, 24, 32 and 48 kHz to 16, this is its filter to the last bits; where it needs several, one much like
 * what they are together.
 */
final class Resampler {
    private static final double CUTOFF = 0.95687183; // of the lower Nyquist frequency: the middle of the transition
    private static final double BETA = 13.040037; // the window of soxr's 21 bits
    private static final double SEVERAL_STAGES = 99.25; // half the window in samples of the lower rate

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
        double width = (down <= 3 ? oneStage(Math.max(up, down)) : SEVERAL_STAGES) / scale; // half the window
        int half = (int) Math.ceil(width);
        int taps = 2 * half;
        float[][] phases = new float[up][];
        float[] out = new float[(int) Math.ceilDiv((long) in.length * up, down)];
        // soxr rounds the length, and librosa fills up with silence
        int length = (int) ((2L * in.length * up + down) / (2L * down));
        for (int i = 0; i < length; i++) {
            long position = (long) i * down;
            int phase = (int) (position % up);
            if (phases[phase] == null)
                phases[phase] = phase((double) phase / up, CUTOFF * scale, width);
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

    /** Half of soxr's window, whose taps at the common rate of input and output are one more than a multiple of four. */
    private static double oneStage(int factor) {
        int taps = (int) Math.ceil(192.5034 * factor + 1);
        return ((taps + 2) / 4 * 4 + 1) / 2.0 / factor;
    }

    /**
     * The filter for an output sample that lies {@code fraction} of an input sample behind tap half - 1.
     *
     * @param width half the window in input samples
     */
    private static float[] phase(double fraction, double cutoff, double width) {
        int half = (int) Math.ceil(width);
        float[] filter = new float[2 * half];
        for (int k = 0; k < filter.length; k++) {
            double x = k - half + 1 - fraction;
            double r = x / width;
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
