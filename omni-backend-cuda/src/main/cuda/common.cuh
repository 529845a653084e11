// What all kernels share: number types, wide loads, reductions, and the few instructions that CUDA C++ has no name for.
//
// Kernels are plain C++ apart from these few functions, so that src/test/cuda can compile the same files for the host and
// run them thread by thread. Rules that follow: blocks are whole warps, warp operations take all 32 lanes, and asynchronous
// copies and tensor core instructions go through the functions below.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef OMNI_EMULATION
#include "emulation.h"
#else
#define DEVICE __device__ __forceinline__
#define KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

#define INFINITE __int_as_float(0x7f800000)

// Storage types. Arithmetic is float32 throughout.
struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};

#ifndef OMNI_EMULATION
DEVICE u16 round_bf16(float x) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

DEVICE u16 round_f16(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

DEVICE float widen_f16(u16 bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

// d += a · b on the tensor cores: a is 16 × 16 row-major, b 16 × 8 column-major, d 16 × 8. Lane 4g + t holds rows g and
// g + 8; in a, columns 2t, 2t + 1 and 8 more; in b, rows 2t, 2t + 1 and 8 more of column g; in d, columns 2t, 2t + 1.
template <class T>
DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1);
#define MMA(T)                                                                                                         \
    template <>                                                                                                        \
    DEVICE void mma<T>(float(&d)[4], const u32(&a)[4], u32 b0, u32 b1) {                                               \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." #T "." #T ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "          \
                     "{%8,%9}, {%0,%1,%2,%3};"                                                                         \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                  \
    }
MMA(bf16)
MMA(f16)

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Four 8 × 8 matrices of 16-bit elements; lanes 8i to 8i + 7 name the rows of matrix i. Lane 4g + t gets elements 2t and
// 2t + 1 of row g of each.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same with each matrix transposed.
DEVICE void load_matrices_transposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Starts copying 16 bytes to shared memory, or zeros if not valid; global must be readable either way.
DEVICE void copy_async(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
}

DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of this thread's committed groups are still being copied.
template <int pending>
DEVICE void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
#endif

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
DEVICE float to_float(f16 x) { return widen_f16(x.bits); }

template <class T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) {
    return x;
}
template <>
DEVICE bf16 from_float<bf16>(float x) {
    return bf16{round_bf16(x)};
}
template <>
DEVICE f16 from_float<f16>(float x) {
    return f16{round_f16(x)};
}

template <class T>
DEVICE u32 pack(float low, float high) {
    return (u32)from_float<T>(low).bits | (u32)from_float<T>(high).bits << 16;
}

// Eight neighbours at a 16-byte boundary.
DEVICE void load8(const float* p, float (&v)[8]) {
    float4 a = *reinterpret_cast<const float4*>(p);
    float4 b = *reinterpret_cast<const float4*>(p + 4);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
DEVICE void load8(const bf16* p, float (&v)[8]) {
    uint4 a = *reinterpret_cast<const uint4*>(p);
    u32 words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = __uint_as_float(words[i] << 16);
        v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}
DEVICE void load8(const f16* p, float (&v)[8]) {
    uint4 a = *reinterpret_cast<const uint4*>(p);
    u32 words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = widen_f16((u16)words[i]);
        v[2 * i + 1] = widen_f16((u16)(words[i] >> 16));
    }
}
DEVICE void store8(float* p, const float (&v)[8]) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4*>(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
}
template <class T>
DEVICE void store8(T* p, const float (&v)[8]) {
    *reinterpret_cast<uint4*>(p) =
        make_uint4(pack<T>(v[0], v[1]), pack<T>(v[2], v[3]), pack<T>(v[4], v[5]), pack<T>(v[6], v[7]));
}

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

DEVICE float warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// The sum over the block, known to all its threads; `scratch` holds 32 floats and may be used again at once.
DEVICE float block_sum(float x, float* scratch) {
    x = warp_sum(x);
    __syncthreads();
    if ((threadIdx.x & 31) == 0)
        scratch[threadIdx.x >> 5] = x;
    __syncthreads();
    int warps = blockDim.x >> 5;
    x = (threadIdx.x & 31) < warps ? scratch[threadIdx.x & 31] : 0.0f;
    return warp_sum(x);
}

// io.omni.api.Activation, by ordinal.
enum { NONE, GELU, GELU_TANH, SILU, RELU, SIGMOID };

DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

DEVICE float activate(int f, float x) {
    switch (f) {
    case GELU:
        return 0.5f * x * erfcf(-0.70710678f * x);
    case GELU_TANH:
        // (1 + tanh(z)) / 2 = sigmoid(2z)
        return x / (1.0f + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    case SILU:
        return silu(x);
    case RELU:
        return x < 0.0f ? 0.0f : x; // fmaxf would make 0 of NaN
    case SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    default:
        return x;
    }
}
