package io.omni.backend.onnx;

import io.omni.api.Attention;
import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.CacheSpec;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeWeights;
import io.omni.api.Packed;
import io.omni.api.Rope;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;

/**
 * Times decoding and prefill of two Thinker layers at real widths, by hand: the arguments are backends' names. Weights
 * are random bfloat16; expert weights are slices of one block, so that every expert has memory of its own.
 */
final class LayerTiming {
    private static final int HIDDEN = 2048;
    private static final int LAYERS = 2;
    private static final Attention ATTENTION = new Attention(32, 4, 128, true, 0);
    private static final Random RANDOM = new Random(1);

    private record Layer(Tensor inputNorm, Tensor q, Tensor k, Tensor v, Tensor o, Tensor qNorm, Tensor kNorm,
            Tensor postNorm, MoeWeights moe) {}

    private LayerTiming() {}

    /** Those that begin with {@code onnx.} */
    private static Map<String, String> properties() {
        return System.getProperties().stringPropertyNames().stream().filter(p -> p.startsWith("onnx."))
                .collect(Collectors.toMap(p -> p.substring(5), System::getProperty));
    }

    public static void main(String[] names) {
        for (String name : names)
            try (Backend backend = Backends.load(name, new BackendOptions(2, properties()));
                    Arena arena = Arena.ofShared()) {
                        List<Layer> layers = new ArrayList<>();
                        for (int i = 0; i < LAYERS; i++)
                            layers.add(layer(backend, arena));
                        System.out.println(name + ", " + backend.device());
                        for (int prompt : new int[]{64, 512})
                            time(backend, layers, prompt);
                        System.out.println("  bytes " + backend.allocatedBytes());
                        if (backend instanceof OnnxBackend onnx)
                            System.out.println("  sessions " + onnx.sessions().size());
                    }
    }

    private static void time(Backend backend, List<Layer> layers, int prompt) {
        for (int round = 0; round < 3; round++)
            try (KvCache cache = backend.cache(new CacheSpec(LAYERS, 4, 128, 0))) {
                long start = System.nanoTime();
                step(backend, layers, cache, prompt);
                long prefill = System.nanoTime() - start;
                int steps = 30;
                start = System.nanoTime();
                for (int i = 0; i < steps; i++)
                    step(backend, layers, cache, 1);
                long decode = System.nanoTime() - start;
                System.out.printf("  prompt %d: prefill %.0f token-layers/s, decode %.2f ms a layer%n", prompt,
                        prompt * LAYERS / (prefill * 1e-9), decode * 1e-6 / steps / LAYERS);
            }
    }

    private static void step(Backend backend, List<Layer> layers, KvCache cache, int tokens) {
        TensorOps ops = backend.tensorOps();
        var attention = backend.attentionOps();
        try (Scope _ = backend.scope()) {
            float[] positions = new float[3 * tokens];
            for (int i = 0; i < positions.length; i++)
                positions[i] = cache.length(0) + i % tokens;
            float[] values = new float[tokens * HIDDEN];
            for (int i = 0; i < values.length; i++)
                values[i] = (float) RANDOM.nextGaussian();
            Tensor x = backend.tensor(values, tokens, HIDDEN);
            Tensor table = attention.rotaryTable(backend.tensor(positions, 3, tokens),
                    Rope.multimodal(128, 1e6, 24, 20, 20));
            var packed = new Packed(0, tokens);
            for (int i = 0; i < layers.size(); i++)
                try (Scope inner = backend.scope()) {
                    Layer layer = layers.get(i);
                    Tensor h = ops.rmsNorm(x, layer.inputNorm, 1e-6f);
                    Tensor q = attention.rotary(ops.linear(h, layer.q), layer.qNorm, 1e-6f, table);
                    Tensor k = attention.rotary(ops.linear(h, layer.k), layer.kNorm, 1e-6f, table);
                    attention.append(List.of(cache), i, k, ops.linear(h, layer.v), packed);
                    Tensor a = attention.attend(q, List.of(cache), i, packed, ATTENTION);
                    x = ops.add(x, ops.linear(a, layer.o));
                    Tensor y = backend.moeOps().moe(ops.rmsNorm(x, layer.postNorm, 1e-6f), layer.moe, 8, true);
                    x = inner.keep(ops.add(x, y));
                }
            x.toFloats();
        }
    }

    private static Layer layer(Backend backend, Arena arena) {
        List<Tensor> gate = new ArrayList<>();
        List<Tensor> up = new ArrayList<>();
        List<Tensor> down = new ArrayList<>();
        for (int i = 0; i < 128; i++) {
            gate.add(weight(backend, arena, WeightRole.MATRIX, 768, HIDDEN));
            up.add(weight(backend, arena, WeightRole.MATRIX, 768, HIDDEN));
            down.add(weight(backend, arena, WeightRole.MATRIX, HIDDEN, 768));
        }
        return new Layer(weight(backend, arena, WeightRole.VECTOR, HIDDEN),
                weight(backend, arena, WeightRole.MATRIX, 4096, HIDDEN),
                weight(backend, arena, WeightRole.MATRIX, 512, HIDDEN),
                weight(backend, arena, WeightRole.MATRIX, 512, HIDDEN),
                weight(backend, arena, WeightRole.MATRIX, HIDDEN, 4096), weight(backend, arena, WeightRole.VECTOR, 128),
                weight(backend, arena, WeightRole.VECTOR, 128), weight(backend, arena, WeightRole.VECTOR, HIDDEN),
                new MoeWeights(weight(backend, arena, WeightRole.MATRIX, 128, HIDDEN), gate, up, down, null));
    }

    private static Tensor weight(Backend backend, Arena arena, WeightRole role, int... shape) {
        long n = HostTensor.size(shape);
        MemorySegment data = arena.allocate(2 * n, 64);
        long state = RANDOM.nextLong();
        for (long i = 0; i < n; i++) {
            state = state * 6364136223846793005L + 1442695040888963407L;
            float value = (state >> 40) * 0x1p-24f * 0.05f;
            data.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) (Float.floatToIntBits(value) >> 16));
        }
        return backend.weight(new HostTensor("w", DType.BF16, shape, data), role);
    }
}
