typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#include "emulation.h"
#include <cstdio>
#include <map>
#include <string>

namespace emulation {
Thread* self;
Index block, threads, grid;
unsigned char* dynamic;
bool late;

enum { RUNS, AT_BARRIER, AT_WARP_BARRIER, DONE };
constexpr size_t STACK = 128 << 10;
static std::map<std::string, Call>& calls() {
    static std::map<std::string, Call> all;
    return all;
}
Register::Register(const char* name, Call call) { calls()[name] = call; }

static void* scheduler;
static Call kernel;
static void** arguments;
static std::string error;
static std::vector<Thread> pool(1024);
static std::vector<Warp> warps(32);
static std::vector<unsigned char*> stacks(1024);
alignas(16) static unsigned char shared[232 << 10];

extern "C" void emulation_switch(void** save, void* to);
asm(R"(
    .text
    .globl emulation_switch
    .type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static void pause(int state) {
    self->state = state;
    emulation_switch(&self->stack, scheduler);
}
void barrier() { pause(AT_BARRIER); }
void warp_barrier() { pause(AT_WARP_BARRIER); }

static void body() {
    kernel(arguments);
    pause(DONE);
    __builtin_trap();
}

// Runs the lanes of a warp to their next barrier; whether any moved. Adds the lanes that have ended to `done`, at the end.
static bool run_warp(int first, bool backwards, const char* name, int& done) {
    bool moved = false;
    for (int i = 0; i < 32; i++) {
        self = &pool[first + (backwards ? 31 - i : i)];
        if (self->state == RUNS) {
            emulation_switch(&scheduler, self->stack);
            moved = true;
        }
    }
    int at = 0;
    int gone = 0;
    for (int t = first; t < first + 32; t++) {
        at += pool[t].state == AT_WARP_BARRIER;
        gone += pool[t].state == DONE;
    }
    if (at > 0 && gone > 0) {
        error = std::string(name) + ": a warp operation without lanes that have ended";
        return false;
    }
    if (at == 32) {
        for (int t = first; t < first + 32; t++)
            pool[t].state = RUNS;
        return true;
    }
    if (!moved)
        done += gone;
    return moved;
}

static bool run_block(bool backwards, const char* name) {
    int n = (int)threads.x;
    for (int t = 0; t < n; t++) {
        Thread& thread = pool[t];
        thread.index = Index{(unsigned)t, 0, 0};
        thread.lane = t % 32;
        thread.turn = 0;
        thread.warp = &warps[t / 32];
        thread.state = RUNS;
        thread.groups.clear();
        thread.open.clear();
        if (!stacks[t])
            stacks[t] = (unsigned char*)aligned_alloc(64, STACK);
        // six registers, the entry, and a return address that keeps the stack as the ABI wants it
        void** top = (void**)(stacks[t] + STACK) - 8;
        memset(top, 0, 64);
        top[6] = (void*)&body;
        thread.stack = top;
    }
    error.clear();
    memset(shared, 0xff, sizeof shared);
    dynamic = shared;
    for (;;) {
        int done = 0;
        bool moved = false;
        for (int i = 0; i < n / 32; i++) {
            int w = backwards ? n / 32 - 1 - i : i;
            // as far as it gets, so that warps are as far apart as barriers let them
            while (run_warp(w * 32, backwards, name, done))
                moved = true;
            if (!error.empty())
                return false;
        }
        if (done == n)
            return true;
        int waiting = 0;
        for (int t = 0; t < n; t++)
            waiting += pool[t].state == AT_BARRIER || pool[t].state == DONE;
        if (waiting == n) {
            for (int t = 0; t < n; t++)
                if (pool[t].state == AT_BARRIER)
                    pool[t].state = RUNS;
        } else if (!moved) {
            error = std::string(name) + ": threads wait for each other";
            return false;
        }
    }
}
} // namespace emulation

extern "C" const char* emulation_error() { return emulation::error.c_str(); }

// Runs a kernel; 0 if it went well.
extern "C" int emulation_launch(const char* name, int x, int y, int z, int size, int shared, void** parameters,
                                int order) {
    using namespace emulation;
    auto found = calls().find(name);
    if (found == calls().end() || size % 32 || size > 1024 || size < 32 || shared < 0 || shared > 227 << 10) {
        error = std::string(name) + ": no such kernel, or a launch of " + std::to_string(size) + " threads";
        return 1;
    }
    kernel = found->second;
    arguments = parameters;
    threads = Index{(unsigned)size, 1, 1};
    grid = Index{(unsigned)x, (unsigned)y, (unsigned)z};
    bool backwards = order & 1;
    late = order & 1;
    long long blocks = (long long)x * y * z;
    for (long long i = 0; i < blocks; i++) {
        long long b = backwards ? blocks - 1 - i : i;
        block = Index{(unsigned)(b % x), (unsigned)(b / x % y), (unsigned)(b / x / y)};
        if (!run_block(backwards, name))
            return 2;
    }
    return 0;
}
