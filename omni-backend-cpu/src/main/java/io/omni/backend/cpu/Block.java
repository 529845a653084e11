package io.omni.backend.cpu;

import java.util.concurrent.atomic.AtomicInteger;

/** Memory that one or more tensors share, given back when the last of them closes. */
final class Block {
    final long address;
    private final long bytes;
    private final Memory memory;
    // keeps borrowed memory alive; never read
    @SuppressWarnings("unused")
    private final Object source;
    private final AtomicInteger users = new AtomicInteger(1);

    private Block(long address, long bytes, Memory memory, Object source) {
        this.address = address;
        this.bytes = bytes;
        this.memory = memory;
        this.source = source;
    }

    static Block of(Memory memory, long bytes) {
        return new Block(memory.take(bytes), bytes, memory, null);
    }

    /** Memory of someone else, such as a mapped file. */
    static Block borrowed(long address, Object source) {
        return new Block(address, 0, null, source);
    }

    Block share() {
        users.incrementAndGet();
        return this;
    }

    void release() {
        if (users.decrementAndGet() == 0 && memory != null)
            memory.give(address, bytes);
    }
}
