package io.omni.backend.onnx;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/** A tensor: elements in memory, or a node of a pending graph that will compute them. */
final class OnnxArray implements Tensor {
    private final OnnxBackend backend;
    private final int[] shape;
    private final DType dtype;

    /** The pending graph, or null once the elements are there; guarded, like the rest, by this handle's monitor. */
    private Recording recording;
    private Graph.Output pending;
    private Storage storage;
    private List<Storage> blocks = List.of();
    private RuntimeException broken;
    private boolean closed;
    private HostTensor host;
    private final List<Made> kernels = new ArrayList<>();
    OnnxScope owner;

    /** What multiplies by this weight and those after it. */
    private record Made(List<OnnxArray> weights, boolean alone, Kernel kernel) {}

    OnnxArray(OnnxBackend backend, int[] shape, DType dtype, Recording recording, Graph.Output pending) {
        this.backend = backend;
        this.shape = shape;
        this.dtype = dtype;
        this.recording = recording;
        this.pending = pending;
    }

    /** Elements that are there; {@code blocks} are the rows of a large weight in parts, or empty. */
    OnnxArray(OnnxBackend backend, int[] shape, DType dtype, Storage storage, List<Storage> blocks) {
        this(backend, shape, dtype, (Recording) null, null);
        this.storage = storage;
        this.blocks = blocks;
    }

    /** A weight that can be multiplied as integers; {@code stored} is null if it can in no other way. */
    OnnxArray(OnnxBackend backend, HostTensor host, Storage stored, List<Storage> blocks) {
        this(backend, host.shape().clone(), host.dtype(), stored, blocks);
        this.host = host;
    }

    /** The weight's elements if they can be laid out as integers, else null. */
    HostTensor host() {
        return host;
    }

    /** Whether recorded operations can read these weights: only kernels multiply by blocks. */
    static boolean areRecordable(Tensor... weights) {
        return Stream.of(weights).noneMatch(weight -> weight.dtype().isQuantized());
    }

    synchronized boolean hasKernels() {
        return !kernels.isEmpty();
    }

    /**
     * What multiplies by {@code weights}, of which this is the first: made at the first use and closed with this weight,
     * or null if there is none.
     */
    synchronized Kernel kernel(List<OnnxArray> weights, boolean alone) {
        check();
        for (Made made : kernels)
            if (made.alone == alone && made.weights.equals(weights))
            return made.kernel;
        Kernel kernel = Kernel.of(backend, weights.stream().map(weight -> weight.host).toList(), alone);
        kernels.add(new Made(weights, alone, kernel));
        return kernel;
    }

    @Override
    public int[] shape() {
        return shape;
    }

    @Override
    public DType dtype() {
        return dtype;
    }

    @Override
    public Backend backend() {
        return backend;
    }

    @Override
    public float[] toFloats() {
        if (dtype.isQuantized()) {
            check();
            return host.toFloats();
        }
        MemorySegment memory = hold();
        try {
            return dtype == DType.F32
                    ? memory.toArray(ValueLayout.JAVA_FLOAT)
                    : new HostTensor("tensor", dtype, shape, memory).toFloats();
        } finally {
            letGo();
        }
    }

    @Override
    public int[] toInts() {
        check();
        if (dtype.isFloating())
            throw new IllegalStateException("a tensor of type " + dtype + " holds no integers");
        MemorySegment memory = hold();
        try {
            var host = new HostTensor("tensor", dtype, shape, memory);
            int[] values = new int[Math.toIntExact(size())];
            for (int i = 0; i < values.length; i++)
                values[i] = (int) host.getLong(i);
            return values;
        } finally {
            letGo();
        }
    }

    private MemorySegment hold() {
        materialize();
        synchronized (this) {
            check();
            return storage.retain().memory;
        }
    }

    private void letGo() {
        storage.release();
    }

    /** Runs the pending graph, if the elements are not there. */
    void materialize() {
        Recording current;
        synchronized (this) {
            check();
            current = recording;
        }
        // the recording's monitor comes before a handle's
        if (current != null)
            current.flush();
        synchronized (this) {
            check();
        }
    }

    synchronized Recording recording() {
        return recording;
    }

    synchronized Graph.Output pending() {
        return pending;
    }

    synchronized Storage storage() {
        check();
        return storage;
    }

    synchronized List<Storage> blocks() {
        return blocks;
    }

    synchronized boolean isPending() {
        return recording != null && !closed;
    }

    /** The elements have been computed; a handle closed meanwhile frees them. */
    synchronized void fill(Storage computed) {
        recording = null;
        pending = null;
        if (closed)
            computed.release();
        else
            storage = computed;
    }

    /** The graph failed: from now on every use says so. */
    synchronized void breakWith(RuntimeException failure) {
        recording = null;
        pending = null;
        broken = failure;
    }

    synchronized void check() {
        if (closed)
            throw new IllegalStateException("the tensor is closed");
        backend.check();
        if (broken != null)
            throw new IllegalStateException("the tensor was never computed: " + broken.getMessage(), broken);
    }

    @Override
    public synchronized void close() {
        if (closed)
            return;
        closed = true;
        if (storage != null)
            storage.release();
        blocks.forEach(Storage::release);
        for (Made made : kernels)
            if (made.kernel != null)
            made.kernel.release();
        kernels.clear();
        backend.forget(this);
    }
}
