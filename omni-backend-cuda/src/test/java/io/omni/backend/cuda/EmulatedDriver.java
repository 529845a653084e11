package io.omni.backend.cuda;

import io.omni.api.Device;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * A driver without a card. Kernels run on the host, as src/test/cuda compiles them; memory is full of NaN when it is
 * given out, with more on both sides that must stay so. A stream does nothing until someone waits for it, the latest that
 * a card might, so that work which no event orders is seen to be out of order.
 */
@SuppressWarnings("restricted")
final class EmulatedDriver implements Driver {
    private static final long MARGIN = 4096;

    private record Mark(int stream, long operations) {}

    private static final class Queue {
        final Deque<Runnable> tasks = new ArrayDeque<>();
        long issued;
        long done;
        List<Runnable> capture;
    }

    /** Kernels that were ever launched, by all drivers. */
    static final TreeSet<String> LAUNCHED = new TreeSet<>();

    private final Kernels kernels = Kernels.load();
    private final List<String> names = new ArrayList<>(kernels.entries().keySet());
    private final MethodHandle launch;
    private final MethodHandle error;
    private final int order;
    private final long memory;
    private final List<Queue> streams = new ArrayList<>();
    private final List<Mark> events = new ArrayList<>();
    private final TreeMap<Long, MemorySegment> allocations = new TreeMap<>();
    private final Map<Long, Arena> arenas = new HashMap<>();
    private final Map<Long, List<Runnable>> graphs = new HashMap<>();
    private long taken;
    int launches;
    int replays;

    /**
     * @param order
     *            0 runs threads and blocks first to last and makes copies early, 1 last to first and late
     */
    EmulatedDriver(int order, long memory) {
        Path library;
        try {
            library = Emulation.library();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        SymbolLookup lookup = SymbolLookup.libraryLookup(library, Arena.global());
        launch = Linker.nativeLinker().downcallHandle(lookup.findOrThrow("emulation_launch"),
                FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_INT,
                        ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.JAVA_INT,
                        ValueLayout.ADDRESS, ValueLayout.JAVA_INT));
        error = Linker.nativeLinker().downcallHandle(lookup.findOrThrow("emulation_error"),
                FunctionDescriptor.of(ValueLayout.ADDRESS));
        this.order = order;
        this.memory = memory;
    }

    @Override
    public synchronized Device device() {
        return new Device("emulation", "", memory, memory - taken);
    }

    @Override
    public int multiprocessors() {
        return 4;
    }

    @Override
    public void bind() {}

    @Override
    public synchronized long allocate(long bytes) {
        if (taken + bytes > memory)
            return 0;
        taken += bytes;
        Arena arena = Arena.ofShared();
        MemorySegment all = arena.allocate(bytes + 2 * MARGIN, 4096).fill((byte) -1);
        long address = all.address() + MARGIN;
        allocations.put(address, all);
        arenas.put(address, arena);
        return address;
    }

    @Override
    public synchronized void free(long address) {
        for (int i = 0; i < streams.size(); i++)
            drain(i, streams.get(i).issued);
        MemorySegment all = allocations.remove(address);
        long bytes = all.byteSize() - 2 * MARGIN;
        for (long i = 0; i < MARGIN; i++)
            if (all.get(ValueLayout.JAVA_BYTE, i) != -1 || all.get(ValueLayout.JAVA_BYTE, MARGIN + bytes + i) != -1)
            throw new AssertionError("a kernel wrote outside of its memory");
        taken -= bytes;
        arenas.remove(address).close();
    }

    @Override
    public MemorySegment pinned(long bytes) {
        return Arena.ofAuto().allocate(bytes, 4096);
    }

    @Override
    public synchronized long newStream() {
        streams.add(new Queue());
        return streams.size() - 1;
    }

    private void enqueue(long stream, Runnable task) {
        Queue queue = streams.get((int) stream);
        if (queue.capture != null) {
            queue.capture.add(task);
        } else {
            queue.tasks.add(task);
            queue.issued++;
        }
    }

    private void drain(int stream, long operations) {
        Queue queue = streams.get(stream);
        while (queue.done < operations) {
            queue.done++;
            queue.tasks.remove().run();
        }
    }

    @Override
    public synchronized void synchronize(long stream) {
        drain((int) stream, streams.get((int) stream).issued);
    }

    @Override
    public synchronized long newEvent() {
        events.add(new Mark(0, 0));
        return events.size() - 1;
    }

    @Override
    public synchronized void record(long event, long stream) {
        events.set((int) event, new Mark((int) stream, streams.get((int) stream).issued));
    }

    @Override
    public synchronized void await(long stream, long event) {
        Mark mark = events.get((int) event);
        enqueue(stream, () -> drain(mark.stream, mark.operations));
    }

    @Override
    public synchronized void synchronizeEvent(long event) {
        Mark mark = events.get((int) event);
        drain(mark.stream, mark.operations);
    }

    @Override
    public synchronized void upload(long to, MemorySegment from, long bytes, long stream) {
        MemorySegment target = at(to, bytes);
        enqueue(stream, () -> target.copyFrom(from.asSlice(0, bytes)));
    }

    @Override
    public synchronized void download(MemorySegment to, long from, long bytes, long stream) {
        MemorySegment source = at(from, bytes);
        enqueue(stream, () -> to.copyFrom(source));
    }

    @Override
    public synchronized void copy(long to, long from, long bytes, long stream) {
        MemorySegment source = at(from, bytes);
        MemorySegment target = at(to, bytes);
        enqueue(stream, () -> target.copyFrom(source));
    }

    @Override
    public synchronized void clear(long to, long bytes, long stream) {
        MemorySegment target = at(to, bytes);
        enqueue(stream, () -> target.fill((byte) 0));
    }

    private MemorySegment at(long address, long bytes) {
        var entry = allocations.floorEntry(address);
        if (entry == null || address + bytes > entry.getKey() + entry.getValue().byteSize() - 2 * MARGIN)
            throw new AssertionError(bytes + " bytes at an address that was not allocated");
        return entry.getValue().asSlice(MARGIN + address - entry.getKey(), bytes);
    }

    @Override
    public synchronized long kernel(String name) {
        if (!kernels.entries().containsKey(name))
            throw new AssertionError("no kernel " + name);
        return names.indexOf(name);
    }

    @Override
    public synchronized void launch(long kernel, int x, int y, int z, int threads, int shared, long stream,
            MemorySegment arguments) {
        String name = names.get((int) kernel);
        Kernels.Entry entry = kernels.entries().get(name);
        int count = (int) (arguments.byteSize() / 8);
        if (count != entry.parameters().size())
            throw new AssertionError(name + " takes " + entry.parameters().size() + " arguments, not " + count);
        if (threads > entry.threads() || y > 65535 || z > 65535 || shared > 48 << 10)
            throw new AssertionError(name + " launched with " + y + ", " + z + " blocks of " + threads + " threads");
        long[] words = new long[count];
        for (int i = 0; i < count; i++) {
            words[i] = arguments.getAtIndex(ValueLayout.ADDRESS, i).reinterpret(8).get(ValueLayout.JAVA_LONG, 0);
            if (!entry.parameters().get(i).equals("u64") && words[i] >>> 32 != 0)
                throw new AssertionError(name + " takes 32 bits as argument " + i);
        }
        LAUNCHED.add(name);
        launches++;
        enqueue(stream, () -> run(name, x, y, z, threads, shared, words));
    }

    private void run(String name, int x, int y, int z, int threads, int shared, long[] words) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment slots = arena.allocateFrom(ValueLayout.JAVA_LONG, words);
            MemorySegment table = arena.allocate(ValueLayout.ADDRESS, words.length);
            for (int i = 0; i < words.length; i++)
                table.setAtIndex(ValueLayout.ADDRESS, i, slots.asSlice(8L * i));
            int status;
            // fibers and shared memory are there once
            synchronized (LAUNCHED) {
                status = (int) launch.invokeExact(arena.allocateFrom(name), x, y, z, threads, shared, table, order);
            }
            if (status != 0)
                throw new AssertionError(((MemorySegment) error.invokeExact()).reinterpret(1000).getString(0));
        } catch (Error | RuntimeException e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    @Override
    public synchronized void beginCapture(long stream) {
        streams.get((int) stream).capture = new ArrayList<>();
    }

    @Override
    public synchronized long endCapture(long stream) {
        Queue queue = streams.get((int) stream);
        graphs.put((long) graphs.size() + 1, queue.capture);
        queue.capture = null;
        return graphs.size();
    }

    @Override
    public synchronized void replay(long graph, long stream) {
        replays++;
        graphs.get(graph).forEach(task -> enqueue(stream, task));
    }

    @Override
    public synchronized void destroyGraph(long graph) {
        graphs.put(graph, null);
    }

    @Override
    public synchronized void close() {
        if (!allocations.isEmpty())
            throw new AssertionError(allocations.size() + " slabs were not freed");
    }
}
