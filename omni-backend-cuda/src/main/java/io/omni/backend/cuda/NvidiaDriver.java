package io.omni.backend.cuda;

import static jcuda.driver.JCudaDriver.cuCtxSetCurrent;
import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDeviceGetAttribute;
import static jcuda.driver.JCudaDriver.cuDeviceGetName;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRelease;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRetain;
import static jcuda.driver.JCudaDriver.cuDriverGetVersion;
import static jcuda.driver.JCudaDriver.cuEventCreate;
import static jcuda.driver.JCudaDriver.cuEventRecord;
import static jcuda.driver.JCudaDriver.cuEventSynchronize;
import static jcuda.driver.JCudaDriver.cuGraphDestroy;
import static jcuda.driver.JCudaDriver.cuGraphExecDestroy;
import static jcuda.driver.JCudaDriver.cuGraphInstantiate;
import static jcuda.driver.JCudaDriver.cuGraphLaunch;
import static jcuda.driver.JCudaDriver.cuInit;
import static jcuda.driver.JCudaDriver.cuLaunchKernel;
import static jcuda.driver.JCudaDriver.cuMemAlloc;
import static jcuda.driver.JCudaDriver.cuMemFree;
import static jcuda.driver.JCudaDriver.cuMemFreeHost;
import static jcuda.driver.JCudaDriver.cuMemGetInfo;
import static jcuda.driver.JCudaDriver.cuMemHostAlloc;
import static jcuda.driver.JCudaDriver.cuMemcpyDtoDAsync;
import static jcuda.driver.JCudaDriver.cuMemcpyDtoHAsync;
import static jcuda.driver.JCudaDriver.cuMemcpyHtoDAsync;
import static jcuda.driver.JCudaDriver.cuMemsetD8Async;
import static jcuda.driver.JCudaDriver.cuModuleGetFunction;
import static jcuda.driver.JCudaDriver.cuModuleLoadData;
import static jcuda.driver.JCudaDriver.cuModuleUnload;
import static jcuda.driver.JCudaDriver.cuStreamBeginCapture;
import static jcuda.driver.JCudaDriver.cuStreamCreate;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;
import static jcuda.driver.JCudaDriver.cuStreamEndCapture;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;
import static jcuda.driver.JCudaDriver.cuStreamWaitEvent;

import io.omni.api.BackendException;
import io.omni.api.Device;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import jcuda.Pointer;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUfunction;
import jcuda.driver.CUgraph;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUmodule;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstreamCaptureMode;
import jcuda.driver.CUstream_flags;

/** The driver of the first card, through JCuda. */
final class NvidiaDriver implements Driver {
    /** JCuda hides addresses from its users, but not from its subclasses. */
    private static final class Address extends CUdeviceptr {
        long value() {
            return getNativePointer() + getByteOffset();
        }
    }

    private static final CUdeviceptr ZERO = new CUdeviceptr();

    private final CUdevice card = new CUdevice();
    private final CUcontext context = new CUcontext();
    private final Kernels kernels;
    private final String name;
    private final String detail;
    private final int multiprocessors;
    private final Map<String, CUmodule> modules = new HashMap<>();
    private final Map<String, Long> kernelNumbers = new ConcurrentHashMap<>();
    private final List<CUfunction> functions = new CopyOnWriteArrayList<>();
    private final List<CUstream> streams = new CopyOnWriteArrayList<>();
    private final List<CUevent> events = new CopyOnWriteArrayList<>();
    private final Map<Long, CUgraphExec> graphs = new ConcurrentHashMap<>();
    private final Map<Long, Pointer> pinned = new ConcurrentHashMap<>();
    private long lastGraph;

    private NvidiaDriver() {
        check(cuInit(0), "starting the driver");
        check(cuDeviceGet(card, 0), "looking for a card");
        int capability = 10 * attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
                + attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        multiprocessors = attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        kernels = Kernels.load();
        byte[] text = new byte[256];
        check(cuDeviceGetName(text, text.length, card), "asking for the card's name");
        int end = 0;
        while (end < text.length && text[end] != 0)
            end++;
        name = new String(text, 0, end, StandardCharsets.UTF_8);
        int[] version = new int[1];
        check(cuDriverGetVersion(version), "asking for the driver's version");
        detail = DriverProbe.detail(capability, version[0]) + ", " + multiprocessors + " multiprocessors";
        check(cuDevicePrimaryCtxRetain(context, card), "making a context");
        bind();
    }

    static NvidiaDriver open() {
        try {
            return new NvidiaDriver();
        } catch (LinkageError e) {
            // some have no message, and others many lines
            throw new BackendException("JCuda's native library does not load: " + e.toString().lines().findFirst()
                    .orElse(""), e);
        }
    }

    @Override
    public Device device() {
        bind();
        long[] free = new long[1];
        long[] total = new long[1];
        check(cuMemGetInfo(free, total), "asking for free memory");
        return new Device(name, detail, total[0], free[0]);
    }

    @Override
    public int multiprocessors() {
        return multiprocessors;
    }

    @Override
    public void bind() {
        check(cuCtxSetCurrent(context), "choosing the card");
    }

    @Override
    public long allocate(long bytes) {
        Address address = new Address();
        int status = cuMemAlloc(address, bytes);
        if (status == CUresult.CUDA_ERROR_OUT_OF_MEMORY)
            return 0;
        check(status, "allocating " + bytes + " bytes");
        return address.value();
    }

    @Override
    public void free(long address) {
        check(cuMemFree(at(address)), "freeing memory");
    }

    @Override
    public MemorySegment pinned(long bytes) {
        Pointer pointer = new Pointer();
        check(cuMemHostAlloc(pointer, bytes, 0), "allocating " + bytes + " bytes of pinned memory");
        MemorySegment memory = MemorySegment.ofBuffer(pointer.getByteBuffer(0, bytes));
        pinned.put(memory.address(), pointer);
        return memory;
    }

    @Override
    public synchronized long newStream() {
        CUstream stream = new CUstream();
        check(cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING), "making a stream");
        streams.add(stream);
        return streams.size() - 1;
    }

    @Override
    public void synchronize(long stream) {
        check(cuStreamSynchronize(streams.get((int) stream)), "waiting for the card");
    }

    @Override
    public synchronized long newEvent() {
        CUevent event = new CUevent();
        check(cuEventCreate(event, CUevent_flags.CU_EVENT_DISABLE_TIMING), "making an event");
        events.add(event);
        return events.size() - 1;
    }

    @Override
    public void record(long event, long stream) {
        check(cuEventRecord(events.get((int) event), streams.get((int) stream)), "marking a stream");
    }

    @Override
    public void await(long stream, long event) {
        check(cuStreamWaitEvent(streams.get((int) stream), events.get((int) event), 0), "ordering streams");
    }

    @Override
    public void synchronizeEvent(long event) {
        check(cuEventSynchronize(events.get((int) event)), "waiting for the card");
    }

    @Override
    public void upload(long to, MemorySegment from, long bytes, long stream) {
        check(cuMemcpyHtoDAsync(at(to), Pointer.to(from.asByteBuffer()), bytes, streams.get((int) stream)),
                "copying to the card");
    }

    @Override
    public void download(MemorySegment to, long from, long bytes, long stream) {
        check(cuMemcpyDtoHAsync(Pointer.to(to.asByteBuffer()), at(from), bytes, streams.get((int) stream)),
                "copying from the card");
    }

    @Override
    public void copy(long to, long from, long bytes, long stream) {
        check(cuMemcpyDtoDAsync(at(to), at(from), bytes, streams.get((int) stream)), "copying on the card");
    }

    @Override
    public void clear(long to, long bytes, long stream) {
        check(cuMemsetD8Async(at(to), (byte) 0, bytes, streams.get((int) stream)), "clearing memory");
    }

    @Override
    public long kernel(String kernel) {
        Long number = kernelNumbers.get(kernel);
        return number != null ? number : find(kernel);
    }

    private synchronized long find(String kernel) {
        Kernels.Entry entry = kernels.entries().get(kernel);
        if (entry == null)
            throw new BackendException("no kernel '" + kernel + "'");
        CUmodule module = modules.computeIfAbsent(entry.file(), file -> {
            CUmodule loaded = new CUmodule();
            // PTX is text that ends with a zero
            byte[] image = (kernels.texts().get(file) + "\0").getBytes(StandardCharsets.UTF_8);
            check(cuModuleLoadData(loaded, image), "compiling " + file + ".ptx for the card");
            return loaded;
        });
        CUfunction function = new CUfunction();
        check(cuModuleGetFunction(function, module, kernel), "looking for kernel " + kernel);
        functions.add(function);
        long number = functions.size() - 1;
        kernelNumbers.put(kernel, number);
        return number;
    }

    @Override
    public void launch(long kernel, int x, int y, int z, int threads, int shared, long stream,
            MemorySegment arguments) {
        int status = cuLaunchKernel(functions.get((int) kernel), x, y, z, threads, 1, 1, shared,
                streams.get((int) stream), Pointer.to(arguments.asByteBuffer()), null);
        if (status != CUresult.CUDA_SUCCESS)
            check(status, "starting kernel " + nameOf(kernel));
    }

    private String nameOf(long kernel) {
        return kernelNumbers.entrySet().stream().filter(e -> e.getValue() == kernel).map(Map.Entry::getKey).findAny()
                .orElse("?");
    }

    @Override
    public void beginCapture(long stream) {
        check(cuStreamBeginCapture(streams.get((int) stream), CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                "recording a graph");
    }

    @Override
    public long endCapture(long stream) {
        CUgraph graph = new CUgraph();
        check(cuStreamEndCapture(streams.get((int) stream), graph), "recording a graph");
        CUgraphExec ready = new CUgraphExec();
        check(cuGraphInstantiate(ready, graph, 0), "preparing a graph");
        check(cuGraphDestroy(graph), "preparing a graph");
        synchronized (this) {
            graphs.put(++lastGraph, ready);
            return lastGraph;
        }
    }

    @Override
    public void replay(long graph, long stream) {
        check(cuGraphLaunch(graphs.get(graph), streams.get((int) stream)), "replaying a graph");
    }

    @Override
    public void destroyGraph(long graph) {
        check(cuGraphExecDestroy(graphs.remove(graph)), "freeing a graph");
    }

    @Override
    public void close() {
        bind();
        graphs.values().forEach(g -> check(cuGraphExecDestroy(g), "freeing a graph"));
        streams.forEach(s -> check(cuStreamDestroy(s), "closing a stream"));
        pinned.values().forEach(p -> check(cuMemFreeHost(p), "freeing pinned memory"));
        modules.values().forEach(m -> check(cuModuleUnload(m), "unloading kernels"));
        // events go with the context unless someone else holds it, and then they are small
        check(cuDevicePrimaryCtxRelease(card), "closing the card");
    }

    /** JCuda makes pointers only from pointers, and adds their offset to their address. */
    private static CUdeviceptr at(long address) {
        return ZERO.withByteOffset(address);
    }

    private int attribute(int attribute) {
        int[] value = new int[1];
        check(cuDeviceGetAttribute(value, attribute, card), "asking about the card");
        return value[0];
    }

    private static void check(int status, String doing) {
        if (status != CUresult.CUDA_SUCCESS)
            throw new BackendException("CUDA failed " + doing + ": " + CUresult.stringFor(status));
    }
}
