package io.omni.backend.cpu;

import io.omni.api.Scope;
import io.omni.api.Tensor;
import java.util.ArrayList;
import java.util.List;

/** The tensors made on one thread while this is its innermost scope. */
final class CpuScope implements Scope {
    private final CpuBackend backend;
    private final CpuScope parent;
    private final Thread thread = Thread.currentThread();
    private final List<CpuTensor> tensors = new ArrayList<>();
    private boolean closed;

    CpuScope(CpuBackend backend, CpuScope parent) {
        this.backend = backend;
        this.parent = parent;
    }

    CpuTensor own(CpuTensor tensor) {
        tensor.scope = this;
        tensor.place = tensors.size();
        tensors.add(tensor);
        return tensor;
    }

    /** Drops a tensor that was closed early. */
    void forget(CpuTensor tensor) {
        // another thread leaves it in the list, where closing it again does nothing
        if (Thread.currentThread() == thread)
            release(tensor);
    }

    @Override
    public Tensor keep(Tensor tensor) {
        checkUsable();
        if (!(tensor instanceof CpuTensor mine) || mine.scope != this)
            return tensor;
        mine.address();
        release(mine);
        if (parent != null)
            parent.own(mine);
        return mine;
    }

    @Override
    public Tensor detach(Tensor tensor) {
        checkUsable();
        if (!(tensor instanceof CpuTensor mine) || mine.scope != this)
            return tensor;
        mine.address();
        release(mine);
        return mine;
    }

    @Override
    public void close() {
        if (closed)
            return;
        if (Thread.currentThread() != thread)
            throw new IllegalStateException("a scope of thread " + thread.getName() + " closed by thread "
                    + Thread.currentThread().getName());
        backend.leave(this, parent);
        closed = true;
        while (!tensors.isEmpty())
            tensors.getLast().close();
    }

    private void checkUsable() {
        if (closed)
            throw new IllegalStateException("the scope is closed");
        if (Thread.currentThread() != thread)
            throw new IllegalStateException("a scope of thread " + thread.getName() + " used by thread "
                    + Thread.currentThread().getName());
    }

    private void release(CpuTensor tensor) {
        CpuTensor last = tensors.removeLast();
        if (last != tensor) {
            tensors.set(tensor.place, last);
            last.place = tensor.place;
        }
        tensor.scope = null;
    }
}
