package io.omni.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;

/**
 * A queue of work on the card, for one thread at a time. The next operation's arguments are put one after another, then it
 * is launched:
 *
 * <pre>
 * stream.kernel("rms_norm_bf16").in(x).in(weight).out(y).i32(features).f32(eps).i32(wide).launch(rows, 1, 1, 256, 0);
 * </pre>
 *
 * Reading a block of another stream waits on the card for the work that wrote it.
 */
final class Stream {
    static final int LIMIT = 64;
    private static final int MOST_ARGUMENTS = 24;
    /**
     * Operations in the first graph after the card had to be waited for. Each of the next ones is twice as long as the one
     * before it, so that the card begins early and gets the rest of a step in a few launches.
     */
    private static final int FIRST_SEGMENT = 64;
    private static final int LONGEST_SEGMENT = 4096;
    private static final int MOST_GRAPHS = 256;
    private static final int PINNED = 4 << 20;
    private static final int MOST_CONSTANTS = 512;

    private final Driver driver;
    private final Pool pool;
    private final int number;
    private final boolean graphs;
    private final long handle;
    private final long mark;
    private final ReentrantLock lock = new ReentrantLock();
    /** Of each other stream, how many of its operations come before what is issued here from now on. */
    private final long[] followed = new long[LIMIT];
    private volatile long issued;

    // the operation that is being put together
    private final Arena arena = Arena.ofShared();
    private final MemorySegment table = arena.allocate(ValueLayout.ADDRESS, MOST_ARGUMENTS);
    private final MemorySegment slots = arena.allocate(ValueLayout.JAVA_LONG, MOST_ARGUMENTS);
    private final long[] arguments = new long[MOST_ARGUMENTS];
    private int count;
    private long kernel;

    // operations not yet given to the driver, each its head and arguments; see add
    private long[] pending = new long[64];
    private int pendingWords;
    private int pendingOperations;
    private int most = FIRST_SEGMENT;
    private final Map<Segment, Long> known = new LinkedHashMap<>(16, 0.75f, true);

    // pinned memory for copies: two halves in turn up, one down
    private final MemorySegment[] up = new MemorySegment[2];
    private final long[] upEvents = new long[2];
    private int half;
    private long upUsed;
    private MemorySegment down;

    private final Map<Segment, Block> constants = new LinkedHashMap<>(16, 0.75f, true);

    /** A sequence of operations, or of words. */
    private record Segment(long[] words, int hash) {
        static Segment of(long[] words, int length) {
            long[] copy = Arrays.copyOf(words, length);
            return new Segment(copy, Arrays.hashCode(copy));
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Segment s && hash == s.hash && Arrays.equals(words, s.words);
        }

        @Override
        public int hashCode() {
            return hash;
        }
    }

    Stream(Driver driver, Pool pool, int number, boolean graphs) {
        this.driver = driver;
        this.pool = pool;
        this.number = number;
        this.graphs = graphs;
        handle = driver.newStream();
        mark = driver.newEvent();
        for (int i = 0; i < MOST_ARGUMENTS; i++)
            table.setAtIndex(ValueLayout.ADDRESS, i, slots.asSlice(8L * i));
    }

    long bit() {
        return 1L << number;
    }

    /** Operations issued so far. */
    long issued() {
        return issued;
    }

    Stream kernel(String name) {
        kernel = driver.kernel(name);
        count = 0;
        return this;
    }

    /** A tensor that the operation reads, or null. */
    Stream in(CudaTensor tensor) {
        if (tensor == null)
            return u64(0);
        use(tensor.block());
        return u64(tensor.address());
    }

    /** A tensor that the operation writes, or null. */
    Stream out(CudaTensor tensor) {
        return tensor == null ? u64(0) : out(tensor.block(), tensor.address());
    }

    Stream in(Block block) {
        if (block == null)
            return u64(0);
        use(block);
        return u64(block.address);
    }

    Stream out(Block block) {
        return block == null ? u64(0) : out(block, block.address);
    }

    private Stream out(Block block, long address) {
        use(block);
        block.written = issued + 1;
        return u64(address);
    }

    Stream u64(long value) {
        arguments[count++] = value;
        return this;
    }

    Stream i32(int value) {
        return u64(value & 0xffffffffL);
    }

    Stream i32(boolean value) {
        return u64(value ? 1 : 0);
    }

    Stream f32(float value) {
        return i32(Float.floatToRawIntBits(value));
    }

    void launch(long x, long y, long z, int threads, int shared) {
        if (x == 0 || y == 0 || z == 0)
            return;
        lock.lock();
        try {
            if (graphs) {
                long[] head = {kernel << 8 | count, x << 32 | y, z << 32 | (long) threads << 20 | shared};
                add(head, arguments, count);
            } else {
                start(kernel, (int) x, (int) y, (int) z, threads, shared, arguments, 0, count);
            }
            issued++;
        } finally {
            lock.unlock();
        }
    }

    /** Copies between blocks; neither is marked as used. */
    void copy(long to, long from, long bytes) {
        move(to, from, bytes);
    }

    void clear(long to, long bytes) {
        move(to, 0, bytes);
    }

    private void move(long to, long from, long bytes) {
        if (bytes == 0)
            return;
        lock.lock();
        try {
            if (graphs)
                add(new long[]{-1, to, from}, new long[]{bytes}, 1);
            else
                start(to, from, bytes);
            issued++;
        } finally {
            lock.unlock();
        }
    }

    /** Copies host memory to the card; the memory may change at once. */
    void upload(Block block, long to, MemorySegment from) {
        use(block);
        block.written = issued + 1;
        lock.lock();
        try {
            flush();
            long done = 0;
            while (done < from.byteSize()) {
                if (up[half] == null) {
                    up[half] = driver.pinned(PINNED);
                    upEvents[half] = driver.newEvent();
                }
                if (upUsed == PINNED) {
                    driver.record(upEvents[half], handle);
                    half ^= 1;
                    upUsed = 0;
                    if (up[half] != null)
                        driver.synchronizeEvent(upEvents[half]);
                    continue;
                }
                long n = Math.min(from.byteSize() - done, PINNED - upUsed);
                MemorySegment part = up[half].asSlice(upUsed, n);
                part.copyFrom(from.asSlice(done, n));
                driver.upload(to + done, part, n, handle);
                done += n;
                // small copies start at whole words
                upUsed = Math.min(PINNED, (upUsed + n + 15) / 16 * 16);
            }
            issued++;
        } finally {
            lock.unlock();
        }
    }

    /** Copies from the card, waiting for the work before it. */
    void download(Block block, long from, MemorySegment to) {
        use(block);
        lock.lock();
        try {
            flush();
            if (down == null)
                down = driver.pinned(PINNED);
            for (long done = 0; done < to.byteSize(); done += PINNED) {
                long n = Math.min(to.byteSize() - done, PINNED);
                driver.download(down.asSlice(0, n), from + done, n, handle);
                driver.synchronize(handle);
                most = FIRST_SEGMENT;
                to.asSlice(done, n).copyFrom(down.asSlice(0, n));
            }
        } finally {
            lock.unlock();
        }
    }

    /** Numbers on the card that many calls need the same, such as offsets; written once. */
    Block constant(int... values) {
        long[] words = new long[(values.length + 1) / 2];
        MemorySegment bytes = MemorySegment.ofArray(words);
        MemorySegment.copy(MemorySegment.ofArray(values), 0, bytes, 0, 4L * values.length);
        return constant(words);
    }

    Block constant(long[] words) {
        Segment key = Segment.of(words, words.length);
        Block block = constants.get(key);
        if (block != null)
            return block;
        if (constants.size() >= MOST_CONSTANTS) {
            var eldest = constants.entrySet().iterator();
            pool.free(eldest.next().getValue());
            eldest.remove();
        }
        block = pool.allocate(8L * words.length, this);
        upload(block, block.address, MemorySegment.ofArray(words));
        constants.put(key, block);
        return block;
    }

    /** Waits, on the card, for the block's last writer. */
    void use(Block block) {
        Stream home = block.home;
        if (home == this) {
            block.used = issued + 1;
        } else {
            block.readBy(this);
            follow(home, block.written);
        }
    }

    /** Makes this stream the block's home, after all work on it so far; for memory that operations change. */
    void claim(Block block) {
        Stream home = block.home;
        if (home == this && block.readers() == 0)
            return;
        follow(home, block.used);
        followReaders(block);
        block.ownedBy(this);
        block.written = issued;
        block.used = issued;
    }

    private void followReaders(Block block) {
        long readers = block.readers();
        for (Stream other : others)
            if (other != null && other != this && (readers & other.bit()) != 0)
            follow(other, other.issued());
    }

    /** All streams of the backend, by number. */
    private Stream[] others = {};

    void knows(Stream[] streams) {
        others = streams;
    }

    /** Holds back what is issued from now on until the other stream has done its first {@code operations}. */
    void follow(Stream other, long operations) {
        if (other == this || followed[other.number] >= operations)
            return;
        long reached = other.mark();
        lock.lock();
        try {
            flush();
            // if the mark has moved on since, this waits for a little more
            driver.await(handle, other.mark);
            followed[other.number] = Math.max(followed[other.number], reached);
        } finally {
            lock.unlock();
        }
    }

    private long mark() {
        lock.lock();
        try {
            flush();
            driver.record(mark, handle);
            return issued;
        } finally {
            lock.unlock();
        }
    }

    void synchronize() {
        lock.lock();
        try {
            flush();
            driver.synchronize(handle);
        } finally {
            lock.unlock();
        }
    }

    void close() {
        lock.lock();
        try {
            flush();
            driver.synchronize(handle);
            known.values().forEach(g -> {
                if (g != 0)
                    driver.destroyGraph(g);
            });
            known.clear();
        } finally {
            lock.unlock();
        }
    }

    private void start(long kernel, int x, int y, int z, int threads, int shared, long[] words, int from, int count) {
        for (int i = 0; i < count; i++)
            slots.setAtIndex(ValueLayout.JAVA_LONG, i, words[from + i]);
        driver.launch(kernel, x, y, z, threads, shared, handle, table.asSlice(0, 8L * count));
    }

    private void start(long to, long from, long bytes) {
        if (from == 0)
            driver.clear(to, bytes, handle);
        else
            driver.copy(to, from, bytes, handle);
    }

    private void add(long[] head, long[] words, int n) {
        int needed = pendingWords + head.length + n;
        if (needed > pending.length)
            pending = Arrays.copyOf(pending, 2 * needed);
        System.arraycopy(head, 0, pending, pendingWords, head.length);
        System.arraycopy(words, 0, pending, pendingWords + head.length, n);
        pendingWords = needed;
        if (++pendingOperations == most) {
            flush();
            most = Math.min(2 * most, LONGEST_SEGMENT);
        }
    }

    /**
     * Gives pending operations to the driver. A sequence that was there before becomes a graph the second time, and is
     * replayed from then on.
     */
    private void flush() {
        if (pendingOperations == 0)
            return;
        if (pendingOperations < 4) {
            startPending();
        } else {
            Segment segment = Segment.of(pending, pendingWords);
            Long graph = known.get(segment);
            if (graph == null) {
                startPending();
                remember(segment);
            } else {
                if (graph == 0) {
                    driver.beginCapture(handle);
                    startPending();
                    graph = driver.endCapture(handle);
                    known.put(segment, graph);
                }
                driver.replay(graph, handle);
            }
        }
        pendingWords = 0;
        pendingOperations = 0;
    }

    private void remember(Segment segment) {
        known.put(segment, 0L);
        if (known.size() > MOST_GRAPHS) {
            var eldest = known.entrySet().iterator();
            long graph = eldest.next().getValue();
            eldest.remove();
            if (graph != 0)
                driver.destroyGraph(graph);
        }
    }

    private void startPending() {
        for (int at = 0; at < pendingWords;) {
            long head = pending[at];
            if (head == -1) {
                start(pending[at + 1], pending[at + 2], pending[at + 3]);
                at += 4;
            } else {
                int n = (int) (head & 255);
                long grid = pending[at + 1];
                long shape = pending[at + 2];
                start(head >> 8, (int) (grid >> 32), (int) grid, (int) (shape >> 32), (int) (shape >> 20 & 0xfff),
                        (int) (shape & 0xfffff), pending, at + 3, n);
                at += 3 + n;
            }
        }
    }
}
