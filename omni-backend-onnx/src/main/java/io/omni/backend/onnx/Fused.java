package io.omni.backend.onnx;

/** Operators that a release or an execution provider may lack; each has a composition of plain ones. */
enum Fused {
    /** {@code RMSNormalization}. */
    RMS_NORM,
    /** {@code RotaryEmbedding}. */
    ROTARY,
    /** {@code Attention}. */
    ATTENTION,
    /** {@code com.microsoft.FusedMatMul}, whose matrices may lie between others. */
    MATMUL,
    /** {@code Gelu}. */
    GELU,
    /** {@code com.microsoft.QuickGelu}, which is SiLU for alpha 1. */
    SILU,
    /** {@code com.microsoft.MatMulNBits} with activations in 8 bits. */
    BLOCKS,
    /** {@code com.microsoft.MatMulIntegerToFloat}. */
    HALVES
}
