// Linear layers and the SwiGLU pair of them.
//
// Few rows, as in a decode step, are bound by reading the weights: one warp makes one output for all rows at once, so that
// each weight is read once, 16 bytes a lane. Many rows go through tiles.
#include "gemm.cuh"

// This lane's part of weight · x for up to N rows.
template <int N, class T, class W>
DEVICE void dot(float (&sums)[N], const T* __restrict__ x, const W* __restrict__ weight, int rows, int depth, bool wide) {
    int lane = threadIdx.x & 31;
    if (wide) {
        constexpr int AHEAD = N == 1 ? 4 : 1;
#pragma unroll AHEAD
        for (int k = lane * 8; k < depth; k += 256) {
            float w[8];
            load8(weight + k, w);
#pragma unroll
            for (int n = 0; n < N; n++) {
                if (n < rows) {
                    float v[8];
                    load8(x + (long long)n * depth + k, v);
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        sums[n] = fmaf(v[i], w[i], sums[n]);
                }
            }
        }
    } else {
#pragma unroll 1
        for (int k = lane; k < depth; k += 32) {
            float w = to_float(weight[k]);
#pragma unroll
            for (int n = 0; n < N; n++)
                if (n < rows)
                    sums[n] = fmaf(to_float(x[(long long)n * depth + k]), w, sums[n]);
        }
    }
}

template <int N, class T, class W>
DEVICE void linear_rows(const T* x, const W* weight, const float* bias, T* y, float* exact, int rows, int depth,
                        int columns, int activation, int wide) {
    int column = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (column >= columns)
        return;
    float sums[N] = {};
    dot<N>(sums, x, weight + (long long)column * depth, rows, depth, wide);
    int lane = threadIdx.x & 31;
    float mine = 0.0f;
#pragma unroll
    for (int n = 0; n < N; n++) {
        float sum = warp_sum(sums[n]);
        mine = lane == n ? sum : mine;
    }
    if (lane < min(N, rows))
        ResultRows<T>{y, exact, bias, activation, rows, columns}.store(lane, column, mine);
}

template <int N, class T, class W>
DEVICE void gated_rows(const T* x, const W* gate, const W* up, T* y, int rows, int depth, int columns, int wide) {
    int column = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (column >= columns)
        return;
    float gates[N] = {};
    float ups[N] = {};
    dot<N>(gates, x, gate + (long long)column * depth, rows, depth, wide);
    dot<N>(ups, x, up + (long long)column * depth, rows, depth, wide);
    int lane = threadIdx.x & 31;
    float mine = 0.0f;
#pragma unroll
    for (int n = 0; n < N; n++) {
        float result = silu(warp_sum(gates[n])) * warp_sum(ups[n]);
        mine = lane == n ? result : mine;
    }
    if (lane < min(N, rows))
        y[(long long)lane * columns + column] = from_float<T>(mine);
}

template <class Tile, class T, class W>
DEVICE void linear_tile(const T* x, const W* weight, const float* bias, T* y, float* exact, int rows, int depth,
                        int columns, int activation, int wide) {
    DYNAMIC_SHARED(shared);
    Tile::run(MatrixRows<T>{x, rows, depth}, MatrixRows<W>{weight, columns, depth},
              ResultRows<T>{y, exact, bias, activation, rows, columns}, blockIdx.y * Tile::ROWS,
              blockIdx.x * Tile::COLUMNS, depth, wide, shared);
}

template <class Tile, class T, class W>
DEVICE void gated_tile(const T* x, const W* gate, const W* up, T* y, int rows, int depth, int columns, int wide) {
    DYNAMIC_SHARED(shared);
    Tile::run(MatrixRows<T>{x, rows, depth}, PairedRows<W, Tile::RUN>{gate, up, columns, depth},
              ResultRows<T>{y, nullptr, nullptr, NONE, rows, columns}, blockIdx.y * Tile::ROWS,
              blockIdx.x * Tile::COLUMNS, depth, wide, shared);
}

// Two blocks a multiprocessor: left to itself, the compiler spills to have three.
#define ROWS(N, T, W, NAME)                                                                                            \
    KERNEL(256, 2)                                                                                                     \
    linear_rows##N##_##NAME(const T* __restrict__ x, const W* __restrict__ weight, const float* bias, T* y,            \
                            float* exact, int rows, int depth, int columns, int activation, int wide) {                \
        linear_rows<N>(x, weight, bias, y, exact, rows, depth, columns, activation, wide);                             \
    }                                                                                                                  \
    KERNEL(256, 2)                                                                                                     \
    gated_rows##N##_##NAME(const T* __restrict__ x, const W* __restrict__ gate, const W* __restrict__ up, T* y,        \
                           int rows, int depth, int columns, int wide) {                                               \
        gated_rows<N>(x, gate, up, y, rows, depth, columns, wide);                                                     \
    }

#define TILE(TILE_NAME, TILE_TYPE, PAIRED_TYPE, THREADS, T, W, NAME)                                                   \
    KERNEL(THREADS)                                                                                                    \
    linear_##TILE_NAME##_##NAME(const T* __restrict__ x, const W* __restrict__ weight, const float* bias, T* y,        \
                                float* exact, int rows, int depth, int columns, int activation, int wide) {            \
        linear_tile<TILE_TYPE>(x, weight, bias, y, exact, rows, depth, columns, activation, wide);                     \
    }                                                                                                                  \
    KERNEL(THREADS)                                                                                                    \
    gated_##TILE_NAME##_##NAME(const T* __restrict__ x, const W* __restrict__ gate, const W* __restrict__ up, T* y,    \
                               int rows, int depth, int columns, int wide) {                                           \
        gated_tile<PAIRED_TYPE>(x, gate, up, y, rows, depth, columns, wide);                                           \
    }

typedef TensorTile<128, 128, 2, 4, false> Large;
typedef TensorTile<128, 128, 2, 4, true> LargePaired;
typedef TensorTile<64, 64, 2, 2, false> Small;
typedef TensorTile<64, 64, 2, 2, true> SmallPaired;
typedef PlainTile<false> Plain;
typedef PlainTile<true> PlainPaired;

#define ALL_ROWS(T, W, NAME)                                                                                           \
    ROWS(1, T, W, NAME)                                                                                                \
    ROWS(4, T, W, NAME)                                                                                                \
    ROWS(16, T, W, NAME)

ALL_ROWS(bf16, bf16, bf16_bf16)
ALL_ROWS(float, float, f32_f32)
ALL_ROWS(float, bf16, f32_bf16)
ALL_ROWS(float, f16, f32_f16)
TILE(large, Large, LargePaired, 256, bf16, bf16, bf16_bf16)
TILE(small, Small, SmallPaired, 128, bf16, bf16, bf16_bf16)
TILE(plain, Plain, PlainPaired, 256, float, float, f32_f32)
TILE(plain, Plain, PlainPaired, 256, float, bf16, f32_bf16)
TILE(plain, Plain, PlainPaired, 256, float, f16, f32_f16)
