package io.omni.core;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Quantization;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

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
    private int shards;
    private long done;
    private long total;

    /**
     * How far the work is.
     *
     * @param shard
     *            the shard that is being written, counted from 1; {@code shards} of them in all
     * @param readBytes
     *            bytes of the checkpoint's shards dealt with so far, of {@code totalBytes}
     */
    public record Progress(String file, int shard, int shards, long readBytes, long totalBytes) {}

    private Quantizer(Path from, Path to, DType type, Consumer<Progress> progress) {
        this.from = from;
        this.to = to;
        this.type = type;
        this.progress = progress;
    }

    /**
     * Quantises a checkpoint folder, one piece of a tensor at a time. Shards that are there already, from a run that was
     * interrupted, are left as they are; the index is written last, so a folder with an index is complete.
     *
     * @param type
     *            Q8 or Q4
     * @param progress
     *            told of every piece written
     * @throws CheckpointException
     *             if the checkpoint cannot be read, is quantised already, or {@code to} holds another one
     */
    public static void quantize(Path from, Path to, DType type, Consumer<Progress> progress) {
        if (!type.isQuantized())
            throw new IllegalArgumentException("quantising to " + type + ", expected Q8 or Q4");
        try {
            Files.createDirectories(to);
            if (Files.isSameFile(from, to))
                throw new CheckpointException(to + ": the same folder as the checkpoint, expected another");
            new Quantizer(from, to, type, progress).run();
        } catch (IOException e) {
            throw new CheckpointException(to + ": cannot be written: " + e, e);
        }
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

    private void run() throws IOException {
        Path index = from.resolve("model.safetensors.index.json");
        TreeSet<String> names = new TreeSet<>();
        ObjectNode rewritten = null;
        if (Files.exists(index)) {
            Fields fields = Fields.read(index);
            Fields map = fields.at("weight_map");
            map.node().fieldNames().forEachRemaining(name -> names.add(map.string(name, "")));
            rewritten = (ObjectNode) fields.node();
        } else if (Files.exists(from.resolve("model.safetensors")))
            names.add("model.safetensors");
        else
            throw new CheckpointException(
                    from + ": holds neither model.safetensors nor model.safetensors.index.json");
        for (String name : names)
            if (!Files.exists(from.resolve(name)))
            throw new CheckpointException(from.resolve(name) + ": no such file, though the index names it");
            else
            total += Files.size(from.resolve(name));
        shards = names.size();
        copyOthers(names);
        long bytes = 0;
        for (String name : names) {
            shard++;
            bytes += shard(name);
        }
        if (rewritten != null) {
            rewritten.withObject("/metadata").put("total_size", bytes);
            Path part = to.resolve(index.getFileName() + ".part");
            Files.writeString(part, JSON.writerWithDefaultPrettyPrinter().writeValueAsString(rewritten));
            Files.move(part, to.resolve(index.getFileName()), StandardCopyOption.ATOMIC_MOVE);
        }
    }

    /** Configuration, tokenizer and whatever else lies beside the shards; hidden folders are caches of tools. */
    private void copyOthers(TreeSet<String> shardNames) throws IOException {
        Path source = from.toAbsolutePath().normalize();
        Path target = to.toAbsolutePath().normalize();
        Files.walkFileTree(source, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path dir, BasicFileAttributes attributes) {
                boolean skip = dir.equals(target)
                        || !dir.equals(source) && dir.getFileName().toString().startsWith(".");
                return skip ? FileVisitResult.SKIP_SUBTREE : FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
                String name = source.relativize(file).toString();
                if (!Files.isRegularFile(file) || shardNames.contains(name)
                        || name.equals("model.safetensors.index.json"))
                    return FileVisitResult.CONTINUE;
                Files.createDirectories(target.resolve(name).getParent());
                Files.copy(file, target.resolve(name), StandardCopyOption.REPLACE_EXISTING);
                return FileVisitResult.CONTINUE;
            }
        });
    }

    /** What becomes of one tensor. */
    private record Plan(HostTensor tensor, boolean quantised, long from, long to) {}

    /** Writes one shard and returns the bytes of its tensors. */
    private long shard(String name) throws IOException {
        Path file = to.resolve(name);
        try (Checkpoint checkpoint = Checkpoint.file(from.resolve(name))) {
            List<HostTensor> tensors = new ArrayList<>();
            for (String tensor : checkpoint.names())
                tensors.add(checkpoint.find(tensor));
            tensors.sort(Comparator.comparingLong(tensor -> tensor.data().address()));
            List<Plan> plans = new ArrayList<>();
            long at = 0;
            for (HostTensor tensor : tensors) {
                if (tensor.dtype().isQuantized())
                    throw new CheckpointException(
                            from.resolve(name) + ": " + tensor.name() + " is quantised already, to " + tensor.dtype());
                boolean quantised = tensor.dtype().isFloating() && covers(tensor.name(), tensor.shape(), type);
                long end = at + (quantised ? type.bytes(tensor.size()) : tensor.data().byteSize());
                plans.add(new Plan(tensor, quantised, at, end));
                at = end;
            }
            long size = Files.size(from.resolve(name));
            if (Files.exists(file)) {
                checkSame(file, checkpoint);
                done += size;
                report(name);
                return at;
            }
            Path part = to.resolve(name + ".part");
            Files.createDirectories(part.getParent());
            try (FileChannel out = FileChannel.open(part, StandardOpenOption.CREATE, StandardOpenOption.WRITE,
                    StandardOpenOption.TRUNCATE_EXISTING)) {
                writeFully(out, header(plans));
                long before = done;
                for (Plan plan : plans)
                    write(out, plan, name);
                out.force(true);
                done = before + size;
                report(name);
            }
            Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
            return at;
        }
    }

    /** A shard under its final name is complete; it only has to be one of this checkpoint and type. */
    private void checkSame(Path file, Checkpoint source) {
        try (Checkpoint there = Checkpoint.file(file)) {
            String held = there.metadata(TYPE);
            if (!typeName().equals(held) || !there.names().equals(source.names()))
                throw new CheckpointException(file + ": holds " + (held == null ? "unquantised weights" : held)
                        + " of this or another checkpoint, expected " + typeName() + ": choose an empty folder");
        }
    }

    private String typeName() {
        return type.name().toLowerCase(java.util.Locale.ROOT);
    }

    private ByteBuffer header(List<Plan> plans) throws IOException {
        ObjectNode header = JSON.createObjectNode();
        ObjectNode metadata = header.putObject("__metadata__").put("format", "pt").put(TYPE, typeName());
        for (Plan plan : plans) {
            HostTensor tensor = plan.tensor;
            ObjectNode entry = header.putObject(tensor.name());
            entry.put("dtype", plan.quantised ? "U8" : tensor.dtype().name());
            var shape = entry.putArray("shape");
            if (plan.quantised) {
                int[] logical = tensor.shape();
                shape.add(logical[0] / type.blockSize()).add(type.bytes((long) type.blockSize() * logical[1]));
                metadata.put(TENSOR + tensor.name(), type + " " + logical[0] + " " + logical[1]);
            } else
                for (int n : tensor.shape())
                    shape.add(n);
            entry.putArray("data_offsets").add(plan.from).add(plan.to);
        }
        byte[] text = JSON.writeValueAsString(header).getBytes(StandardCharsets.UTF_8);
        int length = (text.length + 7) / 8 * 8;
        ByteBuffer buffer = ByteBuffer.allocate(8 + length).order(ByteOrder.LITTLE_ENDIAN).putLong(length).put(text);
        while (buffer.hasRemaining())
            buffer.put((byte) ' ');
        return buffer.flip();
    }

    private void write(FileChannel out, Plan plan, String file) throws IOException {
        HostTensor tensor = plan.tensor;
        if (!plan.quantised) {
            long bytes = tensor.data().byteSize();
            for (long at = 0; at < bytes; at += PIECE) {
                long n = Math.min(PIECE, bytes - at);
                writeFully(out, tensor.data().asSlice(at, n).asByteBuffer());
                done += n;
                report(file);
            }
            return;
        }
        int rows = tensor.shape()[0];
        long rowBytes = tensor.dtype().bytes(tensor.shape()[1]);
        int block = type.blockSize();
        int each = Math.clamp(PIECE / Math.max(1, rowBytes) / block * block, block, Math.max(block, rows));
        byte[] piece = new byte[Math.toIntExact(type.bytes((long) each * tensor.shape()[1]))];
        for (int from = 0; from < rows; from += each) {
            HostTensor part = tensor.rows(from, Math.min(rows, from + each));
            convert(part, type, MemorySegment.ofArray(piece));
            writeFully(out, ByteBuffer.wrap(piece, 0, (int) type.bytes(part.size())));
            done += part.data().byteSize();
            report(file);
        }
    }

    private static void writeFully(FileChannel out, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining())
            out.write(bytes);
    }

    private void report(String file) {
        progress.accept(new Progress(file, shard, shards, done, total));
    }
}
