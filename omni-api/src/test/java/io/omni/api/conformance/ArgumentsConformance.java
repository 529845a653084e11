package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.CacheSpec;
import io.omni.api.Conv1d;
import io.omni.api.Conv2d;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Sampler;
import io.omni.api.Sampling;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Every operation, with each of its tensors wrong in turn: all others are as they should be. */
public interface ArgumentsConformance extends Subject {
    @Test
    default void closedTensorsAreRefused() {
        refuses(IllegalStateException.class, "closed", (slot, backend) -> {
            Tensor tensor = slot.make(backend, 0);
            tensor.close();
            return tensor;
        });
    }

    @Test
    default void tensorsOfAnotherBackendAreRefused() {
        try (Backend other = another(); Scope scope = other.scope()) {
            refuses(IllegalArgumentException.class, "of another backend", (slot, backend) -> slot.make(other, 0));
        }
    }

    @Test
    default void wrongShapesAreRefused() {
        refuses(IllegalArgumentException.class, "one too large",
                (slot, backend) -> slot.fixed < 0 ? null : slot.make(backend, 1));
        refuses(IllegalArgumentException.class, "one too small",
                (slot, backend) -> slot.fixed < 0 ? null : slot.make(backend, -1));
    }

    @Test
    default void wrongTypesAreRefused() {
        refuses(IllegalArgumentException.class, "of the wrong type", (slot, backend) -> switch (slot.kind) {
            case FLOATS -> backend.tensor(new int[(int) HostTensor.size(slot.shape)], slot.shape);
            case IDS -> backend.tensor(new float[(int) HostTensor.size(slot.shape)], slot.shape);
            case ROWS, WEIGHT -> null;
        });
    }

    @Test
    default void operationsNeedAScope() throws Exception {
        List<Call> calls = Call.all();
        List<Tensor[]> arguments = calls.stream().map(call -> call.arguments(backend())).toList();
        List<String> accepted = new ArrayList<>();
        Thread other = new Thread(() -> {
            for (int i = 0; i < calls.size(); i++) {
                Call call = calls.get(i);
                Tensor[] own = arguments.get(i);
                // appending makes no tensor
                if (!call.name.equals("append"))
                    expect(IllegalStateException.class, call.name, () -> call.run(backend(), own), accepted);
            }
        });
        other.start();
        other.join();
        assertThat(accepted).as("without a scope").isEmpty();
    }

    /** A tensor never changes after it was made, whoever reads it. */
    @Test
    default void operationsLeaveTheirArgumentsAsTheyWere() {
        for (Call call : Call.all()) {
            Tensor[] arguments = call.arguments(backend());
            List<double[]> before = Stream.of(arguments).map(ArgumentsConformance::elements).toList();
            call.run(backend(), arguments);
            for (int i = 0; i < arguments.length; i++)
                assertThat(elements(arguments[i])).as(call.name + ", argument " + i).isEqualTo(before.get(i));
        }
    }

    private static double[] elements(Tensor tensor) {
        return tensor.dtype() == DType.I32
                ? Arrays.stream(tensor.toInts()).asDoubleStream().toArray()
                : Definitions.doubles(tensor.toFloats());
    }

    @Test
    default void tensorsHoldWhatTheirShapeSays() {
        for (int[] shape : new int[][]{{3}, {2, 3}, {}, {-2, -1}, {2, -1}}) {
            assertThat(catchThrowable(() -> backend().tensor(new float[2], shape)))
                    .isInstanceOf(IllegalArgumentException.class);
            assertThat(catchThrowable(() -> backend().tensor(new int[2], shape)))
                    .isInstanceOf(IllegalArgumentException.class);
        }
        assertThat(backend().tensor(new float[]{7}).toFloats()).containsExactly(7);
        assertThat(backend().tensor(new float[0], 2, 0, 3).shape()).containsExactly(2, 0, 3);
        float[] values = {1, 2};
        Tensor copied = backend().tensor(values, 2);
        values[0] = 9;
        copied.toFloats()[1] = 9;
        assertThat(copied.toFloats()).containsExactly(1, 2);
        assertThat(copied.backend()).isSameAs(backend());
        assertThat(copied.dtype().isFloating()).isTrue();
        assertThat(catchThrowable(copied::toInts)).isInstanceOf(IllegalStateException.class);
        Tensor ids = backend().tensor(new int[]{Integer.MIN_VALUE, -1, Integer.MAX_VALUE}, 3);
        assertThat(ids.dtype()).isEqualTo(DType.I32);
        ids.toInts()[0] = 9;
        assertThat(ids.toInts()).containsExactly(Integer.MIN_VALUE, -1, Integer.MAX_VALUE);
        int[] numbers = {4, 5};
        Tensor own = backend().tensor(numbers, 2);
        numbers[0] = 9;
        assertThat(own.toInts()).containsExactly(4, 5);
    }

    @Test
    default void weightsThatDoNotFitTheirRoleAreRefused() {
        for (WeightRole role : WeightRole.values()) {
            int rank = switch (role) {
                case VECTOR -> 1;
                case MATRIX, EMBEDDING -> 2;
                case CONV1D, CONV_TRANSPOSE1D -> 3;
                case CONV2D -> 4;
                case CONV3D -> 5;
            };
            int[] shape = new int[rank + 1];
            Arrays.fill(shape, 1);
            assertThat(catchThrowable(() -> backend().weight(HostTensor.of("w", new float[1], shape), role)))
                    .as("%s of %d dimensions", role, rank + 1).isInstanceOf(IllegalArgumentException.class);
        }
        HostTensor longs = new HostTensor("w", DType.I64, new int[]{1, 1},
                java.lang.foreign.MemorySegment.ofArray(new byte[8]));
        assertThat(catchThrowable(() -> backend().weight(longs, WeightRole.MATRIX)))
                .isInstanceOf(IllegalArgumentException.class);
    }

    /** What makes one argument wrong; null where that cannot be wrong. */
    interface Fault {
        Tensor make(Slot slot, Backend backend);
    }

    private void refuses(Class<? extends Exception> expected, String fault, Fault wrong) {
        List<String> accepted = new ArrayList<>();
        for (Call call : Call.all()) {
            int n = call.slots.size();
            call.run(backend(), call.arguments(backend()));
            for (int i = 0; i < n; i++) {
                Tensor[] arguments = call.arguments(backend());
                arguments[i] = wrong.make(call.slots.get(i), backend());
                if (arguments[i] != null)
                    expect(expected, call.name + ", argument " + i, () -> call.run(backend(), arguments), accepted);
            }
        }
        assertThat(accepted).as("a tensor " + fault + " must be refused with " + expected.getSimpleName()).isEmpty();
    }

    private static void expect(Class<? extends Exception> expected, String what, Runnable call, List<String> accepted) {
        Throwable thrown = catchThrowable(call::run);
        if (!expected.isInstance(thrown))
            accepted.add(what + ": " + (thrown == null ? "accepted" : thrown.toString()));
    }

    /** What a tensor holds: floats, ids, rows of either type, or a weight. */
    enum Kind {
        FLOATS, IDS, ROWS, WEIGHT
    }

    /** One tensor of a call; {@code fixed} is a dimension whose size the other arguments fix, or −1. */
    record Slot(Kind kind, WeightRole role, int fixed, int... shape) {
        Tensor make(Backend backend, int more) {
            return make(backend, more, 0);
        }

        /** Elements are others for each {@code variant}, but for ids. */
        Tensor make(Backend backend, int more, int variant) {
            int[] sizes = shape.clone();
            if (more != 0)
                sizes[fixed] += more;
            float[] values = new float[(int) HostTensor.size(sizes)];
            for (int i = 0; i < values.length; i++)
                values[i] = ((i + variant) * 7 % 11 - 5) / 4f;
            return switch (kind) {
                case FLOATS, ROWS -> backend.tensor(values, sizes);
                case IDS -> backend.tensor(new int[values.length], sizes);
                case WEIGHT -> backend.weight(HostTensor.of("argument", values, sizes), role);
            };
        }
    }

    /** An operation, and what it takes. */
    record Call(String name, List<Slot> slots, Operation operation) {
        interface Operation {
            Tensor run(Backend backend, Tensor[] t);
        }

        Tensor[] arguments(Backend backend) {
            return arguments(backend, 0);
        }

        Tensor[] arguments(Backend backend, int variant) {
            return slots.stream().map(slot -> slot.make(backend, 0, variant)).toArray(Tensor[]::new);
        }

        /** The result, if the operation makes a tensor, or null. */
        Tensor run(Backend backend, Tensor[] arguments) {
            return operation.run(backend, arguments);
        }

        private static Slot floats(int fixed, int... shape) {
            return new Slot(Kind.FLOATS, null, fixed, shape);
        }

        private static Slot rows(int fixed, int... shape) {
            return new Slot(Kind.ROWS, null, fixed, shape);
        }

        private static Slot ids(int fixed, int... shape) {
            return new Slot(Kind.IDS, null, fixed, shape);
        }

        private static Slot weight(WeightRole role, int fixed, int... shape) {
            return new Slot(Kind.WEIGHT, role, fixed, shape);
        }

        private static Slot matrix(int fixed, int... shape) {
            return weight(WeightRole.MATRIX, fixed, shape);
        }

        private static Slot vector(int n) {
            return weight(WeightRole.VECTOR, 0, n);
        }

        private static Call of(String name, Operation operation, Slot... slots) {
            return new Call(name, List.of(slots), operation);
        }

        static List<Call> all() {
            List<Call> calls = new ArrayList<>(tensorOps());
            calls.addAll(rowOps());
            calls.addAll(attentionOps());
            calls.addAll(moeAndConvOps());
            return calls;
        }

        private static List<Call> tensorOps() {
            return List.of(
                    of("linear", (b, t) -> b.tensorOps().linear(t[0], t[1], t[2], Activation.SILU), floats(1, 2, 32),
                            matrix(1, 64, 32), vector(64)),
                    of("gatedMlp", (b, t) -> b.tensorOps().gatedMlp(t[0], t[1], t[2], t[3]), floats(1, 2, 32),
                            matrix(0, 64, 32), matrix(0, 64, 32), matrix(1, 32, 64)),
                    of("rmsNorm", (b, t) -> b.tensorOps().rmsNorm(t[0], t[1], 1), floats(1, 2, 8), vector(8)),
                    of("layerNorm", (b, t) -> b.tensorOps().layerNorm(t[0], t[1], t[2], 1), floats(1, 2, 8), vector(8),
                            vector(8)),
                    of("add", (b, t) -> b.tensorOps().add(t[0], t[1]), floats(0, 2, 8), floats(1, 2, 8)),
                    of("multiply", (b, t) -> b.tensorOps().multiply(t[0], t[1]), floats(1, 2, 8), floats(0, 2, 8)),
                    of("addScaled", (b, t) -> b.tensorOps().addScaled(t[0], t[1], t[2]), floats(0, 2, 8),
                            floats(1, 2, 8), vector(8)),
                    of("activation", (b, t) -> b.tensorOps().activation(t[0], Activation.RELU), floats(-1, 2, 8)),
                    of("snakeBeta", (b, t) -> b.tensorOps().snakeBeta(t[0], t[1], t[2]), floats(1, 2, 8), vector(8),
                            vector(8)),
                    of("clamp", (b, t) -> b.tensorOps().clamp(t[0], 0, 1), floats(-1, 2, 8)), of("sample", (b, t) -> {
                        try (Sampler sampler = b.tensorOps().sampler(Sampling.greedy(), 8, new int[0])) {
                            return b.tensorOps().sample(t[0], List.of(sampler));
                        }
                    }, floats(1, 1, 8)));
        }

        private static List<Call> rowOps() {
            return List.of(
                    of("embedding", (b, t) -> b.tensorOps().embedding(t[0], t[1]),
                            weight(WeightRole.EMBEDDING, -1, 4, 6), ids(-1, 3)),
                    of("embeddingBag", (b, t) -> b.tensorOps().embeddingBag(t[0], t[1], t[2]),
                            weight(WeightRole.EMBEDDING, -1, 4, 6), ids(1, 3, 2), floats(0, 3, 2)),
                    of("slice", (b, t) -> b.tensorOps().slice(t[0], 1, 2), rows(-1, 3, 6)),
                    of("concat", (b, t) -> b.tensorOps().concat(List.of(t[0], t[1])), floats(1, 3, 6), floats(1, 2, 6)),
                    of("reshape", (b, t) -> b.tensorOps().reshape(t[0], 6, 3), rows(0, 3, 6)),
                    of("permute", (b, t) -> b.tensorOps().permute(t[0], 1, 0), floats(-1, 3, 6)),
                    of("gather", (b, t) -> b.tensorOps().gather(t[0], t[1]), rows(-1, 3, 6), ids(-1, 2)),
                    of("scatter", (b, t) -> b.tensorOps().scatter(t[0], t[1], t[2]), rows(1, 3, 6), ids(0, 1),
                            rows(1, 1, 6)),
                    of("scatterAdd", (b, t) -> b.tensorOps().scatterAdd(t[0], t[1], t[2]), floats(1, 3, 6), ids(0, 2),
                            floats(0, 2, 6)));
        }

        private static List<Call> attentionOps() {
            Attention attention = new Attention(2, 1, 8, true, 0);
            Packed packed = new Packed(0, 3);
            return List.of(
                    of("rotaryTable", (b, t) -> b.attentionOps().rotaryTable(t[0], Rope.standard(8, 1e4)),
                            rows(-1, 1, 3)),
                    of("rotary", (b, t) -> b.attentionOps().rotary(t[0], t[1], 1, t[2]), floats(0, 3, 16), vector(8),
                            floats(2, 3, 2, 4)),
                    of("attend", (b, t) -> b.attentionOps().attend(t[0], t[1], t[2], packed, attention),
                            floats(0, 3, 16), floats(1, 3, 8), floats(0, 3, 8)),
                    of("append", (b, t) -> {
                        try (KvCache cache = b.cache(new CacheSpec(1, 1, 8, 0))) {
                            try {
                                b.attentionOps().append(List.of(cache), 0, t[0], t[1], packed);
                                return null;
                            } finally {
                                assertThat(cache.length(0)).isIn(0, 3);
                            }
                        }
                    }, floats(1, 3, 8), floats(0, 3, 8)),
                    of("attendCached", (b, t) -> cached(b, t[0], attention), floats(0, 2, 16)));
        }

        private static Tensor cached(Backend backend, Tensor q, Attention attention) {
            AttentionOps ops = backend.attentionOps();
            try (KvCache cache = backend.cache(new CacheSpec(1, 1, 8, 0))) {
                Tensor kv = backend.tensor(new float[16], 2, 8);
                ops.append(List.of(cache), 0, kv, kv, new Packed(0, 2));
                return ops.attend(q, List.of(cache), 0, new Packed(0, 2), attention);
            }
        }

        private static List<Call> moeAndConvOps() {
            return List.of(of("moe", (b, t) -> b.moeOps().moe(t[0],
                    new MoeWeights(t[1], List.of(t[2], t[3]), List.of(t[4], t[5]), List.of(t[6], t[7]),
                            new MoeWeights.SharedExpert(t[8], t[9], t[10], t[11])),
                    2, true), floats(1, 2, 32), matrix(1, 2, 32), matrix(0, 64, 32), matrix(0, 64, 32),
                    matrix(0, 64, 32), matrix(0, 64, 32), matrix(1, 32, 64), matrix(1, 32, 64), matrix(0, 64, 32),
                    matrix(0, 64, 32), matrix(1, 32, 64), matrix(1, 1, 32)),
                    of("conv1d", (b, t) -> b.convOps().conv1d(t[0], t[1], t[2], new Conv1d(1, 1, 2, 0, 0)),
                            floats(1, 5, 4), weight(WeightRole.CONV1D, 1, 6, 2, 3), vector(6)),
                    of("convTranspose1d", (b, t) -> b.convOps().convTranspose1d(t[0], t[1], t[2], 2, 1, 1),
                            floats(1, 5, 4), weight(WeightRole.CONV_TRANSPOSE1D, 0, 4, 6, 4), vector(6)),
                    of("conv2d",
                            (b, t) -> b.convOps().conv2d(t[0], t[1], t[2], new Conv2d(1, 1), Activation.NONE),
                            floats(3, 1, 4, 4, 2), weight(WeightRole.CONV2D, 1, 3, 2, 3, 3), vector(3)),
                    of("conv3dPatches", (b, t) -> b.convOps().conv3dPatches(t[0], t[1], t[2]), floats(1, 2, 16),
                            weight(WeightRole.CONV3D, 1, 3, 2, 2, 2, 2), vector(3)));
        }
    }
}
