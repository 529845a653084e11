package io.omni.backend.cpu;

import io.omni.api.OutOfMemoryException;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/**
 * A backend's memory outside the heap: blocks of a few sizes per power of two, aligned to 64 bytes, kept for the next
 * one who asks. The C library's allocator rather than an arena: no zeroing, and closing a shared arena stops all threads.
 */
@SuppressWarnings("restricted")
final class Memory {
    /** Everything, by address: a constant without lifetime, so that accesses compile to plain loads and stores. */
    static final MemorySegment ALL = MemorySegment.NULL.reinterpret(Long.MAX_VALUE);
    /**
     * Keeps every address as it is. Where the compiler cannot move checks of bounds out of a loop, an address and this are
     * what it needs to see that the address is within {@link #ALL}.
     */
    static final long MASK = (1L << 56) - 1;

    private static final int ALIGNMENT = 64;
    private static final int CLASSES = 4 * 64;
    // blocks are kept only while all of them together stay below this
    private static final long MOST_IDLE = 256L << 20;

    private static final MethodHandle MALLOC = function("malloc",
            FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG));
    private static final MethodHandle FREE = function("free", FunctionDescriptor.ofVoid(ValueLayout.JAVA_LONG));

    private final Stack[] idle = new Stack[CLASSES];
    private final AtomicLong allocated = new AtomicLong();
    private final AtomicLong idleBytes = new AtomicLong();
    // every block by its aligned address: what malloc gave
    private final Map<Long, Long> blocks = new HashMap<>();
    private boolean closed;

    Memory() {
        for (int i = 0; i < CLASSES; i++)
            idle[i] = new Stack();
    }

    /** The address of at least {@code bytes} bytes; give it back with the same number. */
    long take(long bytes) {
        int sizeClass = sizeClass(bytes);
        long address = idle[sizeClass].pop();
        if (address == 0)
            return allocate(size(sizeClass));
        idleBytes.addAndGet(-size(sizeClass));
        return address;
    }

    void give(long address, long bytes) {
        int sizeClass = sizeClass(bytes);
        long size = size(sizeClass);
        if (idleBytes.addAndGet(size) > MOST_IDLE) {
            idleBytes.addAndGet(-size);
            free(address, size);
        } else
            idle[sizeClass].push(address);
    }

    long allocatedBytes() {
        return allocated.get();
    }

    /** Frees everything, blocks in use included. */
    synchronized void close() {
        if (closed)
            return;
        closed = true;
        blocks.values().forEach(Memory::free);
        blocks.clear();
        allocated.set(0);
    }

    private synchronized long allocate(long size) {
        if (closed)
            throw new IllegalStateException("the backend is closed");
        long raw = malloc(size + ALIGNMENT);
        if (raw == 0) {
            trim();
            raw = malloc(size + ALIGNMENT);
        }
        if (raw == 0)
            throw new OutOfMemoryException("no memory for " + size + " bytes beside " + allocated.get() + " in use");
        long address = (raw + ALIGNMENT - 1) & -ALIGNMENT;
        blocks.put(address, raw);
        allocated.addAndGet(size);
        return address;
    }

    private synchronized void free(long address, long size) {
        Long raw = blocks.remove(address);
        if (raw == null)
            return;
        free(raw);
        allocated.addAndGet(-size);
    }

    private void trim() {
        for (int i = 0; i < CLASSES; i++)
            for (long address = idle[i].pop(); address != 0; address = idle[i].pop()) {
                idleBytes.addAndGet(-size(i));
                free(address, size(i));
            }
    }

    // sizes are 4, 5, 6, 7 times a power of two, from 64 bytes on
    private static int sizeClass(long bytes) {
        if (bytes <= ALIGNMENT)
            return 0;
        int shift = 61 - Long.numberOfLeadingZeros(bytes - 1);
        return 4 * (shift - 4) + (int) (bytes - 1 >>> shift) - 3;
    }

    private static long size(int sizeClass) {
        return 4L + sizeClass % 4 << sizeClass / 4 + 4;
    }

    private static MethodHandle function(String name, FunctionDescriptor type) {
        Linker linker = Linker.nativeLinker();
        return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), type);
    }

    private static long malloc(long bytes) {
        try {
            return (long) MALLOC.invokeExact(bytes);
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    private static void free(long raw) {
        try {
            FREE.invokeExact(raw);
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    private static final class Stack {
        private long[] addresses = new long[4];
        private int size;

        synchronized void push(long address) {
            if (size == addresses.length)
                addresses = java.util.Arrays.copyOf(addresses, 2 * size);
            addresses[size++] = address;
        }

        synchronized long pop() {
            return size == 0 ? 0 : addresses[--size];
        }
    }
}
