package io.omni.processor;

/**
 * Whisper's log-mel spectrogram: a periodic Hann window, power, Slaney's mel filters up to 8 kHz, log10, the 80 dB below
 * the loudest, scaled to about [-1, 1.5]. Frames are centred, the sound reflected at both ends, and the last frame left
 * out, as in {@code WhisperFeatureExtractor}.
 */
final class MelSpectrogram {
    private static final double TOP_HERTZ = 8000;
    private static final float FLOOR = 1e-10f;

    private final int bins;
    private final int fftSize;
    private final int hop;
    private final double[] window;
    private final float[][] filters; // [bins][fftSize / 2 + 1]
    private final int[] first;
    private final int[] last;
    private final FourierTransform fourier;

    MelSpectrogram(int bins, int fftSize, int hop, int rate) {
        this.bins = bins;
        this.fftSize = fftSize;
        this.hop = hop;
        window = new double[fftSize];
        for (int i = 0; i < fftSize; i++) window[i] = (float) (0.5 - 0.5 * Math.cos(2 * Math.PI * i / fftSize));
        filters = filters(bins, fftSize / 2 + 1, rate);
        first = new int[bins];
        last = new int[bins];
        for (int b = 0; b < bins; b++) {
            first[b] = fftSize;
            for (int k = 0; k <= fftSize / 2; k++) {
                if (filters[b][k] == 0)
                    continue;
                first[b] = Math.min(first[b], k);
                last[b] = k;
            }
        }
        fourier = new FourierTransform(fftSize);
    }

    /** Samples that a sound needs at least, for its reflection at the ends. */
    int shortest() {
        return fftSize / 2 + 1;
    }

    /**
     * @param samples at the model's rate
     * @param padded the length up to which silence follows, that of the longest sound of the conversation; the frames
     *        returned are those that upstream's attention mask keeps of the padded sound
     */
    AudioFeatures features(float[] samples, int padded) {
        int frames = Math.min(Math.ceilDiv(samples.length, hop), padded / hop);
        // Frames further right hear only padding, and silence is never the loudest.
        int heard = Math.min(padded / hop, (samples.length + fftSize / 2) / hop + 1);
        float[] logs = new float[bins * heard];
        double[] segment = new double[fftSize];
        double[] re = new double[fftSize];
        double[] im = new double[fftSize];
        float[] power = new float[fftSize / 2 + 1];
        float loudest = Float.NEGATIVE_INFINITY;
        for (int f = 0; f < heard; f++) {
            for (int i = 0; i < fftSize; i++) {
                segment[i] = window[i] * at(samples, padded, f * hop - fftSize / 2 + i);
            }
            fourier.transform(segment, re, im);
            for (int k = 0; k < power.length; k++) power[k] = (float) (re[k] * re[k] + im[k] * im[k]);
            for (int b = 0; b < bins; b++) {
                double sum = 0;
                for (int k = first[b]; k <= last[b]; k++) sum += filters[b][k] * power[k];
                float log = (float) Math.log10(Math.max((float) sum, FLOOR));
                logs[b * heard + f] = log;
                loudest = Math.max(loudest, log);
            }
        }
        float[] mel = new float[bins * frames];
        for (int b = 0; b < bins; b++) {
            for (int f = 0; f < frames; f++) {
                mel[b * frames + f] = (Math.max(logs[b * heard + f], loudest - 8f) + 4f) / 4f;
            }
        }
        return new AudioFeatures(mel, bins, frames);
    }

    private static float at(float[] samples, int padded, int i) {
        int reflected = i < 0 ? -i : i < padded ? i : 2 * (padded - 1) - i;
        return reflected < samples.length ? samples[reflected] : 0;
    }

    private static float[][] filters(int bins, int frequencies, int rate) {
        double[] edges = new double[bins + 2];
        for (int i = 0; i < edges.length; i++) edges[i] = hertz(mel(TOP_HERTZ) * i / (bins + 1));
        float[][] filters = new float[bins][frequencies];
        for (int b = 0; b < bins; b++) {
            double area = 2 / (edges[b + 2] - edges[b]);
            for (int k = 0; k < frequencies; k++) {
                double f = rate / 2.0 * k / (frequencies - 1);
                double up = (f - edges[b]) / (edges[b + 1] - edges[b]);
                double down = (edges[b + 2] - f) / (edges[b + 2] - edges[b + 1]);
                filters[b][k] = (float) (Math.max(0, Math.min(up, down)) * area);
            }
        }
        return filters;
    }

    // Slaney's scale: linear to 1 kHz (15 mel), then 27 mel to a factor of 6.4.
    private static double mel(double hertz) {
        return hertz < 1000 ? hertz * 3 / 200 : 15 + Math.log(hertz / 1000) * 27 / Math.log(6.4);
    }

    private static double hertz(double mel) {
        return mel < 15 ? mel * 200 / 3 : 1000 * Math.exp((mel - 15) * Math.log(6.4) / 27);
    }
}
