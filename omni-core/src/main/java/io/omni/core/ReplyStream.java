package io.omni.core;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CancellationException;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * The events of a call while it runs on threads of its own. Reading waits for the next event; what went wrong is thrown
 * where the next event would have come. Closing it early cancels the call.
 */
public final class ReplyStream implements Iterator<Event>, Iterable<Event>, AutoCloseable {
    private final Cancellation cancellation;
    private final Deque<Event> events = new ArrayDeque<>();
    private final Thread thread;
    private List<Reply> replies;
    private RuntimeException failure;
    private boolean stopped;
    private boolean ended;
    private boolean closed;

    /**
     * Starts work that is given where to send events.
     *
     * @param cancellation
     *            what stops the work
     * @param end
     *            done after it, or if it could not start
     */
    ReplyStream(Cancellation cancellation, Function<Consumer<Event>, List<Reply>> work, Runnable end) {
        this.cancellation = cancellation;
        thread = Thread.ofPlatform().name("omni-thinker").daemon().unstarted(() -> {
            try {
                List<Reply> result = work.apply(this::send);
                update(() -> replies = result);
            } catch (RuntimeException e) {
                update(() -> failure = stopped ? new CancellationException("the request was cancelled") : e);
            } catch (Error e) {
                update(() -> failure = new IllegalStateException("the call failed: " + e, e));
            } finally {
                end.run();
                update(() -> ended = true);
            }
        });
        try {
            thread.start();
        } catch (Error e) {
            end.run();
            throw e;
        }
    }

    private synchronized void send(Event event) {
        events.add(event);
        notifyAll();
    }

    private synchronized void update(Runnable change) {
        change.run();
        notifyAll();
    }

    /** @throws RuntimeException what made the call fail */
    @Override
    public synchronized boolean hasNext() {
        await(() -> !events.isEmpty() || ended);
        if (events.isEmpty() && failure != null && !closed)
            throw failure;
        return !events.isEmpty();
    }

    @Override
    public synchronized Event next() {
        if (!hasNext())
            throw new NoSuchElementException("the stream has ended");
        return events.remove();
    }

    /** The remaining events; a stream can be read once. */
    @Override
    public Iterator<Event> iterator() {
        return this;
    }

    /**
     * Waits for all answers. Events that were not read are dropped.
     *
     * @throws RuntimeException
     *             what made the call fail
     */
    public synchronized List<Reply> replies() {
        await(() -> ended);
        events.clear();
        if (failure != null)
            throw failure;
        return replies;
    }

    private void await(java.util.function.BooleanSupplier condition) {
        boolean interrupted = false;
        while (!condition.getAsBoolean())
            try {
                wait();
            } catch (InterruptedException e) {
                // a reader that is interrupted wants the call to stop
                interrupted = true;
                stop();
            }
        if (interrupted)
            Thread.currentThread().interrupt();
    }

    /** Cancels the call if it still runs, and waits for it to have stopped. Closing twice does nothing. */
    @Override
    public void close() {
        update(() -> closed = true);
        stop();
        synchronized (this) {
            await(() -> ended);
        }
    }

    private void stop() {
        update(() -> stopped = true);
        cancellation.cancel();
        // which may be waiting for a medium to come
        thread.interrupt();
    }
}
