package io.omni.api;

/** Elementwise functions between layers, named as upstream's {@code hidden_act} names them. */
public enum Activation {
    /** x. */
    NONE,
    /** x · Φ(x), with the exact error function ({@code gelu}). */
    GELU,
    /** The tanh approximation of GELU ({@code gelu_pytorch_tanh}). */
    GELU_TANH,
    /** x · sigmoid(x) ({@code silu}). */
    SILU,
    /** max(x, 0) ({@code relu}). */
    RELU,
    /** 1 / (1 + e⁻ˣ). */
    SIGMOID;

    /**
     * The function that a configuration names.
     *
     * @throws IllegalArgumentException
     *             if {@code name} is none of {@code gelu}, {@code gelu_pytorch_tanh}, {@code silu}, {@code swish},
     *             {@code relu}
     */
    public static Activation of(String name) {
        return switch (name) {
            case "gelu" -> GELU;
            case "gelu_pytorch_tanh", "gelu_new" -> GELU_TANH;
            case "silu", "swish" -> SILU;
            case "relu" -> RELU;
            default -> throw new IllegalArgumentException("unknown activation '" + name
                    + "', expected gelu, gelu_pytorch_tanh, silu or relu");
        };
    }
}
