package io.omni.core;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Quantization;
import io.omni.core.QuantizationMethods.Block;
import io.omni.core.QuantizationMethods.Method;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * A matrix {@code [rows, columns]} that another tool quantised: a number times a scale is an element. The module's
 * tensors, as their writers define them, are
 *
 * <ul>
 * <li>compressed-tensors, packed: {@code weight_packed}, int32 {@code [rows, columns · bits / 32]}, in which element i takes
 * the bits from i · bits on, the lowest first, less half their range; {@code weight_scale}; {@code weight_zero_point},
 * packed along the rows in the same way or int8; {@code weight_shape}; {@code weight_g_idx}, the group of each column;
 * <li>compressed-tensors, plain: {@code weight} in int8 or float8, {@code weight_scale}, {@code weight_zero_point},
 * {@code weight_g_idx};
 * <li>AWQ: {@code qweight}, int32 {@code [columns, rows / 8]}, where the 4 bits of rows 0 to 7 of a word lie in the order 0, 2, 4, 6,
 * 1, 3, 5, 7; {@code qzeros}, the same for each group of columns; {@code scales [groups, rows]};
 * <li>FP8: {@code weight} in float8, and {@code weight_scale} or {@code weight_scale_inv}, which is multiplied all the same.
 * </ul>
 *
 * <p>
 * A scale is one number, or one for each row, for each group of a row's columns, or for each block of rows and columns.
 */
final class QuantizedMatrix {
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED
            .withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final int BLOCK = DType.Q4.blockSize();
    private static final float MAX_FLOAT16 = 65504;
    private static final Rows NO_ZEROS = (row, to) -> Arrays.fill(to, 0);
    /** Ends of names of tensors that belong to a quantised module, and are not weights by themselves. */
    private static final List<String> COMPANIONS = List.of(".weight_scale", ".weight_scale_inv", ".weight_zero_point",
            ".weight_shape", ".weight_g_idx", ".qzeros", ".scales", ".input_scale", ".input_zero_point",
            ".output_scale", ".output_zero_point", ".input_global_scale", ".k_scale", ".v_scale", ".q_scale",
            ".k_zero_point", ".v_zero_point", ".q_zero_point");
    private static final String PACKED = "weight_packed";
    private static final String QWEIGHT = "qweight";
    /** The tensor with a module's numbers, by its writer. */
    private static final List<String> MAIN = List.of(PACKED, QWEIGHT, "weight");

    /** Reads one value for each column of a row. */
    private interface Rows {
        void read(int row, float[] to);
    }

    /** What the stored numbers can be, both ends included. */
    private record Range(float low, float high, boolean integers) {}

    private final String name;
    private final HostTensor stored;
    private final int rows;
    private final int columns;
    private final Supplier<Rows> numbers;
    private final Range range;
    private final Rows zeros;
    private final Rows scales;
    private final Checkpoint.Entry scale;
    private DType type;

    /**
     * @param numbers
     *            asked for once in each conversion
     * @param zeros
     *            what is taken off the numbers
     * @param scale
     *            where {@code scales} come from
     */
    private QuantizedMatrix(String name, HostTensor stored, int rows, int columns, Supplier<Rows> numbers, Range range,
            Rows zeros, Rows scales, Checkpoint.Entry scale) {
        this.name = name;
        this.stored = stored;
        this.rows = rows;
        this.columns = columns;
        this.numbers = numbers;
        this.range = range;
        this.zeros = zeros;
        this.scales = scales;
        this.scale = scale;
    }

    /**
     * The name of the matrix that the tensor {@code name} is the main part of, such as {@code a.weight} for
     * {@code a.weight_packed}; the name itself for a tensor that stands for itself, and null for other parts.
     */
    static String matrix(String name, QuantizationMethods methods) {
        for (String main : MAIN)
            if (name.endsWith("." + main))
            return name.substring(0, name.length() - main.length()) + "weight";
        return !methods.methods().isEmpty() && COMPANIONS.stream().anyMatch(name::endsWith) ? null : name;
    }

    /** The name of the matrix that the tensor {@code name} is any part of, or the name itself. */
    static String module(String name, QuantizationMethods methods) {
        String matrix = matrix(name, methods);
        return matrix != null ? matrix : name.substring(0, name.lastIndexOf('.')) + ".weight";
    }

    /**
     * The quantised matrix that a checkpoint holds as {@code name}, or null if there is none.
     *
     * @throws CheckpointException
     *             if a tensor that belongs to it is missing, of another type or shape, or of another method
     */
    static QuantizedMatrix find(Checkpoint from, String name, QuantizationMethods methods) {
        if (!name.endsWith(".weight"))
            return null;
        Module module = new Module(from, name.substring(0, name.length() - "weight".length()), methods);
        if (module.has(PACKED, Method.COMPRESSED_TENSORS))
            return module.packed();
        if (module.has(QWEIGHT, Method.AWQ))
            return module.awq();
        Checkpoint.Entry weight = module.find("weight");
        if (weight == null || methods.methods().isEmpty())
            return null;
        return switch (weight.dtype()) {
            case "F8_E4M3", "F8_E5M2" -> module.float8(weight);
            case "I8" -> module.int8(weight);
            default -> null;
        };
    }

    /** All tensors of the quantised matrix {@code name}, as they are stored. */
    static List<HostTensor> parts(Checkpoint from, String name) {
        String module = name.substring(0, name.lastIndexOf('.'));
        return Stream.concat(MAIN.stream().map(part -> "." + part), COMPANIONS.stream())
                .map(part -> from.find(module + part)).filter(Objects::nonNull).toList();
    }

    /** The main tensor, as it is stored. */
    HostTensor stored() {
        return stored;
    }

    int[] shape() {
        return new int[]{rows, columns};
    }

    /**
     * What {@link #read} gives: Q4 or Q8 where blocks hold whatever the numbers can be, with these zero points and scales,
     * exactly; else float16 if the scales are and it is wide enough for all of that, or bfloat16.
     */
    DType type() {
        if (type == null) {
            int bits = range.integers && rows % BLOCK == 0 && columns % BLOCK == 0
                    ? IntStream.range(0, rows).parallel().map(this::bits).max().orElse(16)
                    : 16;
            type = bits == 4 ? DType.Q4 : bits == 8 ? DType.Q8 : floats();
        }
        return type;
    }

    private DType floats() {
        boolean wide = scale.dtype().equals("F16") && IntStream.range(0, rows).parallel().allMatch(this::fitsFloat16);
        return wide ? DType.F16 : DType.BF16;
    }

    /** By what the numbers can be rather than are: a scale is chosen so that the largest of its numbers is near the end. */
    private boolean fitsFloat16(int row) {
        float[] z = new float[columns];
        float[] s = new float[columns];
        zeros.read(row, z);
        scales.read(row, s);
        float largest = 0;
        for (int i = 0; i < columns; i++)
            largest = Math.max(largest, Math.max(range.high - z[i], z[i] - range.low) * Math.abs(s[i]));
        return largest <= MAX_FLOAT16;
    }

    /** How many bits of a block hold a row's numbers: 4, 8, or 16 for none. */
    private int bits(int row) {
        float[] z = new float[columns];
        float[] s = new float[columns];
        zeros.read(row, z);
        scales.read(row, s);
        float low = 0;
        float high = 0;
        for (int i = 0; i < columns; i++) {
            low = Math.min(low, range.low - z[i]);
            high = Math.max(high, range.high - z[i]);
            if (s[i] != s[i / BLOCK * BLOCK] || i % BLOCK == 0 && !Quantization.isBinary16(s[i]))
                return 16;
        }
        return low >= -8 && high <= 7 ? 4 : low >= -128 && high <= 127 ? 8 : 16;
    }

    /** All elements in {@link #type}, in memory of {@code arena}; rows are converted in parallel. */
    HostTensor read(Arena arena) {
        DType to = type();
        MemorySegment data = arena.allocate(Math.max(1, to.bytes((long) rows * columns)), 64)
                .asSlice(0, to.bytes((long) rows * columns));
        long rowBytes = 2L * columns;
        Rows source = numbers.get();
        IntStream.range(0, rows).parallel().forEach(r -> {
            float[] x = new float[columns];
            float[] s = new float[columns];
            source.read(r, x);
            zeros.read(r, s);
            for (int i = 0; i < columns; i++)
                x[i] -= s[i];
            scales.read(r, s);
            for (int i = 0; i < columns; i++)
                if (!Float.isFinite(s[i]))
                throw new CheckpointException(scale.where() + ": " + s[i] + " for row " + r + ", column " + i
                        + ", expected finite numbers");
            if (to.isQuantized())
                pack(x, s, to, data, r);
            else
                for (int i = 0; i < columns; i++)
                    data.set(SHORT, r * rowBytes + 2L * i, to == DType.F16
                            ? Float.floatToFloat16(x[i] * s[i])
                            : Weights.bfloat16(x[i] * s[i]));
        });
        return new HostTensor(name, to, shape(), data);
    }

    private static void pack(float[] x, float[] s, DType type, MemorySegment to, int row) {
        byte[] q = new byte[x.length];
        float[] scales = new float[x.length / BLOCK];
        for (int i = 0; i < q.length; i++)
            q[i] = (byte) x[i];
        for (int b = 0; b < scales.length; b++)
            scales[b] = s[b * BLOCK];
        Quantization.pack(q, scales, type, to, row);
    }

    /**
     * How scales or zero points {@code [down, across]} lie over a matrix.
     *
     * @param groups
     *            which of its row's each column has, or null where they lie side by side
     */
    private record Spread(int down, int across, Block block, int[] groups) {
        Rows over(HostTensor values) {
            if (down * across == 1)
                return (r, to) -> Arrays.fill(to, values.getFloat(0));
            if (groups != null)
                return (r, to) -> {
                    for (int i = 0; i < to.length; i++)
                        to[i] = values.getFloat((long) r * across + groups[i]);
                };
            return (r, to) -> {
                for (int g = 0; g < across; g++)
                    Arrays.fill(to, g * block.columns(), Math.min(to.length, (g + 1) * block.columns()),
                            values.getFloat((long) (r / block.rows()) * across + g));
            };
        }
    }

    /** The tensors of one module, whose names begin with {@code prefix}. */
    private record Module(Checkpoint from, String prefix, QuantizationMethods methods) {
        QuantizedMatrix packed() {
            Checkpoint.Entry packed = get(PACKED, "I32");
            Checkpoint.Entry size = get("weight_shape", "I64", "I32");
            if (!Arrays.equals(size.tensor().shape(), new int[]{2}))
                throw wrongShape(size, "[2]");
            int rows = size(size, 0);
            int columns = size(size, 1);
            int[] shape = matrix(packed);
            int bits = methods.bits().stream().filter(b -> shape[0] == rows && shape[1] == words(columns, b))
                    .findFirst()
                    .orElseThrow(() -> wrongShape(packed, methods.bits().stream()
                            .map(b -> "[" + rows + ", " + words(columns, b) + "] for " + b + " bits")
                            .collect(Collectors.joining(" or ")) + " of a matrix [" + rows + ", " + columns + "]"));
            Checkpoint.Entry scale = get("weight_scale", "F32", "F16", "BF16");
            Spread spread = spread(scale, rows, columns);
            Rows zeros = packedZeros(bits, spread);
            MemorySegment data = packed.tensor().data();
            long rowBytes = 4L * shape[1];
            Rows numbers = (r, to) -> unpack(data.asSlice(r * rowBytes, rowBytes), bits, to);
            return new QuantizedMatrix(prefix + "weight", packed.tensor(), rows, columns, () -> numbers,
                    new Range(0, (1 << bits) - 1, true), zeros, spread.over(scale.tensor()), scale);
        }

        private static int size(Checkpoint.Entry shape, int axis) {
            long size = shape.tensor().getLong(axis);
            if (size < 0 || size > Integer.MAX_VALUE)
                throw new CheckpointException(
                        shape.where() + ": size " + size + ", expected 0 to " + Integer.MAX_VALUE);
            return (int) size;
        }

        /** Zero points as stored, before half the range is taken away. */
        private Rows packedZeros(int bits, Spread spread) {
            Checkpoint.Entry zeros = find("weight_zero_point");
            if (zeros == null && !methods.zeroPoints())
                return (r, to) -> Arrays.fill(to, 1 << bits - 1);
            zeros = get("weight_zero_point", "I32", "I8");
            HostTensor tensor = zeros.tensor();
            if (zeros.dtype().equals("I8")) {
                expectLikeScales(zeros, spread);
                float[] values = tensor.toFloats();
                for (int i = 0; i < values.length; i++)
                    values[i] += 1 << bits - 1;
                return spread.over(HostTensor.of(tensor.name(), values, tensor.shape()));
            }
            int across = spread.across;
            int[] shape = {words(spread.down, bits), across};
            if (!Arrays.equals(tensor.shape(), shape))
                throw wrongShape(zeros, Arrays.toString(shape) + " for scales [" + spread.down + ", " + across + "]");
            float[] values = new float[spread.down * across];
            for (int r = 0; r < spread.down; r++)
                for (int g = 0; g < across; g++) {
                    int word = (int) tensor.getLong((long) (r * bits / 32) * across + g);
                    values[r * across + g] = word >>> r * bits % 32 & (1 << bits) - 1;
                }
            return spread.over(HostTensor.of(tensor.name(), values, spread.down, across));
        }

        /** The group of each column, or null if groups lie side by side. */
        private int[] groups(int columns) {
            if (find("weight_g_idx") == null)
                return null;
            Checkpoint.Entry entry = get("weight_g_idx", "I32", "I64");
            if (!Arrays.equals(entry.tensor().shape(), new int[]{columns}))
                throw wrongShape(entry, "[" + columns + "]");
            int[] groups = new int[columns];
            for (int i = 0; i < columns; i++)
                groups[i] = (int) entry.tensor().getLong(i);
            // its writer fills it with -1 where the order was left as it was
            return Arrays.stream(groups).anyMatch(g -> g == -1) ? null : groups;
        }

        QuantizedMatrix int8(Checkpoint.Entry weight) {
            int[] shape = matrix(weight);
            Checkpoint.Entry scale = get("weight_scale", "F32", "F16", "BF16");
            Spread spread = spread(scale, shape[0], shape[1]);
            Rows zeros = NO_ZEROS;
            if (find("weight_zero_point") != null || methods.zeroPoints()) {
                Checkpoint.Entry entry = get("weight_zero_point", "I8");
                expectLikeScales(entry, spread);
                zeros = spread.over(entry.tensor());
            }
            MemorySegment data = weight.tensor().data();
            Rows numbers = (r, to) -> {
                for (int i = 0; i < to.length; i++)
                    to[i] = data.get(ValueLayout.JAVA_BYTE, (long) r * to.length + i);
            };
            return new QuantizedMatrix(prefix + "weight", weight.tensor(), shape[0], shape[1], () -> numbers,
                    new Range(-128, 127, true), zeros, spread.over(scale.tensor()), scale);
        }

        QuantizedMatrix float8(Checkpoint.Entry weight) {
            int[] shape = matrix(weight);
            Checkpoint.Entry scale = get(find("weight_scale_inv") != null ? "weight_scale_inv" : "weight_scale", "F32",
                    "F16", "BF16");
            Spread spread = spread(scale, shape[0], shape[1]);
            Rows zeros = NO_ZEROS;
            if (find("weight_zero_point") != null) {
                Checkpoint.Entry entry = get("weight_zero_point", weight.dtype(), "I8", "F32", "F16", "BF16");
                expectLikeScales(entry, spread);
                zeros = spread.over(entry.isFloat8() ? Float8.widen(entry) : entry.tensor());
            }
            float[] values = Float8.values(weight.dtype());
            float largest = weight.dtype().equals("F8_E5M2") ? 57344 : 448;
            MemorySegment data = weight.tensor().data();
            Rows numbers = (r, to) -> {
                for (int i = 0; i < to.length; i++)
                    to[i] = values[data.get(ValueLayout.JAVA_BYTE, (long) r * to.length + i) & 255];
            };
            return new QuantizedMatrix(prefix + "weight", weight.tensor(), shape[0], shape[1], () -> numbers,
                    new Range(-largest, largest, false), zeros, spread.over(scale.tensor()), scale);
        }

        QuantizedMatrix awq() {
            Checkpoint.Entry packed = get(QWEIGHT, "I32");
            int columns = matrix(packed)[0];
            int words = packed.tensor().shape()[1];
            int rows = words * 8;
            Checkpoint.Entry scale = get("scales", "F16", "BF16", "F32");
            Checkpoint.Entry zero = get("qzeros", "I32");
            int groups = matrix(scale)[0];
            Block block = block(scale, rows, columns, scale.tensor().shape()[1], groups);
            if (block == null)
                throw wrongShape(scale, "the transpose of " + expected(rows, columns));
            Spread spread = new Spread(rows, groups, block, null);
            if (!Arrays.equals(zero.tensor().shape(), new int[]{groups, words}))
                throw wrongShape(zero, "[" + groups + ", " + words + "]");
            float[] zeros = new float[rows * groups];
            float[] scales = new float[rows * groups];
            for (int r = 0; r < rows; r++)
                for (int g = 0; g < groups; g++) {
                    zeros[r * groups + g] = nibble(zero.tensor().data(), words, g, r);
                    scales[r * groups + g] = scale.tensor().getFloat((long) g * rows + r);
                }
            return new QuantizedMatrix(prefix + "weight", packed.tensor(), rows, columns,
                    () -> turned(packed.tensor().data(), columns, words), new Range(0, 15, true),
                    spread.over(HostTensor.of("qzeros", zeros, rows, groups)),
                    spread.over(HostTensor.of("scales", scales, rows, groups)), scale);
        }

        /** The rows of words that each hold 8 rows of one column: the words are turned first, as rows lie far apart. */
        private static Rows turned(MemorySegment data, int columns, int words) {
            int[][] turned = new int[words][columns];
            int strip = 16; // words of a cache line
            IntStream.range(0, Math.ceilDiv(words, strip)).parallel().forEach(s -> {
                for (int i = 0; i < columns; i++)
                    for (int w = s * strip; w < Math.min(words, (s + 1) * strip); w++)
                        turned[w][i] = data.get(INT, ((long) i * words + w) * 4);
            });
            return (r, to) -> {
                int[] row = turned[r / 8];
                int shift = shift(r);
                for (int i = 0; i < to.length; i++)
                    to[i] = row[i] >>> shift & 15;
            };
        }

        private static int nibble(MemorySegment data, int words, int column, int row) {
            return data.get(INT, ((long) column * words + row / 8) * 4) >>> shift(row) & 15;
        }

        /** Where the four bits of a row begin in its word. */
        private static int shift(int row) {
            return 4 * ((row & 1) * 4 + (row & 7) / 2);
        }

        private static int words(int elements, int bits) {
            return Math.ceilDiv(elements, 32 / bits);
        }

        private static void unpack(MemorySegment words, int bits, float[] to) {
            int each = 32 / bits;
            int mask = (1 << bits) - 1;
            for (int i = 0; i < to.length; i += each) {
                int word = words.get(INT, 4L * (i / each));
                for (int k = 0; k < Math.min(each, to.length - i); k++)
                    to[i + k] = word >>> k * bits & mask;
            }
        }

        /** How scales of this tensor's shape lie over a matrix. */
        private Spread spread(Checkpoint.Entry scale, int rows, int columns) {
            int[] shape = scale.tensor().shape();
            int down = shape.length == 0 ? 1 : shape[0];
            int across = shape.length == 2 ? shape[1] : 1;
            Block block = shape.length > 2 ? null : block(scale, rows, columns, down, across);
            if (block == null)
                throw wrongShape(scale, expected(rows, columns));
            int[] groups = down == rows ? groups(columns) : null;
            if (groups != null)
                for (int g : groups)
                    if (g < 0 || g >= across)
                    throw new CheckpointException(find("weight_g_idx").where() + ": group " + g + ", but "
                            + scale.name() + " has " + across);
            return new Spread(down, across, block, groups);
        }

        /**
         * What shares a scale where there are {@code [down, across]} of them, or null if there cannot be as many.
         *
         * @throws CheckpointException
         *             if the configuration tells of several such blocks
         */
        private Block block(Checkpoint.Entry scale, int rows, int columns, int down, int across) {
            List<Block> told = methods.blocks().stream()
                    .filter(block -> down == block.down(rows) && across == block.across(columns))
                    .map(block -> block.within(rows, columns)).distinct().toList();
            if (told.size() > 1)
                throw wrongShape(scale, "one that tells whether scales are those of blocks of "
                        + told.stream().map(Block::toString).collect(Collectors.joining(" or ")));
            if (told.size() == 1 || !methods.otherBlocks())
                return told.isEmpty() ? null : told.getFirst();
            if (down == 1 && across == 1)
                return Block.TENSOR.within(rows, columns);
            // equal groups, unless others are told: the last of those may be narrower
            return down == rows && across > 0 && columns % across == 0
                    ? new Block(1, Math.max(1, columns / across))
                    : null;
        }

        /** The shapes that scales can have. */
        private String expected(int rows, int columns) {
            Stream<String> told = methods.blocks().stream().map(block -> block.equals(Block.TENSOR)
                    ? "one value"
                    : "[" + block.down(rows) + ", " + block.across(columns) + "]"
                            + (block.equals(Block.ROW) ? "" : " for blocks of " + block));
            Stream<String> others = methods.otherBlocks()
                    ? Stream.of("one value", "[" + rows + ", groups]")
                    : Stream.of();
            return Stream.concat(told, others).distinct().collect(Collectors.joining(" or "))
                    + ", as config.json says of a matrix [" + rows + ", " + columns + "]";
        }

        private static void expectLikeScales(Checkpoint.Entry zeros, Spread spread) {
            int[] shape = zeros.tensor().shape();
            if (shape.length > 2 || (shape.length == 0 ? 1 : shape[0]) != spread.down
                    || (shape.length == 2 ? shape[1] : 1) != spread.across)
                throw wrongShape(zeros, "that of the scales, [" + spread.down + ", " + spread.across + "]");
        }

        private static int[] matrix(Checkpoint.Entry entry) {
            int[] shape = entry.tensor().shape();
            if (shape.length != 2)
                throw wrongShape(entry, "two sizes");
            return shape;
        }

        private static CheckpointException wrongShape(Checkpoint.Entry entry, String expected) {
            return new CheckpointException(
                    entry.where() + ": shape " + Arrays.toString(entry.tensor().shape()) + ", expected " + expected);
        }

        /** Whether there is the main tensor of a method, which the configuration then must name. */
        boolean has(String part, Method method) {
            Checkpoint.Entry entry = find(part);
            if (entry != null && !methods.methods().contains(method))
                throw new CheckpointException("%s: expected only where config.json's quant_method is %s, found %s"
                        .formatted(entry.where(), method, methods.methods().isEmpty() ? "none" : methods.methods()));
            return entry != null;
        }

        Checkpoint.Entry find(String part) {
            return from.entry(prefix + part);
        }

        private Checkpoint.Entry get(String part, String... types) {
            Checkpoint.Entry entry = find(part);
            if (entry == null)
                throw new CheckpointException(
                        from.directory() + ": tensor " + prefix + part + " is missing, expected beside " + main());
            if (!List.of(types).contains(entry.dtype()))
                throw new CheckpointException(
                        entry.where() + ": dtype " + entry.dtype() + ", expected " + String.join(" or ", types));
            return entry;
        }

        /** Where the module's main tensor is. */
        private String main() {
            for (String part : MAIN)
                if (find(part) != null)
                return find(part).where();
            throw new AssertionError(prefix);
        }
    }

    /** Eight-bit floats: a sign, 4 or 5 bits of exponent, 3 or 2 of mantissa (arXiv 2209.05433). */
    private static final class Float8 {
        /** What each byte means. */
        static float[] values(String dtype) {
            float[] values = new float[256];
            for (int b = 0; b < 256; b++)
                values[b] = dtype.equals("F8_E5M2") ? Float.float16ToFloat((short) (b << 8)) : e4m3(b);
            return values;
        }

        static HostTensor widen(Checkpoint.Entry entry) {
            float[] meaning = values(entry.dtype());
            HostTensor tensor = entry.tensor();
            float[] values = new float[(int) tensor.size()];
            for (int i = 0; i < values.length; i++)
                values[i] = meaning[tensor.data().get(ValueLayout.JAVA_BYTE, i) & 255];
            return HostTensor.of(tensor.name(), values, tensor.shape());
        }

        /** No infinities; all ones is no number. */
        private static float e4m3(int b) {
            int exponent = b >> 3 & 15;
            int mantissa = b & 7;
            float magnitude = exponent == 0
                    ? Math.scalb((float) mantissa, -9)
                    : Math.scalb((float) (8 + mantissa), exponent - 10);
            if ((b & 127) == 127)
                magnitude = Float.NaN;
            return b < 128 ? magnitude : -magnitude;
        }
    }
}
