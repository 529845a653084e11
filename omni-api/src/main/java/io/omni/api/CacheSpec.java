package io.omni.api;

/**
 * Shape of a {@link KvCache}.
 *
 * @param layers
 *            decoder layers
 * @param kvHeads
 *            key and value heads of a layer
 * @param headDim
 *            features of one head
 * @param window
 *            if positive, keys further back than this are never attended again and may be dropped; 0 keeps all
 */
public record CacheSpec(int layers, int kvHeads, int headDim, int window) {}
