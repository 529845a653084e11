package io.omni.backend.cuda;

import io.omni.api.Scope;
import io.omni.api.Tensor;
import java.util.ArrayList;
import java.util.List;

/** The tensors that one thread's operations make, in their order. */
final class CudaScope implements Scope {
    private final CudaBackend backend;
    private final CudaBackend.Work work;
    private final CudaScope enclosing;
    private final List<CudaTensor> tensors = new ArrayList<>();
    private boolean closed;

    CudaScope(CudaBackend backend, CudaBackend.Work work, CudaScope enclosing) {
        this.backend = backend;
        this.work = work;
        this.enclosing = enclosing;
    }

    CudaTensor add(CudaTensor tensor) {
        tensor.scope = this;
        tensors.add(tensor);
        return tensor;
    }

    @Override
    public Tensor keep(Tensor tensor) {
        checkOpen();
        if (tensor instanceof CudaTensor t && t.scope == this) {
            t.scope = null;
            if (enclosing != null)
                enclosing.add(t);
        }
        return tensor;
    }

    @Override
    public Tensor detach(Tensor tensor) {
        checkOpen();
        if (tensor instanceof CudaTensor t && t.scope == this)
            t.scope = null;
        return tensor;
    }

    @Override
    public void close() {
        if (closed)
            return;
        if (work != backend.work() || work.scope != this)
            throw new IllegalStateException("a scope is closed by its own thread, the innermost first");
        closed = true;
        for (CudaTensor tensor : tensors.reversed())
            if (tensor.scope == this)
            tensor.close();
        tensors.clear();
        backend.left(work, enclosing);
    }

    private void checkOpen() {
        if (closed)
            throw new IllegalStateException("a closed scope");
        if (work != backend.work())
            throw new IllegalStateException("a scope of another thread");
    }
}
