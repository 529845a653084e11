package io.omni.api;

/** What a weight is for, so that a backend can lay it out once, when it is loaded. The shape stays the one on disk. */
public enum WeightRole {
    /** {@code [out, in]}, for {@link TensorOps#linear} and everything built on it. */
    MATRIX,
    /** {@code [features]}: norms, biases, scales. */
    VECTOR,
    /** {@code [entries, features]}, read by row in {@link TensorOps#embedding}. */
    EMBEDDING,
    /** {@code [out, in / groups, kernel]}. */
    CONV1D,
    /** {@code [in, out, kernel]}. */
    CONV_TRANSPOSE1D,
    /** {@code [out, in, kernelHeight, kernelWidth]}. */
    CONV2D,
    /** {@code [out, channels, frames, height, width]}. */
    CONV3D
}
