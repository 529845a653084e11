package io.omni.backend.onnx;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxTensorLike;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.OrtSession.SessionOptions;
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel;
import io.omni.api.BackendException;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;

/** One session for each structure of graph that has run lately. */
final class Sessions implements AutoCloseable {
    /** More structures than a process needs that does the same over and over; each holds a few hundred kilobytes. */
    private static final int MOST = 512;

    /** Bytes of inputs below which waking another thread takes longer than what it would save. */
    private static final long SMALL = 1 << 20;

    private static Integer globalThreads;

    private final OrtEnvironment environment;
    private final int threads;
    private final boolean shareThreads;
    private final boolean cuda;
    private final OptLevel optimization;
    private final String profile;
    private final Map<String, Held> sessions = new ConcurrentHashMap<>();
    private final AtomicLong runs = new AtomicLong();
    /** Runs read, closing writes: the runtime does not survive a session closed under a run. */
    private final ReadWriteLock lock = new ReentrantReadWriteLock();
    private final int most;
    private boolean closed;

    /** A session, and the number of the run that used it last. */
    private static final class Held {
        final OrtSession session;
        volatile long last;

        Held(OrtSession session) {
            this.session = session;
        }
    }

    Sessions(int threads, boolean cuda, String optimization, String profile) {
        this(threads, cuda, optimization, profile, MOST);
    }

    /** Keeps at most {@code most} sessions. */
    Sessions(int threads, boolean cuda, String optimization, String profile, int most) {
        this.most = most;
        this.threads = threads;
        this.cuda = cuda;
        this.profile = profile;
        this.optimization = switch (optimization) {
            case "none" -> OptLevel.NO_OPT;
            case "basic" -> OptLevel.BASIC_OPT;
            case "extended" -> OptLevel.EXTENDED_OPT;
            case "all" -> OptLevel.ALL_OPT;
            default -> throw new BackendException(
                    "unknown optimization '" + optimization + "', expected none, basic, extended or all");
        };
        shareThreads = environment(threads);
        environment = OrtEnvironment.getEnvironment();
    }

    /**
     * The process has one environment, whose threads all sessions can share: with dozens of sessions, threads of their
     * own would fight for the processors. Only the first backend can choose how many; another number, or an
     * environment that somebody else made, needs threads a session.
     */
    private static synchronized boolean environment(int threads) {
        if (globalThreads == null) {
            globalThreads = -1;
            try (var options = new OrtEnvironment.ThreadingOptions()) {
                options.setGlobalIntraOpNumThreads(threads);
                options.setGlobalInterOpNumThreads(1);
                // a thread that waits in a loop takes the processor from the stage or the request that has work for it
                options.setGlobalSpinControl(false);
                OrtEnvironment.getEnvironment(ai.onnxruntime.OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR, "omni", options);
                globalThreads = threads;
            } catch (OrtException e) {
                throw OnnxBackend.failure("cannot set the number of threads", e);
            } catch (IllegalStateException e) {
                // somebody else made the environment first
                globalThreads = -1;
            }
        }
        return globalThreads == threads;
    }

    int size() {
        return sessions.size();
    }

    /** Runs the graph, its outputs written to {@code targets}. */
    void run(Graph graph, List<Storage> targets) {
        Map<String, OnnxTensor> feeds = HashMap.newHashMap(graph.inputs.size());
        for (int i = 0; i < graph.inputs.size(); i++)
            feeds.put("i" + i, graph.inputs.get(i).tensor);
        Map<String, OnnxTensor> fetches = HashMap.newHashMap(targets.size());
        for (int i = 0; i < targets.size(); i++)
            fetches.put("o" + i, targets.get(i).tensor);
        long bytes = 0;
        for (Storage input : graph.inputs)
            bytes += input.memory.byteSize();
        boolean small = bytes < SMALL;
        String key = small ? graph.key + "small" : graph.key;
        if (sessions.size() >= most && !sessions.containsKey(key))
            drop();
        lock.readLock().lock();
        try {
            if (closed)
                throw new IllegalStateException("the backend is closed");
            Held held = sessions.computeIfAbsent(key, _ -> new Held(create(graph, small)));
            held.last = runs.incrementAndGet();
            try (var _ = held.session.run(feeds, fetches)) {
                // results went to the targets
            }
        } catch (OrtException e) {
            throw OnnxBackend.failure("ONNX Runtime failed", e);
        } finally {
            lock.readLock().unlock();
        }
    }

    /** Closes the half that was used longest ago. */
    private void drop() {
        lock.writeLock().lock();
        try {
            if (sessions.size() < most)
                return;
            List<Map.Entry<String, Held>> oldest = sessions.entrySet().stream()
                    .sorted(Comparator.comparingLong(entry -> entry.getValue().last)).limit((most + 1) / 2).toList();
            for (Map.Entry<String, Held> entry : oldest) {
                sessions.remove(entry.getKey());
                entry.getValue().session.close();
            }
        } catch (OrtException e) {
            throw OnnxBackend.failure("cannot close a session", e);
        } finally {
            lock.writeLock().unlock();
        }
    }

    /**
     * A session that the caller closes, with weights of its own.
     *
     * @param alone
     *            whether its runs use no thread but the caller's
     */
    OrtSession open(Graph graph, boolean alone) {
        try (var options = new SessionOptions()) {
            Map<String, OnnxTensorLike> initializers = HashMap.newHashMap(graph.initializers.size());
            for (int i = 0; i < graph.initializers.size(); i++)
                initializers.put("w" + i, graph.initializers.get(i).tensor);
            options.addExternalInitializers(initializers);
            // thousands of sessions: none keeps memory between its runs
            options.setCPUArenaAllocator(false);
            options.setMemoryPatternOptimization(false);
            return create(graph, options, alone);
        } catch (OrtException e) {
            throw OnnxBackend.failure("ONNX Runtime refuses a graph", e);
        }
    }

    private OrtSession create(Graph graph, boolean alone) {
        try (var options = new SessionOptions()) {
            return create(graph, options, alone);
        } catch (OrtException e) {
            throw OnnxBackend.failure("ONNX Runtime refuses a graph", e);
        }
    }

    private OrtSession create(Graph graph, SessionOptions options, boolean alone) throws OrtException {
        if (alone)
            options.setIntraOpNumThreads(1);
        else if (shareThreads)
            options.disablePerSessionThreads();
        else {
            options.setIntraOpNumThreads(threads);
            options.addConfigEntry("session.intra_op.allow_spinning", "0");
        }
        options.setOptimizationLevel(optimization);
        options.setSessionLogLevel(ai.onnxruntime.OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
        if (cuda)
            options.addCUDA(0);
        if (profile != null)
            options.enableProfiling(profile + "-" + sessions.size());
        return environment.createSession(ModelWriter.write(graph), options);
    }

    @Override
    public void close() {
        lock.writeLock().lock();
        try {
            closed = true;
            for (Held held : sessions.values())
                held.session.close();
            sessions.clear();
        } catch (OrtException e) {
            throw OnnxBackend.failure("cannot close a session", e);
        } finally {
            lock.writeLock().unlock();
        }
    }
}
