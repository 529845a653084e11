package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The weights below one prefix of a checkpoint's names, handed to a backend as layers ask for them. All views of one
 * checkpoint share the list of tensors made, which {@link #close} frees.
 */
final class Weights implements AutoCloseable {
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Backend backend;
    private final TensorSource source;
    private final DType matrixType;
    private final Arena memory;
    private final List<AutoCloseable> made;
    private final String prefix;

    /**
     * The whole checkpoint.
     *
     * @param matrixType
     *            what matrices are converted to, or null to keep the type they are stored in; a quantised type takes those
     *            that {@link Quantizer} covers
     */
    Weights(Backend backend, TensorSource source, DType matrixType) {
        this(backend, source, matrixType, Arena.ofShared(), new ArrayList<>(), "");
        made.add(memory);
    }

    private Weights(Backend backend, TensorSource source, DType matrixType, Arena memory, List<AutoCloseable> made,
            String prefix) {
        this.backend = backend;
        this.source = source;
        this.matrixType = matrixType;
        this.memory = memory;
        this.made = made;
        this.prefix = prefix;
    }

    Backend backend() {
        return backend;
    }

    /** The weights below {@code name}. */
    Weights at(String name) {
        return new Weights(backend, source, matrixType, memory, made, prefix + name + ".");
    }

    /** The weights below entry {@code i} of a list. */
    Weights at(int i) {
        return at(Integer.toString(i));
    }

    boolean has(String name) {
        return source.has(prefix + name);
    }

    /** {@code [out, in]}. */
    Tensor matrix(String name, int out, int in) {
        return get(name, WeightRole.MATRIX, out, in);
    }

    /** {@code parts} matrices of {@code [out, in]} that are stored one above the other. */
    List<Tensor> matrices(String name, int parts, int out, int in) {
        return load(name, WeightRole.MATRIX, parts, parts * out, in);
    }

    /** {@code parts} vectors of {@code n} that are stored one after another. */
    List<Tensor> vectors(String name, int parts, int n) {
        return load(name, WeightRole.VECTOR, parts, parts * n);
    }

    /** {@code [n]}. */
    Tensor vector(String name, int n) {
        return get(name, WeightRole.VECTOR, n);
    }

    /** {@code [n]}, or null where the layer has no such parameter. */
    Tensor vectorIf(boolean present, String name, int n) {
        return present ? vector(name, n) : null;
    }

    /** {@code [entries, features]}. */
    Tensor embedding(String name, int entries, int features) {
        return get(name, WeightRole.EMBEDDING, entries, features);
    }

    Tensor get(String name, WeightRole role, int... shape) {
        return load(name, role, 1, shape).getFirst();
    }

    /**
     * One matrix for each expert, from one tensor an expert ({@code experts.0.gate_proj.weight}).
     */
    List<Tensor> experts(String projection, int experts, int out, int in) {
        List<Tensor> all = new ArrayList<>(experts);
        for (int i = 0; i < experts; i++)
            all.add(at("experts").at(i).matrix(projection + ".weight", out, in));
        return all;
    }

    /** The parts of a tensor of this shape, which lie one after another along the first dimension. */
    private List<Tensor> load(String name, WeightRole role, int parts, int... shape) {
        boolean passing = matrixType != null || !backend.weightTypes().containsAll(EnumSet.of(DType.Q8, DType.Q4));
        Arena first = passing ? Arena.ofShared() : memory;
        try {
            HostTensor host = source.get(first, prefix + name, shape);
            DType type = type(host, role);
            HostTensor laid = host;
            if (type != host.dtype())
                laid = convert(host, type);
            else if (passing) {
                keep(first);
                passing = false;
            }
            List<Tensor> all = new ArrayList<>(parts);
            for (int i = 0; i < parts; i++) {
                Tensor tensor = backend.weight(
                        laid.rows(i * (shape[0] / parts), (i + 1) * (shape[0] / parts)), role);
                keep(tensor);
                all.add(tensor);
            }
            return all;
        } finally {
            if (passing)
                first.close();
        }
    }

    /** Frees it with the weights, before what was kept earlier. */
    private void keep(AutoCloseable kept) {
        synchronized (made) {
            made.add(kept);
        }
    }

    /** The type in which the backend gets a tensor. */
    private DType type(HostTensor host, WeightRole role) {
        if (!host.dtype().isFloating())
            throw new CheckpointException(
                    "tensor " + host.name() + " is of type " + host.dtype() + ", expected floats");
        if (role == WeightRole.MATRIX && matrixType != null
                && (!matrixType.isQuantized() || Quantizer.covers(host.name(), host.shape(), matrixType)))
            return matrixType;
        return readable(host.dtype(), role) ? host.dtype() : DType.F32;
    }

    private boolean readable(DType type, WeightRole role) {
        boolean listed = backend.weightTypes().contains(type);
        return switch (role) {
            case MATRIX -> listed;
            case EMBEDDING -> listed || !type.isQuantized();
            default -> !type.isQuantized();
        };
    }

    private HostTensor convert(HostTensor host, DType type) {
        MemorySegment data = memory.allocate(type.bytes(host.size()), 64);
        if (type.isQuantized())
            Quantizer.convert(host, type, data);
        else {
            int rows = Math.max(1, host.shape()[0]);
            long width = host.size() / rows;
            IntStream.range(0, rows).parallel().forEach(r -> {
                for (long i = r * width; i < (r + 1) * width; i++) {
                    float value = host.getFloat(i);
                    switch (type) {
                        case F32 -> data.set(FLOAT, 4 * i, value);
                        case F16 -> data.set(SHORT, 2 * i, Float.floatToFloat16(value));
                        case BF16 -> data.set(SHORT, 2 * i, bfloat16(value));
                        default -> throw new IllegalArgumentException(
                                "weights of type " + type + ", expected F32, F16, BF16, Q8 or Q4");
                    }
                }
            });
        }
        return new HostTensor(host.name(), type, host.shape(), data);
    }

    /** The nearest bfloat16, to even on a tie. */
    static short bfloat16(float value) {
        int bits = Float.floatToIntBits(value);
        return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
    }

    @Override
    public void close() {
        synchronized (made) {
            for (AutoCloseable tensor : made.reversed()) {
                switch (tensor) {
                    case Tensor t -> t.close();
                    case Arena a -> a.close();
                    default -> throw new AssertionError(tensor);
                }
            }
            made.clear();
        }
        source.close();
    }
}
