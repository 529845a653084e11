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
import io.omni.api.Packed;
import io.omni.api.Quantization;
import io.omni.api.Scope;
import io.omni.api.Shapes;
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
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.IntConsumer;
import java.util.stream.LongStream;

final class OnnxBackend implements Backend {
    /** Elements of a weight that are widened at a time: their float32 copy should fit in a share of the last cache. */
    private static final int BLOCK = 1 << 20;
    /** Nodes after which a graph runs though nobody asked: a loop that keeps nothing must not record for ever. */
    private static final int LONGEST = 1024;

    private final NativeMemory memory;
    private final Sessions sessions;
    private final boolean cuda;
    private final boolean widen;
    private final String activations;
    /** Bytes in use up to which bfloat16 matrices are also kept as integers. */
    private final long roomForIntegers;
    private final int threads;
    private final ExecutorService pool;
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
        Map<String, String> properties = options.properties();
        String weights = property(properties, "weights", "integers");
        if (!Set.of("integers", "stored", "float32").contains(weights))
            throw new BackendException("unknown weights '" + weights + "', expected integers, stored or float32");
        activations = property(properties, "activations", "");
        if (!Set.of("", "f32", "16", "8").contains(activations))
            throw new BackendException("unknown activations '" + activations + "', expected f32, 16 or 8");
        widen = weights.equals("float32");
        roomForIntegers = weights.equals("integers") ? Math.max(0, host().totalMemory() / 2) : 0;
        memory = new NativeMemory(bytes(property(properties, "memory", null)));
        threads = options.threads() == 0 ? Runtime.getRuntime().availableProcessors() : options.threads();
        boolean hasCuda = OrtEnvironment.getAvailableProviders().contains(OrtProvider.CUDA);
        cuda = switch (property(properties, "executionProvider", hasCuda ? "cuda" : "cpu")) {
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
        pool = Executors.newFixedThreadPool(threads, Thread.ofPlatform().daemon().name("omni-onnx-", 0).factory());
        sessions = new Sessions(threads, cuda, property(properties, "optimization", "all"),
                property(properties, "profile", null));
        if (!property(properties, "fused", "true").equals("false"))
            for (Fused operator : Fused.values())
                if ((!cuda || operator != Fused.BLOCKS && operator != Fused.HALVES) && works(operator))
                fused.add(operator);
    }

    private static String property(Map<String, String> properties, String name, String otherwise) {
        String value = properties.get(name);
        return value != null ? value : System.getProperty("omni.onnx." + name, otherwise);
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
                case ATTENTION -> attentionOps.attend(x, x, x, new Packed(0, 1), new Attention(2, 2, 2, false, 0));
                case MATMUL -> attendCached(x);
                case GELU -> tensorOps.activation(x, Activation.GELU);
                case SILU -> tensorOps.activation(x, Activation.SILU);
                case BLOCKS -> sumOfLargest(DType.Q8);
                case HALVES -> sumOfLargest(DType.BF16);
            };
            return y.toFloats()[0] > 32 * 127 - 1 || operator != Fused.BLOCKS && operator != Fused.HALVES;
        } catch (BackendException e) {
            return false;
        } finally {
            fused.remove(operator);
        }
    }

    private Tensor attendCached(Tensor x) {
        var token = new Packed(0, 1);
        try (KvCache cache = cache(new CacheSpec(1, 2, 2, 0))) {
            attentionOps.append(List.of(cache), 0, x, x, token);
            return attentionOps.attend(x, List.of(cache), 0, token, new Attention(2, 2, 2, true, 0));
        }
    }

    /** 32 · 127, of the largest integers there are: instructions that add pairs in 16 bits would not hold their sums. */
    private Tensor sumOfLargest(DType type) {
        float[] ones = new float[32];
        float[] values = new float[32 * 32];
        Arrays.fill(ones, 1);
        Arrays.fill(values, 127);
        MemorySegment data = MemorySegment.ofArray(new byte[(int) type.bytes(values.length)]);
        if (type == DType.BF16)
            for (int i = 0; i < values.length; i++)
                data.setAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i, (short) (Float.floatToIntBits(values[i]) >> 16));
        else
            Quantization.quantize(values, 32, type, data, 0);
        try (Tensor weight = weight(new HostTensor("largest", type, new int[]{32, 32}, data), WeightRole.MATRIX)) {
            return tensorOps.linear(tensor(ones, 1, 32), weight);
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
        return EnumSet.of(DType.F32, DType.F16, DType.BF16, DType.Q8, DType.Q4);
    }

    @Override
    public double precision() {
        return switch (activations) {
            case "f32" -> 3e-5;
            case "16" -> 5e-4;
            case "8" -> 4e-2;
            // of the parts that quantised weights are multiplied by
            default -> 1e-4;
        };
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
        Shapes.tensor(values.length, shape);
        Storage storage = Storage.allocate(memory, OnnxType.FLOAT, Recording.longs(shape));
        MemorySegment.copy(values, 0, storage.memory, ValueLayout.JAVA_FLOAT, 0, values.length);
        return own(scope, new OnnxArray(this, shape.clone(), DType.F32, storage, List.of()));
    }

    @Override
    public Tensor tensor(int[] values, int... shape) {
        OnnxScope scope = openScope();
        Shapes.tensor(values.length, shape);
        Storage storage = Storage.allocate(memory, OnnxType.INT32, Recording.longs(shape));
        MemorySegment.copy(values, 0, storage.memory, ValueLayout.JAVA_INT, 0, values.length);
        return own(scope, new OnnxArray(this, shape.clone(), DType.I32, storage, List.of()));
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
        Shapes.weight(host, role, weightTypes());
        if (host.dtype().isQuantized() && (host.size() == 0 || fuses(Fused.BLOCKS))) {
            var array = new OnnxArray(this, host, null, List.of());
            owned.add(array);
            return array;
        }
        if (role == WeightRole.MATRIX && (widen && host.dtype() != DType.F32 || host.dtype().isQuantized())) {
            Storage floats = Storage.allocate(memory, OnnxType.FLOAT, Recording.longs(host.shape()));
            LongStream.range(0, host.size()).parallel()
                    .forEach(i -> floats.memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, host.getFloat(i)));
            var wide = new OnnxArray(this, host.shape().clone(), DType.F32, floats, List.of());
            owned.add(wide);
            return wide;
        }
        OnnxType type = OnnxType.of(host.dtype());
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
        boolean asIntegers = role == WeightRole.MATRIX && roomForIntegers > 0 && fuses(Fused.HALVES)
                && IntegerMatrix.fits(host);
        var array = asIntegers
                ? new OnnxArray(this, host, whole, List.copyOf(blocks))
                : new OnnxArray(this, host.shape().clone(), host.dtype(), whole, List.copyOf(blocks));
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

    /**
     * What multiplies by weights as integers, or null if recorded operations do.
     *
     * @param alone
     *            whether it runs on the calling thread only, beside others
     * @param weights
     *            one matrix, or gate, up and down
     */
    Kernel kernel(boolean alone, Tensor... weights) {
        List<OnnxArray> arrays = new ArrayList<>();
        for (Tensor weight : weights) {
            var array = (OnnxArray) weight;
            if (array.host() == null)
                return null;
            arrays.add(array);
        }
        return arrays.getFirst().kernel(arrays, alone);
    }

    /** Rows of x times weights as integers, a result of this shape; null if recorded operations do it. */
    Tensor multiply(int[] shape, Tensor x, Tensor... weights) {
        if (HostTensor.size(shape) == 0 || x.dtype() != DType.F32 || ((OnnxArray) weights[0]).host() == null)
            return null;
        Tensor[] operands = Arrays.copyOf(weights, weights.length + 1);
        operands[weights.length] = x;
        check(operands);
        int n = Math.toIntExact(x.size() / weights[0].dim(1));
        Kernel kernel = kernel(false, weights);
        return kernel == null
                ? null
                : compute(shape, result -> kernel.run(((OnnxArray) x).storage().memory, n, result), operands);
    }

    /** Integers of 8 bits that an activation is multiplied as, by weights of a type. */
    int parts(DType weight) {
        return switch (activations) {
            case "f32" -> 3;
            case "16" -> 2;
            case "8" -> 1;
            // what blocks of 8 bits and fewer have lost is far more than what a third part adds
            default -> weight.isQuantized() ? 2 : 3;
        };
    }

    /** Bytes in use up to which bfloat16 matrices are also kept as integers. */
    long roomForIntegers() {
        return roomForIntegers;
    }

    /** Runs {@code body} for 0 to n − 1, on all threads. */
    void each(int n, IntConsumer body) {
        var next = new AtomicInteger();
        Runnable some = () -> {
            for (int i = next.getAndIncrement(); i < n; i = next.getAndIncrement())
                body.accept(i);
        };
        List<Future<?>> others = new ArrayList<>();
        for (int i = 1; i < Math.min(threads, n); i++)
            try {
                others.add(pool.submit(some));
            } catch (RejectedExecutionException e) {
                // the backend is being closed: what was begun ends on this thread
            }
        RuntimeException failure = null;
        try {
            some.run();
        } catch (RuntimeException e) {
            failure = e;
            next.set(n);
        }
        // all must have ended before what they use is freed, whoever interrupts
        boolean interrupted = false;
        for (Future<?> other : others)
            while (!other.isDone())
            try {
                other.get();
            } catch (ExecutionException e) {
                // told below
            } catch (InterruptedException e) {
                interrupted = true;
            }
        if (interrupted)
            Thread.currentThread().interrupt();
        for (Future<?> other : others)
            if (other.state() == Future.State.FAILED)
            failure = other.exceptionNow() instanceof RuntimeException e
                    ? e
                    : new BackendException("failed", other.exceptionNow());
        if (failure != null)
            throw failure;
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
        pool.shutdown();
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
