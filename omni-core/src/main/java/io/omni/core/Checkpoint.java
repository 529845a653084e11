package io.omni.core;

import com.fasterxml.jackson.databind.JsonNode;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Quantization;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Predicate;

/**
 * The tensors of a checkpoint folder, {@code model.safetensors} or the shards that {@code model.safetensors.index.json}
 * names, mapped and read in place; what {@link Quantizer} wrote too. Matrices that another tool quantised are converted
 * when they are asked for, each as a whole and on all processors: Q4 and Q8 blocks where these hold every element exactly,
 * else 16 bits an element ({@link QuantizedMatrix}). Such a checkpoint so takes its own size in memory beside the file
 * cache, or about twice its size where its elements are float8.
 */
final class Checkpoint implements TensorSource {
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** As they lie in their file, empty ones before others. */
    private static final Comparator<Entry> IN_FILE = Comparator
            .comparingLong((Entry entry) -> entry.tensor().data().address())
            .thenComparingLong(entry -> entry.tensor().data().byteSize());

    private final Path directory;
    private final Arena arena = Arena.ofShared();
    private final Map<String, Entry> entries = new HashMap<>();
    private QuantizationMethods methods = QuantizationMethods.NONE;

    /**
     * A tensor as it is stored.
     *
     * @param dtype
     *            as the file says
     * @param tensor
     *            its bytes as I8 where the dtype is one of eight-bit floats
     */
    record Entry(Path file, String dtype, HostTensor tensor) {
        String name() {
            return tensor.name();
        }

        /** What error messages call it. */
        String where() {
            return file + ": " + tensor.name();
        }

        boolean isFloat8() {
            return dtype.startsWith("F8_");
        }
    }

    private Checkpoint(Path directory) {
        this.directory = directory;
    }

    /**
     * Maps those shards of a checkpoint that hold tensors of interest.
     *
     * @param wanted
     *            by name, a quantised module's parts by the name of its matrix; a shard that holds no such tensor may be absent
     * @throws CheckpointException
     *             if a file is missing, truncated or malformed, or the configuration says that the checkpoint was quantised
     *             in a way that cannot be read
     */
    static Checkpoint open(Path directory, Predicate<String> wanted) {
        Checkpoint checkpoint = new Checkpoint(directory);
        try {
            Path config = directory.resolve("config.json");
            if (Files.exists(config))
                checkpoint.methods = QuantizationMethods.of(Fields.read(config));
            checkpoint.mapAll(wanted);
            return checkpoint;
        } catch (RuntimeException e) {
            checkpoint.close();
            throw e;
        }
    }

    /** Maps one safetensors file; see {@link #open}. */
    static Checkpoint file(Path file) {
        Checkpoint checkpoint = new Checkpoint(file);
        try {
            checkpoint.map(file);
            return checkpoint;
        } catch (RuntimeException e) {
            checkpoint.close();
            throw e;
        }
    }

    private void mapAll(Predicate<String> wanted) {
        Path single = directory.resolve("model.safetensors");
        Path index = directory.resolve("model.safetensors.index.json");
        if (Files.exists(index)) {
            Fields map = Fields.read(index).at("weight_map");
            if (!map.node().isObject())
                throw new CheckpointException(index + ": weight_map is missing, expected the file of each tensor");
            Map<String, String> shards = new TreeMap<>();
            map.node().fieldNames().forEachRemaining(name -> {
                if (wanted.test(QuantizedMatrix.module(name, methods)))
                    shards.put(name, shard(map, name));
            });
            for (String shard : new TreeSet<>(shards.values()))
                map(directory.resolve(shard));
            shards.forEach((name, shard) -> {
                if (!entries.containsKey(name))
                    throw new CheckpointException(
                            index + ": names tensor " + name + ", which " + shard + " does not hold");
            });
        } else if (Files.exists(single))
            map(single);
        else
            throw new CheckpointException(
                    directory + ": holds neither model.safetensors nor model.safetensors.index.json");
    }

    /** The file of a tensor, below the folder. */
    private static String shard(Fields map, String tensor) {
        String shard = map.string(tensor, "");
        // a forged index must not lead elsewhere, as a copy is written under the same names
        if (shard.isEmpty() || shard.indexOf(0) >= 0 || Path.of(shard).isAbsolute()
                || Path.of(shard).normalize().startsWith(".."))
            throw new CheckpointException(map.where() + ": " + tensor + " is " + map.node().path(tensor)
                    + ", expected a file in the folder");
        return shard;
    }

    private void map(Path file) {
        MemorySegment bytes;
        try (FileChannel channel = FileChannel.open(file)) {
            bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
        } catch (java.nio.file.NoSuchFileException e) {
            throw new CheckpointException(file + ": no such file, though the index names it", e);
        } catch (IOException e) {
            throw new CheckpointException(file + ": cannot be read: " + e, e);
        }
        if (bytes.byteSize() < 8)
            throw new CheckpointException(file + ": " + bytes.byteSize() + " bytes, truncated");
        long headerSize = bytes.get(LONG, 0);
        if (headerSize < 2 || headerSize > Math.min(bytes.byteSize() - 8, 1 << 28))
            throw new CheckpointException(
                    file + ": a header of " + headerSize + " bytes in a file of " + bytes.byteSize()
                            + ": truncated, or no safetensors file");
        String header = new String(bytes.asSlice(8, headerSize).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
        Fields held = Fields.parseUnique(file + ": header", header);
        MemorySegment data = bytes.asSlice(8 + headerSize);
        Fields metadata = held.has("__metadata__") ? held.at("__metadata__") : Fields.NONE;
        List<Entry> found = new ArrayList<>();
        for (var names = held.node().fieldNames(); names.hasNext();) {
            String name = names.next();
            if (name.equals("__metadata__"))
                continue;
            Fields entry = held.at(name);
            HostTensor tensor = tensor(entry, metadata.string(Quantizer.TENSOR + name, null), file + ": " + name, name,
                    data);
            found.add(new Entry(file, entry.string("dtype", ""), tensor));
        }
        expectApart(found);
        found.forEach(entry -> entries.put(entry.name(), entry));
    }

    private static void expectApart(List<Entry> entries) {
        entries.sort(IN_FILE);
        for (int i = 1; i < entries.size(); i++) {
            MemorySegment before = entries.get(i - 1).tensor().data();
            if (before.address() + before.byteSize() > entries.get(i).tensor().data().address())
                throw new CheckpointException(
                        entries.get(i).where() + ": lies where " + entries.get(i - 1).name() + " does");
        }
    }

    /**
     * One tensor of a file.
     *
     * @param quantised
     *            what the metadata say of it: its type and shape; or null
     */
    private static HostTensor tensor(Fields entry, String quantised, String where, String name, MemorySegment data) {
        DType dtype = quantised != null ? quantisedType(quantised, where) : switch (entry.string("dtype", "missing")) {
            case "F32" -> DType.F32;
            case "F16" -> DType.F16;
            case "BF16" -> DType.BF16;
            case "I64" -> DType.I64;
            case "I32" -> DType.I32;
            case "I8", "F8_E4M3", "F8_E5M2" -> DType.I8;
            case "BOOL" -> DType.BOOL;
            case String other -> throw new CheckpointException(
                    where + ": dtype " + other + ", expected F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I8 or BOOL");
        };
        if (!entry.node().path("shape").isArray())
            throw new CheckpointException(where + ": shape is missing, expected a list of sizes");
        int[] shape = quantised != null ? quantisedShape(quantised, where) : entry.integers("shape");
        double elements = Arrays.stream(shape).asDoubleStream().reduce(1, (a, b) -> a * b);
        if (Arrays.stream(shape).anyMatch(n -> n < 0) || elements > 2.0 * data.byteSize())
            throw new CheckpointException(where + ": shape " + Arrays.toString(shape)
                    + ", expected sizes of what fits into the file's " + data.byteSize() + " bytes of data");
        var offsets = entry.node().path("data_offsets");
        if (offsets.size() != 2 || !isLong(offsets.path(0)) || !isLong(offsets.path(1)))
            throw new CheckpointException(where + ": data_offsets is " + (offsets.isMissingNode() ? "missing" : offsets)
                    + ", expected two numbers");
        long from = offsets.path(0).longValue();
        long to = offsets.path(1).longValue();
        if (from < 0 || to < from || to > data.byteSize())
            throw new CheckpointException(where + ": bytes " + from + " to " + to + ", but the file holds "
                    + data.byteSize() + " bytes of data: truncated");
        if (!Quantization.fits(dtype, shape))
            throw new CheckpointException(where + ": " + Arrays.toString(shape)
                    + " is no matrix of whole blocks of 32 by 32 elements, as " + dtype + " needs");
        if (to - from != dtype.bytes(HostTensor.size(shape)))
            throw new CheckpointException(where + ": " + (to - from) + " bytes for " + dtype + " "
                    + Arrays.toString(shape) + ", expected " + dtype.bytes(HostTensor.size(shape)));
        return new HostTensor(name, dtype, shape, data.asSlice(from, to - from));
    }

    private static boolean isLong(JsonNode node) {
        return node.isIntegralNumber() && node.canConvertToLong();
    }

    private static DType quantisedType(String entry, String where) {
        return switch (entry.split(" ")[0]) {
            case "Q8" -> DType.Q8;
            case "Q4" -> DType.Q4;
            case String other -> throw new CheckpointException(
                    where + ": quantised to '" + other + "', expected Q8 or Q4");
        };
    }

    private static int[] quantisedShape(String entry, String where) {
        try {
            return Arrays.stream(entry.split(" ")).skip(1).mapToInt(Integer::parseInt).toArray();
        } catch (NumberFormatException e) {
            throw new CheckpointException(where + ": quantised as '" + entry + "', expected a type and sizes", e);
        }
    }

    Path directory() {
        return directory;
    }

    @Override
    public boolean has(String name) {
        return entries.containsKey(name) || quantised(name) != null;
    }

    /** Whether any tensor's name starts so. */
    boolean hasAny(String prefix) {
        return entries.keySet().stream().anyMatch(name -> name.startsWith(prefix));
    }

    /** All tensors' names, in order; a quantised matrix counts once, by the name that it has without quantisation. */
    Set<String> names() {
        Set<String> names = new TreeSet<>();
        for (String name : entries.keySet()) {
            String matrix = QuantizedMatrix.matrix(name, methods);
            if (matrix != null)
                names.add(matrix);
        }
        return names;
    }

    /** The files, in order, with the {@link #names} of the tensors that lie in each, as they lie there. */
    Map<Path, List<String>> files() {
        Map<Path, List<String>> files = new TreeMap<>();
        entries.values().stream().sorted(IN_FILE).forEach(entry -> {
            List<String> names = files.computeIfAbsent(entry.file(), file -> new ArrayList<>());
            String name = QuantizedMatrix.matrix(entry.name(), methods);
            if (name != null)
                names.add(name);
        });
        return files;
    }

    /** What is stored under this name, or null. */
    Entry entry(String name) {
        return entries.get(name);
    }

    /** The tensor stored under this name, of any shape, or null. */
    HostTensor find(String name) {
        Entry entry = entries.get(name);
        return entry == null ? null : entry.tensor();
    }

    /** The matrix of this name if another tool quantised it, else null. */
    QuantizedMatrix quantised(String name) {
        return QuantizedMatrix.find(this, name, methods);
    }

    @Override
    public HostTensor get(Arena memory, String name, int... shape) {
        QuantizedMatrix matrix = quantised(name);
        Entry entry = entries.get(name);
        if (matrix == null && entry == null)
            throw new CheckpointException(directory + ": tensor " + name + " is missing");
        if (matrix == null && (entry.isFloat8() || entry.dtype().equals("I8")))
            throw new CheckpointException(entry.where() + ": dtype " + entry.dtype()
                    + ", expected only of matrices that config.json's quantization_config covers");
        int[] stored = matrix != null ? matrix.shape() : entry.tensor().shape();
        if (!Arrays.equals(stored, shape))
            throw new CheckpointException(directory + ": tensor " + name + " has shape " + Arrays.toString(stored)
                    + ", expected " + Arrays.toString(shape));
        return matrix != null ? matrix.read(memory) : entry.tensor();
    }

    @Override
    public void close() {
        if (arena.scope().isAlive())
            arena.close();
        entries.clear();
    }
}
