// CUDA C++ for the host: enough to run the kernels of src/main/cuda, one thread of a block at a time as a fiber. A fiber
// runs until it meets a barrier or a warp operation, so every interleaving that the kernels' barriers allow is a correct
// one; two of them, threads first to last and last to first, are run to show missing barriers.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#define DEVICE inline
#define KERNEL(...) extern "C" void
#define DYNAMIC_SHARED(name) unsigned char* name = emulation::dynamic
#define __shared__ static

using std::max;
using std::min;

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

namespace emulation {
struct Index {
    unsigned x, y, z;
};
struct Copy {
    void* to;
    const void* from;
    bool valid;
};
struct Warp {
    // two sets, so that a lane that is ahead by one operation does not overwrite what others still read
    uint32_t values[2][32];
    const void* rows[2][32];
    float numbers[2][32][12];
};
struct Thread {
    Index index;
    int lane;
    int turn;
    Warp* warp;
    void* stack;
    int state;
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
};
extern Thread* self;
extern Index block, threads, grid;
extern unsigned char* dynamic;
// copies are made when they are started, the earliest time, or when they are awaited, the latest
extern bool late;

void barrier();
void warp_barrier();

typedef void (*Call)(void** arguments);
struct Register {
    Register(const char* name, Call call);
};
template <class... P, size_t... I>
void apply(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*reinterpret_cast<std::remove_cv_t<P>*>(arguments[I])...);
}
template <class... P>
void apply(void (*kernel)(P...), void** arguments) {
    apply(kernel, arguments, std::index_sequence_for<P...>());
}

template <class T>
T exchange(T value, int lane) {
    static_assert(sizeof(T) == 4);
    int turn = self->turn++ & 1;
    memcpy(&self->warp->values[turn][self->lane], &value, 4);
    warp_barrier();
    T result;
    memcpy(&result, &self->warp->values[turn][lane & 31], 4);
    return result;
}
} // namespace emulation

#define threadIdx (emulation::self->index)
#define blockIdx (emulation::block)
#define blockDim (emulation::threads)
#define gridDim (emulation::grid)

inline void __syncthreads() { emulation::barrier(); }
inline void __syncwarp() { emulation::warp_barrier(); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulation::exchange(value, emulation::self->lane ^ mask);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    return emulation::exchange(value, lane);
}
template <class T, class U>
T atomicAdd(T* p, U value) {
    T old = *p;
    *p += (T)value;
    return old;
}

template <class To, class From>
To emulation_bits(From x) {
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
inline float __uint_as_float(unsigned x) { return emulation_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return emulation_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulation_bits<float>(x); }

inline u16 round_bf16(float x) {
    u32 bits = __float_as_uint(x);
    if (x != x)
        return 0x7fff;
    return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float widen_f16(u16 bits) { return (float)emulation_bits<_Float16>(bits); }
inline u16 round_f16(float x) { return emulation_bits<u16>((_Float16)x); }
struct bf16;
struct f16;
template <class T>
float emulation_widen(u16 bits) {
    if constexpr (std::is_same_v<T, f16>)
        return widen_f16(bits);
    else
        return __uint_as_float((u32)bits << 16);
}
inline u32 __byte_perm(u32 x, u32 y, u32 selector) {
    u64 bytes = x | (u64)y << 32;
    u32 result = 0;
    for (int i = 0; i < 4; i++)
        result |= (u32)(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return result;
}

// By the fragment layouts of the PTX manual, "Matrix Fragments for mma.m16n8k16 with floating point type".
// Lanes give their elements as numbers, so that each is widened once.
template <class T>
void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    using namespace emulation;
    int turn = self->turn++ & 1;
    float* mine = self->warp->numbers[turn][self->lane];
    for (int i = 0; i < 6; i++) {
        u32 word = i < 4 ? a[i] : i == 4 ? b0 : b1;
        mine[2 * i] = emulation_widen<T>((u16)word);
        mine[2 * i + 1] = emulation_widen<T>((u16)(word >> 16));
    }
    warp_barrier();
    const auto& parts = self->warp->numbers[turn];
    for (int i = 0; i < 4; i++) {
        int row = self->lane / 4 + i / 2 * 8;
        int column = self->lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            // element (row, k) of a; element (k, column) of b
            float x = parts[row % 8 * 4 + k % 8 / 2][(row / 8 + k / 8 * 2) * 2 + k % 2];
            float y = parts[column * 4 + k % 8 / 2][(4 + k / 8) * 2 + k % 2];
            d[i] += x * y;
        }
    }
}

inline void emulation_matrices(u32 (&r)[4], const void* row, bool transposed) {
    using namespace emulation;
    if ((uintptr_t)row & 15)
        __builtin_trap();
    int turn = self->turn++ & 1;
    self->warp->rows[turn][self->lane] = row;
    warp_barrier();
    for (int i = 0; i < 4; i++) {
        u32 halves[2];
        for (int e = 0; e < 2; e++) {
            int line = transposed ? self->lane % 4 * 2 + e : self->lane / 4;
            int column = transposed ? self->lane / 4 : self->lane % 4 * 2 + e;
            halves[e] = ((const u16*)self->warp->rows[turn][8 * i + line])[column];
        }
        r[i] = halves[0] | halves[1] << 16;
    }
}
inline void load_matrices(u32 (&r)[4], const void* row) { emulation_matrices(r, row, false); }
inline void load_matrices_transposed(u32 (&r)[4], const void* row) { emulation_matrices(r, row, true); }

inline void emulation_copy(const emulation::Copy& copy) {
    if (((uintptr_t)copy.to | (uintptr_t)copy.from) & 15)
        __builtin_trap();
    if (copy.valid)
        memcpy(copy.to, copy.from, 16);
    else
        memset(copy.to, 0, 16);
}
inline void copy_async(void* shared, const void* global, bool valid) {
    emulation::Copy copy{shared, global, valid};
    if (emulation::late)
        emulation::self->open.push_back(copy);
    else
        emulation_copy(copy);
}
inline void commit_copies() {
    emulation::self->groups.push_back(std::move(emulation::self->open));
    emulation::self->open.clear();
}
template <int pending>
void await_copies() {
    auto& groups = emulation::self->groups;
    while (groups.size() > pending) {
        for (auto& copy : groups.front())
            emulation_copy(copy);
        groups.erase(groups.begin());
    }
}
