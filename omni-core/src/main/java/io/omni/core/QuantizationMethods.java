package io.omni.core;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;

/**
 * How the tool that quantised a checkpoint stored it, as {@code quantization_config} in {@code config.json} says, at its
 * top or in the configuration of a part. It tells what cannot be seen in the tensors; which modules are quantised, in
 * how many bits and groups, they tell themselves. How activations or caches were quantised is not read: that is about
 * the speed of other hardware.
 *
 * @param methods
 *            empty for a checkpoint that is not quantised
 * @param zeroPoints
 *            whether all integers of compressed-tensors have zero points
 * @param bits
 *            how many an integer of compressed-tensors can have
 * @param blocks
 *            what can share a scale
 * @param otherBlocks
 *            whether something else can, as a part's configuration does not tell
 */
record QuantizationMethods(Set<Method> methods, boolean zeroPoints, Set<Integer> bits, List<Block> blocks,
        boolean otherBlocks) {
    /** Rows and columns that share a scale, as many as there are at most. */
    record Block(int rows, int columns) {
        static final Block TENSOR = new Block(Integer.MAX_VALUE, Integer.MAX_VALUE);
        static final Block ROW = new Block(1, Integer.MAX_VALUE);

        /** How many there are from the top of a matrix of so many rows to its bottom. */
        int down(int height) {
            return Math.ceilDiv(height, rows);
        }

        /** How many there are from one side to the other. */
        int across(int width) {
            return Math.ceilDiv(width, columns);
        }

        /** What this is in a matrix of this size. */
        Block within(int height, int width) {
            return new Block(Math.clamp(height, 1, rows), Math.clamp(width, 1, columns));
        }

        @Override
        public String toString() {
            return "[" + rows + ", " + columns + "]";
        }
    }

    /** Methods whose tensors {@link QuantizedMatrix} reads. */
    enum Method {
        COMPRESSED_TENSORS("compressed-tensors"), AWQ("awq"), FP8("fp8");

        private final String name;

        Method(String name) {
            this.name = name;
        }

        @Override
        public String toString() {
            return name;
        }
    }

    static final QuantizationMethods NONE = new QuantizationMethods(EnumSet.noneOf(Method.class), false, Set.of(),
            List.of(), false);

    private static final List<Integer> BITS = List.of(4, 8);
    private static final List<String> FORMATS = List.of("pack-quantized", "int-quantized", "float-quantized",
            "naive-quantized", "dense");
    private static final List<String> KEYS = List.of("quantization_config", "compression_config");

    /**
     * Reads what a model's configuration says of it and of all its parts.
     *
     * @throws CheckpointException
     *             if a method, format or setting is none that can be read
     */
    static QuantizationMethods of(Fields config) {
        List<Fields> found = new ArrayList<>();
        collect(config, found);
        Set<Method> methods = EnumSet.noneOf(Method.class);
        Set<Integer> bits = new TreeSet<>();
        List<Block> blocks = new ArrayList<>();
        boolean zeroPoints = true;
        for (Fields f : found)
            switch (f.string("quant_method", "missing")) {
            case "compressed-tensors" -> {
                methods.add(Method.COMPRESSED_TENSORS);
                zeroPoints &= compressedTensors(f, bits, blocks);
            }
            case "awq" -> {
                methods.add(Method.AWQ);
                blocks.add(awq(f));
            }
            case "fp8" -> {
                methods.add(Method.FP8);
                blocks.addAll(fp8(f));
            }
            case String other -> throw new CheckpointException(f.where() + ": quant_method is '" + other
                    + "', expected compressed-tensors, awq or fp8");
            }
        zeroPoints &= methods.contains(Method.COMPRESSED_TENSORS);
        boolean others = blocks.removeIf(Objects::isNull);
        return found.isEmpty() ? NONE : new QuantizationMethods(methods, zeroPoints, bits, blocks, others);
    }

    /** Takes all that {@link #of} reads out of a configuration and tells whether there was any. */
    static boolean remove(JsonNode config) {
        boolean removed = false;
        if (config instanceof ObjectNode object) {
            removed = KEYS.stream().anyMatch(object::has);
            object.remove(KEYS);
        }
        for (JsonNode child : config)
            removed |= remove(child);
        return removed;
    }

    private static void collect(Fields config, List<Fields> found) {
        for (var names = config.node().fieldNames(); names.hasNext();) {
            String name = names.next();
            if (KEYS.contains(name) && config.has(name))
                found.add(config.at(name));
            else if (config.node().path(name).isObject())
                collect(config.at(name), found);
        }
    }

    /** Whether all groups have zero points. Adds each group's bits and block, all and null if it does not tell. */
    private static boolean compressedTensors(Fields f, Set<Integer> bits, List<Block> blocks) {
        String format = f.string("format", "dense");
        if (!format.equals("mixed-precision"))
            expect(f, "format", format, FORMATS);
        if (!f.at("transform_config").at("config_groups").node().isEmpty())
            throw new CheckpointException(f.where() + ": transform_config holds transforms, expected none");
        String sparsity = f.at("sparsity_config").string("format", "dense");
        expect(f.at("sparsity_config"), "format", sparsity, List.of("dense"));
        Fields groups = f.at("config_groups");
        boolean all = !groups.node().isEmpty();
        if (!all)
            blocks.add(null);
        for (var names = groups.node().fieldNames(); names.hasNext();) {
            String name = names.next();
            if (groups.node().path(name).isArray()) {
                // a scheme by its name, with its targets; what that means has changed
                all = false;
                bits.addAll(BITS);
                blocks.add(name.equals("FP8_BLOCK") ? new Block(128, 128) : null);
                continue;
            }
            Fields group = groups.at(name);
            expect(group, "format", group.string("format", format.equals("mixed-precision") ? "dense" : format),
                    FORMATS);
            Fields weights = group.at("weights");
            int width = weights.integer("num_bits", 8);
            String type = weights.string("type", "int");
            expect(weights, "type", type, List.of("int", "float"));
            expect(weights, "num_bits", Integer.toString(width),
                    type.equals("float") ? List.of("8") : List.of("4", "8"));
            all &= !weights.bool("symmetric", true);
            if (type.equals("int"))
                bits.add(width);
            if (group.has("weights"))
                blocks.add(block(weights));
        }
        if (bits.isEmpty() || groups.node().isEmpty())
            bits.addAll(BITS);
        return all;
    }

    /** What shares a scale by a group's settings, or null where they do not tell. */
    private static Block block(Fields weights) {
        String strategy = weights.string("strategy", weights.has("block_structure") ? "block" : "group")
                .toLowerCase(Locale.ROOT);
        expect(weights, "strategy", strategy, List.of("tensor", "channel", "group", "block"));
        return switch (strategy) {
            case "tensor" -> Block.TENSOR;
            case "channel" -> Block.ROW;
            case "block" -> block(weights, "block_structure");
            default -> group(weights, "group_size");
        };
    }

    /** What shares a scale, or null if that is not told. */
    private static Block awq(Fields f) {
        String bits = Integer.toString(f.integer("bits", f.integer("w_bit", 4)));
        expect(f, "bits", bits, List.of("4"));
        expect(f, "version", f.string("version", "gemm").toLowerCase(Locale.ROOT), List.of("gemm"));
        return group(f, f.has("group_size") ? "group_size" : "q_group_size");
    }

    /** A matrix may have a single scale beside others with blocks. */
    private static List<Block> fp8(Fields f) {
        List<Block> blocks = new ArrayList<>(List.of(Block.TENSOR, block(f, "weight_block_size")));
        if (!f.has("weight_block_size"))
            blocks.add(Block.ROW);
        return blocks;
    }

    private static Block group(Fields f, String name) {
        int size = f.integer(name, -1);
        if (size == 0 || size < -1)
            throw new CheckpointException(
                    f.where() + ": " + name + " is " + size + ", expected 1 or more, or -1 for whole rows");
        return !f.has(name) ? null : size == -1 ? Block.ROW : new Block(1, size);
    }

    private static Block block(Fields f, String name) {
        // compressed-tensors once wrote a text such as 128x128
        String text = f.node().path(name).asText();
        int[] block = text.matches("\\d{1,9}x\\d{1,9}")
                ? Arrays.stream(text.split("x")).mapToInt(Integer::parseInt).toArray()
                : f.integers(name, 128, 128);
        if (block.length != 2 || block[0] < 1 || block[1] < 1)
            throw new CheckpointException(
                    f.where() + ": " + name + " is " + f.node().path(name) + ", expected two sizes");
        return new Block(block[0], block[1]);
    }

    private static void expect(Fields f, String field, String value, List<String> known) {
        if (!known.contains(value))
            throw new CheckpointException(
                    f.where() + ": " + field + " is '" + value + "', expected " + String.join(", ", known));
    }
}
