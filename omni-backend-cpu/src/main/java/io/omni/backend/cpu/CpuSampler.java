package io.omni.backend.cpu;

import io.omni.api.HostSampler;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/** One sequence's sampling: the largest logit is found in place, anything else is left to {@link HostSampler}. */
final class CpuSampler implements Sampler {
    private final HostSampler host;
    private final int vocabulary;
    // the largest logit of those between suppressed tokens is all that counts
    private final boolean direct;
    private final int[] suppressed;
    private float[] row;

    CpuSampler(Sampling sampling, int vocabulary, int[] history) {
        host = new HostSampler(sampling, vocabulary, history);
        this.vocabulary = vocabulary;
        direct = !sampling.doSample() && sampling.repetitionPenalty() == 1;
        suppressed = Arrays.stream(sampling.suppressTokens()).sorted().distinct().toArray();
    }

    int vocabulary() {
        return vocabulary;
    }

    /** Draws from the logits at an address. */
    int next(long logits) {
        if (direct)
            return largest(logits);
        if (row == null)
            row = new float[vocabulary];
        MemorySegment.copy(Memory.ALL, Lanes.FLOAT, logits, row, 0, vocabulary);
        return host.next(row, 0);
    }

    private int largest(long logits) {
        int best = -1;
        int from = 0;
        for (int i = 0; i <= suppressed.length; i++) {
            int to = i < suppressed.length ? suppressed[i] : vocabulary;
            float least = best < 0 ? Float.NEGATIVE_INFINITY : Lanes.get(logits + 4L * best);
            int found = from < to ? Rows.argMax(logits, from, to, least) : -1;
            if (found >= 0)
                best = found;
            from = to + 1;
        }
        return Math.max(best, 0);
    }

    @Override
    public Sampling sampling() {
        return host.sampling();
    }

    @Override
    public void close() {}
}
