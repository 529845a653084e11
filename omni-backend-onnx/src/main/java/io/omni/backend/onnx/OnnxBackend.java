package io.omni.backend.onnx;

import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtProvider;
import io.omni.api.Activation;
import io.omni.api.Attention;
import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.BackendException;
import io.omni.api.BackendOptions;
import io.omni.api.CacheSpec;
import io.omni.api.ConvOps;
import io.omni.api.DType;
import io.omni.api.Device;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeOps;
import io.omni.api.OutOfMemoryException;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import io.omni.backend.onnx.Graph.Value;
import io.omni.backend.onnx.Storage.OnnxType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.function.Function;

final class OnnxBackend implements Backend {
    /** Elements of a weight that are widened at a time: their float32 copy should fit in a share of the last cache. */
    private static final int BLOCK = 1 << 20;
    /** Nodes after which a graph runs though nobody asked: a loop that keeps nothing must not record for ever. */
    private static final int LONGEST = 1024;

    private final NativeMemory memory;
    private final Sessions sessions;
    private final boolean cuda;
    private final boolean widen;
    private final Set<Fused> fused = EnumSet.noneOf(Fused.class);
    private final ThreadLocal<Work> work = ThreadLocal.withInitial(() -> new Work(new Recording(this)));
    /** Those of threads with a scope open: of a thread that has ended nothing must stay. */
    private final Set<Recording> recordings = ConcurrentHashMap.newKeySet();
    /** What the caller owns: freed with the backend if it was forgotten. */
    private final Set<AutoCloseable> owned = ConcurrentHashMap.newKeySet();
    private final TensorOps tensorOps = new OnnxTensorOps(this);
    private final AttentionOps attentionOps = new OnnxAttentionOps(this);
    private final MoeOps moeOps = new OnnxMoeOps(this);
    private final ConvOps convOps = new OnnxConvOps(this);
    private volatile boolean closed;

    /** What one thread has open. */
    static final class Work {
        final Recording recording;
        OnnxScope scope;

        Work(Recording recording) {
            this.recording = recording;
        }
    }

    OnnxBackend(BackendOptions options) {
        widen = switch (options.properties().getOrDefault("weights", "stored")) {
            case "stored" -> false;
            case "float32" -> true;
            case String other -> throw new BackendException(
                    "unknown weights '" + other + "', expected stored or float32");
        };
        memory = new NativeMemory(bytes(options.properties().get("memory")));
        int threads = options.threads() == 0 ? Runtime.getRuntime().availableProcessors() : options.threads();
        boolean hasCuda = OrtEnvironment.getAvailableProviders().contains(OrtProvider.CUDA);
        cuda = switch (options.properties().getOrDefault("executionProvider", hasCuda ? "cuda" : "cpu")) {
            case "cpu" -> false;
            case "cuda" -> {
                if (!hasCuda)
                    throw new BackendException(
                            "no CUDA execution provider: put onnxruntime_gpu on the class path instead of onnxruntime");
                yield true;
            }
            case String other -> throw new BackendException(
                    "unknown execution provider '" + other + "', expected cpu or cuda");
        };
        sessions = new Sessions(threads, cuda, options.properties().getOrDefault("optimization", "all"),
                options.properties().get("profile"));
        if (!options.properties().getOrDefault("fused", "true").equals("false"))
            for (Fused operator : Fused.values())
                if (works(operator))
                fused.add(operator);
    }

    private static long bytes(String option) {
        if (option == null)
            return Long.MAX_VALUE;
        try {
            long bytes = Long.parseLong(option);
            if (bytes > 0)
                return bytes;
        } catch (NumberFormatException e) {
            // said below
        }
        throw new BackendException("memory '" + option + "', expected a number of bytes above 0");
    }

    /** Whether the runtime has a kernel for an operator, found out by running it once. */
    private boolean works(Fused operator) {
        fused.add(operator);
        try (Scope _ = scope()) {
            Tensor x = tensor(new float[]{1, 2, 3, 4}, 1, 4);
            Tensor y = switch (operator) {
                case RMS_NORM -> tensorOps.rmsNorm(x, tensor(new float[4], 4), 1e-6f);
                case ROTARY -> attentionOps.rotary(x, null, 0, tensor(new float[4], 1, 2, 2));
                case ATTENTION -> attentionOps.attend(x, x, x, new io.omni.api.Packed(0, 1),
                        new Attention(2, 2, 2, false, 0));
                case GELU -> tensorOps.activation(x, Activation.GELU);
                case SILU -> tensorOps.activation(x, Activation.SILU);
            };
            y.toFloats();
            return true;
        } catch (BackendException e) {
            return false;
        } finally {
            fused.remove(operator);
        }
    }

    boolean fuses(Fused operator) {
        return fused.contains(operator);
    }

    NativeMemory memory() {
        return memory;
    }

    Sessions sessions() {
        return sessions;
    }

    /** The calling thread's graph. */
    Recording recording() {
        return work.get().recording;
    }

    void check() {
        if (closed)
            throw new IllegalStateException("the backend is closed");
    }

    @Override
    public String name() {
        return "onnx";
    }

    @Override
    public Device device() {
        Device host = host();
        return cuda ? new Device("CUDA", host.detail(), -1, -1) : host;
    }

    static Device host() {
        long total = -1;
        long free = -1;
        if (java.lang.management.ManagementFactory
                .getOperatingSystemMXBean() instanceof com.sun.management.OperatingSystemMXBean system) {
            total = system.getTotalMemorySize();
            free = system.getFreeMemorySize();
        }
        return new Device(System.getProperty("os.arch"), "ONNX Runtime", total, free);
    }

    @Override
    public Set<DType> weightTypes() {
        return EnumSet.of(DType.F32, DType.F16, DType.BF16);
    }

    @Override
    public double precision() {
        return 1e-5;
    }

    @Override
    public Scope scope() {
        check();
        Work mine = work.get();
        if (mine.scope == null)
            recordings.add(mine.recording);
        return mine.scope = new OnnxScope(this, mine, mine.scope);
    }

    /** The calling thread's outermost scope is closed, and its graph has run. */
    void leave(Recording recording) {
        recordings.remove(recording);
    }

    int threadsAtWork() {
        return recordings.size();
    }

    private OnnxScope openScope() {
        check();
        OnnxScope scope = work.get().scope;
        if (scope == null)
            throw new IllegalStateException("no scope is open on thread " + Thread.currentThread().getName());
        return scope;
    }

    @Override
    public Tensor tensor(float[] values, int... shape) {
        OnnxScope scope = openScope();
        checkSize(values.length, shape);
        Storage storage = Storage.allocate(memory, OnnxType.FLOAT, Recording.longs(shape));
        MemorySegment.copy(values, 0, storage.memory, ValueLayout.JAVA_FLOAT, 0, values.length);
        return own(scope, new OnnxArray(this, shape.clone(), DType.F32, storage, List.of()));
    }

    @Override
    public Tensor tensor(int[] values, int... shape) {
        OnnxScope scope = openScope();
        checkSize(values.length, shape);
        Storage storage = Storage.allocate(memory, OnnxType.INT32, Recording.longs(shape));
        MemorySegment.copy(values, 0, storage.memory, ValueLayout.JAVA_INT, 0, values.length);
        return own(scope, new OnnxArray(this, shape.clone(), DType.I32, storage, List.of()));
    }

    private static void checkSize(int length, int[] shape) {
        for (int n : shape)
            if (n < 0)
            throw new IllegalArgumentException("shape " + Arrays.toString(shape));
        if (HostTensor.size(shape) != length)
            throw new IllegalArgumentException(length + " values for shape " + Arrays.toString(shape));
    }

    private OnnxArray own(OnnxScope scope, OnnxArray array) {
        scope.own(array);
        owned.add(array);
        return array;
    }

    void forget(AutoCloseable closing) {
        owned.remove(closing);
    }

    /**
     * The weight stays where it is, if the runtime can read it there. Large matrices of narrow types are cut into blocks
     * of rows that share the memory, see {@link Recording#linear}.
     */
    @Override
    public Tensor weight(HostTensor host, WeightRole role) {
        check();
        if (!weightTypes().contains(host.dtype()))
            throw new IllegalArgumentException(host.name() + " of type " + host.dtype() + ", expected one of "
                    + weightTypes());
        int rank = switch (role) {
            case VECTOR -> 1;
            case MATRIX, EMBEDDING -> 2;
            case CONV1D, CONV_TRANSPOSE1D -> 3;
            case CONV2D -> 4;
            case CONV3D -> 5;
        };
        if (host.shape().length != rank)
            throw new IllegalArgumentException(
                    host.name() + " " + Arrays.toString(host.shape()) + " as " + role + ", expected " + rank
                            + " dimensions");
        OnnxType type = OnnxType.of(host.dtype());
        if (widen && role == WeightRole.MATRIX && host.dtype() != DType.F32) {
            Storage floats = Storage.allocate(memory, OnnxType.FLOAT, Recording.longs(host.shape()));
            for (long i = 0; i < host.size(); i++)
                floats.memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, host.getFloat(i));
            var wide = new OnnxArray(this, host.shape().clone(), DType.F32, floats, List.of());
            owned.add(wide);
            return wide;
        }
        Storage whole;
        if (host.data().isNative() && host.data().address() % type.bytes == 0
                && host.data().byteSize() <= Integer.MAX_VALUE && host.data().byteSize() > 0)
            whole = Storage.borrow(host.data(), type, Recording.longs(host.shape()));
        else {
            whole = Storage.allocate(memory, type, Recording.longs(host.shape()));
            whole.memory.copyFrom(host.data());
        }
        List<Storage> blocks = new ArrayList<>();
        if (role == WeightRole.MATRIX && host.dtype() != DType.F32 && host.size() > BLOCK) {
            int columns = host.shape()[1];
            int rows = Math.max(1, BLOCK / columns);
            for (int from = 0; from < host.shape()[0]; from += rows) {
                int n = Math.min(rows, host.shape()[0] - from);
                long row = (long) type.bytes * columns;
                blocks.add(Storage.borrow(whole.memory.asSlice(from * row, n * row), type, n, columns));
            }
        }
        var array = new OnnxArray(this, host.shape().clone(), host.dtype(), whole, List.copyOf(blocks));
        owned.add(array);
        return array;
    }

    @Override
    public Set<DType> cacheTypes() {
        return Set.of(DType.F32);
    }

    @Override
    public KvCache cache(CacheSpec spec) {
        check();
        if (!cacheTypes().contains(spec.type()))
            throw new IllegalArgumentException(
                    "a cache of type " + spec.type() + ", expected one of " + cacheTypes() + " on " + name());
        var cache = new OnnxKvCache(this, spec);
        owned.add(cache);
        return cache;
    }

    /** The handle to what {@code body} records in the calling thread's graph, in the innermost scope. */
    Tensor record(DType dtype, int[] shape, Function<Recording, Value> body, Tensor... operands) {
        OnnxScope scope = check(operands);
        Recording recording = recording();
        if (HostTensor.size(shape) == 0)
            return dtype == DType.I32 ? tensor(new int[0], shape) : tensor(new float[0], shape);
        synchronized (recording) {
            OnnxArray array = own(scope, recording.result(body.apply(recording), dtype, shape.clone()));
            if (recording.size() > LONGEST)
                recording.flush();
            return array;
        }
    }

    /** The innermost scope, once every operand is one that the calling thread's graph can read. */
    private OnnxScope check(Tensor... operands) {
        OnnxScope scope = openScope();
        Recording recording = recording();
        for (Tensor operand : operands) {
            if (operand == null)
                continue;
            if (operand.backend() != this)
                throw new IllegalArgumentException("a tensor of another backend, " + operand.backend().name());
            var array = (OnnxArray) operand;
            array.check();
            if (array.recording() != recording)
                array.materialize();
        }
        return scope;
    }

    /** A tensor of the innermost scope that {@code body} computes now, of operands that have been computed. */
    Tensor compute(int[] shape, Consumer<MemorySegment> body, Tensor... operands) {
        OnnxScope scope = check(operands);
        for (Tensor operand : operands)
            ((OnnxArray) operand).materialize();
        Storage result = Storage.allocate(memory, OnnxType.FLOAT, Recording.longs(shape));
        try {
            body.accept(result.memory);
        } catch (RuntimeException e) {
            result.release();
            throw e;
        }
        return own(scope, new OnnxArray(this, shape.clone(), DType.F32, result, List.of()));
    }

    Tensor record(int[] shape, Function<Recording, Value> body, Tensor... operands) {
        return record(DType.F32, shape, body, operands);
    }

    @Override
    public TensorOps tensorOps() {
        return tensorOps;
    }

    @Override
    public AttentionOps attentionOps() {
        return attentionOps;
    }

    @Override
    public MoeOps moeOps() {
        return moeOps;
    }

    @Override
    public ConvOps convOps() {
        return convOps;
    }

    @Override
    public long allocatedBytes() {
        return memory.held();
    }

    @Override
    public synchronized void close() {
        if (closed)
            return;
        recordings.forEach(Recording::clear);
        for (AutoCloseable left : List.copyOf(owned))
            try {
                left.close();
            } catch (Exception e) {
                throw new BackendException("cannot close a tensor", e);
            }
        closed = true;
        owned.clear();
        sessions.close();
        memory.close();
    }

    static BackendException failure(String what, OrtException e) {
        String message = String.valueOf(e.getMessage());
        if (message.contains("Failed to allocate memory") || message.contains("bad_alloc")
                || message.contains("out of memory"))
            return new OutOfMemoryException(what + ": " + message);
        return new BackendException(what + ": " + message.lines().findFirst().orElse(""), e);
    }
}
