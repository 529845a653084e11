package io.omni.backend.cuda;

import io.omni.api.Device;
import java.lang.foreign.MemorySegment;

/**
 * What this backend needs of a CUDA driver. Streams, events, kernels and graphs are numbers; device addresses are plain
 * addresses. Calls that fail throw {@link io.omni.api.BackendException}. The tests have a second one that runs kernels on
 * the host.
 */
interface Driver extends AutoCloseable {
    /** The card, with the memory free now. */
    Device device();

    int multiprocessors();

    /** Makes the card's context the calling thread's; before anything else on a thread. */
    void bind();

    /** Device memory, aligned to 256 bytes, or 0 if there is no room. */
    long allocate(long bytes);

    void free(long address);

    /** Host memory that the card can copy from and to while the host goes on. */
    MemorySegment pinned(long bytes);

    long newStream();

    void synchronize(long stream);

    long newEvent();

    /** Marks the stream's present end. */
    void record(long event, long stream);

    /** Holds back what comes next on the stream until the event's mark is passed. */
    void await(long stream, long event);

    /** Waits on the host until the event's mark is passed. */
    void synchronizeEvent(long event);

    void upload(long to, MemorySegment from, long bytes, long stream);

    void download(MemorySegment to, long from, long bytes, long stream);

    void copy(long to, long from, long bytes, long stream);

    void clear(long to, long bytes, long stream);

    /** The kernel of this name, compiled for the card if it is not yet. */
    long kernel(String name);

    /**
     * Starts a kernel.
     *
     * @param arguments
     *            addresses of the arguments, in order
     */
    void launch(long kernel, int x, int y, int z, int threads, int shared, long stream, MemorySegment arguments);

    /** What this thread issues to the stream from now on is recorded rather than done. */
    void beginCapture(long stream);

    /** Ends the recording and makes it ready to replay. */
    long endCapture(long stream);

    void replay(long graph, long stream);

    void destroyGraph(long graph);

    @Override
    void close();
}
