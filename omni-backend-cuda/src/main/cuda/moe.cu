// Mixture of experts, without a word to the host about which experts were chosen.
//
// Few tokens: one launch makes the gated products of all chosen experts of all tokens, a warp an output, and one more the
// down products, weighted and summed. Many tokens: the choices are put in order of their experts and each tile of the two
// products looks up whose rows it has.
#include "gemm.cuh"

// A warp a token: softmax of the logits, the k largest, the lower expert first on a tie.
KERNEL(128)
moe_choose(const float* logits, int* chosen, float* share, int tokens, int experts, int k, int normalise) {
    DYNAMIC_SHARED(scratch);
    int token = blockIdx.x * 4 + (threadIdx.x >> 5);
    if (token >= tokens)
        return;
    int lane = threadIdx.x & 31;
    float* p = reinterpret_cast<float*>(scratch) + (threadIdx.x >> 5) * experts;
    logits += (long long)token * experts;
    float largest = -INFINITE;
    for (int i = lane; i < experts; i += 32)
        largest = fmaxf(largest, logits[i]);
    largest = warp_max(largest);
    float sum = 0.0f;
    for (int i = lane; i < experts; i += 32)
        sum += p[i] = expf(logits[i] - largest);
    sum = warp_sum(sum);
    __syncwarp();
    float kept = 0.0f;
    for (int c = 0; c < k; c++) {
        float best = -1.0f;
        int at = experts;
        for (int i = lane; i < experts; i += 32)
            if (p[i] > best) {
                best = p[i];
                at = i;
            }
#pragma unroll
        for (int step = 16; step > 0; step >>= 1) {
            float other = __shfl_xor_sync(0xffffffffu, best, step);
            int otherAt = __shfl_xor_sync(0xffffffffu, at, step);
            if (other > best || (other == best && otherAt < at)) {
                best = other;
                at = otherAt;
            }
        }
        // logits that are all NaN choose nothing; expert 0 then keeps the indexes in range
        at = at < experts ? at : 0;
        kept += best;
        if (lane == 0) {
            p[at] = -2.0f;
            chosen[token * k + c] = at;
            share[token * k + c] = best / sum;
        }
        __syncwarp();
    }
    if (normalise && lane < k)
        for (int c = lane; c < k; c += 32)
            share[token * k + c] *= sum / kept;
}

// One block: the choices, numbers of token · k + c, in order of their experts; and the tiles of tileRows that cover them,
// each an expert, the first of its choices and the end of the expert's, or expert −1 for no tile.
KERNEL(1024)
moe_plan(const int* chosen, int choices, int experts, int tileRows, int* order, int* tiles, int tileLimit) {
    DYNAMIC_SHARED(scratch);
    int* counts = reinterpret_cast<int*>(scratch);
    int* starts = counts + experts;
    int* firstTile = starts + experts + 1;
    for (int e = threadIdx.x; e < experts; e += blockDim.x)
        counts[e] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < choices; i += blockDim.x)
        atomicAdd(&counts[chosen[i]], 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        int start = 0;
        int tile = 0;
        for (int e = 0; e < experts; e++) {
            starts[e] = start;
            firstTile[e] = tile;
            start += counts[e];
            tile += (counts[e] + tileRows - 1) / tileRows;
        }
        starts[experts] = start;
        firstTile[experts] = tile;
    }
    __syncthreads();
    for (int t = threadIdx.x; t < tileLimit; t += blockDim.x)
        if (t >= firstTile[experts])
            tiles[3 * t] = -1;
    for (int e = threadIdx.x; e < experts; e += blockDim.x) {
        for (int t = firstTile[e]; t < firstTile[e + 1]; t++) {
            tiles[3 * t] = e;
            tiles[3 * t + 1] = starts[e] + (t - firstTile[e]) * tileRows;
            tiles[3 * t + 2] = starts[e + 1];
        }
        counts[e] = 0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < choices; i += blockDim.x) {
        int e = chosen[i];
        order[starts[e] + atomicAdd(&counts[e], 1)] = i;
    }
}

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
              ChosenResults<T>{h, order, end, columns}, tiles[3 * blockIdx.y + 1], blockIdx.x * Tile::COLUMNS, depth,
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
              ChosenResults<T>{parts, order, end, columns}, tiles[3 * blockIdx.y + 1], blockIdx.x * Tile::COLUMNS,
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

// This lane's part of the product of two rows.
template <class T, class W>
DEVICE float dot(const T* __restrict__ x, const W* __restrict__ weight, int depth, int wide) {
    int lane = threadIdx.x & 31;
    float sum = 0.0f;
    if (wide) {
#pragma unroll 4
        for (int k = lane * 8; k < depth; k += 256) {
            float w[8];
            float v[8];
            load8(weight + k, w);
            load8(x + k, v);
#pragma unroll
            for (int i = 0; i < 8; i++)
                sum = fmaf(v[i], w[i], sum);
        }
    } else {
#pragma unroll 1
        for (int k = lane; k < depth; k += 32)
            sum = fmaf(to_float(x[k]), to_float(weight[k]), sum);
    }
    return sum;
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
    float gate = warp_sum(dot(x, (const W*)gates[expert] + (long long)column * depth, depth, wide));
    float up = warp_sum(dot(x, (const W*)ups[expert] + (long long)column * depth, depth, wide));
    if ((threadIdx.x & 31) == 0)
        h[(long long)choice * columns + column] = from_float<T>(silu(gate) * up);
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
        sum = fmaf(dot(h + choice * depth, (const W*)downs[chosen[choice]] + (long long)column * depth, depth, wide),
                   share[choice], sum);
    }
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) {
        if (common)
            sum = fmaf(to_float(common[token * columns + column]), commonScale[token], sum);
        y[token * columns + column] = from_float<T>(sum);
    }
}

#define ROWS(T, W, NAME)                                                                                               \
    KERNEL(256)                                                                                                        \
    moe_gated_rows_##NAME(const T* x, const u64* gates, const u64* ups, const int* chosen, T* h, int depth,            \
                          int columns, int k, int wide) {                                                              \
        moe_gated_rows<T, W>(x, gates, ups, chosen, h, depth, columns, k, wide);                                       \
    }                                                                                                                  \
    KERNEL(256)                                                                                                        \
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

typedef TensorTile<128, 128, 2, 4, false> Large;
typedef TensorTile<128, 128, 2, 4, true> LargePaired;
typedef TensorTile<64, 64, 2, 2, false> Small;
typedef TensorTile<64, 64, 2, 2, true> SmallPaired;
typedef PlainTile<false> Plain;
typedef PlainTile<true> PlainPaired;

ROWS(bf16, bf16, bf16_bf16)
ROWS(float, float, f32_f32)
ROWS(float, bf16, f32_bf16)
ROWS(float, f16, f32_f16)
TILES(large, Large, LargePaired, 256, bf16, bf16, bf16_bf16)
TILES(small, Small, SmallPaired, 128, bf16, bf16, bf16_bf16)
TILES(plain, Plain, PlainPaired, 256, float, float, f32_f32)
TILES(plain, Plain, PlainPaired, 256, float, bf16, f32_bf16)
TILES(plain, Plain, PlainPaired, 256, float, f16, f32_f16)
COMBINE(bf16, bf16)
COMBINE(float, f32)
