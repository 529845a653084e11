package io.omni.backend.cuda;

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
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Set;
import java.util.function.Function;

/**
 * One card. Each thread with an open scope has a stream, so that the stages of a pipeline run beside each other. Floats
 * from the host stay float32 until an operation takes them, since positions and probabilities would not survive bfloat16.
 */
final class CudaBackend implements Backend {
    /** What a thread has open. */
    static final class Work {
        Stream stream;
        CudaScope scope;
    }

    private static final Set<DType> WEIGHTS = Set.of(DType.F32, DType.F16, DType.BF16, DType.Q8, DType.Q4);

    private final Driver driver;
    private final DType compute;
    private final boolean graphs;
    private final Pool pool;
    private final ThreadLocal<Work> works = ThreadLocal.withInitial(Work::new);
    private final Stream[] streams = new Stream[Stream.LIMIT];
    private final Deque<Stream> idle = new ArrayDeque<>();
    private int made;
    private final CudaTensorOps tensorOps = new CudaTensorOps(this);
    private final CudaAttentionOps attentionOps = new CudaAttentionOps(this);
    private final CudaMoeOps moeOps = new CudaMoeOps(this);
    private final CudaConvOps convOps = new CudaConvOps(this);
    private volatile boolean closed;

    CudaBackend(Driver driver, CudaOptions options) {
        this.driver = driver;
        compute = options.compute();
        graphs = options.graphs();
        long free = driver.device().freeMemory();
        pool = new Pool(driver, options.memory() > 0 ? options.memory() : free / 10 * 9, options.slab());
    }

    @Override
    public String name() {
        return "cuda";
    }

    @Override
    public Device device() {
        return driver.device();
    }

    @Override
    public Set<DType> weightTypes() {
        return WEIGHTS;
    }

    @Override
    public double precision() {
        return switch (compute) {
            case F32 -> 1e-5;
            case F16 -> 6e-3;
            default -> 3e-2;
        };
    }

    DType compute() {
        return compute;
    }

    int multiprocessors() {
        return driver.multiprocessors();
    }

    /** The end of the kernels' names for activations. */
    String type() {
        return type(compute);
    }

    /** The end of the kernels' names for activations and a weight. */
    String type(CudaTensor weight) {
        return type() + "_" + type(weight.dtype());
    }

    static String type(DType dtype) {
        return switch (dtype) {
            case F32 -> "f32";
            case F16 -> "f16";
            case BF16 -> "bf16";
            case Q8 -> "q8";
            case Q4 -> "q4";
            default -> throw new IllegalArgumentException("a tensor of type " + dtype + ", expected floats");
        };
    }

    @Override
    public Scope scope() {
        checkOpen();
        Work work = works.get();
        if (work.scope == null)
            work.stream = borrow();
        work.scope = new CudaScope(this, work, work.scope);
        return work.scope;
    }

    Work work() {
        return works.get();
    }

    void left(Work work, CudaScope enclosing) {
        work.scope = enclosing;
        if (enclosing == null) {
            giveBack(work.stream);
            work.stream = null;
        }
    }

    /** The calling thread's stream. */
    Stream stream() {
        checkOpen();
        Stream stream = works.get().stream;
        if (stream == null)
            throw new IllegalStateException("no scope is open on this thread");
        return stream;
    }

    /** Does something on the calling thread's stream, or on an idle one if it has none. */
    <T> T withStream(Function<Stream, T> action) {
        checkOpen();
        Work work = works.get();
        if (work.stream != null)
            return action.apply(work.stream);
        Stream stream = borrow();
        try {
            return action.apply(stream);
        } finally {
            giveBack(stream);
        }
    }

    private Stream borrow() {
        driver.bind();
        synchronized (idle) {
            Stream stream = idle.poll();
            if (stream != null)
                return stream;
            if (made == Stream.LIMIT)
                throw new IllegalStateException("scopes are open on " + Stream.LIMIT + " threads, which is the limit");
            stream = new Stream(driver, pool, made, graphs);
            stream.knows(streams);
            streams[made++] = stream;
            return stream;
        }
    }

    private void giveBack(Stream stream) {
        synchronized (idle) {
            idle.push(stream);
        }
    }

    /** A new tensor in the innermost scope, not yet written. */
    CudaTensor make(DType dtype, int... shape) {
        Block block = pool.allocate(dtype.bytes(HostTensor.size(shape)), stream());
        return add(new CudaTensor(this, dtype, shape, block, block.address, null));
    }

    /** A new activation in the innermost scope, not yet written. */
    CudaTensor make(int... shape) {
        return make(compute, shape);
    }

    CudaTensor add(CudaTensor tensor) {
        return works.get().scope.add(tensor);
    }

    Block allocate(long bytes, Stream stream) {
        return pool.allocate(bytes, stream);
    }

    /** Takes back a block whose last handle is gone. */
    void free(Block block) {
        if (closed)
            return;
        Stream mine = works.get().stream;
        // who used it last, most often: the thread that now closes it
        if (mine != null && mine != block.home)
            mine.claim(block);
        else if (block.readers() != 0) {
            driver.bind();
            block.home.claim(block);
        }
        pool.free(block);
    }

    @Override
    public Tensor tensor(float[] values, int... shape) {
        return upload(DType.F32, MemorySegment.ofArray(values), values.length, shape);
    }

    @Override
    public Tensor tensor(int[] values, int... shape) {
        return upload(DType.I32, MemorySegment.ofArray(values), values.length, shape);
    }

    private CudaTensor upload(DType dtype, MemorySegment values, int n, int[] shape) {
        Shapes.tensor(n, shape);
        CudaTensor tensor = make(dtype, shape.clone());
        stream().upload(tensor.block(), tensor.address(), values);
        return tensor;
    }

    @Override
    public Tensor weight(HostTensor host, WeightRole role) {
        int[] shape = Shapes.weight(host, role, WEIGHTS);
        return withStream(stream -> {
            DType stored = stored(host.dtype(), role);
            Block block = pool.allocate(host.data().byteSize(), stream);
            stream.upload(block, block.address, host.data());
            if (host.dtype().isQuantized()) {
                Block laidOut = pool.allocate(block.bytes, stream);
                int side = host.dtype().blockSize();
                // of a row in a block: what is there beside the scales, in words
                int words = (host.dtype().blockBytes() / side - 2) / 4;
                stream.kernel("lay_out_blocks").in(block).out(laidOut).u64(host.size() / side)
                        .i32(shape[1] / side).i32(words)
                        .launch(Grid.elements(host.size() / side * words, false), 1, 1, 256, 0);
                pool.free(block);
                block = laidOut;
            }
            if (stored != host.dtype()) {
                Block converted = pool.allocate(stored.bytes(host.size()), stream);
                convert(stream, block, block.address, host.dtype(), converted, stored, host.size());
                pool.free(block);
                block = converted;
            }
            int[] axes = Layout.axes(role);
            if (axes != null) {
                Block permuted = pool.allocate(block.bytes, stream);
                tensorOps.permute(stream, block, block.address, permuted, stored, shape, axes);
                pool.free(block);
                block = permuted;
            }
            return new CudaTensor(this, stored, shape, block, block.address, role);
        });
    }

    /** What a weight is kept as: blocks as they are, vectors in float32, all else beside activations. */
    private DType stored(DType dtype, WeightRole role) {
        if (role == WeightRole.VECTOR)
            return DType.F32;
        return compute == DType.F32 || dtype.isQuantized() ? dtype : compute;
    }

    static void convert(Stream stream, Block from, long address, DType fromType, Block to, DType toType, long n) {
        boolean wide = n % 8 == 0 && address % 16 == 0;
        stream.use(from);
        stream.kernel("convert_" + type(fromType) + "_" + type(toType)).u64(address).out(to).u64(n);
        if (!fromType.isQuantized())
            stream.i32(wide);
        stream.launch(Grid.elements(n, wide), 1, 1, 256, 0);
    }

    /** The tensor as one of this backend, open. */
    CudaTensor own(Tensor tensor) {
        if (!(tensor instanceof CudaTensor own) || own.backend() != this)
            throw new IllegalArgumentException("a tensor of backend " + tensor.backend().name() + " in another, cuda");
        own.checkOpen();
        return own;
    }

    /** The tensor with its elements in order, which those of convolutions' weights and in blocks are not. */
    CudaTensor plain(Tensor tensor) {
        CudaTensor own = own(tensor);
        if (own.dtype().isQuantized())
            return as(own, compute);
        int[] axes = Layout.axes(own.role());
        if (axes == null)
            return own;
        int[] back = new int[axes.length];
        for (int i = 0; i < axes.length; i++)
            back[axes[i]] = i;
        CudaTensor plain = make(own.dtype(), own.shape());
        tensorOps.permute(stream(), own.block(), own.address(), plain.block(), own.dtype(),
                Layout.stored(own.shape(), own.role()), back);
        return plain;
    }

    /** The tensor in the type that activations have. */
    CudaTensor activation(Tensor tensor) {
        return as(plain(tensor), compute);
    }

    /** The tensor in float32, as kernels take vectors; null stays null. */
    CudaTensor vector(Tensor tensor) {
        return tensor == null ? null : as(plain(tensor), DType.F32);
    }

    /** The tensor in a type that kernels take as a weight beside activations. */
    CudaTensor matrix(Tensor tensor) {
        CudaTensor own = own(tensor);
        if (own.dtype().isQuantized())
            return own;
        CudaTensor plain = plain(own);
        return compute == DType.F32 ? plain : as(plain, compute);
    }

    /** The values of a weight in blocks. */
    float[] numbers(CudaTensor weight) {
        return withStream(stream -> {
            Block block = pool.allocate(DType.F32.bytes(weight.size()), stream);
            convert(stream, weight.block(), weight.address(), weight.dtype(), block, DType.F32, weight.size());
            try (CudaTensor floats = new CudaTensor(this, DType.F32, weight.shape(), block, block.address, null)) {
                return floats.toFloats();
            }
        });
    }

    CudaTensor as(CudaTensor tensor, DType dtype) {
        if (tensor.dtype() == dtype)
            return tensor;
        if (!tensor.dtype().isFloating())
            throw new IllegalArgumentException("a tensor of type " + tensor.dtype() + ", expected floats");
        CudaTensor converted = make(dtype, tensor.shape());
        convert(stream(), tensor.block(), tensor.address(), tensor.dtype(), converted.block(), dtype, tensor.size());
        return converted;
    }

    @Override
    public Set<DType> cacheTypes() {
        return Set.of(DType.F32);
    }

    @Override
    public KvCache cache(CacheSpec spec) {
        checkOpen();
        if (!cacheTypes().contains(spec.type()))
            throw new IllegalArgumentException(
                    "a cache of type " + spec.type() + ", expected one of " + cacheTypes() + " on " + name());
        return new CudaKvCache(this, spec);
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
        return pool.held();
    }

    void checkOpen() {
        if (closed)
            throw new IllegalStateException("a closed backend");
    }

    @Override
    public synchronized void close() {
        if (closed)
            return;
        driver.bind();
        synchronized (idle) {
            for (int i = 0; i < made; i++)
                streams[i].close();
        }
        closed = true;
        pool.close();
        driver.close();
    }
}
