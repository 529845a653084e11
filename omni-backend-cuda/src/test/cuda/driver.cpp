// A libcuda.so.1 without a card: what the backend calls through JCuda arrives here, is checked, and is done at once on the
// host, kernels by the emulation. What it refuses, a driver would, or do later: calls on a thread without context, handles
// that were never given out, kernels that the PTX does not have, copies of host memory that is not pinned. It knows nothing
// of time and order; EmulatedDriver does.
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

extern "C" int emulation_launch(const char* name, int x, int y, int z, int size, int shared, void** parameters, int order);

typedef unsigned long long address;
typedef std::vector<std::function<int()>> Graph;

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

static const size_t MEMORY = 4ull << 30;
static std::recursive_mutex one;
static size_t taken;
static std::map<address, size_t> allocations, pinned;
static std::set<void*> handles;
static int theContext;
static thread_local void* current;

struct Stream {
    Graph* capture = nullptr;
};
struct Module {
    std::string text;
};
struct Function {
    std::string name;
    int parameters;
};

template <class T>
static T* made(T* handle) {
    handles.insert(handle);
    return handle;
}

#define CALL(name, ...)                                                                                                \
    extern "C" int name(__VA_ARGS__) {                                                                                 \
        std::lock_guard<std::recursive_mutex> guard(one);                                                              \
        if (current != &theContext)                                                                                    \
            return INVALID_CONTEXT;
#define KNOWN(handle)                                                                                                  \
    if (!handles.count(handle))                                                                                        \
    return INVALID_HANDLE

static bool isIn(const std::map<address, size_t>& memory, address at, size_t bytes) {
    auto next = memory.upper_bound(at);
    return next != memory.begin() && at + bytes <= (--next)->first + next->second;
}
static bool onCard(address at, size_t bytes) { return isIn(allocations, at, bytes); }

static int issue(Stream* stream, std::function<int()> work) {
    KNOWN(stream);
    if (!stream->capture)
        return work();
    stream->capture->push_back(work);
    return 0;
}

// Between card and host, which the backend does not put into graphs.
static int transfer(address card, address host, void* to, const void* from, size_t bytes, Stream* stream) {
    KNOWN(stream);
    if (stream->capture || !onCard(card, bytes) || !isIn(pinned, host, bytes))
        return INVALID_VALUE;
    memcpy(to, from, bytes);
    return 0;
}

// What a test wants instead.
static int wanted(const char* name, int otherwise) {
    const char* value = getenv(name);
    return value ? atoi(value) : otherwise;
}

extern "C" int cuInit(unsigned flags) { return flags ? INVALID_VALUE : wanted("FAKE_INIT", 0); }
extern "C" int cuDriverGetVersion(int* version) { return *version = wanted("FAKE_VERSION", 12000), 0; }
extern "C" int cuDeviceGet(int* card, int number) { return *card = 7, number ? INVALID_VALUE : 0; }
extern "C" int cuDeviceGetName(char* name, int size, int card) {
    return card == 7 ? strncpy(name, "emulated card", size), 0 : INVALID_VALUE;
}
extern "C" int cuDeviceTotalMem_v2(size_t* bytes, int card) { return *bytes = MEMORY, card == 7 ? 0 : INVALID_VALUE; }
extern "C" int cuDeviceGetAttribute(int* value, int attribute, int card) {
    *value = attribute == 75 ? wanted("FAKE_MAJOR", 8) : attribute == 76 ? 0 : attribute == 16 ? 4 : -1;
    return card == 7 && *value >= 0 ? 0 : INVALID_VALUE;
}
extern "C" int cuDevicePrimaryCtxRetain(void** context, int card) {
    return *context = &theContext, card == 7 ? 0 : INVALID_VALUE;
}
extern "C" int cuDevicePrimaryCtxRelease_v2(int card) { return card == 7 ? 0 : INVALID_VALUE; }
extern "C" int cuCtxSetCurrent(void* context) {
    return current = context, context == &theContext ? 0 : INVALID_CONTEXT;
}

CALL(cuMemGetInfo_v2, size_t* free, size_t* total)
    *free = MEMORY - taken;
    *total = MEMORY;
    return 0;
}
CALL(cuMemAlloc_v2, address* at, size_t bytes)
    if (bytes == 0)
        return INVALID_VALUE;
    if (bytes > MEMORY - taken)
        return OUT_OF_MEMORY;
    void* memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(memory, 0xff, bytes);
    *at = (address)memory;
    allocations[*at] = bytes;
    taken += bytes;
    return 0;
}
CALL(cuMemFree_v2, address at)
    if (!allocations.count(at))
        return INVALID_VALUE;
    taken -= allocations[at];
    allocations.erase(at);
    free((void*)at);
    return 0;
}
CALL(cuMemHostAlloc, void** memory, size_t bytes, unsigned flags)
    *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    pinned[(address)*memory] = bytes;
    return flags ? INVALID_VALUE : 0;
}
CALL(cuMemFreeHost, void* memory)
    if (!pinned.erase((address)memory))
        return INVALID_VALUE;
    free(memory);
    return 0;
}
CALL(cuStreamCreate, Stream** stream, unsigned flags)
    *stream = made(new Stream);
    return flags == 1 ? 0 : INVALID_VALUE; // non-blocking
}
CALL(cuStreamDestroy_v2, Stream* stream)
    return handles.erase(stream) ? 0 : INVALID_HANDLE;
}
CALL(cuStreamSynchronize, Stream* stream)
    KNOWN(stream);
    return stream->capture ? INVALID_VALUE : 0;
}
CALL(cuStreamWaitEvent, Stream* stream, void* event, unsigned flags)
    KNOWN(stream);
    KNOWN(event);
    return flags || stream->capture ? INVALID_VALUE : 0;
}
CALL(cuEventCreate, void** event, unsigned flags)
    *event = made(new char);
    return flags == 2 ? 0 : INVALID_VALUE; // without times
}
CALL(cuEventRecord, void* event, Stream* stream)
    KNOWN(event);
    KNOWN(stream);
    return stream->capture ? INVALID_VALUE : 0;
}
CALL(cuEventSynchronize, void* event)
    KNOWN(event);
    return 0;
}
CALL(cuMemcpyHtoDAsync_v2, address to, const void* from, size_t bytes, Stream* stream)
    return transfer(to, (address)from, (void*)to, from, bytes, stream);
}
CALL(cuMemcpyDtoHAsync_v2, void* to, address from, size_t bytes, Stream* stream)
    return transfer(from, (address)to, to, (void*)from, bytes, stream);
}
CALL(cuMemcpyDtoDAsync_v2, address to, address from, size_t bytes, Stream* stream)
    if (!onCard(to, bytes) || !onCard(from, bytes))
        return INVALID_VALUE;
    return issue(stream, [=] { return memmove((void*)to, (void*)from, bytes), 0; });
}
CALL(cuMemsetD8Async, address to, unsigned char value, size_t bytes, Stream* stream)
    if (!onCard(to, bytes))
        return INVALID_VALUE;
    return issue(stream, [=] { return memset((void*)to, value, bytes), 0; });
}
CALL(cuModuleLoadData, Module** module, const char* text)
    if (strncmp(text, ".version 8.0\n.target sm_80\n", 27))
        return INVALID_VALUE;
    *module = made(new Module{text});
    return 0;
}
CALL(cuModuleUnload, Module* module)
    return handles.erase(module) ? 0 : INVALID_HANDLE;
}
CALL(cuModuleGetFunction, Function** function, Module* module, const char* name)
    KNOWN(module);
    size_t entry = module->text.find(".entry " + std::string(name) + "(");
    if (entry == std::string::npos)
        return NOT_FOUND;
    std::string head = module->text.substr(entry, module->text.find(')', entry) - entry);
    int parameters = 0;
    for (size_t at = 0; (at = head.find(".param ", at)) != std::string::npos; at++)
        parameters++;
    *function = made(new Function{name, parameters});
    return 0;
}
CALL(cuLaunchKernel, Function* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threadsY,
     unsigned threadsZ, unsigned shared, Stream* stream, void** parameters, void** extra)
    KNOWN(function);
    if (threadsY != 1 || threadsZ != 1 || extra || y > 65535 || z > 65535 || shared > 48 << 10)
        return INVALID_VALUE;
    std::vector<long long> values;
    for (int i = 0; i < function->parameters; i++)
        values.push_back(*(long long*)parameters[i]);
    return issue(stream, [=]() mutable {
        std::vector<void*> slots;
        for (long long& value : values)
            slots.push_back(&value);
        return emulation_launch(function->name.c_str(), x, y, z, threads, shared, slots.data(), 0) ? LAUNCH_FAILED : 0;
    });
}
CALL(cuStreamBeginCapture_v2, Stream* stream, int mode)
    KNOWN(stream);
    if (stream->capture || mode != 1) // of this thread
        return INVALID_VALUE;
    stream->capture = made(new Graph);
    return 0;
}
CALL(cuStreamEndCapture, Stream* stream, Graph** graph)
    KNOWN(stream);
    *graph = stream->capture;
    stream->capture = nullptr;
    return *graph ? 0 : INVALID_VALUE;
}
CALL(cuGraphInstantiateWithFlags, Graph** ready, Graph* graph, unsigned long long flags)
    KNOWN(graph);
    *ready = made(new Graph(*graph));
    return flags ? INVALID_VALUE : 0;
}
CALL(cuGraphDestroy, Graph* graph)
    return handles.erase(graph) ? 0 : INVALID_HANDLE;
}
CALL(cuGraphExecDestroy, Graph* graph)
    return handles.erase(graph) ? 0 : INVALID_HANDLE;
}
CALL(cuGraphLaunch, Graph* graph, Stream* stream)
    KNOWN(graph);
    KNOWN(stream);
    for (auto& work : *graph)
        if (int status = work())
            return status;
    return 0;
}
