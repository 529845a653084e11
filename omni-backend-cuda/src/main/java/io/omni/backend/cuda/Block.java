package io.omni.backend.cuda;

/**
 * A piece of device memory, and which streams still have work that uses it. Its home is the stream that made it or wrote
 * it last.
 */
final class Block {
    final long address;
    final long bytes;
    /** Slab it is cut from; neighbours that are free and of one home join. */
    final long slab;
    Block previous;
    Block next;
    boolean free;

    /** Handles that share the memory, such as a reshaped tensor. */
    private int references = 1;
    Stream home;
    /** Number of the home's operation that wrote it last. */
    long written;
    /** Number of the home's operation that used it last. */
    long used;
    /** Other streams that read it: a bit for each stream's number. */
    private volatile long readers;

    Block(long address, long bytes, long slab) {
        this.address = address;
        this.bytes = bytes;
        this.slab = slab;
    }

    /** Becomes the memory of something new. */
    void reuse(Stream stream) {
        free = false;
        references = 1;
        home = stream;
        written = stream.issued();
        used = written;
        readers = 0;
    }

    synchronized void retain() {
        references++;
    }

    /** Whether that was the last handle. */
    synchronized boolean release() {
        return --references == 0;
    }

    void readBy(Stream stream) {
        if ((readers & stream.bit()) == 0)
            synchronized (this) {
                readers |= stream.bit();
            }
    }

    long readers() {
        return readers;
    }

    synchronized void ownedBy(Stream stream) {
        home = stream;
        readers = 0;
    }
}
