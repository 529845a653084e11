package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Activation;
import io.omni.api.DType;
import io.omni.api.Definitions;
import io.omni.api.HostTensor;
import io.omni.api.Tensor;
import io.omni.api.WeightRole;
import io.omni.api.conformance.Cases.Argument;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/** Weights come from memory of every kind, at any address, and need it no longer than they are open. */
public interface WeightMemoryConformance extends Subject {
    int IN = 64;
    int OUT = 32;

    @Test
    default void weightOnTheHeap() {
        for (DType type : floats())
            multiply(host(type, MemorySegment.ofArray(bytes(type))));
    }

    /** As in a checkpoint whose header has an odd length. */
    @Test
    default void weightAtAnyAddress() {
        for (DType type : floats())
            for (int odd : new int[]{0, 1, 2, 3, 13})
                try (Arena arena = Arena.ofShared()) {
                    byte[] bytes = bytes(type);
                    MemorySegment data = arena.allocate(bytes.length + odd, 64).asSlice(odd);
                    data.copyFrom(MemorySegment.ofArray(bytes));
                    multiply(host(type, data));
                }
    }

    /** Read-only and mapped; some way into the file, and unmapped as soon as the weight is closed. */
    @Test
    default void weightInAMappedFile() throws IOException {
        for (DType type : floats()) {
            byte[] bytes = bytes(type);
            Path file = Files.createTempFile("omni", ".weights");
            try {
                byte[] padded = new byte[bytes.length + 5000];
                System.arraycopy(bytes, 0, padded, 5000, bytes.length);
                Files.write(file, padded);
                try (FileChannel channel = FileChannel.open(file); Arena arena = Arena.ofShared()) {
                    multiply(host(type, channel.map(FileChannel.MapMode.READ_ONLY, 0, padded.length, arena)
                            .asSlice(5000)));
                }
            } finally {
                Files.delete(file);
            }
        }
    }

    /** Roles but MATRIX take all three types, whatever the matrices may be. */
    @Test
    default void weightOfEveryRoleAndType() {
        for (DType type : new DType[]{DType.F32, DType.F16, DType.BF16}) {
            Argument x = cases().activation(3, 6);
            Argument scale = cases().weight(WeightRole.VECTOR, type, 6);
            Argument shift = cases().weight(WeightRole.VECTOR, type, 6);
            cases().check("layerNorm",
                    backend().tensorOps().layerNorm(x.tensor(), scale.tensor(), shift.tensor(), 1e-5f),
                    Definitions.layerNorm(x.values(), scale.values(), shift.values(), 1e-5f), 3, 6);
        }
    }

    /** A weight belongs to no scope, and the shape stays the one on disk. */
    @Test
    default void weightWithoutAScope() throws InterruptedException {
        HostTensor host = host(DType.F32, MemorySegment.ofArray(bytes(DType.F32)));
        Tensor[] made = new Tensor[1];
        Thread thread = new Thread(() -> made[0] = backend().weight(host, WeightRole.MATRIX));
        thread.start();
        thread.join();
        Argument x = cases().activation(2, IN);
        try (Tensor w = made[0]) {
            cases().check("linear", backend().tensorOps().linear(x.tensor(), w), expected(x, host), 2, OUT);
            assertThat(w.shape()).containsExactly(OUT, IN);
        }
    }

    private void multiply(HostTensor host) {
        Argument x = cases().activation(2, IN);
        try (Tensor w = backend().weight(host, WeightRole.MATRIX)) {
            cases().check("linear", backend().tensorOps().linear(x.tensor(), w), expected(x, host), 2, OUT);
        }
    }

    private static double[] expected(Argument x, HostTensor w) {
        return Definitions.linear(x.values(), Definitions.doubles(w.toFloats()), null, 2, IN, OUT, Activation.NONE);
    }

    private static HostTensor host(DType type, MemorySegment data) {
        return new HostTensor("weight of " + type, type, new int[]{OUT, IN}, data);
    }

    private DType[] floats() {
        return matrixTypes().stream().filter(DType::isFloating).toArray(DType[]::new);
    }

    private byte[] bytes(DType type) {
        byte[] bytes = new byte[Math.toIntExact(type.bytes((long) OUT * IN))];
        Cases.encode(cases().normal(OUT, IN), IN, type, MemorySegment.ofArray(bytes));
        return bytes;
    }
}
