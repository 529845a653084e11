/**
 * Messages and media to model inputs. Start at {@link io.omni.processor.OmniProcessor}; everything follows upstream's
 * {@code Qwen3OmniMoeProcessor} of transformers 5.17.0.
 */
package io.omni.processor;
