// Mixture of experts, without a word to the host about which experts were chosen.
//
// Few tokens: one launch makes the gated products of all chosen experts of all tokens, a warp an output, and one more the
// down products, weighted and summed. Many tokens: the choices are put in order of their experts and each tile of the two
// products looks up whose rows it has.
#pragma once
#include "dot.cuh"
#include "gemm.cuh"

// Rows first to end of a list of choices: row number choice / divisor of a matrix.
template <class T>
struct ChosenRows {
    typedef T Element;
    typedef const T* Row;
    const T* base;
    const int* order;
    int end;
    int divisor;
    int stride;
    DEVICE const T* any() const { return base; }
    DEVICE Row row(int i) const { return i < end ? base + (long long)(order[i] / divisor) * stride : nullptr; }
    DEVICE const T* at(Row row, int k) const { return row ? row + k : nullptr; }
};

// Results of a list of choices, in the row of each choice's number.
template <class T>
struct ChosenResults {
    T* y;
    const int* order;
    int end;
    int columns;
    DEVICE void operator()(int row, int column, float first, float second) const {
        if (row >= end)
            return;
        long long at = (long long)order[row] * columns + column;
        if (column < columns)
            y[at] = from_float<T>(first);
        if (column + 1 < columns)
            y[at + 1] = from_float<T>(second);
    }
};

// h [choices, columns] = silu(x · gateᵀ) ∘ (x · upᵀ) for each choice.
template <class Tile, class T, class W>
DEVICE void moe_gated_tile(const T* x, const u64* gates, const u64* ups, const int* order, const int* tiles, T* h,
                           int depth, int columns, int k, int wide) {
    DYNAMIC_SHARED(shared);
    int expert = tiles[3 * blockIdx.y];
    if (expert < 0)
        return;
    int end = tiles[3 * blockIdx.y + 2];
    Tile::run(ChosenRows<T>{x, order, end, k, depth},
              PairedRows<W, Tile::RUN>{(const W*)gates[expert], (const W*)ups[expert], columns, depth},
              ChosenResults<T>{h, order, end, columns}, tiles[3 * blockIdx.y + 1], blockIdx.x * Tile::COLUMNS, 0, depth,
              wide, shared);
}

// parts [choices, columns] = h · downᵀ for each choice.
template <class Tile, class T, class W>
DEVICE void moe_down_tile(const T* h, const u64* downs, const int* order, const int* tiles, T* parts, int depth,
                          int columns, int wide) {
    DYNAMIC_SHARED(shared);
    int expert = tiles[3 * blockIdx.y];
    if (expert < 0)
        return;
    int end = tiles[3 * blockIdx.y + 2];
    Tile::run(ChosenRows<T>{h, order, end, 1, depth}, MatrixRows<W>{(const W*)downs[expert], columns, depth},
              ChosenResults<T>{parts, order, end, columns}, tiles[3 * blockIdx.y + 1], blockIdx.x * Tile::COLUMNS, 0,
              depth, wide, shared);
}

// y [tokens, features] = Σ share · part + commonScale · common, the expert that all visit; a block a token. common may be null.
template <class T>
DEVICE void moe_combine(const T* parts, const float* share, const T* common, const float* commonScale, T* y,
                        int features, int k) {
    long long token = blockIdx.x;
    for (int i = threadIdx.x; i < features; i += blockDim.x) {
        float sum = common ? to_float(common[token * features + i]) * commonScale[token] : 0.0f;
        for (int c = 0; c < k; c++)
            sum = fmaf(to_float(parts[(token * k + c) * features + i]), share[token * k + c], sum);
        y[token * features + i] = from_float<T>(sum);
    }
}

// blockIdx.y is the choice, a warp an output.
template <class T, class W>
DEVICE void moe_gated_rows(const T* x, const u64* gates, const u64* ups, const int* chosen, T* h, int depth,
                           int columns, int k, int wide) {
    int column = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (column >= columns)
        return;
    int choice = blockIdx.y;
    int expert = chosen[choice];
    x += (long long)(choice / k) * depth;
    float gate[1] = {};
    float up[1] = {};
    dot<1>(gate, x, row_of((const W*)gates[expert], column, columns, depth), 1, depth, wide);
    dot<1>(up, x, row_of((const W*)ups[expert], column, columns, depth), 1, depth, wide);
    float result = silu(warp_sum(gate[0])) * warp_sum(up[0]);
    if ((threadIdx.x & 31) == 0)
        h[(long long)choice * columns + column] = from_float<T>(result);
}

// blockIdx.y is the token, a warp an output.
template <class T, class W>
DEVICE void moe_down_rows(const T* h, const u64* downs, const int* chosen, const float* share, const T* common,
                          const float* commonScale, T* y, int depth, int columns, int k, int wide) {
    int column = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (column >= columns)
        return;
    long long token = blockIdx.y;
    float sum = 0.0f;
    for (int c = 0; c < k; c++) {
        long long choice = token * k + c;
        float part[1] = {};
        dot<1>(part, h + choice * depth, row_of((const W*)downs[chosen[choice]], column, columns, depth), 1, depth, wide);
        sum = fmaf(part[0], share[choice], sum);
    }
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) {
        if (common)
            sum = fmaf(to_float(common[token * columns + column]), commonScale[token], sum);
        y[token * columns + column] = from_float<T>(sum);
    }
}

// Two blocks a multiprocessor: left to itself, the compiler spills to have three.
#define ROWS(T, W, NAME)                                                                                               \
    KERNEL(256, 2)                                                                                                     \
    moe_gated_rows_##NAME(const T* x, const u64* gates, const u64* ups, const int* chosen, T* h, int depth,            \
                          int columns, int k, int wide) {                                                              \
        moe_gated_rows<T, W>(x, gates, ups, chosen, h, depth, columns, k, wide);                                       \
    }                                                                                                                  \
    KERNEL(256, 2)                                                                                                     \
    moe_down_rows_##NAME(const T* h, const u64* downs, const int* chosen, const float* share, const T* common,         \
                         const float* commonScale, T* y, int depth, int columns, int k, int wide) {                    \
        moe_down_rows<T, W>(h, downs, chosen, share, common, commonScale, y, depth, columns, k, wide);                 \
    }

#define TILES(TILE_NAME, TILE_TYPE, PAIRED_TYPE, THREADS, T, W, NAME)                                                  \
    KERNEL(THREADS)                                                                                                    \
    moe_gated_##TILE_NAME##_##NAME(const T* x, const u64* gates, const u64* ups, const int* order, const int* tiles,   \
                                   T* h, int depth, int columns, int k, int wide) {                                    \
        moe_gated_tile<PAIRED_TYPE, T, W>(x, gates, ups, order, tiles, h, depth, columns, k, wide);                    \
    }                                                                                                                  \
    KERNEL(THREADS)                                                                                                    \
    moe_down_##TILE_NAME##_##NAME(const T* h, const u64* downs, const int* order, const int* tiles, T* parts,          \
                                  int depth, int columns, int wide) {                                                  \
        moe_down_tile<TILE_TYPE, T, W>(h, downs, order, tiles, parts, depth, columns, wide);                           \
    }

#define COMBINE(T, NAME)                                                                                               \
    KERNEL(256)                                                                                                        \
    moe_combine_##NAME(const T* parts, const float* share, const T* common, const float* commonScale, T* y,            \
                       int features, int k) {                                                                          \
        moe_combine(parts, share, common, commonScale, y, features, k);                                                \
    }

#define TENSOR(T, W, NAME)                                                                                             \
    ROWS(T, W, NAME)                                                                                                   \
    TILES(large, Large<T>, LargePaired<T>, 256, T, W, NAME)                                                            \
    TILES(small, Small<T>, SmallPaired<T>, 128, T, W, NAME)

#define PLAIN(W, NAME)                                                                                                 \
    ROWS(float, W, NAME)                                                                                               \
    TILES(plain, Plain, PlainPaired, 256, float, W, NAME)
