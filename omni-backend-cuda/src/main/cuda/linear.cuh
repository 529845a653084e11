// Linear layers and the SwiGLU pair of them.
//
// Few rows, as in a decode step, are bound by reading the weights: one warp makes one output for all rows at once, so that
// each weight is read once, 16 bytes a lane. Many rows go through tiles. A file for each type of activations uses this, so
// that the driver compiles only what is needed.
#pragma once
#include "dot.cuh"
#include "gemm.cuh"

template <int N, class T, class W>
DEVICE void linear_rows(const T* x, const W* weight, const float* bias, T* y, float* exact, int rows, int depth,
                        int columns, int activation, int wide) {
    int column = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (column >= columns)
        return;
    float sums[N] = {};
    dot<N>(sums, x, row_of(weight, column, columns, depth), rows, depth, wide);
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
    dot<N>(gates, x, row_of(gate, column, columns, depth), rows, depth, wide);
    dot<N>(ups, x, row_of(up, column, columns, depth), rows, depth, wide);
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

// blockIdx.z is one of gridDim.z parts of the depth; if there are more than one, `exact` takes the sums of each part, for
// linear_merge.
template <class Tile, class T, class W>
DEVICE void linear_tile(const T* x, const W* weight, const float* bias, T* y, float* exact, int rows, int depth,
                        int columns, int activation, int wide) {
    DYNAMIC_SHARED(shared);
    int part = ((depth + 31) / 32 + gridDim.z - 1) / gridDim.z * 32;
    if (exact)
        exact += (long long)blockIdx.z * rows * columns;
    Tile::run(MatrixRows<T>{x, rows, depth}, MatrixRows<W>{weight, columns, depth},
              ResultRows<T>{y, exact, bias, activation, rows, columns}, blockIdx.y * Tile::ROWS,
              blockIdx.x * Tile::COLUMNS, blockIdx.z * part, min(depth, (int)(blockIdx.z + 1) * part), wide, shared);
}

// The sum of parts [parts, rows, columns]; a thread a result.
template <class T>
DEVICE void linear_merge(const float* sums, int parts, const float* bias, T* y, float* exact, int rows, int columns,
                         int activation) {
    long long size = (long long)rows * columns;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
    float sum = 0.0f;
    for (int part = 0; part < parts; part++)
        sum += sums[part * size + i];
    ResultRows<T>{y, exact, bias, activation, rows, columns}.store((int)(i / columns), (int)(i % columns), sum);
}

template <class Tile, class T, class W>
DEVICE void gated_tile(const T* x, const W* gate, const W* up, T* y, int rows, int depth, int columns, int wide) {
    DYNAMIC_SHARED(shared);
    Tile::run(MatrixRows<T>{x, rows, depth}, PairedRows<W, Tile::RUN>{gate, up, columns, depth},
              ResultRows<T>{y, nullptr, nullptr, NONE, rows, columns}, blockIdx.y * Tile::ROWS,
              blockIdx.x * Tile::COLUMNS, 0, depth, wide, shared);
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

#define MERGE(T, NAME)                                                                                                 \
    KERNEL(256)                                                                                                        \
    linear_merge_##NAME(const float* sums, int parts, const float* bias, T* y, float* exact, int rows, int columns,    \
                        int activation) {                                                                              \
        linear_merge(sums, parts, bias, y, exact, rows, columns, activation);                                          \
    }

#define ALL_ROWS(T, W, NAME)                                                                                           \
    ROWS(1, T, W, NAME)                                                                                                \
    ROWS(4, T, W, NAME)                                                                                                \
    ROWS(16, T, W, NAME)

#define TENSOR(T, W, NAME)                                                                                             \
    ALL_ROWS(T, W, NAME)                                                                                               \
    TILE(large, Large<T>, LargePaired<T>, 256, T, W, NAME)                                                             \
    TILE(small, Small<T>, SmallPaired<T>, 128, T, W, NAME)

#define PLAIN(W, NAME)                                                                                                 \
    ALL_ROWS(float, W, NAME)                                                                                           \
    TILE(plain, Plain, PlainPaired, 256, float, W, NAME)
