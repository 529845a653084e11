package io.omni.api;

import java.util.List;

/**
 * Weights of one mixture-of-experts layer, all {@link WeightRole#MATRIX}.
 *
 * @param router
 *            {@code [experts, hidden]}
 * @param gate
 *            one {@code [intermediate, hidden]} for each expert
 * @param up
 *            one {@code [intermediate, hidden]} for each expert
 * @param down
 *            one {@code [hidden, intermediate]} for each expert
 * @param shared
 *            the expert that every token visits, or null
 */
public record MoeWeights(Tensor router, List<Tensor> gate, List<Tensor> up, List<Tensor> down, SharedExpert shared) {
    /**
     * An expert that every token visits, its output scaled by sigmoid(scale · x).
     *
     * @param gate
     *            {@code [intermediate, hidden]}
     * @param up
     *            {@code [intermediate, hidden]}
     * @param down
     *            {@code [hidden, intermediate]}
     * @param scale
     *            {@code [1, hidden]}; upstream's {@code shared_expert_gate}
     */
    public record SharedExpert(Tensor gate, Tensor up, Tensor down, Tensor scale) {}

    /** @throws IllegalArgumentException unless there are as many matrices of each kind as the router's experts */
    public MoeWeights {
        gate = List.copyOf(gate);
        up = List.copyOf(up);
        down = List.copyOf(down);
        if (gate.size() != router.dim(0) || up.size() != gate.size() || down.size() != gate.size())
            throw new IllegalArgumentException("a router over " + router.dim(0) + " experts with " + gate.size()
                    + " gate, " + up.size() + " up and " + down.size() + " down matrices");
    }
}
