package io.omni.backend.onnx;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import io.omni.api.BackendException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * Elements in memory that the runtime reads or writes in place. Counted: a handle and each pending graph that reads it
 * hold it; the last to let go frees it.
 */
final class Storage {
    private final Runnable free;
    private int holders = 1;

    final OnnxTensor tensor;
    final MemorySegment memory;
    final OnnxType type;
    final int rank;

    private Storage(OnnxTensor tensor, MemorySegment memory, OnnxType type, int rank, Runnable free) {
        this.tensor = tensor;
        this.memory = memory;
        this.type = type;
        this.rank = rank;
        this.free = free;
    }

    /** Over memory that somebody else keeps alive. */
    static Storage borrow(MemorySegment memory, OnnxType type, long... shape) {
        return over(memory, type, shape, () -> {
        });
    }

    /** In memory of its own. */
    static Storage allocate(NativeMemory native_, OnnxType type, long... shape) {
        long bytes = type.bytes;
        for (long n : shape)
            bytes *= n;
        MemorySegment block = native_.allocate(bytes);
        try {
            return over(block.asSlice(0, bytes), type, shape, () -> native_.release(block));
        } catch (RuntimeException e) {
            native_.release(block);
            throw e;
        }
    }

    private static Storage over(MemorySegment memory, OnnxType type, long[] shape, Runnable free) {
        // the runtime's Java interface takes memory as a buffer
        if (memory.byteSize() > Integer.MAX_VALUE)
            throw new BackendException("a tensor of shape " + Arrays.toString(shape) + " takes " + memory.byteSize()
                    + " bytes, expected at most " + Integer.MAX_VALUE + " on ONNX Runtime");
        try {
            var buffer = memory.asByteBuffer().order(ByteOrder.nativeOrder());
            var tensor = OnnxTensor.createTensor(OrtEnvironment.getEnvironment(), buffer, shape, type.java);
            return new Storage(tensor, memory, type, shape.length, free);
        } catch (OrtException e) {
            throw OnnxBackend.failure("cannot make a tensor", e);
        }
    }

    synchronized Storage retain() {
        if (holders == 0)
            throw new IllegalStateException("the tensor is closed");
        holders++;
        return this;
    }

    synchronized void release() {
        if (--holders > 0)
            return;
        tensor.close();
        free.run();
    }

    /** The element types in use, with their numbers in the model format. */
    enum OnnxType {
        FLOAT(1, 4, OnnxJavaType.FLOAT), UINT8(2, 1, OnnxJavaType.UINT8), INT8(3, 1, OnnxJavaType.INT8), INT32(6, 4,
                OnnxJavaType.INT32), INT64(7, 8,
                        OnnxJavaType.INT64), BOOL(9, 1, OnnxJavaType.BOOL), FLOAT16(10, 2,
                                OnnxJavaType.FLOAT16), BFLOAT16(16, 2, OnnxJavaType.BFLOAT16);

        final int number;
        final int bytes;
        final OnnxJavaType java;

        OnnxType(int number, int bytes, OnnxJavaType java) {
            this.number = number;
            this.bytes = bytes;
            this.java = java;
        }

        static OnnxType of(io.omni.api.DType dtype) {
            return switch (dtype) {
                case F32 -> FLOAT;
                case F16 -> FLOAT16;
                case BF16 -> BFLOAT16;
                case I32 -> INT32;
                case I64 -> INT64;
                case I8 -> INT8;
                case BOOL -> BOOL;
                case Q8, Q4 -> throw new IllegalArgumentException("blocks of " + dtype + " are no element type");
            };
        }
    }
}
