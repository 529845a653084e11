package io.omni.core;

import java.util.HashSet;
import java.util.Set;

/** The calls that run, so that what they use is not freed before they have ended. */
final class Calls {
    private final Set<Cancellation> running = new HashSet<>();
    private boolean closed;

    /**
     * @throws IllegalStateException
     *             if closed
     */
    synchronized Cancellation begin() {
        if (closed)
            throw new IllegalStateException("this Omni is closed");
        Cancellation call = new Cancellation();
        running.add(call);
        return call;
    }

    synchronized void end(Cancellation call) {
        running.remove(call);
        notifyAll();
    }

    /** Lets no more begin, cancels those that run, and waits for them to end. */
    synchronized void close() {
        closed = true;
        running.forEach(Cancellation::cancel);
        boolean interrupted = false;
        while (!running.isEmpty())
            try {
                wait();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        if (interrupted)
            Thread.currentThread().interrupt();
    }
}
