package io.omni.core;

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
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Predicate;

/**
 * The tensors of a checkpoint folder, {@code model.safetensors} or the shards that {@code model.safetensors.index.json}
 * names, mapped and read in place; what {@link Quantizer} wrote too.
 */
final class Checkpoint implements TensorSource {
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Path directory;
    private final Arena arena = Arena.ofShared();
    private final Map<String, HostTensor> tensors = new HashMap<>();
    private Fields metadata = Fields.NONE;

    private Checkpoint(Path directory) {
        this.directory = directory;
    }

    /**
     * Maps those shards of a checkpoint that hold tensors of interest.
     *
     * @param wanted
     *            by name; a shard that holds no such tensor may be absent
     * @throws CheckpointException
     *             if a file is missing, truncated or malformed
     */
    static Checkpoint open(Path directory, Predicate<String> wanted) {
        Checkpoint checkpoint = new Checkpoint(directory);
        try {
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
            Map<String, String> shards = new TreeMap<>();
            map.node().fieldNames().forEachRemaining(name -> {
                if (wanted.test(name))
                    shards.put(name, map.string(name, ""));
            });
            for (String shard : new TreeSet<>(shards.values()))
                map(directory.resolve(shard));
            shards.forEach((name, shard) -> {
                if (!tensors.containsKey(name))
                    throw new CheckpointException(
                            index + ": names tensor " + name + ", which " + shard + " does not hold");
            });
        } else if (Files.exists(single))
            map(single);
        else
            throw new CheckpointException(
                    directory + ": holds neither model.safetensors nor model.safetensors.index.json");
    }

    private void map(Path file) {
        MemorySegment bytes;
        try (FileChannel channel = FileChannel.open(file)) {
            bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
        } catch (java.nio.file.NoSuchFileException e) {
            throw new CheckpointException(file + ": no such file, though the index names it", e);
        } catch (IOException e) {
            throw new CheckpointException(file + ": cannot be read: " + e.getMessage(), e);
        }
        if (bytes.byteSize() < 8)
            throw new CheckpointException(file + ": " + bytes.byteSize() + " bytes, truncated");
        long headerSize = bytes.get(LONG, 0);
        if (headerSize < 2 || headerSize > Math.min(bytes.byteSize() - 8, 1 << 28))
            throw new CheckpointException(
                    file + ": a header of " + headerSize + " bytes in a file of " + bytes.byteSize() + ", truncated");
        String header = new String(bytes.asSlice(8, headerSize).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
        Fields entries = Fields.parse(file + ": header", header);
        MemorySegment data = bytes.asSlice(8 + headerSize);
        metadata = entries.has("__metadata__") ? entries.at("__metadata__") : Fields.NONE;
        for (var names = entries.node().fieldNames(); names.hasNext();) {
            String name = names.next();
            if (!name.equals("__metadata__"))
                tensors.put(name, entry(entries.at(name), metadata.string(Quantizer.TENSOR + name, null),
                        file + ": " + name, name, data));
        }
    }

    /**
     * One tensor of a file.
     *
     * @param quantised
     *            what the metadata say of it: its type and shape; or null
     */
    private static HostTensor entry(Fields entry, String quantised, String where, String name, MemorySegment data) {
        DType dtype = quantised != null ? quantisedType(quantised, where) : switch (entry.string("dtype", "missing")) {
            case "F32" -> DType.F32;
            case "F16" -> DType.F16;
            case "BF16" -> DType.BF16;
            case "I64" -> DType.I64;
            case "I32" -> DType.I32;
            case "I8" -> DType.I8;
            case "BOOL" -> DType.BOOL;
            case String other -> throw new CheckpointException(
                    where + ": dtype " + other + ", expected F32, F16, BF16, I64, I32, I8 or BOOL");
        };
        int[] shape = quantised != null ? quantisedShape(quantised, where) : entry.integers("shape");
        var offsets = entry.node().path("data_offsets");
        long from = offsets.path(0).asLong(-1);
        long to = offsets.path(1).asLong(-1);
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

    /** An entry of the metadata of the file mapped last, or null. */
    String metadata(String name) {
        return metadata.string(name, null);
    }

    @Override
    public boolean has(String name) {
        return tensors.containsKey(name);
    }

    /** Whether any tensor's name starts so. */
    boolean hasAny(String prefix) {
        return tensors.keySet().stream().anyMatch(name -> name.startsWith(prefix));
    }

    /** All tensors' names, in order. */
    Set<String> names() {
        return new TreeSet<>(tensors.keySet());
    }

    /** The tensor of this name, of any shape, or null. */
    HostTensor find(String name) {
        return tensors.get(name);
    }

    @Override
    public HostTensor get(String name, int... shape) {
        HostTensor tensor = tensors.get(name);
        if (tensor == null)
            throw new CheckpointException(directory + ": tensor " + name + " is missing");
        if (!Arrays.equals(tensor.shape(), shape))
            throw new CheckpointException(directory + ": tensor " + name + " has shape "
                    + Arrays.toString(tensor.shape()) + ", expected " + Arrays.toString(shape));
        return tensor;
    }

    @Override
    public void close() {
        if (arena.scope().isAlive())
            arena.close();
        tensors.clear();
    }
}
