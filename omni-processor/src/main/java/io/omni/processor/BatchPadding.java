package io.omni.processor;

import java.util.Arrays;
import java.util.List;

/** Lays unpadded inputs out as upstream's processor does. */
final class BatchPadding {
    private static final float SILENCE = (-10 + 4) / 4f; // log10 of the power floor, scaled

    private BatchPadding() {}

    static Batch pad(List<ModelInputs> inputs, int paddingId) {
        int length = inputs.stream().mapToInt(in -> in.inputIds().length).max().orElse(0);
        int[][] ids = new int[inputs.size()][length];
        int[][] mask = new int[inputs.size()][length];
        for (int i = 0; i < ids.length; i++) {
            int[] own = inputs.get(i).inputIds();
            Arrays.fill(ids[i], 0, length - own.length, paddingId);
            System.arraycopy(own, 0, ids[i], length - own.length, own.length);
            Arrays.fill(mask[i], length - own.length, length, 1);
        }
        List<AudioFeatures> audios = inputs.stream().flatMap(in -> in.audios().stream()).toList();
        List<VisualFeatures> images = inputs.stream().flatMap(in -> in.images().stream()).toList();
        List<VisualFeatures> videos = inputs.stream().flatMap(in -> in.videos().stream()).toList();
        int bins = audios.isEmpty() ? 0 : audios.getFirst().melBins();
        int frames = audios.stream().mapToInt(AudioFeatures::frames).max().orElse(0);
        int[][] audioMask = new int[audios.size()][frames];
        for (int i = 0; i < audioMask.length; i++) Arrays.fill(audioMask[i], 0, audios.get(i).frames(), 1);
        return new Batch(ids, mask, spectrograms(audios, bins, frames), audioMask, bins, frames, values(images),
                grids(images),
                values(videos), grids(videos), videos.stream().mapToDouble(VisualFeatures::secondsPerGrid).toArray());
    }

    private static float[] spectrograms(List<AudioFeatures> audios, int bins, int frames) {
        float[] out = new float[size((long) audios.size() * bins * frames)];
        for (int i = 0; i < audios.size(); i++) {
            AudioFeatures audio = audios.get(i);
            float loudest = Float.NEGATIVE_INFINITY;
            for (float value : audio.mel()) loudest = Math.max(loudest, value);
            float quiet = Math.max(SILENCE, loudest - 2); // 80 dB below the loudest, scaled
            for (int b = 0; b < bins; b++) {
                int at = (i * bins + b) * frames;
                System.arraycopy(audio.mel(), b * audio.frames(), out, at, audio.frames());
                Arrays.fill(out, at + audio.frames(), at + frames, quiet);
            }
        }
        return out;
    }

    private static float[] values(List<VisualFeatures> visuals) {
        float[] out = new float[size(visuals.stream().mapToLong(v -> v.pixelValues().length).sum())];
        int at = 0;
        for (VisualFeatures visual : visuals) {
            System.arraycopy(visual.pixelValues(), 0, out, at, visual.pixelValues().length);
            at += visual.pixelValues().length;
        }
        return out;
    }

    private static int size(long values) {
        if (values > Integer.MAX_VALUE - 8)
            throw new ProcessorException("a batch whose media have " + values + " values, expected at most "
                    + (Integer.MAX_VALUE - 8));
        return (int) values;
    }

    private static int[][] grids(List<VisualFeatures> visuals) {
        return visuals.stream().map(v -> new int[]{v.gridT(), v.gridH(), v.gridW()}).toArray(int[][]::new);
    }
}
