package io.omni.backend.cpu;

import io.omni.api.AttentionOps;
import io.omni.api.Backend;
import io.omni.api.CacheSpec;
import io.omni.api.ConvOps;
import io.omni.api.DType;
import io.omni.api.Device;
import io.omni.api.HostTensor;
import io.omni.api.KvCache;
import io.omni.api.MoeOps;
import io.omni.api.Scope;
import io.omni.api.Shapes;
import io.omni.api.Tensor;
import io.omni.api.TensorOps;
import io.omni.api.WeightRole;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.EnumSet;
import java.util.Set;
import java.util.stream.Stream;

/** The SPI in native memory and Vector API kernels. */
final class CpuBackend implements Backend {
    private static final Set<DType> WEIGHT_TYPES = Collections
            .unmodifiableSet(EnumSet.of(DType.F32, DType.F16, DType.BF16, DType.Q8, DType.Q4));

    final Memory memory = new Memory();
    final Workers workers;
    private final ThreadLocal<CpuScope> innermost = new ThreadLocal<>();
    private final TensorOps tensorOps = new CpuTensorOps(this);
    private final AttentionOps attentionOps = new CpuAttentionOps(this);
    private final MoeOps moeOps = new CpuMoeOps(this);
    private final ConvOps convOps = new CpuConvOps(this);
    private volatile boolean closed;

    CpuBackend(int threads) {
        int processors = Runtime.getRuntime().availableProcessors();
        workers = new Workers(threads == 0 ? processors : threads);
        System.getLogger(CpuBackend.class.getName()).log(System.Logger.Level.DEBUG,
                () -> "vectors of " + 32 * Lanes.LANES + " bits (" + VectorWidth.reason() + "), " + workers.threads()
                        + " threads (" + (threads == 0 ? "all processors" : "option threads, of " + processors) + ")");
    }

    @Override
    public String name() {
        return "cpu";
    }

    @Override
    public Device device() {
        return describe(workers.threads());
    }

    @Override
    public Set<DType> weightTypes() {
        return WEIGHT_TYPES;
    }

    @Override
    public double precision() {
        return 1e-5;
    }

    @Override
    public Scope scope() {
        checkOpen();
        CpuScope scope = new CpuScope(this, innermost.get());
        innermost.set(scope);
        return scope;
    }

    void leave(CpuScope scope, CpuScope parent) {
        if (innermost.get() != scope)
            throw new IllegalStateException("the scope is not the innermost one open");
        if (parent == null)
            innermost.remove();
        else
            innermost.set(parent);
    }

    @Override
    public Tensor tensor(float[] values, int... shape) {
        Shapes.tensor(values.length, shape);
        CpuTensor tensor = make(shape);
        MemorySegment.copy(values, 0, Memory.ALL, ValueLayout.JAVA_FLOAT, tensor.address(), values.length);
        return tensor;
    }

    @Override
    public Tensor tensor(int[] values, int... shape) {
        Shapes.tensor(values.length, shape);
        CpuTensor tensor = make(DType.I32, shape);
        MemorySegment.copy(values, 0, Memory.ALL, ValueLayout.JAVA_INT, tensor.address(), values.length);
        return tensor;
    }

    @Override
    public Tensor weight(HostTensor host, WeightRole role) {
        checkOpen();
        int[] shape = Shapes.weight(host, role, WEIGHT_TYPES);
        Layout layout = Layout.of(role);
        if (role == WeightRole.VECTOR) {
            Block block = Block.of(memory, 4 * host.size());
            for (long i = 0; i < host.size(); i++)
                Lanes.put(block.address + 4 * i, host.getFloat(i));
            return new CpuTensor(this, DType.F32, shape, block, block.address, layout);
        }
        if (layout == Layout.PLAIN && host.data().isNative()) {
            Block block = Block.borrowed(host.data().address(), host.data());
            return new CpuTensor(this, host.dtype(), shape, block, block.address, layout);
        }
        Block block = Block.of(memory, host.data().byteSize());
        Layout.pack(layout, host, block.address);
        return new CpuTensor(this, host.dtype(), shape, block, block.address, layout);
    }

    @Override
    public KvCache cache(CacheSpec spec) {
        checkOpen();
        return new CpuKvCache(this, spec);
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
        return memory.allocatedBytes();
    }

    @Override
    public void close() {
        synchronized (this) {
            if (closed)
                return;
            closed = true;
        }
        workers.close();
        memory.close();
    }

    void checkOpen() {
        if (closed)
            throw new IllegalStateException("the backend is closed");
    }

    /** A tensor of this backend as what it is. */
    CpuTensor mine(Tensor tensor) {
        if (tensor instanceof CpuTensor mine && mine.backend() == this)
            return mine;
        throw new IllegalArgumentException(
                "a tensor of another backend, " + tensor.backend().name() + ", than this one, " + name());
    }

    /** A new float tensor of the innermost scope, with nothing written yet. */
    CpuTensor make(int... shape) {
        return make(DType.F32, shape);
    }

    CpuTensor make(DType dtype, int... shape) {
        CpuScope scope = openScope();
        Block block = Block.of(memory, dtype.bytes(HostTensor.size(shape)));
        return scope.own(new CpuTensor(this, dtype, shape.clone(), block, block.address, Layout.PLAIN));
    }

    CpuTensor view(CpuTensor tensor, long offset, int... shape) {
        return openScope().own(tensor.view(offset, shape.clone()));
    }

    private CpuScope openScope() {
        checkOpen();
        CpuScope scope = innermost.get();
        if (scope == null)
            throw new IllegalStateException("no scope is open on thread " + Thread.currentThread().getName());
        return scope;
    }

    static Device describe(int threads) {
        long total = memInfo("MemTotal:");
        long free = memInfo("MemAvailable:");
        return new Device(processor(), 32 * Lanes.LANES + "-bit vectors, " + threads + " threads", total, free);
    }

    private static String processor() {
        try (Stream<String> lines = Files.lines(Path.of("/proc/cpuinfo"))) {
            return lines.filter(line -> line.startsWith("model name")).findFirst()
                    .map(line -> line.substring(line.indexOf(':') + 1).strip())
                    .orElse(System.getProperty("os.arch"));
        } catch (IOException | java.io.UncheckedIOException e) {
            return System.getProperty("os.arch");
        }
    }

    private static long memInfo(String entry) {
        try (Stream<String> lines = Files.lines(Path.of("/proc/meminfo"))) {
            return lines.filter(line -> line.startsWith(entry)).findFirst()
                    .map(line -> 1024 * Long.parseLong(line.replaceAll("\\D+", ""))).orElse(-1L);
        } catch (IOException | java.io.UncheckedIOException e) {
            return -1;
        }
    }
}
