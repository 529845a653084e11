package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostTensor;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** A handle to elements in a block of device memory. */
final class CudaTensor implements Tensor {
    private final CudaBackend backend;
    private final DType dtype;
    private final int[] shape;
    private final Block block;
    private final long address;
    /** What a weight was loaded for; its elements may be laid out for that. */
    private final WeightRole role;
    /** The scope that frees it, or null if the caller does. */
    CudaScope scope;
    private boolean closed;

    CudaTensor(CudaBackend backend, DType dtype, int[] shape, Block block, long address, WeightRole role) {
        this.backend = backend;
        this.dtype = dtype;
        this.shape = shape;
        this.block = block;
        this.address = address;
        this.role = role;
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

    Block block() {
        checkOpen();
        return block;
    }

    long address() {
        return address;
    }

    WeightRole role() {
        return role;
    }

    long bytes() {
        return dtype.bytes(size());
    }

    /** Whether eight neighbours can be loaded at once, in rows of {@code features}. */
    boolean wide(int features) {
        return features % 8 == 0 && address % 16 == 0;
    }

    /** The same memory in another shape, from a byte on. */
    CudaTensor view(int[] viewed, long offset) {
        block().retain();
        return new CudaTensor(backend, dtype, viewed, block, address + offset, null);
    }

    @Override
    public float[] toFloats() {
        if (dtype == DType.I32) {
            int[] ints = toInts();
            float[] floats = new float[ints.length];
            for (int i = 0; i < ints.length; i++)
                floats[i] = ints[i];
            return floats;
        }
        if (dtype.isQuantized())
            return backend.numbers(this);
        float[] values = new HostTensor("a tensor", dtype, shape, download()).toFloats();
        int[] axes = Layout.axes(role);
        if (axes == null)
            return values;
        int[] stored = Layout.stored(shape, role);
        int[] back = new int[axes.length];
        for (int i = 0; i < axes.length; i++)
            back[axes[i]] = i;
        return Definitions.round(Definitions.permute(Definitions.doubles(values), stored, back));
    }

    @Override
    public int[] toInts() {
        if (dtype != DType.I32)
            throw new IllegalStateException("a tensor of type " + dtype + ", expected integers");
        return download().toArray(ValueLayout.JAVA_INT);
    }

    private MemorySegment download() {
        // backed by longs, so that any element type may be read from it
        long bytes = bytes();
        MemorySegment host = MemorySegment.ofArray(new long[Math.toIntExact((bytes + 7) / 8)]).asSlice(0, bytes);
        Block from = block();
        if (bytes > 0)
            backend.withStream(stream -> {
                stream.download(from, address, host);
                return null;
            });
        return host;
    }

    void checkOpen() {
        if (closed)
            throw new IllegalStateException("a closed tensor");
        backend.checkOpen();
    }

    @Override
    public void close() {
        if (closed)
            return;
        closed = true;
        if (block.release())
            backend.free(block);
    }
}
