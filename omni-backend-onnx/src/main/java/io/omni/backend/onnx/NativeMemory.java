package io.omni.backend.onnx;

import io.omni.api.OutOfMemoryException;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;

/**
 * Memory outside the heap, from malloc: an arena that can be closed from any thread stops all threads for it, and direct
 * buffers wait for the collector. Freed blocks are kept for the next one of their size, since fresh pages cost more than
 * what is computed in them.
 */
final class NativeMemory implements AutoCloseable {
    private static final long POOLED = 256L << 20;
    private static final int GRAIN = 64;
    private static final MethodHandle ALLOCATE = downcall("malloc",
            FunctionDescriptor.of(ValueLayout.ADDRESS, ValueLayout.JAVA_LONG));
    private static final MethodHandle FREE = downcall("free", FunctionDescriptor.ofVoid(ValueLayout.ADDRESS));

    private final Map<Long, Deque<MemorySegment>> free = new HashMap<>();
    private final long most;
    private long pooled;
    private long held;
    private boolean closed;

    NativeMemory() {
        this(Long.MAX_VALUE);
    }

    /** Takes at most {@code most} bytes from the system. */
    NativeMemory(long most) {
        this.most = most;
    }

    /** At least {@code bytes} bytes; their content is arbitrary. */
    @SuppressWarnings("restricted")
    synchronized MemorySegment allocate(long bytes) {
        long size = roundUp(bytes);
        Deque<MemorySegment> blocks = free.get(size);
        if (blocks != null && !blocks.isEmpty()) {
            pooled -= size;
            return blocks.pop();
        }
        if (size > most - held)
            trim();
        if (size > most - held)
            throw new OutOfMemoryException("no room for " + size + " bytes beside " + held + " of at most " + most);
        try {
            var address = (MemorySegment) ALLOCATE.invokeExact(size);
            if (address.address() == 0) {
                trim();
                address = (MemorySegment) ALLOCATE.invokeExact(size);
            }
            if (address.address() == 0)
                throw new OutOfMemoryException("no room for " + size + " bytes beside " + held);
            held += size;
            return address.reinterpret(size);
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    /** Counts bytes that the runtime takes for a weight among those held. */
    synchronized void charge(long bytes) {
        if (bytes > most - held)
            trim();
        if (bytes > most - held)
            throw new OutOfMemoryException("no room for " + bytes + " bytes beside " + held + " of at most " + most);
        held += bytes;
    }

    /** Whether as many bytes more would be within both {@code limit} and what this may take at all. */
    synchronized boolean hasRoom(long bytes, long limit) {
        return bytes <= Math.min(limit, most) - (held - pooled);
    }

    synchronized void discharge(long bytes) {
        held -= bytes;
    }

    /** Takes back a segment exactly as {@link #allocate} gave it. */
    synchronized void release(MemorySegment block) {
        long size = block.byteSize();
        if (closed || pooled + size > POOLED) {
            free(block);
            return;
        }
        pooled += size;
        free.computeIfAbsent(size, _ -> new ArrayDeque<>()).push(block);
    }

    /** Bytes taken from the system, pooled ones included. */
    synchronized long held() {
        return held;
    }

    @Override
    public synchronized void close() {
        closed = true;
        trim();
    }

    private void trim() {
        for (Deque<MemorySegment> blocks : free.values())
            blocks.forEach(this::free);
        free.clear();
        pooled = 0;
    }

    private void free(MemorySegment block) {
        held -= block.byteSize();
        try {
            FREE.invokeExact(block);
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    /** A multiple of an eighth of the power of two below, so that few sizes are pooled and little is wasted. */
    private static long roundUp(long bytes) {
        long step = Math.max(GRAIN, Long.highestOneBit(Math.max(1, bytes)) / 8);
        return (Math.max(1, bytes) + step - 1) / step * step;
    }

    @SuppressWarnings("restricted")
    private static MethodHandle downcall(String name, FunctionDescriptor descriptor) {
        Linker linker = Linker.nativeLinker();
        return linker.downcallHandle(linker.defaultLookup().find(name).orElseThrow(), descriptor);
    }
}
