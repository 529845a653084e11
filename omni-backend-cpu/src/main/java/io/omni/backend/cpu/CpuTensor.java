package io.omni.backend.cpu;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Arrays;

/** Elements in native memory. */
final class CpuTensor implements Tensor {
    private static final VarHandle CLOSED;
    static {
        try {
            CLOSED = MethodHandles.lookup().findVarHandle(CpuTensor.class, "closed", boolean.class);
        } catch (ReflectiveOperationException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    private final CpuBackend backend;
    private final DType dtype;
    private final int[] shape;
    private final Block block;
    private final long address;
    private final Layout layout;
    private volatile boolean closed;

    // the scope that closes it and its place there; null for tensors with another owner
    CpuScope scope;
    int place;

    CpuTensor(CpuBackend backend, DType dtype, int[] shape, Block block, long address, Layout layout) {
        this.backend = backend;
        this.dtype = dtype;
        this.shape = shape;
        this.block = block;
        this.address = address;
        this.layout = layout;
    }

    /** Where the elements are; checks that the tensor may be used. */
    long address() {
        if (closed)
            throw new IllegalStateException("the tensor " + Arrays.toString(shape) + " is closed");
        backend.checkOpen();
        return address;
    }

    Layout layout() {
        return layout;
    }

    /** The same memory from {@code offset} bytes on, seen with another shape. */
    CpuTensor view(long offset, int[] newShape) {
        return new CpuTensor(backend, dtype, newShape, block.share(), address + offset, layout);
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
    public CpuBackend backend() {
        return backend;
    }

    @Override
    public float[] toFloats() {
        HostTensor plain = new HostTensor("tensor", dtype, shape,
                Memory.ALL.asSlice(address(), dtype.bytes(size())));
        float[] values = new float[Math.toIntExact(size())];
        if (layout != Layout.PLAIN)
            return Layout.unpack(layout, plain, values);
        if (dtype == DType.F32)
            MemorySegment.copy(Memory.ALL, ValueLayout.JAVA_FLOAT_UNALIGNED, address, values, 0, values.length);
        else
            for (int i = 0; i < values.length; i++)
                values[i] = plain.getFloat(i);
        return values;
    }

    @Override
    public int[] toInts() {
        long from = address();
        if (dtype != DType.I32)
            throw new IllegalStateException("a tensor of type " + dtype + ", expected I32");
        int[] values = new int[Math.toIntExact(size())];
        MemorySegment.copy(Memory.ALL, ValueLayout.JAVA_INT_UNALIGNED, from, values, 0, values.length);
        return values;
    }

    @Override
    public void close() {
        if (!CLOSED.compareAndSet(this, false, true))
            return;
        block.release();
        CpuScope owner = scope;
        if (owner != null)
            owner.forget(this);
    }

    @Override
    public String toString() {
        return dtype + " " + Arrays.toString(shape) + (closed ? ", closed" : "");
    }
}
