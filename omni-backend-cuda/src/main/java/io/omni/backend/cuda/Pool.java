package io.omni.backend.cuda;

import io.omni.api.OutOfMemoryException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/**
 * All device memory that the backend takes, cut from slabs. Freeing is stream-ordered: a block goes back at once, to its
 * home stream, whose later work comes after all earlier use. Another stream that needs it first waits for that.
 *
 * <p>
 * The smallest block that fits is taken, the lowest address first, so that a step that asks for the same sizes in the
 * same order gets the same addresses, which is what makes its launches the same.
 */
final class Pool implements AutoCloseable {
    private static final long ALIGNMENT = 256;

    private final Driver driver;
    private final long budget;
    private final long slab;
    private final List<Block> slabs = new ArrayList<>();
    private final Map<Stream, TreeSet<Block>> free = new HashMap<>();
    private long held;
    private long inUse;

    Pool(Driver driver, long budget, long slab) {
        this.driver = driver;
        this.budget = budget;
        this.slab = slab;
    }

    /**
     * Memory for the stream's next operations.
     *
     * @throws OutOfMemoryException
     *             if it does not fit the budget or the card
     */
    Block allocate(long bytes, Stream stream) {
        long size = Math.max(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
        Stream owner = stream;
        Block block;
        synchronized (this) {
            block = take(stream, size);
            if (block == null && grow(size, stream))
                block = take(stream, size);
            for (Stream other : free.keySet())
                if (block == null && (block = take(other, size)) != null)
                owner = other;
            if (block == null && makeRoom(size) && grow(size, stream))
                block = take(stream, size);
            if (block == null)
                throw new OutOfMemoryException("asked for " + bytes + " bytes of device memory; of the " + budget
                        + " that the backend may take, " + (budget - inUse) + " are free"
                        + (budget - inUse >= size ? ", in pieces or taken by other programs" : ""));
            inUse += block.bytes;
        }
        if (owner != stream)
            stream.follow(owner, owner.issued());
        block.reuse(stream);
        return block;
    }

    /** Takes a block back once its last handle is gone. Its home must follow all other use. */
    synchronized void free(Block block) {
        inUse -= block.bytes;
        release(block);
    }

    /** Bytes taken from the card. */
    synchronized long held() {
        return held;
    }

    @Override
    public synchronized void close() {
        slabs.forEach(s -> driver.free(s.slab));
        slabs.clear();
        free.clear();
        held = 0;
        inUse = 0;
    }

    private Block take(Stream stream, long size) {
        TreeSet<Block> blocks = free.get(stream);
        Block block = blocks == null ? null : blocks.ceiling(new Block(0, size, 0));
        if (block == null)
            return null;
        blocks.remove(block);
        if (block.bytes == size) {
            block.free = false;
            return block;
        }
        Block first = new Block(block.address, size, block.slab);
        Block rest = new Block(block.address + size, block.bytes - size, block.slab);
        link(block.previous, first);
        link(first, rest);
        link(rest, block.next);
        replaceSlab(block, first);
        rest.free = true;
        rest.home = block.home;
        blocks.add(rest);
        return first;
    }

    private void release(Block block) {
        TreeSet<Block> blocks = free.computeIfAbsent(block.home, s -> new TreeSet<>(
                Comparator.comparingLong((Block b) -> b.bytes).thenComparingLong(b -> b.address)));
        Block joined = block;
        if (block.previous != null && block.previous.free && block.previous.home == block.home) {
            blocks.remove(block.previous);
            joined = join(block.previous, joined);
        }
        if (joined.next != null && joined.next.free && joined.next.home == block.home) {
            blocks.remove(joined.next);
            joined = join(joined, joined.next);
        }
        joined.free = true;
        joined.home = block.home;
        blocks.add(joined);
    }

    private Block join(Block first, Block second) {
        Block joined = new Block(first.address, first.bytes + second.bytes, first.slab);
        link(first.previous, joined);
        link(joined, second.next);
        replaceSlab(first, joined);
        return joined;
    }

    /** Takes a slab from the card, a large one if there is room, for a block of this size. */
    private boolean grow(long size, Stream stream) {
        return grow(size, Math.max(size, Math.min(slab, budget - held)), stream) || grow(size, size, stream);
    }

    private boolean grow(long size, long bytes, Stream stream) {
        long address = bytes >= size && held + bytes <= budget ? driver.allocate(bytes) : 0;
        if (address == 0)
            return false;
        Block whole = new Block(address, bytes, address);
        whole.home = stream;
        slabs.add(whole);
        held += bytes;
        release(whole);
        return true;
    }

    /** Gives slabs that nothing uses back to the card, once the work that did is done. */
    private boolean makeRoom(long size) {
        free.keySet().forEach(Stream::synchronize);
        for (Iterator<Block> i = slabs.iterator(); i.hasNext() && held + size > budget;) {
            Block first = i.next();
            boolean whole = true;
            for (Block b = first; b != null; b = b.next)
                whole &= b.free;
            if (!whole)
                continue;
            for (Block b = first; b != null; b = b.next) {
                free.get(b.home).remove(b);
                held -= b.bytes;
            }
            driver.free(first.slab);
            i.remove();
        }
        return held + size <= budget;
    }

    private void replaceSlab(Block old, Block now) {
        if (old.previous == null)
            slabs.set(slabs.indexOf(old), now);
    }

    private static void link(Block a, Block b) {
        if (a != null)
            a.next = b;
        if (b != null)
            b.previous = a;
    }
}
