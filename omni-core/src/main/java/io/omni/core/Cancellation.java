package io.omni.core;

import java.util.concurrent.CancellationException;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/** The lock that a generation's stages share, on which they wait for each other, until somebody cancels. */
final class Cancellation {
    private static final ScopedValue<Cancellation> CURRENT = ScopedValue.newInstance();

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    private boolean cancelled;

    void cancel() {
        update(() -> cancelled = true);
    }

    /** Does work that may ask {@link #checkCurrent}. */
    void during(Runnable work) {
        ScopedValue.where(CURRENT, this).run(work);
    }

    /**
     * Called between layers, so that a long prompt's reading stops soon.
     *
     * @throws CancellationException
     *             if the work that this thread does was cancelled
     */
    static void checkCurrent() {
        if (CURRENT.isBound())
            CURRENT.get().check();
    }

    /** @throws CancellationException if cancelled */
    void check() {
        lock.lock();
        try {
            if (cancelled)
                throw new CancellationException("the request was cancelled");
        } finally {
            lock.unlock();
        }
    }

    /** Changes what others wait for. */
    void update(Runnable change) {
        lock.lock();
        try {
            change.run();
            changed.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Reads what others change. */
    <T> T read(Supplier<T> value) {
        lock.lock();
        try {
            return value.get();
        } finally {
            lock.unlock();
        }
    }

    /** Waits until the condition, which is evaluated under the lock, holds. */
    void await(BooleanSupplier condition) {
        lock.lock();
        try {
            while (!cancelled && !condition.getAsBoolean())
                changed.awaitUninterruptibly();
            if (cancelled)
                throw new CancellationException("the request was cancelled");
        } finally {
            lock.unlock();
        }
    }
}
