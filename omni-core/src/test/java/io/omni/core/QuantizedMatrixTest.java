package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The checkpoints in {@code formats} were written by the libraries whose formats they are, from random matrices:
 * compressed-tensors at commit ac8e2ba, AutoAWQ 0.2.9 and transformers 5.17 (its {@code Fp8Quantize}). Beside each module
 * lies {@code expected}, what the same library dequantises it to, with scales as float32.
 */
class QuantizedMatrixTest {
    private static final Map<String, DType> TYPES = Map.ofEntries(Map.entry("int4_group32", DType.Q4),
            Map.entry("int4_group128", DType.Q4), Map.entry("int4_group32_zeros", DType.Q8),
            Map.entry("int4_group128_zeros", DType.Q8), Map.entry("int4_group16", DType.BF16),
            Map.entry("int4_wide_scales", DType.BF16), Map.entry("int4_order", DType.BF16),
            Map.entry("int8_channel", DType.Q8), Map.entry("int8_group32_zeros", DType.BF16),
            Map.entry("int8_activations", DType.Q8), Map.entry("float8_channel", DType.BF16),
            Map.entry("float8_tensor", DType.BF16), Map.entry("float8_block", DType.BF16),
            Map.entry("group32", DType.Q8), Map.entry("group64", DType.Q8), Map.entry("blocks", DType.BF16),
            Map.entry("tensor", DType.BF16), Map.entry("every_e4m3", DType.BF16),
            Map.entry("every_e5m2", DType.BF16), Map.entry("plain", DType.BF16));

    private static final String FLOAT8 = "'quant_method':'compressed-tensors','format':'float-quantized'";

    static Path formats(String name) {
        try {
            return Path.of(QuantizedMatrixTest.class.getResource("/formats/" + name).toURI());
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"compressed-tensors", "awq", "fp8"})
    void readsWhatTheLibraryWrote(String folder) {
        Map<String, DType> types = new TreeMap<>();
        try (Checkpoint checkpoint = Checkpoint.open(formats(folder), name -> true);
                Arena memory = Arena.ofShared()) {
            for (String name : checkpoint.names()) {
                if (!name.endsWith(".weight"))
                    continue;
                String module = name.substring(0, name.length() - ".weight".length());
                HostTensor expected = checkpoint.find(module + ".expected");
                if (expected == null) {
                    assertThat(checkpoint.quantised(name)).isNull();
                    continue;
                }
                HostTensor actual = checkpoint.get(memory, name, expected.shape());
                types.put(module, actual.dtype());
                for (long i = 0; i < expected.size(); i++) {
                    float value = expected.getFloat(i);
                    if (!actual.dtype().isQuantized())
                        value = Float.intBitsToFloat(Weights.bfloat16(value) << 16);
                    assertThat(actual.getFloat(i)).as(name + " " + i).isEqualTo(value);
                }
            }
        }
        assertThat(types).isNotEmpty();
        types.forEach((module, type) -> assertThat(type).as(module).isEqualTo(TYPES.get(module)));
    }

    private static Checkpoint checkpoint(Path folder, String quantization, Map<String, QuantizedCopy.Tensor> tensors)
            throws IOException {
        Files.writeString(folder.resolve("config.json"),
                "{'quantization_config': {%s}}".formatted(quantization).replace('\'', '"'));
        QuantizedCopy.write(folder.resolve("model.safetensors"), tensors);
        return Checkpoint.open(folder, name -> true);
    }

    /** Eight-bit floats that mean 1, 2, 4 and 8, over and over. */
    private static QuantizedCopy.Tensor float8(int... shape) {
        byte[] bytes = new byte[Math.toIntExact(HostTensor.size(shape))];
        for (int i = 0; i < bytes.length; i++)
            bytes[i] = (byte) (7 + i % 4 << 3);
        return new QuantizedCopy.Tensor("F8_E4M3", shape, bytes);
    }

    @Test
    void float8HasZeroPointsAndAnOrderOfColumns(@TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, FLOAT8, Map.of("a.weight", float8(2, 4), "a.weight_scale",
                QuantizedCopy.floats(new float[]{1, 10, 2, 20}, 2, 2), "a.weight_zero_point", float8(2, 2),
                "a.weight_g_idx", new QuantizedCopy.Tensor("I32", new int[]{4},
                        QuantizedCopy.integers(1, 4, (_, i) -> i % 2).bytes())));
                Arena memory = Arena.ofShared()) {
            assertThat(checkpoint.names()).containsExactly("a.weight");
            assertThat(checkpoint.get(memory, "a.weight", 2, 4).toFloats()).containsExactly(0, 0, 3, 60, -6, -120, 0,
                    0);
        }
    }

    /** Two blocks of a row of 192 are 128 and 64 wide, not 96 each. */
    @Test
    void theLastBlockOfASingleRowIsNarrower(@TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, "'quant_method':'fp8','weight_block_size':[128,128]",
                Map.of("a.weight", float8(1, 192), "a.weight_scale_inv",
                        QuantizedCopy.floats(new float[]{1, 16}, 1, 2)));
                Arena memory = Arena.ofShared()) {
            float[] values = checkpoint.get(memory, "a.weight", 1, 192).toFloats();
            for (int i = 0; i < values.length; i++)
                assertThat(values[i]).as("column %d", i).isEqualTo((1 << i % 4) * (i < 128 ? 1 : 16));
        }
    }

    private static final String GROUP = "'g%d':{'targets':['Linear'],'weights':{'num_bits':8,'type':'float',%s}}";

    /** All scales are ones; only their shape counts. */
    private static Checkpoint compressedTensors(Path folder, String groups, int rows, int columns, int... scales)
            throws IOException {
        float[] ones = new float[(int) HostTensor.size(scales)];
        Arrays.fill(ones, 1);
        return checkpoint(folder, FLOAT8 + ",'config_groups':{" + groups + "}", Map.of("a.weight",
                float8(rows, columns), "a.weight_scale", QuantizedCopy.floats(ones, scales)));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            'strategy':'group','group_size':32                         | 4 96 | 4 3
            'strategy':'group','group_size':64                         | 4 96 | 4 2
            'strategy':'group','group_size':128                        | 4 96 | 4 1
            'group_size':32                                            | 4 96 | 4 3
            'strategy':'channel','group_size':-1                       | 4 96 | 4 1
            'strategy':'channel','group_size':null                     | 4 96 | 4 1
            'strategy':'channel'                                       | 4 96 | 4
            'group_size':-1                                            | 4 96 | 4 1
            'strategy':'tensor','group_size':null                      | 4 96 | 1
            'strategy':'tensor'                                        | 4 96 | 1 1
            'strategy':'block','block_structure':[3,64]                | 4 96 | 2 2
            'strategy':'block','block_structure':'3x64'                | 4 96 | 2 2
            'strategy':null,'group_size':null,'block_structure':null   | 4 96 | 4 6
            'strategy':null,'group_size':null                          | 4 96 | 1
            """)
    void sharedScalesLieAsTheConfigurationSays(String weights, String shape, String scales, @TempDir Path folder)
            throws IOException {
        int[] size = sizes(shape);
        for (String groups : List.of(GROUP.formatted(0, weights),
                GROUP.formatted(0, "'strategy':'group','group_size':17") + "," + GROUP.formatted(1, weights)))
            try (Checkpoint checkpoint = compressedTensors(folder, groups, size[0], size[1], sizes(scales))) {
                assertThat(checkpoint.quantised("a.weight").shape()).containsExactly(size);
            }
    }

    private static int[] sizes(String text) {
        return Arrays.stream(text.split(" ")).mapToInt(Integer::parseInt).toArray();
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            'strategy':'group','group_size':32         | 4 2 | [4, 3] for blocks of [1, 32]
            'strategy':'group','group_size':32         | 1   | [4, 3] for blocks of [1, 32]
            'group_size':32                            | 4 6 | [4, 3] for blocks of [1, 32]
            'strategy':'channel','group_size':null     | 4 3 | [4, 1]
            'strategy':'tensor'                        | 4 1 | one value
            'strategy':'block','block_structure':[2,32]| 2 2 | [2, 3] for blocks of [2, 32]
            'strategy':'block','block_structure':[2,32]| 4 3 | [2, 3] for blocks of [2, 32]
            """)
    void scalesForOtherBlocksThanTheConfigurationsAreRefused(String weights, String scales, String expected,
            @TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = compressedTensors(folder, GROUP.formatted(0, weights), 4, 96, sizes(scales))) {
            assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                    .hasMessageEndingWith("model.safetensors: a.weight_scale: shape %s, expected %s, as config.json"
                            + " says of a matrix [4, 96]", Arrays.toString(sizes(scales)), expected);
        }
    }

    /** Two scales a row: groups of 64 and 32 columns, or of 48. */
    @Test
    void scalesThatFitSeveralBlocksAreRefused(@TempDir Path folder) throws IOException {
        String groups = GROUP.formatted(0, "'group_size':64") + "," + GROUP.formatted(1, "'group_size':48");
        try (Checkpoint checkpoint = compressedTensors(folder, groups, 4, 96, 4, 2)) {
            assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                    .hasMessageEndingWith("a.weight_scale: shape [4, 2], expected one that tells whether scales are"
                            + " those of blocks of [1, 64] or [1, 48]");
        }
        // all of a row either way
        groups = GROUP.formatted(0, "'group_size':128") + "," + GROUP.formatted(1, "'strategy':'channel'");
        try (Checkpoint checkpoint = compressedTensors(folder, groups, 4, 96, 4, 1)) {
            assertThat(checkpoint.quantised("a.weight").shape()).containsExactly(4, 96);
        }
    }

    /** A group of 64 columns, then one of 32. */
    @Test
    void theLastGroupOfARowIsNarrower(@TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, FLOAT8 + ",'config_groups':{"
                + GROUP.formatted(0, "'group_size':64") + "}",
                Map.of("a.weight", float8(2, 96), "a.weight_scale",
                        QuantizedCopy.floats(new float[]{1, 16, 2, 32}, 2, 2)));
                Arena memory = Arena.ofShared()) {
            float[] values = checkpoint.get(memory, "a.weight", 2, 96).toFloats();
            for (int i = 0; i < values.length; i++)
                assertThat(values[i]).as("element %d", i)
                        .isEqualTo((1 << i % 4) * (i < 96 ? 1 : 2) * (i % 96 < 64 ? 1 : 16));
        }
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            'group_size':32  | 2 |
            'q_group_size':32| 2 |
            'group_size':-1  | 1 |
            'bits':4         | 4 |
            'group_size':64  | 2 | [8, 1] for blocks of [1, 64]
            'group_size':-1  | 2 | [8, 1]
            """)
    void groupsOfAwqAreTheConfigurations(String config, int groups, String expected, @TempDir Path folder)
            throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, "'quant_method':'awq'," + config,
                Map.of("a.qweight", QuantizedCopy.integers(64, 1, (_, _) -> 0), "a.qzeros",
                        QuantizedCopy.integers(groups, 1, (_, _) -> 0), "a.scales",
                        QuantizedCopy.floats(new float[groups * 8], groups, 8)))) {
            if (expected == null)
                assertThat(checkpoint.quantised("a.weight").shape()).containsExactly(8, 64);
            else
                assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                        .hasMessageEndingWith("a.scales: shape [%d, 8], expected the transpose of %s, as config.json"
                                + " says of a matrix [8, 64]", groups, expected);
        }
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            'weight_block_size':[2,32]  | 2 3 |
            'weight_block_size':[2,32]  | 1   |
            'weight_block_size':[2,32]  | 2 2 | one value or [2, 3] for blocks of [2, 32]
            'weight_block_size':[2,32]  | 4 1 | one value or [2, 3] for blocks of [2, 32]
            'weight_block_size':null    | 1 1 |
            'weight_block_size':null    | 4   |
            'activation_scheme':'static'| 4 1 |
            'activation_scheme':'static'| 4 3 | one value or [1, 1] for blocks of [128, 128] or [4, 1]
            """)
    void blocksOfFp8AreTheConfigurations(String config, String scales, String expected, @TempDir Path folder)
            throws IOException {
        int[] shape = sizes(scales);
        try (Checkpoint checkpoint = checkpoint(folder, "'quant_method':'fp8'," + config, Map.of("a.weight",
                float8(4, 96), "a.weight_scale_inv",
                QuantizedCopy.floats(new float[(int) HostTensor.size(shape)], shape)))) {
            if (expected == null)
                assertThat(checkpoint.quantised("a.weight").shape()).containsExactly(4, 96);
            else
                assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                        .hasMessageContaining("a.weight_scale_inv: shape %s, expected %s, as", Arrays.toString(shape),
                                expected);
        }
    }

    /** 448 · 146 is within float16 and 448 · 147 is not, whatever the numbers are; here the largest is 8. */
    @ParameterizedTest
    @CsvSource({"F8_E4M3,1,F16", "F8_E4M3,146,F16", "F8_E4M3,-147,BF16", "F8_E4M3,65504,BF16", "F8_E5M2,1,F16",
            "F8_E5M2,1.25,BF16"})
    void float16HoldsWhateverTheNumbersCanBe(String dtype, float scale, DType expected, @TempDir Path folder)
            throws IOException {
        QuantizedCopy.Tensor weight = float8(2, 64);
        try (Checkpoint checkpoint = checkpoint(folder, FLOAT8, Map.of("a.weight",
                new QuantizedCopy.Tensor(dtype, weight.shape(), weight.bytes()), "a.weight_scale", float16(1, scale)));
                Arena memory = Arena.ofShared()) {
            HostTensor read = checkpoint.get(memory, "a.weight", 2, 64);
            assertThat(read.dtype()).isEqualTo(expected);
            for (float value : read.toFloats())
                assertThat(value).isFinite();
        }
    }

    /** Integers with zero points and 16 columns, so no blocks: 0 to 15 less 8 are at most 8 from zero. */
    @ParameterizedTest
    @CsvSource({"8188,F16", "8192,BF16"})
    void float16HoldsWhateverTheIntegersCanBe(float scale, DType expected, @TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, "'quant_method':'awq'",
                Map.of("a.qweight", QuantizedCopy.integers(16, 1, (_, _) -> 0), "a.qzeros",
                        QuantizedCopy.integers(1, 1, (_, _) -> 0x88888888), "a.scales",
                        new QuantizedCopy.Tensor("F16", new int[]{1, 8}, float16(8, scale).bytes())));
                Arena memory = Arena.ofShared()) {
            HostTensor read = checkpoint.get(memory, "a.weight", 8, 16);
            assertThat(read.dtype()).isEqualTo(expected);
            assertThat(read.toFloats()).containsOnly(-8 * scale);
        }
    }

    private static QuantizedCopy.Tensor float16(int count, float value) {
        ByteBuffer bytes = ByteBuffer.allocate(2 * count).order(ByteOrder.LITTLE_ENDIAN);
        while (bytes.hasRemaining())
            bytes.putShort(Float.floatToFloat16(value));
        return new QuantizedCopy.Tensor("F16", new int[]{count}, bytes.array());
    }

    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY})
    void scalesThatAreNotFiniteAreNamed(float scale, @TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, FLOAT8,
                Map.of("a.weight", float8(2, 4), "a.weight_scale",
                        QuantizedCopy.floats(new float[]{1, 1, 1, scale}, 2, 2)));
                Arena memory = Arena.ofShared()) {
            assertThatThrownBy(() -> checkpoint.get(memory, "a.weight", 2, 4)).isInstanceOf(CheckpointException.class)
                    .hasMessageEndingWith("a.weight_scale: %s for row 1, column 2, expected finite numbers", scale);
        }
    }

    /** One word holds four columns in four bits each as well as in eight. */
    @ParameterizedTest
    @CsvSource({"4,4,1", "8,4,1", "8,5,2", "4,9,2"})
    void integersHaveAsManyBitsAsTheConfigurationSays(int bits, int columns, int words, @TempDir Path folder)
            throws IOException {
        try (Checkpoint checkpoint = packed(folder, bits, columns, words); Arena memory = Arena.ofShared()) {
            float[] expected = new float[8 * columns];
            Arrays.fill(expected, 3);
            assertThat(checkpoint.get(memory, "a.weight", 8, columns).toFloats()).containsExactly(expected);
        }
    }

    @ParameterizedTest
    @CsvSource({"4,32,8", "8,32,4", "4,32,5"})
    void otherNumbersOfBitsAreRefused(int bits, int columns, int words, @TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = packed(folder, bits, columns, words)) {
            assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                    .hasMessageEndingWith("a.weight_packed: shape [8, %d], expected [8, %d] for %d bits of a matrix"
                            + " [8, %d]", words, columns * bits / 32, bits, columns);
        }
    }

    /** A matrix whose elements are all 3. */
    private static Checkpoint packed(Path folder, int bits, int columns, int words) throws IOException {
        int word = bits == 4 ? 0xbbbbbbbb : 0x83838383;
        return checkpoint(folder,
                "'quant_method':'compressed-tensors','format':'pack-quantized','config_groups':{'g':{'weights':"
                        + "{'num_bits':" + bits + ",'strategy':'tensor'}}}",
                Map.of("a.weight_packed", QuantizedCopy.integers(8, words, (_, _) -> word), "a.weight_shape",
                        new QuantizedCopy.Tensor("I32", new int[]{2},
                                QuantizedCopy.integers(1, 2, (_, i) -> i == 0 ? 8 : columns).bytes()),
                        "a.weight_scale",
                        QuantizedCopy.floats(new float[]{1}, 1)));
    }

    @ParameterizedTest
    @ValueSource(longs = {-8, (1L << 32) + 8, 1L << 40})
    void shapesThatAreNoSizesAreNamed(long rows, @TempDir Path folder) throws IOException {
        ByteBuffer shape = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(rows).putLong(8);
        try (Checkpoint checkpoint = checkpoint(folder, "'quant_method':'compressed-tensors'",
                Map.of("a.weight_packed", QuantizedCopy.integers(8, 1, (_, _) -> 0), "a.weight_shape",
                        new QuantizedCopy.Tensor("I64", new int[]{2}, shape.array()), "a.weight_scale",
                        QuantizedCopy.floats(new float[8], 8, 1)))) {
            assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                    .hasMessageContaining("a.weight_shape: size " + rows + ", expected 0 to");
        }
    }

    @ParameterizedTest
    @CsvSource({"2 1", "4 2", "1"})
    void zeroPointsHaveTheShapeOfTheScales(String zeros, @TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, FLOAT8, Map.of("a.weight", float8(4, 4), "a.weight_scale",
                QuantizedCopy.floats(new float[4], 4, 1), "a.weight_zero_point", float8(sizes(zeros))))) {
            assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                    .hasMessageContaining("a.weight_zero_point: shape %s, expected that of the scales, [4, 1]",
                            Arrays.toString(sizes(zeros)));
        }
    }

    @Test
    void scalesOfCachesAreNoWeights(@TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, FLOAT8,
                Map.of("attn.k_zero_point", float8(1), "attn.v_zero_point",
                        float8(1), "attn.k_scale", float8(1), "norm.weight",
                        QuantizedCopy.floats(new float[]{1}, 1)))) {
            assertThat(checkpoint.names()).containsExactly("norm.weight");
        }
    }

    @ParameterizedTest
    @CsvSource({"weight_packed,awq,compressed-tensors", "qweight,compressed-tensors,awq"})
    void tensorsOfAnotherMethodThanTheConfigurationNamesAreRefused(String part, String method, String expected,
            @TempDir Path folder) throws IOException {
        try (Checkpoint checkpoint = checkpoint(folder, "'quant_method':'" + method + "'",
                Map.of("a." + part, QuantizedCopy.integers(8, 8, (_, _) -> 0)))) {
            assertThatThrownBy(() -> checkpoint.quantised("a.weight")).isInstanceOf(CheckpointException.class)
                    .hasMessageEndingWith("model.safetensors: a.%s: expected only where config.json's quant_method is"
                            + " %s, found [%s]", part, expected, method);
        }
    }

    @Test
    void otherMethodsExpectNoZeroPoints() {
        for (String method : new String[]{"awq", "fp8"})
            assertThat(QuantizationMethods.of(Fields.parse("config.json",
                    "{\"quantization_config\": {\"quant_method\": \"%s\"}}".formatted(method))).zeroPoints()).isFalse();
    }

    /** Only where every part's configuration says so. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            {'g':{'weights':{'symmetric':false}}} | {'g':{'weights':{'symmetric':false}}} | true
            {'g':{'weights':{'symmetric':false}}} | {'g':{'weights':{'symmetric':true}}} | false
            {'g':{'weights':{'symmetric':false}}} | {'W4A16':['Linear']} | false
            """)
    void zeroPointsAreExpected(String thinker, String talker, boolean expected) {
        String part = "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"config_groups\": %s}}";
        String config = "{\"thinker_config\": %s, \"talker_config\": %s}".formatted(part.formatted(thinker),
                part.formatted(talker));
        assertThat(QuantizationMethods.of(Fields.parse("config.json", config.replace('\'', '"'))).zeroPoints())
                .isEqualTo(expected);
    }

    /** A whole model answers from quantised weights, taken out of their blocks, what it answers from the same numbers, to the bit. */
    @ParameterizedTest
    @EnumSource
    void modelsComputeWhatTheirFloatsDo(QuantizedCopy.Layout layout, @TempDir Path folder) throws IOException {
        Path quantised = folder.resolve("quantised");
        Path twin = folder.resolve("twin");
        assertThat(QuantizedCopy.write(layout, quantised, twin)).isGreaterThan(100);
        List<List<Parity.Result>> results = new ArrayList<>();
        for (Path model : List.of(quantised, twin))
            try (Backend backend = Reference.cpu();
                    Omni omni = Omni.builder().backend(backend).weights(DType.F32).load(model)) {
                        List<Parity.Result> errors = new ArrayList<>();
                        new Parity(omni, Reference.CASES, Reference.MEDIA).run("mixed", errors::add);
                        results.add(errors);
                    }
        assertThat(results.getFirst()).isNotEmpty().isEqualTo(results.getLast());
    }

    /** Loading fails with one line that names the culprit. */
    private static void assertFails(Path model, String... culprit) {
        try (Backend backend = Reference.cpu()) {
            Throwable failure = catchThrowable(() -> Omni.builder().backend(backend).load(model).close());
            assertThat(failure).isInstanceOf(CheckpointException.class);
            assertThat(failure.getMessage()).contains(culprit).doesNotContain("\n");
        }
    }

    /** Replaces a text by one of the same length in all files, headers of shards included. */
    private static void replace(Path model, String from, String to) throws IOException {
        assertThat(to).hasSameSizeAs(from);
        try (Stream<Path> files = Files.list(model)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                String text = Files.readString(file, StandardCharsets.ISO_8859_1);
                Files.writeString(file, text.replace(from, to), StandardCharsets.ISO_8859_1);
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"PACKED4,weight_scale", "PACKED4,weight_shape", "INT8,weight_scale", "AWQ,scales", "AWQ,qzeros",
            "FLOAT8_ROWS,weight_scale"})
    void missingPartsAreNamed(QuantizedCopy.Layout layout, String part, @TempDir Path folder) throws IOException {
        QuantizedCopy.write(layout, folder, folder.resolve("twin"));
        String module = "thinker.model.layers.1.self_attn.q_proj.";
        replace(folder, '"' + module + part + '"', '"' + module + "x".repeat(part.length()) + '"');
        assertFails(folder, "tensor " + module + part + " is missing", ".safetensors: " + module);
    }

    @ParameterizedTest
    @CsvSource({"INT8,I8", "FLOAT8_ROWS,F8_E4M3"})
    void matricesOfEightBitsWithoutAConfigurationAreNamed(QuantizedCopy.Layout layout, String dtype,
            @TempDir Path folder) throws IOException {
        QuantizedCopy.write(layout, folder, folder.resolve("twin"));
        Reference.edit(folder.resolve("config.json"), QuantizationMethods::remove);
        assertFails(folder, ".weight: dtype " + dtype + ", expected only of matrices that config.json's");
        assertThatThrownBy(() -> Quantizer.quantize(folder, folder.resolve("out"), DType.Q4, progress -> {
        })).isInstanceOf(CheckpointException.class)
                .hasMessageContaining(".weight: dtype " + dtype + ", expected only of matrices");
    }

    @Test
    void zeroPointsThatTheConfigurationTellsOfAreNamed(@TempDir Path folder) throws IOException {
        QuantizedCopy.write(QuantizedCopy.Layout.PACKED4, folder, folder.resolve("twin"));
        Reference.edit(folder.resolve("config.json"), config -> {
            ObjectNode quantization = config.withObject("/thinker_config/text_config/quantization_config");
            quantization.put("format", "pack-quantized").withObject("/config_groups/group_0/weights")
                    .put("num_bits", 4).put("symmetric", false);
        });
        assertFails(folder, "weight_zero_point is missing");
    }

    @Test
    void partsOfTheWrongShapeOrTypeAreNamed(@TempDir Path folder) throws IOException {
        QuantizedCopy.write(QuantizedCopy.Layout.PACKED4, folder, folder.resolve("twin"));
        replace(folder, "q_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[128,2]",
                "q_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[64,4] ");
        assertFails(folder, ".safetensors: thinker.", "q_proj.weight_scale: shape [64, 4]",
                "expected one value or [128, groups]");
        replace(folder, "q_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[64,4] ",
                "q_proj.weight_scale\":{\"dtype\":\"I8\",\"shape\":[128,4]  ");
        assertFails(folder, "q_proj.weight_scale: dtype I8, expected F32 or F16 or BF16");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            'quant_method':'gptq','bits':4 | quant_method is 'gptq', expected compressed-tensors, awq or fp8
            'bits':4 | quant_method is 'missing', expected
            'quant_method':'compressed-tensors','format':'nvfp4-pack-quantized' | format is 'nvfp4-pack-quantized', expected pack
            'quant_method':'compressed-tensors','config_groups':{'g':{'weights':{'num_bits':3}}} | g: weights: num_bits is '3', expected 4, 8
            'quant_method':'compressed-tensors','config_groups':{'g':{'weights':{'num_bits':4,'type':'float'}}} | num_bits is '4', expected 8
            'quant_method':'compressed-tensors','transform_config':{'config_groups':{'r':{}}} | transform_config holds transforms
            'quant_method':'compressed-tensors','sparsity_config':{'format':'sparse-24-bitmask'} | sparsity_config: format is 'sparse-24-bitmask'
            'quant_method':'awq','bits':8 | bits is '8', expected 4
            'quant_method':'awq','version':'gemv' | version is 'gemv', expected gemm
            'quant_method':'awq','group_size':0 | group_size is 0, expected 1 or more, or -1 for whole rows
            'quant_method':'fp8','weight_block_size':[128] | weight_block_size is [128], expected two sizes
            'quant_method':'compressed-tensors','config_groups':{'g':{'weights':{'strategy':'token'}}} | weights: strategy is 'token', expected tensor, channel, group, block
            'quant_method':'compressed-tensors','config_groups':{'g':{'weights':{'block_structure':'128'}}} | weights: block_structure is "128", expected a list of integers
            'quant_method':'compressed-tensors','config_groups':{'g':{'weights':{'block_structure':'0x128'}}} | weights: block_structure is "0x128", expected two sizes
            """)
    void whatCannotBeReadIsRefused(String config, String message) {
        assertThatThrownBy(() -> QuantizationMethods.of(Fields.parse("config.json",
                "{\"talker_config\": {\"quantization_config\": {" + config.replace('\'', '"') + "}}}")))
                .isInstanceOf(CheckpointException.class)
                .hasMessageStartingWith("config.json: talker_config: quantization_config")
                .hasMessageContaining(message);
    }
}
