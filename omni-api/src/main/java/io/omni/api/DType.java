package io.omni.api;

/** Element type of a tensor. */
public enum DType {
    F32
}
