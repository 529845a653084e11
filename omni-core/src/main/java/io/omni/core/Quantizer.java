package io.omni.core;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Quantization;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.zip.CRC32C;

/**
 * Writes a copy of a checkpoint folder in which the large matrices are quantised; {@code docs/quantization.md} describes
 * the files. Covered are the matrices of attention, experts and MLPs in the decoder layers of Thinker, Talker and code
 * predictor, and their heads, as far as they are whole blocks: nearly all that a decoded token reads. Everything
 * else keeps its type.
 */
public final class Quantizer {
    /** Metadata of a shard: the type of its quantised tensors, {@code q8} or {@code q4}. */
    static final String TYPE = "omni.quantization";
    /** Prefix of metadata that tell a tensor's type and shape, such as {@code Q8 2048 768}. */
    static final String TENSOR = "omni.blocks.";
    /** Metadata of a shard: a checksum of samples of the tensors that it was made from. */
    private static final String SOURCE = "omni.source";
    /** Locked while a run writes to the folder. */
    private static final String LOCK = ".omni-quantize.lock";
    private static final String INDEX = "model.safetensors.index.json";
    private static final int SAMPLE = 4096;

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Pattern COVERED = Pattern
            .compile("(thinker\\.|talker\\.|talker\\.code_predictor\\.)?model\\.layers\\.\\d+\\."
                    + "(self_attn\\.[qkvo]_proj|mlp\\.(experts\\.\\d+\\.|shared_expert\\.)?(gate|up|down)_proj)\\.weight"
                    + "|(thinker\\.)?lm_head\\.weight|talker\\.codec_head\\.weight"
                    + "|talker\\.code_predictor\\.lm_head\\.\\d+\\.weight");
    private static final long PIECE = 8 << 20;

    private final Path from;
    private final Path to;
    private final DType type;
    private final Consumer<Progress> progress;
    private int shard;
    private long done;
    private long total;

    /**
     * How far the work is.
     *
     * @param shard
     *            the shard that is being written, counted from 1; {@code shards} of them in all
     * @param bytes
     *            bytes of tensors that are written, of {@code totalBytes}
     */
    public record Progress(String file, int shard, int shards, long bytes, long totalBytes) {}

    /**
     * What was written.
     *
     * @param quantised
     *            matrices in blocks
     * @param quantisedFrom
     *            bytes that these took in the checkpoint
     * @param quantisedTo
     *            bytes that they take
     * @param kept
     *            tensors that keep their type
     * @param keptBytes
     *            bytes of these
     * @param shards
     *            files, of which {@code thereAlready} were complete from an earlier run
     */
    public record Summary(int quantised, long quantisedFrom, long quantisedTo, int kept, long keptBytes, int shards,
            int thereAlready) {}

    private Quantizer(Path from, Path to, DType type, Consumer<Progress> progress) {
        this.from = from;
        this.to = to;
        this.type = type;
        this.progress = progress;
    }

    /**
     * Quantises a checkpoint folder, one tensor at a time, its rows on all processors. Matrices that another tool quantised
     * are read as {@link Omni#load} does; those that then are blocks of this or fewer bits stay as they are. Shards that
     * are complete, from a run that was interrupted, are left as they are; the index is written last, so a folder with an
     * index is complete.
     *
     * @param type
     *            Q8 or Q4
     * @param progress
     *            told of every piece written
     * @throws CheckpointException
     *             if the checkpoint cannot be read or was written by this class, if {@code to} holds files of another one
     *             or another run is writing to it, or if it has no room
     */
    public static Summary quantize(Path from, Path to, DType type, Consumer<Progress> progress) {
        if (!type.isQuantized())
            throw new IllegalArgumentException("quantising to " + type + ", expected Q8 or Q4");
        try {
            if (!Files.isDirectory(from))
                throw new CheckpointException(from + ": no such folder");
            if (Files.exists(to) && !Files.isDirectory(to))
                throw new CheckpointException(to + ": is a file, expected a folder");
            if (Files.exists(to) && Files.isSameFile(from, to))
                throw new CheckpointException(to + ": the same folder as the checkpoint, expected another");
            OmniConfig.read(from);
            return new Quantizer(from.toRealPath(), to, type, progress).run();
        } catch (IOException e) {
            throw new CheckpointException(to + ": cannot be written: " + reason(e), e);
        }
    }

    private static String reason(IOException e) {
        return e instanceof FileSystemException f && f.getReason() == null
                ? e.getClass().getSimpleName() + " " + e.getMessage()
                : e.getMessage();
    }

    /** Whether a tensor of this name and shape is quantised to this type. */
    static boolean covers(String name, int[] shape, DType type) {
        return shape.length == 2 && Quantization.fits(type, shape) && COVERED.matcher(name).matches();
    }

    /** Quantises a matrix, a row of blocks at a time. */
    static void convert(HostTensor host, DType type, MemorySegment to) {
        int columns = host.shape()[1];
        int band = type.blockSize() * columns;
        IntStream.range(0, host.shape()[0] / type.blockSize()).parallel().forEach(i -> {
            float[] values = host.rows(i * type.blockSize(), (i + 1) * type.blockSize()).toFloats();
            try {
                Quantization.quantize(values, columns, type, to, i * type.bytes(band));
            } catch (IllegalArgumentException e) {
                throw new CheckpointException(host.name() + ": rows from " + i * type.blockSize() + " on: "
                        + e.getMessage(), e);
            }
        });
    }

    /** What becomes of one tensor, at these bytes of its shard. */
    private record Plan(String name, int[] shape, DType stored, DType to, long storedBytes, long from, long end) {}

    /** A shard to be written; {@code source} tells apart checkpoints of the same shapes. */
    private record Shard(String name, List<Plan> plans, String source) {
        long bytes() {
            return plans.getLast().end;
        }
    }

    private Summary run() throws IOException {
        List<Shard> shards = new ArrayList<>();
        Set<String> read = new TreeSet<>(Set.of(INDEX, LOCK));
        try (Checkpoint checkpoint = Checkpoint.open(from, name -> true)) {
            for (var entry : checkpoint.files().entrySet()) {
                read.add(from.relativize(entry.getKey()).toString());
                if (!entry.getValue().isEmpty())
                    shards.add(plan(checkpoint, entry.getKey(), entry.getValue()));
            }
        }
        if (shards.isEmpty())
            throw new CheckpointException(from + ": holds no tensors");
        Files.createDirectories(to);
        Path lock = to.resolve(LOCK);
        // the lock is the process's and ends with it; the file may stay behind, and is nobody's then
        try (FileChannel channel = FileChannel.open(lock, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            // a run that has just ended deletes the file that this one opened
            if (!lock(channel) || Files.notExists(lock))
                throw new CheckpointException(to + ": another run is writing to this folder");
            try {
                return write(shards, others(read));
            } finally {
                Files.deleteIfExists(lock);
            }
        }
    }

    /** Whether nobody else, in this process or another, has the lock, which is then held until the channel closes. */
    private static boolean lock(FileChannel channel) throws IOException {
        try {
            return channel.tryLock() != null;
        } catch (OverlappingFileLockException e) {
            return false;
        }
    }

    private Summary write(List<Shard> shards, List<Path> others) throws IOException {
        Set<String> there = new TreeSet<>();
        long needed = 0;
        for (Shard shard : shards) {
            total += shard.bytes();
            if (isThere(shard))
                there.add(shard.name);
            else
                needed += shard.bytes() - sizeOf(part(shard));
        }
        for (Path file : others)
            if (!isCopied(file))
            needed += Files.size(file);
        long free = Files.getFileStore(to).getUsableSpace();
        if (needed > free)
            throw new CheckpointException(
                    "%s: %.1f GB free, expected %.1f GB for what is still to be written"
                            .formatted(to, free / 1e9, needed / 1e9));
        for (Path file : others)
            if (!Files.exists(copy(file)))
            copyOther(file);
        for (Shard each : shards) {
            shard++;
            if (there.contains(each.name))
                done += each.bytes();
            else
                write(each, shards.size());
            report(each, shards.size());
        }
        if (Files.exists(from.resolve(INDEX)))
            place(to.resolve(INDEX), index(shards).getBytes(StandardCharsets.UTF_8));
        return summary(shards, there.size());
    }

    /** Where a shard is written; what an earlier run left there is written over. */
    private Path part(Shard shard) {
        return to.resolve(shard.name + ".part");
    }

    private static long sizeOf(Path file) throws IOException {
        return Files.exists(file) ? Files.size(file) : 0;
    }

    private static Summary summary(List<Shard> shards, int there) {
        int quantised = 0;
        int kept = 0;
        long quantisedFrom = 0;
        long quantisedTo = 0;
        long keptBytes = 0;
        for (Shard shard : shards)
            for (Plan plan : shard.plans)
                if (plan.to.isQuantized()) {
                    quantised++;
                    quantisedFrom += plan.storedBytes;
                    quantisedTo += plan.end - plan.from;
                } else {
                    kept++;
                    keptBytes += plan.end - plan.from;
                }
        return new Summary(quantised, quantisedFrom, quantisedTo, kept, keptBytes, shards.size(), there);
    }

    private Shard plan(Checkpoint checkpoint, Path file, List<String> names) {
        List<Plan> plans = new ArrayList<>();
        CRC32C source = new CRC32C();
        long at = 0;
        for (String name : names) {
            QuantizedMatrix matrix = checkpoint.quantised(name);
            HostTensor tensor = matrix == null ? checkpoint.find(name) : matrix.stored();
            List<HostTensor> parts = matrix == null ? List.of(tensor) : QuantizedMatrix.parts(checkpoint, name);
            for (HostTensor part : parts)
                source.update(part.data().asSlice(0, Math.min(SAMPLE, part.data().byteSize())).asByteBuffer());
            if (tensor.dtype().isQuantized())
                throw new CheckpointException(
                        file + ": " + name + " is quantised already, to " + tensor.dtype());
            int[] shape = matrix == null ? tensor.shape() : matrix.shape();
            DType stored = matrix == null ? tensor.dtype() : matrix.type();
            boolean smaller = stored.isFloating() && covers(name, shape, type)
                    && type.bytes(HostTensor.size(shape)) < stored.bytes(HostTensor.size(shape));
            DType becomes = smaller ? type : stored;
            long end = at + becomes.bytes(HostTensor.size(shape));
            plans.add(new Plan(name, shape, stored, becomes, tensor.data().byteSize(), at, end));
            at = end;
        }
        return new Shard(from.relativize(file).toString(), plans, "%08x".formatted(source.getValue()));
    }

    /** A shard under its final name is complete; it only has to be of this checkpoint and type. */
    private boolean isThere(Shard shard) throws IOException {
        Path file = to.resolve(shard.name);
        if (!Files.exists(file))
            return false;
        byte[] header = header(shard);
        try (FileChannel channel = FileChannel.open(file)) {
            ByteBuffer held = ByteBuffer.allocate((int) Math.min(header.length, channel.size()));
            while (held.hasRemaining() && channel.read(held) >= 0);
            if (channel.size() == header.length + shard.bytes() && Arrays.equals(held.array(), header))
                return true;
        }
        throw new CheckpointException(file + ": holds something else than " + from.resolve(shard.name) + " in "
                + typeName() + ": choose an empty folder");
    }

    /** Configuration, tokenizer and whatever else lies beside the shards; hidden folders are caches of tools. */
    private List<Path> others(Set<String> read) throws IOException {
        List<Path> files = new ArrayList<>();
        Files.walkFileTree(from, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path dir, BasicFileAttributes attributes) throws IOException {
                boolean skip = Files.isSameFile(dir, to)
                        || !dir.equals(from) && dir.getFileName().toString().startsWith(".");
                return skip ? FileVisitResult.SKIP_SUBTREE : FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
                if (Files.isRegularFile(file) && !read.contains(from.relativize(file).toString()))
                    files.add(file);
                return FileVisitResult.CONTINUE;
            }
        });
        return files;
    }

    private Path copy(Path file) {
        return to.resolve(from.relativize(file));
    }

    private boolean isCopied(Path file) throws IOException {
        Path copy = copy(file);
        if (!Files.exists(copy))
            return false;
        byte[] config = plainConfig(file);
        if (config == null ? Files.mismatch(file, copy) >= 0 : !Arrays.equals(config, Files.readAllBytes(copy)))
            throw new CheckpointException(
                    copy + ": differs from " + file + ", expected a copy: choose an empty folder");
        return true;
    }

    private void copyOther(Path file) throws IOException {
        Path copy = copy(file);
        byte[] config = plainConfig(file);
        if (config != null) {
            place(copy, config);
            return;
        }
        Files.createDirectories(copy.getParent());
        Path part = copy.resolveSibling(copy.getFileName() + ".part");
        Files.copy(file, part, StandardCopyOption.REPLACE_EXISTING);
        Files.move(part, copy, StandardCopyOption.ATOMIC_MOVE);
    }

    /** If this is the configuration: what it is without another tool's quantisation; null if it tells of none. */
    private byte[] plainConfig(Path file) throws IOException {
        if (!file.equals(from.resolve("config.json")))
            return null;
        Fields config = Fields.read(file);
        if (!QuantizationMethods.remove(config.node()))
            return null;
        return JSON.writerWithDefaultPrettyPrinter().writeValueAsBytes(config.node());
    }

    private String index(List<Shard> shards) throws IOException {
        ObjectNode index = (ObjectNode) Fields.read(from.resolve(INDEX)).node();
        index.withObject("/metadata").put("total_size", total);
        ObjectNode map = index.putObject("weight_map");
        for (Shard shard : shards)
            for (Plan plan : shard.plans)
                map.put(plan.name, shard.name);
        return JSON.writerWithDefaultPrettyPrinter().writeValueAsString(index);
    }

    private static void place(Path file, byte[] content) throws IOException {
        Path part = file.resolveSibling(file.getFileName() + ".part");
        Files.write(part, content);
        Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    }

    private void write(Shard shard, int shards) throws IOException {
        Path file = to.resolve(shard.name);
        Path part = part(shard);
        Files.createDirectories(part.getParent());
        Set<String> names = new HashSet<>();
        shard.plans.forEach(plan -> names.add(plan.name));
        try (Checkpoint checkpoint = Checkpoint.open(from, name -> names.contains(name));
                FileChannel out = FileChannel.open(part, StandardOpenOption.CREATE, StandardOpenOption.WRITE,
                        StandardOpenOption.TRUNCATE_EXISTING)) {
            writeFully(out, ByteBuffer.wrap(header(shard)));
            for (Plan plan : shard.plans)
                try (Arena memory = Arena.ofShared()) {
                    write(out, checkpoint.get(memory, plan.name, plan.shape), plan.to, shard, shards);
                }
            out.force(true);
        } catch (IOException | RuntimeException e) {
            Files.deleteIfExists(part);
            throw e;
        }
        Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    }

    private String typeName() {
        return type.name().toLowerCase(Locale.ROOT);
    }

    private byte[] header(Shard shard) throws IOException {
        ObjectNode header = JSON.createObjectNode();
        ObjectNode metadata = header.putObject("__metadata__").put("format", "pt").put(TYPE, typeName()).put(SOURCE,
                shard.source);
        for (Plan plan : shard.plans) {
            ObjectNode entry = header.putObject(plan.name);
            entry.put("dtype", plan.to.isQuantized() ? "U8" : plan.to.name());
            var shape = entry.putArray("shape");
            if (plan.to.isQuantized()) {
                shape.add(plan.shape[0] / plan.to.blockSize())
                        .add(plan.to.bytes((long) plan.to.blockSize() * plan.shape[1]));
                metadata.put(TENSOR + plan.name, plan.to + " " + plan.shape[0] + " " + plan.shape[1]);
            } else
                for (int n : plan.shape)
                    shape.add(n);
            entry.putArray("data_offsets").add(plan.from).add(plan.end);
        }
        byte[] text = JSON.writeValueAsString(header).getBytes(StandardCharsets.UTF_8);
        int length = (text.length + 7) / 8 * 8;
        ByteBuffer buffer = ByteBuffer.allocate(8 + length).order(ByteOrder.LITTLE_ENDIAN).putLong(length).put(text);
        while (buffer.hasRemaining())
            buffer.put((byte) ' ');
        return buffer.array();
    }

    private void write(FileChannel out, HostTensor tensor, DType to, Shard shard, int shards) throws IOException {
        if (tensor.dtype() == to) {
            long bytes = tensor.data().byteSize();
            for (long at = 0; at < bytes; at += PIECE) {
                long n = Math.min(PIECE, bytes - at);
                writeFully(out, tensor.data().asSlice(at, n).asByteBuffer());
                done += n;
                report(shard, shards);
            }
            return;
        }
        int rows = tensor.shape()[0];
        long rowBytes = tensor.data().byteSize() / Math.max(1, rows);
        int block = to.blockSize();
        int each = Math.clamp(PIECE / Math.max(1, rowBytes) / block * block, block, Math.max(block, rows));
        byte[] piece = new byte[Math.toIntExact(to.bytes((long) each * tensor.shape()[1]))];
        for (int from = 0; from < rows; from += each) {
            HostTensor part = tensor.rows(from, Math.min(rows, from + each));
            try {
                convert(part, to, MemorySegment.ofArray(piece));
            } catch (CheckpointException e) {
                throw new CheckpointException(this.from.resolve(shard.name) + ": " + e.getMessage(), e);
            }
            int bytes = (int) to.bytes(part.size());
            writeFully(out, ByteBuffer.wrap(piece, 0, bytes));
            done += bytes;
            report(shard, shards);
        }
    }

    private static void writeFully(FileChannel out, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining())
            out.write(bytes);
    }

    private void report(Shard current, int shards) {
        progress.accept(new Progress(current.name, shard, shards, done, total));
    }
}
