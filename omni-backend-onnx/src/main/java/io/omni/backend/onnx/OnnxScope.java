package io.omni.backend.onnx;

import io.omni.api.Scope;
import io.omni.api.Tensor;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.Set;

/** Owns what operations make on its thread. */
final class OnnxScope implements Scope {
    /** A graph smaller than this goes on after a scope closes: one more session costs more than it saves. */
    private static final int WORTH_RUNNING = 24;

    private final OnnxBackend backend;
    private final OnnxBackend.Work work;
    private final Thread thread = Thread.currentThread();
    private final OnnxScope outer;
    private final Set<OnnxArray> owned = Collections.newSetFromMap(new IdentityHashMap<>());
    private boolean kept;
    private boolean closed;

    OnnxScope(OnnxBackend backend, OnnxBackend.Work work, OnnxScope outer) {
        this.backend = backend;
        this.work = work;
        this.outer = outer;
    }

    void own(OnnxArray tensor) {
        tensor.owner = this;
        owned.add(tensor);
    }

    @Override
    public Tensor keep(Tensor tensor) {
        if (!(tensor instanceof OnnxArray array) || !take(array))
            return tensor;
        if (outer == null) {
            array.materialize();
            return array;
        }
        outer.own(array);
        kept |= array.isPending();
        return array;
    }

    @Override
    public Tensor detach(Tensor tensor) {
        if (tensor instanceof OnnxArray array && take(array))
            // other threads may use it, and must not depend on this one's pending graph
            array.materialize();
        return tensor;
    }

    private boolean take(OnnxArray array) {
        checkOpen();
        array.check();
        if (!owned.remove(array))
            return false;
        array.owner = null;
        return true;
    }

    void checkOpen() {
        if (closed)
            throw new IllegalStateException("the scope is closed");
        checkThread();
    }

    private void checkThread() {
        if (Thread.currentThread() != thread)
            throw new IllegalStateException("the scope was opened by thread " + thread.getName());
    }

    @Override
    public void close() {
        if (closed)
            return;
        checkThread();
        if (work.scope != this)
            throw new IllegalStateException("a scope within this one is still open");
        closed = true;
        work.scope = outer;
        owned.forEach(OnnxArray::close);
        owned.clear();
        // what one layer records has one structure: cutting here lets all layers share a session
        try {
            if (outer == null || kept && work.recording.size() >= WORTH_RUNNING)
                work.recording.flush();
        } finally {
            if (outer == null)
                backend.leave(work.recording);
        }
    }
}
