package io.omni.processor;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Converts sampling rates as soxr's high quality does, which librosa uses: in a few stages, each a linear-phase low pass;
 * flat to 0.914 of the lower Nyquist frequency, silent from it on; ceil(length · to / from) samples.
 *
 * <p>
 * Rates in a ratio of small numbers take one Kaiser-windowed sinc. For others it cuts off what has to go, and leaves so wide
 * a transition to a second one, of many phases, that a few taps a phase are enough. What is four times too fast or more
 * is halved first; what is more than four times too slow is multiplied last. Lengths and windows follow the
 * measurements in soxr (its {@code filter.c} and {@code cr.c}, for 20 bits), so that samples are the same but for rounding.
 */
final class Resampler {
    private static final int SLOWEST = 1000; // hertz
    private static final int FASTEST = 1_000_000;

    private static final double PASS = 0.9137436532733066; // of the Nyquist frequency: 5 % below it at -3 dB
    private static final double DECIBELS = 20 * Math.log10(2); // a bit
    private static final double ATTENUATION = 21 * DECIBELS;
    private static final double SHARPER = 1.1438861955243; // the transition until -0.01 dB over that of the window
    private static final int MOST_PHASES = 2048; // beyond, filters between two phases are interpolated

    /** The odd taps on one side of half-band filters, of which all other taps are 0 but the middle one. */
    private static final double[] HALF_BAND = {0.31154652365332069, -0.087344917685739543, 0.03681445835363728,
            -0.015189204581464479, 0.0054540855610738801, -0.0015643862626630416, 3.1816575906323303e-4,
            -3.4799449225005688e-5};
    private static final double HALF_BAND_ATTENUATION = 136.51;
    private static final double[] LONGER_HALF_BAND = {0.31227034755311189, -0.089221517147969526, 0.039139704015071934,
            -0.017250558515852023, 0.0068589440230476112, -0.0023045049636430419, 6.0963740543348963e-4,
            -1.1323803957431231e-4, 1.119776999100005e-5};

    /**
     * The Kaiser window's parameter as a polynomial of the attenuation, for transitions of 0.0005 of the cutoff and each time
     * double of that.
     */
    private static final double[][] BETA = {{-0.8978365, 0.1087556, 1.02856e-5, -6.784957e-10},
            {-0.8974658, 0.10876, 1.027433e-5, -6.897885e-10}, {-0.8977898, 0.1087677, 1.030092e-5, -1.000683e-9},
            {-0.8917766, 0.1087085, 1.040631e-5, -3.654474e-10}, {-0.9022048, 0.1091387, 6.983091e-6, 8.106988e-9},
            {-0.8890768, 0.1090068, 7.272678e-6, 9.519571e-9}, {-0.8565452, 0.1083999, 1.342186e-5, -5.626821e-9},
            {-0.6822778, 0.1040967, 5.073548e-5, -9.965946e-8}, {-1.24824, 0.1185998, -5.856462e-5, 1.604808e-7},
            {-0.8076665, 0.1064627, 6.363034e-5, -1.511964e-7}};

    private Resampler() {}

    static float[] resample(float[] in, int from, int to) {
        if (from < SLOWEST || from > FASTEST) {
            throw new ProcessorException(
                    "audio: found a sampling rate of " + from + " Hz, expected " + SLOWEST + " to " + FASTEST);
        }
        if (from == to)
            return in;
        float[] samples = in;
        for (Stage stage : stages(from, to)) samples = stage.apply(samples);
        // soxr rounds the length, and librosa fills up with silence
        int rounded = (int) ((2L * in.length * to + from) / (2L * from));
        return Arrays.copyOf(Arrays.copyOf(samples, rounded), (int) Math.ceilDiv((long) in.length * to, from));
    }

    /** What soxr does for the two rates, in its order. */
    private static List<Stage> stages(int from, int to) {
        long in = from;
        long out = to;
        int postUp = 1;
        if (to > 4L * from && to != 5L * from) {
            postUp = Math.clamp(Long.highestOneBit(to / (4L * from)), 4, 256);
            in *= postUp;
        }
        int halvings = 0;
        for (; in >= 4 * out; out *= 2) halvings++;
        boolean faster = in < out;
        boolean later = 2 * in > 3 * out && in < 2 * out; // halved at the end, with no filter before
        int preUp = faster || 2 * in <= 3 * out ? 2 : 1;
        in *= preUp;
        if (later)
            out *= 2;
        long gcd = BigInteger.valueOf(in).gcd(BigInteger.valueOf(out)).longValue();
        int up = (int) (out / gcd);
        int down = (int) (in / gcd);
        int half = preUp * up % 2 == 0 && down % 2 == 0 ? 2 : 1;
        boolean single = !later && isSmall(preUp * up / half, down / half);

        int filters = halvings + (single || later ? 1 : 2) + (later || postUp > 1 ? 1 : 0);
        double attenuation = ATTENUATION + DECIBELS * (single ? 0 : 1)
                + 20 * Math.log10(single ? filters : filters - 1);
        double ratio = (double) in / out;
        List<Stage> stages = new ArrayList<>();
        for (int i = 0; i < halvings; i++) stages.add(halving(attenuation));
        if (single)
            stages.add(
                    lowPass(preUp * up / half, down / half, Math.max(preUp * up, down) / half, PASS, 1, attenuation));
        else if (later) {
            stages.add(manyPhases(up, down, 10.6, true, PASS / (2 * ratio), 3 / (2 * ratio), ratio));
            stages.add(lowPass(1, 2, 2, PASS, 1, attenuation));
        } else {
            double nyquist = faster ? 2 : ratio;
            stages.add(lowPass(preUp, 1, nyquist, PASS, 1, attenuation));
            double pass = PASS / nyquist;
            double stop = 2 - (pass + 0.7 * (1 / nyquist - pass)); // nearly where mirror images of the first one's band begin
            stages.add(manyPhases(up, down, faster ? 11 : 12.4, faster, pass, stop, faster ? 1 : ratio));
        }
        if (postUp > 1) {
            double rate = (double) from * postUp / to; // before it, of the one after all stages
            stages.add(lowPass(postUp, 1, postUp, PASS * rate, Math.max(2 - rate, 1), attenuation));
        }
        return stages;
    }

    private static boolean isSmall(int up, int down) {
        return Math.max(up, down) < 5 || (long) up * down < 6;
    }

    private static Stage halving(double attenuation) {
        double[] side = attenuation > HALF_BAND_ATTENUATION ? LONGER_HALF_BAND : HALF_BAND;
        double[] filter = new double[4 * side.length - 1];
        int middle = 2 * side.length - 1;
        filter[middle] = 0.5;
        for (int i = 0; i < side.length; i++) filter[middle - 2 * i - 1] = filter[middle + 2 * i + 1] = side[i];
        return new Stage(1, 2, filter);
    }

    /** Frequencies are in units of {@code nyquist}, that of the multiplied rate. */
    private static Stage lowPass(int up, int down, double nyquist, double pass, double stop, double attenuation) {
        Kaiser window = Kaiser.of(pass / nyquist, stop / nyquist, attenuation, 1);
        int multiple = up > 1 && nyquist == up && Integer.bitCount(up) == 1 ? 2 * up : 4;
        int taps = (window.taps() + multiple - 2) / multiple * multiple + 1;
        return new Stage(up, down, window.sinc(taps, 0.5, up));
    }

    /**
     * A few taps for each of many phases between two samples.
     *
     * @param bits of phases for a ratio of 1, where they are interpolated
     * @param odd whether the taps of a phase may be odd
     */
    private static Stage manyPhases(int up, double down, double bits, boolean odd, double pass, double stop,
            double ratio) {
        int phases = up <= MOST_PHASES ? up : 1 << (int) Math.ceil(bits - Math.log(ratio) / Math.log(2));
        double attenuation = ATTENUATION + DECIBELS;
        double edge = stop - SHARPER * (stop - pass);
        int estimated = Math.max(phases, 19);
        int taps = Kaiser.of(edge, stop, attenuation, estimated).taps() / estimated + 1;
        if (taps % 2 == 1 && !odd)
            taps++;
        double step = down / up * phases;
        if (taps % 2 == 1 && phases % 2 == 1) {
            phases *= 2;
            step *= 2;
        }
        return new Stage(phases, step,
                Kaiser.of(edge, stop, attenuation, phases).sinc(taps * phases - 1, 0.75, phases));
    }

    /** A window for sincs, with frequencies in units of the Nyquist frequency. */
    private record Kaiser(double cutoff, double transition, double beta) {
        static Kaiser of(double pass, double stop, double attenuation, int phases) {
            double transition = Math.min((stop - pass) / 2, stop / 2) / phases;
            double cutoff = stop / phases - transition;
            double octave = Math.log(transition / 2 / cutoff / 0.0005) / Math.log(2);
            double below = beta((int) octave, attenuation);
            double beta = below + (beta((int) octave + 1, attenuation) - below) * (octave - (int) octave);
            return new Kaiser(cutoff, transition, beta);
        }

        private static double beta(int octave, double attenuation) {
            double[] c = BETA[Math.clamp(octave, 0, BETA.length - 1)];
            return ((c[3] * attenuation + c[2]) * attenuation + c[1]) * attenuation + c[0];
        }

        int taps() {
            double width = ((-1.577737e-5 * beta + 0.0007528358) * beta + 0.6248022) * beta + 0.06186902;
            return (int) Math.ceil(width / transition + 1);
        }

        /** @param margin from the last tap to where the window would end */
        double[] sinc(int taps, double margin, double gain) {
            double[] filter = new double[taps];
            double middle = (taps - 1) / 2.0;
            for (int i = 0; i < taps; i++) {
                double x = i - middle;
                double r = x / (middle + margin);
                double sinc = x == 0 ? cutoff : Math.sin(Math.PI * cutoff * x) / (Math.PI * x);
                filter[i] = gain * sinc * bessel(beta * Math.sqrt(1 - r * r)) / bessel(beta);
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

    /**
     * Multiplies the rate, filters, and divides it.
     *
     * @param down of the multiplied rate; filters between two of its samples are interpolated
     * @param filter symmetric, with a tap in the middle
     */
    private record Stage(int up, double down, double[] filter) {
        /** What comes of the samples and silence after them, from the first sample's time on. */
        float[] apply(float[] in) {
            int middle = filter.length / 2;
            double[][] phases = phases();
            float[] out = new float[(int) Math.ceil(((double) in.length * up + middle) / down)];
            for (int i = 0; i < out.length; i++) {
                long whole = (long) (i * down);
                double part = i * down - whole;
                double sum = sum(in, phases, whole + middle);
                out[i] = (float) (part == 0 ? sum : sum + part * (sum(in, phases, whole + middle + 1) - sum));
            }
            return out;
        }

        /** Taps that meet the samples, in their order. */
        private double[][] phases() {
            double[][] phases = new double[up][];
            for (int p = 0; p < up; p++) {
                double[] phase = new double[(filter.length - p + up - 1) / up];
                for (int i = 0; i < phase.length; i++) phase[i] = filter[p + up * (phase.length - 1 - i)];
                phases[p] = phase;
            }
            return phases;
        }

        private double sum(float[] in, double[][] phases, long end) {
            double[] taps = phases[(int) (end % up)];
            int first = (int) (end / up) - taps.length + 1;
            int i = Math.max(0, -first);
            int n = Math.min(taps.length, in.length - first);
            // four sums do not wait for each other
            double a = 0;
            double b = 0;
            double c = 0;
            double d = 0;
            for (; i + 4 <= n; i += 4) {
                a += taps[i] * in[first + i];
                b += taps[i + 1] * in[first + i + 1];
                c += taps[i + 2] * in[first + i + 2];
                d += taps[i + 3] * in[first + i + 3];
            }
            for (; i < n; i++) a += taps[i] * in[first + i];
            return a + b + c + d;
        }
    }
}
