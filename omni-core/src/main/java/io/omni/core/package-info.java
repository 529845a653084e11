/**
 * The model: its parts on one backend, checkpoints, and generation. Start at {@link io.omni.core.Omni}; names and numbers
 * follow upstream's {@code Qwen3OmniMoeForConditionalGeneration} of transformers 5.17.0.
 */
package io.omni.core;
