package io.omni.backend.cuda;

import io.omni.api.Sampler;
import io.omni.api.Sampling;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** A sampler whose state is on the card, laid out as SamplerState in sampling.cu. */
final class CudaSampler implements Sampler {
    private static final int HEAD = 64;

    private final CudaBackend backend;
    private final Sampling sampling;
    private final int vocabulary;
    private final Block block;
    private boolean closed;

    CudaSampler(CudaBackend backend, Sampling sampling, int vocabulary, int[] history) {
        this.backend = backend;
        this.sampling = sampling;
        this.vocabulary = vocabulary;
        int words = (vocabulary + 31) / 32;
        long[] state = new long[(HEAD + 2 * 4 * words + 7) / 8];
        MemorySegment memory = MemorySegment.ofArray(state);
        memory.set(ValueLayout.JAVA_LONG, 0, sampling.seed());
        memory.set(ValueLayout.JAVA_FLOAT, 16, sampling.temperature());
        memory.set(ValueLayout.JAVA_FLOAT, 20, sampling.topP());
        memory.set(ValueLayout.JAVA_FLOAT, 24, sampling.repetitionPenalty());
        memory.set(ValueLayout.JAVA_INT, 28, sampling.topK());
        memory.set(ValueLayout.JAVA_INT, 32, sampling.doSample() ? 1 : 0);
        memory.set(ValueLayout.JAVA_INT, 36, words);
        for (int token : history)
            mark(memory, HEAD, token);
        for (int token : sampling.suppressTokens())
            mark(memory, HEAD + 4 * words, token);
        block = backend.withStream(stream -> {
            Block made = backend.allocate(memory.byteSize(), stream);
            stream.upload(made, made.address, memory);
            return made;
        });
    }

    private void mark(MemorySegment memory, int from, int token) {
        if (token < 0 || token >= vocabulary)
            throw new IllegalArgumentException("token " + token + ", expected 0 to " + (vocabulary - 1));
        long word = from + token / 32 * 4L;
        memory.set(ValueLayout.JAVA_INT, word, memory.get(ValueLayout.JAVA_INT, word) | 1 << token % 32);
    }

    @Override
    public Sampling sampling() {
        return sampling;
    }

    boolean belongsTo(CudaBackend other) {
        return backend == other;
    }

    /** Where the state is, for the stream's next operation to read and change. */
    long state(Stream stream, int logits) {
        if (closed)
            throw new IllegalStateException("a closed sampler");
        if (logits != vocabulary)
            throw new IllegalArgumentException(logits + " logits, the sampler has " + vocabulary + " tokens");
        stream.claim(block);
        return block.address;
    }

    void changed(Stream stream) {
        block.written = stream.issued();
        block.used = block.written;
    }

    @Override
    public void close() {
        if (closed)
            return;
        closed = true;
        backend.free(block);
    }
}
