package io.omni.core;

import java.util.ArrayList;
import java.util.List;

/** The codec frames of one answer on their way from the Talker to Code2Wav. */
final class FrameFeed {
    private final Cancellation lock;
    private final List<int[]> frames = new ArrayList<>();
    private boolean ended;

    FrameFeed(Cancellation lock) {
        this.lock = lock;
    }

    void add(int[] frame) {
        lock.update(() -> frames.add(frame));
    }

    void end() {
        lock.update(() -> ended = true);
    }

    /** Whether frames up to {@code to} are there, or no more will come. */
    boolean isReady(int to) {
        return lock.read(() -> ended || frames.size() >= to);
    }

    /** Frames from {@code from} on, at most {@code n}: {@code [groups][frames]}. */
    int[][] codes(int from, int n, int groups) {
        return lock.read(() -> {
            int count = Math.min(n, frames.size() - from);
            int[][] codes = new int[groups][count];
            for (int t = 0; t < count; t++)
                for (int g = 0; g < groups; g++)
                    codes[g][t] = frames.get(from + t)[g];
            return codes;
        });
    }
}
