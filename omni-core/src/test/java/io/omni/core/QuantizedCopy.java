package io.omni.core;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.HostTensor;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.IntBinaryOperator;

/**
 * Writes the reference checkpoint with its matrices quantised as other tools do, and a twin that holds as plain floats
 * what they then mean. Tensors are dealt to two shards in turn, so a module's parts lie in both.
 */
final class QuantizedCopy {
    /** Layouts, each with what {@code config.json} says of it. */
    enum Layout {
        PACKED4("compressed-tensors','format':'pack-quantized"), PACKED4_ZEROS(
                "compressed-tensors','format':'pack-quantized"), PACKED8(
                        "compressed-tensors','format':'pack-quantized"), INT8(
                                "compressed-tensors','format':'int-quantized"), AWQ(
                                        "awq','bits':4,'version':'gemm"), FLOAT8_ROWS(
                                                "compressed-tensors','format':'float-quantized"), FLOAT8_BLOCKS(
                                                        "fp8','weight_block_size':[24,40],'activation_scheme':'dynamic");

        final String config;

        Layout(String config) {
            this.config = ("{'quant_method':'" + config + "'}").replace('\'', '"');
        }

        boolean zeros() {
            return this == PACKED4_ZEROS || this == AWQ;
        }

        boolean float8() {
            return this == FLOAT8_ROWS || this == FLOAT8_BLOCKS;
        }

        int bits() {
            return this == PACKED8 || this == INT8 ? 8 : 4;
        }
    }

    record Tensor(String dtype, int[] shape, byte[] bytes) {}

    private static final ObjectMapper JSON = new ObjectMapper();

    private final Layout layout;
    private final Map<String, Tensor> quantised = new TreeMap<>();
    private final Map<String, Tensor> floats = new TreeMap<>();
    private int count;

    private QuantizedCopy(Layout layout) {
        this.layout = layout;
    }

    /** Writes both folders and returns how many matrices are quantised. */
    static int write(Layout layout, Path to, Path twin) throws IOException {
        QuantizedCopy copy = new QuantizedCopy(layout);
        try (Checkpoint from = Checkpoint.open(Reference.MODEL, name -> true)) {
            for (String name : from.names())
                copy.add(from.find(name));
        }
        files(to, copy.quantised);
        files(twin, copy.floats);
        Reference.edit(to.resolve("config.json"), config -> config.withObject("/thinker_config/text_config")
                .set("quantization_config", parse(layout.config)));
        return copy.count;
    }

    private static ObjectNode parse(String json) {
        try {
            return (ObjectNode) JSON.readTree(json);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void add(HostTensor tensor) {
        int[] shape = tensor.shape();
        boolean linear = tensor.name().matches(".*(attn|mlp|lm_head|codec_head).*\\.weight") && shape.length == 2
                && !tensor.name().contains("norm") && !tensor.name().matches(".*mlp\\.(shared_expert_)?gate\\.weight");
        if (!linear || shape[1] % 16 != 0 || layout == Layout.AWQ && shape[0] % 8 != 0) {
            Tensor plain = new Tensor(tensor.dtype().name(), shape,
                    tensor.data().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE));
            quantised.put(tensor.name(), plain);
            floats.put(tensor.name(), plain);
            return;
        }
        count++;
        String module = tensor.name().substring(0, tensor.name().length() - "weight".length());
        if (layout.float8())
            float8(module, tensor);
        else
            integers(module, tensor);
    }

    private void integers(String module, HostTensor tensor) {
        int rows = tensor.shape()[0];
        int columns = tensor.shape()[1];
        int size = layout == Layout.INT8 ? columns : columns % 32 == 0 ? 32 : 16;
        int groups = columns / size;
        int half = 1 << layout.bits() - 1;
        float[] scale = new float[rows * groups];
        int[] zero = new int[rows * groups];
        int[] q = new int[rows * columns];
        float[] values = new float[rows * columns];
        for (int r = 0; r < rows; r++)
            for (int g = 0; g < groups; g++) {
                float low = 0;
                float high = 0;
                for (int i = g * size; i < (g + 1) * size; i++) {
                    low = Math.min(low, tensor.getFloat((long) r * columns + i));
                    high = Math.max(high, tensor.getFloat((long) r * columns + i));
                }
                float s = bfloat16(layout.zeros() ? (high - low) / 15 : Math.max(high, -low) / (half - 1));
                int z = layout.zeros() ? Math.clamp(Math.round(-low / s) - 8, -8, 7) : 0;
                scale[r * groups + g] = s;
                zero[r * groups + g] = z;
                for (int i = r * columns + g * size; i < r * columns + (g + 1) * size; i++) {
                    q[i] = Math.clamp(Math.round(tensor.getFloat(i) / s) + z, -half, half - 1);
                    values[i] = (q[i] - z) * s;
                    if (rows % 32 != 0 || columns % 32 != 0)
                        values[i] = bfloat16(values[i]);
                }
            }
        floats.put(module + "weight", floats(values, rows, columns));
        switch (layout) {
            case AWQ -> {
                int[] order = {0, 2, 4, 6, 1, 3, 5, 7};
                IntBinaryOperator word = (i, w) -> {
                    int bits = 0;
                    for (int k = 0; k < 8; k++)
                        bits |= q[(8 * w + order[k]) * columns + i] + 8 << 4 * k;
                    return bits;
                };
                quantised.put(module + "qweight", integers(columns, rows / 8, word));
                quantised.put(module + "qzeros", integers(groups, rows / 8, (g, w) -> {
                    int bits = 0;
                    for (int k = 0; k < 8; k++)
                        bits |= zero[(8 * w + order[k]) * groups + g] + 8 << 4 * k;
                    return bits;
                }));
                float[] turned = new float[scale.length];
                for (int i = 0; i < scale.length; i++)
                    turned[i % groups * rows + i / groups] = scale[i];
                quantised.put(module + "scales", bfloats(turned, groups, rows));
            }
            case INT8 -> {
                byte[] bytes = new byte[q.length];
                for (int i = 0; i < q.length; i++)
                    bytes[i] = (byte) q[i];
                quantised.put(module + "weight", new Tensor("I8", new int[]{rows, columns}, bytes));
                quantised.put(module + "weight_scale", bfloats(scale, rows, groups));
            }
            default -> {
                int each = 32 / layout.bits();
                quantised.put(module + "weight_packed", integers(rows, (columns + each - 1) / each, (r, w) -> {
                    int bits = 0;
                    for (int k = 0; k < Math.min(each, columns - w * each); k++)
                        bits |= q[r * columns + w * each + k] + half << k * layout.bits();
                    return bits;
                }));
                quantised.put(module + "weight_shape",
                        new Tensor("I32", new int[]{2}, buffer(8).putInt(rows).putInt(columns).array()));
                quantised.put(module + "weight_scale", bfloats(scale, rows, groups));
                if (layout.zeros())
                    quantised.put(module + "weight_zero_point", integers((rows + each - 1) / each, groups, (w, g) -> {
                        int bits = 0;
                        for (int k = 0; k < Math.min(each, rows - w * each); k++)
                            bits |= zero[(w * each + k) * groups + g] + half << k * layout.bits();
                        return bits;
                    }));
            }
        }
    }

    /** Numbers are small integers, which float8 holds: this is about where things lie. */
    private void float8(String module, HostTensor tensor) {
        int rows = tensor.shape()[0];
        int columns = tensor.shape()[1];
        int high = layout == Layout.FLOAT8_ROWS ? 1 : 24;
        int wide = layout == Layout.FLOAT8_ROWS ? columns : 40;
        int across = (columns + wide - 1) / wide;
        float[] scale = new float[(rows + high - 1) / high * across];
        for (int i = 0; i < rows * columns; i++) {
            int block = i / columns / high * across + i % columns / wide;
            scale[block] = Math.max(scale[block], Math.abs(tensor.getFloat(i)) / 15);
        }
        byte[] bytes = new byte[rows * columns];
        float[] values = new float[rows * columns];
        for (int i = 0; i < bytes.length; i++) {
            float s = scale[i / columns / high * across + i % columns / wide];
            int n = Math.round(tensor.getFloat(i) / s);
            int exponent = n == 0 ? 0 : Math.getExponent((float) n);
            int mantissa = n == 0 ? 0 : (Math.abs(n) << 3 >> exponent) - 8;
            bytes[i] = n == 0 ? 0 : (byte) ((n < 0 ? 128 : 0) | exponent + 7 << 3 | mantissa);
            values[i] = bfloat16(n * s);
        }
        floats.put(module + "weight", floats(values, rows, columns));
        quantised.put(module + "weight", new Tensor("F8_E4M3", new int[]{rows, columns}, bytes));
        quantised.put(module + (layout == Layout.FLOAT8_ROWS ? "weight_scale" : "weight_scale_inv"),
                floats(scale, scale.length / across, across));
    }

    private static float bfloat16(float value) {
        return Float.intBitsToFloat(Weights.bfloat16(value) << 16);
    }

    static Tensor integers(int rows, int columns, IntBinaryOperator value) {
        ByteBuffer bytes = buffer(4 * rows * columns);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                bytes.putInt(value.applyAsInt(r, c));
        return new Tensor("I32", new int[]{rows, columns}, bytes.array());
    }

    static Tensor floats(float[] values, int... shape) {
        ByteBuffer bytes = buffer(4 * values.length);
        for (float value : values)
            bytes.putFloat(value);
        return new Tensor("F32", shape, bytes.array());
    }

    private static Tensor bfloats(float[] values, int... shape) {
        ByteBuffer bytes = buffer(2 * values.length);
        for (float value : values)
            bytes.putShort(Weights.bfloat16(value));
        return new Tensor("BF16", shape, bytes.array());
    }

    private static ByteBuffer buffer(int bytes) {
        return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static void files(Path folder, Map<String, Tensor> tensors) throws IOException {
        Files.createDirectories(folder);
        Reference.copy(folder);
        Reference.deleteShards(folder, List.of(""));
        List<String> names = new ArrayList<>(tensors.keySet());
        ObjectNode index = JSON.createObjectNode();
        for (int shard = 1; shard <= 2; shard++) {
            String file = "model-0000" + shard + "-of-00002.safetensors";
            Map<String, Tensor> held = new TreeMap<>();
            for (int i = shard - 1; i < names.size(); i += 2) {
                held.put(names.get(i), tensors.get(names.get(i)));
                index.withObject("/weight_map").put(names.get(i), file);
            }
            write(folder.resolve(file), held);
        }
        JSON.writeValue(folder.resolve("model.safetensors.index.json").toFile(), index);
    }

    /** A safetensors file. */
    static void write(Path file, Map<String, Tensor> tensors) throws IOException {
        ObjectNode header = JSON.createObjectNode();
        ByteArrayOutputStream data = new ByteArrayOutputStream();
        tensors.forEach((name, tensor) -> {
            ObjectNode entry = header.putObject(name).put("dtype", tensor.dtype);
            for (int n : tensor.shape)
                entry.withArray("shape").add(n);
            entry.putArray("data_offsets").add(data.size()).add(data.size() + tensor.bytes.length);
            data.writeBytes(tensor.bytes);
        });
        byte[] text = JSON.writeValueAsBytes(header);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(buffer(8).putLong(text.length).array());
        out.writeBytes(text);
        data.writeTo(out);
        Files.write(file, out.toByteArray());
    }
}
