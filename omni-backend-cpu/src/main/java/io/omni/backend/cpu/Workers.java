package io.omni.backend.cpu;

import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/**
 * Threads that share the tasks of an operation with the thread that called it. Several callers may run at once: each
 * does its own tasks, and idle workers join whichever job has some left.
 */
final class Workers {
    /** One part of an operation, by its index; parts write to different memory. */
    interface Task {
        void run(int index);
    }

    // roughly the pause between two operations of a decode step, so that workers rarely sleep during one
    private static final int SPINS = 3_000;

    private final ConcurrentLinkedQueue<Job> jobs = new ConcurrentLinkedQueue<>();
    private final Worker[] workers;
    private volatile boolean closed;

    Workers(int threads) {
        workers = new Worker[threads - 1];
        for (int i = 0; i < workers.length; i++)
            (workers[i] = new Worker(i + 1)).start();
    }

    int threads() {
        return workers.length + 1;
    }

    /** Runs tasks 0 to {@code count − 1} in any order and returns when all are done; the first failure is thrown. */
    void run(int count, Task task) {
        if (count == 0)
            return;
        if (count == 1 || workers.length == 0) {
            for (int i = 0; i < count; i++)
                task.run(i);
            return;
        }
        Job job = new Job(count, task);
        jobs.add(job);
        int helpers = Math.min(count - 1, workers.length);
        for (int i = 0; i < workers.length && helpers > 0; i++)
            if (workers[i].parked) {
                LockSupport.unpark(workers[i]);
                helpers--;
            }
        job.work();
        jobs.remove(job);
        job.await();
    }

    void close() {
        closed = true;
        for (Worker worker : workers)
            LockSupport.unpark(worker);
        boolean interrupted = false;
        for (Worker worker : workers)
            while (worker.isAlive())
            try {
                worker.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        if (interrupted)
            Thread.currentThread().interrupt();
    }

    private static final class Job {
        private final int count;
        private final Task task;
        private final AtomicInteger next = new AtomicInteger();
        private final AtomicInteger done = new AtomicInteger();
        private final AtomicReference<Throwable> failure = new AtomicReference<>();

        Job(int count, Task task) {
            this.count = count;
            this.task = task;
        }

        boolean hasTasks() {
            return next.get() < count;
        }

        void work() {
            while (hasTasks()) {
                int index = next.getAndIncrement();
                if (index >= count)
                    return;
                try {
                    if (failure.get() == null)
                        task.run(index);
                } catch (Throwable e) {
                    failure.compareAndSet(null, e);
                }
                done.incrementAndGet();
            }
        }

        void await() {
            for (int spins = 0; done.get() < count; spins++)
                if (spins < SPINS)
                Thread.onSpinWait();
                else
                Thread.yield();
            Throwable thrown = failure.get();
            if (thrown instanceof RuntimeException e)
                throw e;
            if (thrown instanceof Error e)
                throw e;
        }
    }

    private final class Worker extends Thread {
        volatile boolean parked;

        Worker(int number) {
            super("omni-cpu-" + number);
            setDaemon(true);
        }

        @Override
        public void run() {
            int spins = 0;
            while (!closed) {
                Job job = find();
                if (job != null) {
                    job.work();
                    spins = 0;
                } else if (spins++ < SPINS)
                    Thread.onSpinWait();
                else {
                    parked = true;
                    // a job added before the flag was seen would not unpark
                    if (find() == null && !closed)
                        LockSupport.park(Workers.this);
                    parked = false;
                    spins = 0;
                }
            }
        }

        private Job find() {
            for (Job job : jobs)
                if (job.hasTasks())
                return job;
            return null;
        }
    }
}
