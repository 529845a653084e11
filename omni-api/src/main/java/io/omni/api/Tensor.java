package io.omni.api;

/**
 * A handle to elements that live in a backend's memory, row-major. Activations are {@code [tokens, features]} float
 * tensors in the backend's own compute type; ids are {@link DType#I32}.
 *
 * <p>
 * A tensor made by an operation belongs to the innermost {@link Scope} that is open on the calling thread; weights and
 * detached tensors belong to whoever asked for them, who closes them. Tensors never change after they were made, and any
 * thread may read them.
 */
public interface Tensor extends AutoCloseable {
    /** Sizes of the dimensions, outermost first; the caller must not change the array. */
    int[] shape();

    /** Element type as stored. */
    DType dtype();

    /** The backend that holds the elements. */
    Backend backend();

    /**
     * Copies the elements to the host as floats, waiting for them if they are still being computed.
     *
     * @throws IllegalStateException
     *             if the tensor is closed
     */
    float[] toFloats();

    /**
     * Copies the elements of an integer tensor to the host.
     *
     * @throws IllegalStateException
     *             if the tensor is closed or not of an integer type
     */
    int[] toInts();

    /** Frees the memory now rather than when the scope closes. Closing twice does nothing. */
    @Override
    void close();

    /** Size of dimension {@code i}. */
    default int dim(int i) {
        return shape()[i];
    }

    /** Number of elements. */
    default long size() {
        return HostTensor.size(shape());
    }

    /** Product of all dimensions but the last: how many rows of features there are. */
    default int rowCount() {
        int rows = 1;
        for (int i = 0; i < shape().length - 1; i++)
            rows *= dim(i);
        return rows;
    }
}
