package io.omni.api;

import java.util.Set;

/**
 * Computes. A backend is a value that you hold and close; several may be open at once, and their tensors do not mix. Any
 * number of threads may call operations at the same time, each within its own {@link Scope}; one that is interrupted
 * computes all the same, and stays interrupted.
 *
 * <p>
 * Operations throw {@link IllegalArgumentException} for shapes, types or values that do not fit, and for a tensor or cache
 * of another backend; {@link IllegalStateException} for a closed tensor, cache, scope or backend, or when no scope is open;
 * and {@link OutOfMemoryException} when there is no room. None of them changes anything when it throws.
 */
public interface Backend extends AutoCloseable {
    /** The provider's name. */
    String name();

    /** What it computes on, with the memory free now. */
    Device device();

    /** Types that {@link #weight} takes for {@link WeightRole#MATRIX}. Other roles take F32, F16 and BF16. */
    Set<DType> weightTypes();

    /**
     * Largest relative error (L2) of an operation that this backend stands for, against the definitions in float64:
     * 1e-5 or so for float32 arithmetic.
     */
    double precision();

    /** Opens a scope on the calling thread. */
    Scope scope();

    /** Copies floats to the backend as an activation, in its compute type. */
    Tensor tensor(float[] values, int... shape);

    /** Copies integers to the backend as an {@link DType#I32} tensor. */
    Tensor tensor(int[] values, int... shape);

    /**
     * Prepares a weight, in the type it is stored in. The backend may go on reading the host memory, so it must stay
     * valid until the tensor is closed. The caller owns the tensor.
     *
     * @throws IllegalArgumentException
     *             if the type is not in {@link #weightTypes} or the role does not fit the shape
     */
    Tensor weight(HostTensor host, WeightRole role);

    /** Types that caches can have; F32 is always among them. */
    default Set<DType> cacheTypes() {
        return Set.of(DType.F32, DType.I8);
    }

    /**
     * A new, empty cache. The caller owns it.
     *
     * @throws IllegalArgumentException
     *             if the type is not in {@link #cacheTypes}
     */
    default KvCache cache(CacheSpec spec) {
        return new HostKvCache(this, spec);
    }

    /** Linear algebra, norms, elementwise functions, rows, sampling. */
    TensorOps tensorOps();

    /** Rotary embedding, attention and the cache. */
    AttentionOps attentionOps();

    /** Mixture of experts. */
    MoeOps moeOps();

    /** Convolutions. */
    ConvOps convOps();

    /** Bytes of memory outside the Java heap that this backend holds: weights it copied, caches, pooled intermediates. */
    long allocatedBytes();

    /** Stops its threads and frees all memory. Closing twice does nothing. */
    @Override
    void close();
}
