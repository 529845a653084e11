// Attention over packed keys and over block caches, and appending to those.
//
// A cache is an array of layers' descriptors on the device: where its table of blocks is, and how many tokens it holds.
// Lengths live there so that the launches of a decode step are the same for every step. A block holds 64 tokens: keys
// [64, kvHeads, headDim], then values.
#include "common.cuh"

struct CacheLayer {
    const u64* blocks;
    int length;
    int unused;
};
static_assert(sizeof(CacheLayer) == 16, "as CudaKvCache lays it out");

constexpr int BLOCK = 64;

DEVICE CacheLayer* cache_layer(const u64* caches, int sequence, int layer) {
    return (CacheLayer*)caches[sequence] + layer;
}

// Where the keys and values of one sequence and one head are.
template <class T>
struct Keys {
    const T* keys;
    const T* values;
    const u64* blocks;
    int length;
    int stride;
    int head;

    DEVICE Keys(const T* k, const T* v, const u64* caches, int layer, int sequence, const int* offsets, int kvHeads,
                int kvHead, int dim) {
        stride = kvHeads * dim;
        head = kvHead * dim;
        if (caches) {
            const CacheLayer* descriptor = cache_layer(caches, sequence, layer);
            keys = values = nullptr;
            blocks = descriptor->blocks;
            length = descriptor->length;
        } else {
            keys = k + (long long)offsets[sequence] * stride + head;
            values = v + (long long)offsets[sequence] * stride + head;
            blocks = nullptr;
            length = offsets[sequence + 1] - offsets[sequence];
        }
    }

    DEVICE const T* key(int i) const {
        return blocks ? (const T*)blocks[i / BLOCK] + i % BLOCK * stride + head : keys + (long long)i * stride;
    }
    DEVICE const T* value(int i) const {
        return blocks ? (const T*)blocks[i / BLOCK] + (BLOCK + i % BLOCK) * stride + head
                      : values + (long long)i * stride;
    }
};

DEVICE int sequence_of(const int* offsets, int sequences, int token) {
    int low = 0;
    int high = sequences - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (offsets[middle] <= token)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// N neighbours, from an address that their size divides.
template <int N, class T>
DEVICE void load_run(const T* p, float (&v)[N]) {
    if constexpr (N == 8) {
        load8(p, v);
    } else {
        uint2 a = *reinterpret_cast<const uint2*>(p);
        v[0] = to_float(T{(u16)a.x});
        v[1] = to_float(T{(u16)(a.x >> 16)});
        v[2] = to_float(T{(u16)a.y});
        v[3] = to_float(T{(u16)(a.y >> 16)});
    }
}
template <int N>
DEVICE void load_run(const float* p, float (&v)[N]) {
    if constexpr (N == 8) {
        load8(p, v);
    } else {
        float4 a = *reinterpret_cast<const float4*>(p);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    }
}

// Few queries: blockIdx.x is a query token and a part of its keys, blockIdx.y a key head and G of its query heads, so that
// a key is read once for all of them. A lane scores a key; for the values a lane has D neighbouring features. Each warp keeps a
// running softmax of its own keys, and they are merged at the end. With one part y is written, else
// partials [token, head, part, dim + 2]: the sum, its largest score, its weight.
template <int G, int D, class T>
DEVICE void attend_rows(const T* q, const T* k, const T* v, const u64* caches, int layer, const int* offsets,
                        int sequences, int heads, int kvHeads, int dim, float scale, int causal, int window, int parts,
                        T* y, float* partials, int wide) {
    __shared__ float query[G][D * 32];
    __shared__ float sums[4][G][D * 32];
    __shared__ float largests[4][G];
    __shared__ float weights[4][G];
    int token = blockIdx.x / parts;
    int part = blockIdx.x % parts;
    int group = heads / kvHeads;
    int slices = (group + G - 1) / G;
    int kvHead = blockIdx.y / slices;
    int first = kvHead * group + blockIdx.y % slices * G;
    int count = min(G, (kvHead + 1) * group - first);
    int lane = threadIdx.x & 31;
    int warp = threadIdx.x >> 5;
    int sequence = sequence_of(offsets, sequences, token);
    Keys<T> keys(k, v, caches, layer, sequence, offsets, kvHeads, kvHead, dim);
    int position = keys.length - (offsets[sequence + 1] - token);
    int end = causal ? min(keys.length, position + 1) : keys.length;
    int start = window > 0 ? max(0, position - window + 1) : 0;
    int share = ((max(0, end - start) + parts - 1) / parts + 31) / 32 * 32;
    start += part * share;
    end = min(end, start + share);

    for (int i = threadIdx.x; i < G * D * 32; i += 128) {
        int g = i / (D * 32);
        int d = i % (D * 32);
        query[g][d] = g < count && d < dim ? to_float(q[((long long)token * heads + first + g) * dim + d]) * scale : 0.0f;
    }
    __syncthreads();

    float largest[G];
    float weight[G];
    float sum[G][D];
#pragma unroll
    for (int g = 0; g < G; g++) {
        largest[g] = -INFINITE;
        weight[g] = 0.0f;
#pragma unroll
        for (int d = 0; d < D; d++)
            sum[g][d] = 0.0f;
    }
#pragma unroll 1
    for (int base = start + warp * 32; base < end; base += 128) {
        bool mine = base + lane < end;
        float score[G] = {};
        const T* key = keys.key(mine ? base + lane : base);
        if (wide) {
#pragma unroll 2
            for (int d = 0; d < dim; d += 8) {
                float x[8];
                load8(key + d, x);
#pragma unroll
                for (int g = 0; g < G; g++)
#pragma unroll
                    for (int e = 0; e < 8; e++)
                        score[g] = fmaf(query[g][d + e], x[e], score[g]);
            }
        } else {
#pragma unroll 1
            for (int d = 0; d < dim; d++) {
                float x = to_float(key[d]);
#pragma unroll
                for (int g = 0; g < G; g++)
                    score[g] = fmaf(query[g][d], x, score[g]);
            }
        }
#pragma unroll
        for (int g = 0; g < G; g++) {
            float s = mine ? score[g] : -INFINITE;
            float now = fmaxf(largest[g], warp_max(s));
            // scores that are all −∞ leave the sum as it is
            float origin = now == -INFINITE ? 0.0f : now;
            float shrink = expf(largest[g] - origin);
            score[g] = expf(s - origin);
            weight[g] = weight[g] * shrink + warp_sum(score[g]);
            largest[g] = now;
#pragma unroll
            for (int d = 0; d < D; d++)
                sum[g][d] *= shrink;
        }
        int n = min(32, end - base);
        // a few values are on their way at once
#pragma unroll 4
        for (int i = 0; i < n; i++) {
            const T* value = keys.value(base + i) + lane * D;
            float x[D] = {};
            if (wide) {
                if (lane * D < dim)
                    load_run(value, x);
            } else {
#pragma unroll
                for (int d = 0; d < D; d++)
                    if (lane * D + d < dim)
                        x[d] = to_float(value[d]);
            }
#pragma unroll
            for (int g = 0; g < G; g++) {
                float p = __shfl_sync(0xffffffffu, score[g], i);
#pragma unroll
                for (int d = 0; d < D; d++)
                    sum[g][d] = fmaf(p, x[d], sum[g][d]);
            }
        }
    }

#pragma unroll
    for (int g = 0; g < G; g++) {
        if (lane == 0) {
            largests[warp][g] = largest[g];
            weights[warp][g] = weight[g];
        }
#pragma unroll
        for (int d = 0; d < D; d++)
            sums[warp][g][lane * D + d] = sum[g][d];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * dim; i += 128) {
        int g = i / dim;
        int d = i % dim;
        float top = fmaxf(fmaxf(largests[0][g], largests[1][g]), fmaxf(largests[2][g], largests[3][g]));
        float origin = top == -INFINITE ? 0.0f : top;
        float total = 0.0f;
        float all = 0.0f;
        for (int w = 0; w < 4; w++) {
            float factor = expf(largests[w][g] - origin);
            total = fmaf(sums[w][g][d], factor, total);
            all = fmaf(weights[w][g], factor, all);
        }
        long long row = (long long)token * heads + first + g;
        if (parts == 1) {
            y[row * dim + d] = from_float<T>(all > 0.0f ? total / all : 0.0f);
        } else {
            float* partial = partials + (row * parts + part) * (dim + 2);
            partial[d] = total;
            if (d == 0) {
                partial[dim] = top;
                partial[dim + 1] = all;
            }
        }
    }
}

// A block a row of partials [parts, dim + 2].
template <class T>
DEVICE void attend_merge(const float* partials, T* y, int dim, int parts) {
    partials += (long long)blockIdx.x * parts * (dim + 2);
    float top = -INFINITE;
    for (int p = 0; p < parts; p++)
        top = fmaxf(top, partials[p * (dim + 2) + dim]);
    float origin = top == -INFINITE ? 0.0f : top;
    for (int d = threadIdx.x; d < dim; d += blockDim.x) {
        float total = 0.0f;
        float all = 0.0f;
        for (int p = 0; p < parts; p++) {
            const float* partial = partials + p * (dim + 2);
            float factor = expf(partial[dim] - origin);
            total = fmaf(partial[d], factor, total);
            all = fmaf(partial[dim + 1], factor, all);
        }
        y[(long long)blockIdx.x * dim + d] = from_float<T>(all > 0.0f ? total / all : 0.0f);
    }
}

// Many queries: 64 of one sequence and head a block, 16 a warp, over tiles of 64 keys on the tensor cores (Dao,
// FlashAttention-2). T is bf16 or f16, D the head dimension, padded with zeros to a multiple of 16.
template <class T, int D>
struct Flash {
    static constexpr int STRIDE = D + 8;
    static constexpr int SHARED = 2 * 64 * STRIDE * 2;

    // Rows of 64 from `first` on, zeros from `end` on and beyond dim.
    template <class Source>
    static DEVICE void load(T* tile, const T* readable, Source source, int first, int end, int dim, bool wide) {
#pragma unroll 1
        for (int i = threadIdx.x; i < 64 * (D / 8); i += 128) {
            int row = i / (D / 8);
            int d = i % (D / 8) * 8;
            T* to = tile + row * STRIDE + d;
            const T* from = first + row < end ? source(first + row) : nullptr;
            if (wide) {
                bool valid = from && d < dim;
                copy_async(to, valid ? from + d : readable, valid);
            } else {
                for (int e = 0; e < 8; e++)
                    to[e] = from && d + e < dim ? from[d + e] : T{0};
            }
        }
    }

    static DEVICE void run(const T* q, const T* k, const T* v, const u64* caches, int layer,
                           const int* offsets, int heads, int kvHeads, int dim, float scale, int causal, int window,
                           T* y, int wide, unsigned char* shared) {
        int sequence = blockIdx.z;
        int begin = offsets[sequence];
        int n = offsets[sequence + 1] - begin;
        int tile = blockIdx.x * 64;
        if (tile >= n)
            return;
        int head = blockIdx.y;
        Keys<T> keys(k, v, caches, layer, sequence, offsets, kvHeads, head / (heads / kvHeads), dim);
        T* keyTile = reinterpret_cast<T*>(shared);
        T* valueTile = keyTile + 64 * STRIDE;
        int lane = threadIdx.x & 31;
        int warp = threadIdx.x >> 5;
        const T* queries = q + ((long long)begin * heads + head) * dim;

        load(keyTile, q, [&](int i) { return queries + (long long)i * heads * dim; }, tile, n, dim, wide);
        commit_copies();
        await_copies<0>();
        __syncthreads();
        u32 query[D / 16][4];
#pragma unroll
        for (int d = 0; d < D / 16; d++)
            load_matrices(query[d], keyTile + (warp * 16 + (lane & 15)) * STRIDE + d * 16 + (lane >> 4) * 8);
        __syncthreads();

        // positions of the tile's first query, and of this lane's two
        int base = keys.length - n + tile;
        int position[2] = {base + warp * 16 + lane / 4, base + warp * 16 + lane / 4 + 8};
        int end = causal ? min(keys.length, base + 64) : keys.length;
        int step = (window > 0 ? max(0, base - window + 1) : 0) / 64 * 64;
        auto loadKeys = [&](int at) {
            load(keyTile, q, [&](int i) { return keys.key(i); }, at, keys.length, dim, wide);
            commit_copies();
        };
        auto loadValues = [&](int at) {
            load(valueTile, q, [&](int i) { return keys.value(i); }, at, keys.length, dim, wide);
            commit_copies();
        };
        float sums[D / 8][4] = {};
        float largest[2] = {-INFINITE, -INFINITE};
        float weight[2] = {0.0f, 0.0f};
        float factor = scale * 1.4426950408889634f;
        if (step < end) {
            loadKeys(step);
            loadValues(step);
        }
#pragma unroll 1
        for (; step < end; step += 64) {
            await_copies<1>();
            __syncthreads();
            float scores[8][4] = {};
#pragma unroll
            for (int d = 0; d < D / 16; d++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    u32 parts[4];
                    load_matrices(parts, keyTile + (j * 16 + (lane & 7) + (lane >> 4) * 8) * STRIDE + d * 16
                                             + (lane >> 3 & 1) * 8);
                    mma<T>(scores[2 * j], query[d], parts[0], parts[1]);
                    mma<T>(scores[2 * j + 1], query[d], parts[2], parts[3]);
                }
            float now[2] = {largest[0], largest[1]};
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int key = step + j * 8 + lane % 4 * 2 + e % 2;
                    int p = position[e / 2];
                    bool seen = key < keys.length && (!causal || key <= p) && (window <= 0 || key > p - window);
                    scores[j][e] = seen ? scores[j][e] * factor : -INFINITE;
                    now[e / 2] = fmaxf(now[e / 2], scores[j][e]);
                }
            float origin[2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                now[r] = fmaxf(now[r], __shfl_xor_sync(0xffffffffu, now[r], 1));
                now[r] = fmaxf(now[r], __shfl_xor_sync(0xffffffffu, now[r], 2));
                origin[r] = now[r] == -INFINITE ? 0.0f : now[r];
                float shrink = exp2f(largest[r] - origin[r]);
                largest[r] = now[r];
                weight[r] *= shrink;
#pragma unroll
                for (int d = 0; d < D / 8; d++) {
                    sums[d][2 * r] *= shrink;
                    sums[d][2 * r + 1] *= shrink;
                }
            }
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    scores[j][e] = exp2f(scores[j][e] - origin[e / 2]);
                    weight[e / 2] += scores[j][e];
                }
            await_copies<0>();
            // values are there, and no warp still reads the keys
            __syncthreads();
            if (step + 64 < end)
                loadKeys(step + 64);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 p[4] = {pack<T>(scores[2 * j][0], scores[2 * j][1]), pack<T>(scores[2 * j][2], scores[2 * j][3]),
                            pack<T>(scores[2 * j + 1][0], scores[2 * j + 1][1]),
                            pack<T>(scores[2 * j + 1][2], scores[2 * j + 1][3])};
#pragma unroll
                for (int d = 0; d < D / 16; d++) {
                    u32 parts[4];
                    load_matrices_transposed(parts, valueTile + (j * 16 + (lane & 15)) * STRIDE + d * 16
                                                        + (lane >> 4) * 8);
                    mma<T>(sums[2 * d], p, parts[0], parts[1]);
                    mma<T>(sums[2 * d + 1], p, parts[2], parts[3]);
                }
            }
            __syncthreads();
            if (step + 64 < end)
                loadValues(step + 64);
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            weight[r] += __shfl_xor_sync(0xffffffffu, weight[r], 1);
            weight[r] += __shfl_xor_sync(0xffffffffu, weight[r], 2);
            float inverse = weight[r] > 0.0f ? 1.0f / weight[r] : 0.0f;
            int row = tile + warp * 16 + lane / 4 + 8 * r;
            if (row >= n)
                continue;
            T* to = y + ((long long)(begin + row) * heads + head) * dim;
#pragma unroll
            for (int d = 0; d < D / 8; d++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int at = d * 8 + lane % 4 * 2 + e;
                    if (at < dim)
                        to[at] = from_float<T>(sums[d][2 * r + e] * inverse);
                }
        }
    }
};

// blockIdx.y is the sequence, whose tokens go behind those that its cache holds; blockIdx.x takes every gridDim.x-th. With
// `advance`, and then one block a sequence, the length follows.
template <class T>
DEVICE void append(const T* k, const T* v, const u64* caches, int layer, const int* offsets, int width, int advance) {
    CacheLayer* cache = cache_layer(caches, blockIdx.y, layer);
    int begin = offsets[blockIdx.y];
    int n = offsets[blockIdx.y + 1] - begin;
    int length = cache->length;
    for (int i = blockIdx.x; i < n; i += gridDim.x) {
        int at = length + i;
        T* block = (T*)cache->blocks[at / BLOCK];
        long long from = (long long)(begin + i) * width;
        for (int d = threadIdx.x; d < width; d += blockDim.x) {
            block[at % BLOCK * width + d] = k[from + d];
            block[(BLOCK + at % BLOCK) * width + d] = v[from + d];
        }
    }
    if (advance) {
        __syncthreads();
        if (threadIdx.x == 0)
            cache->length = length + n;
    }
}

KERNEL(128) cache_advance(const u64* caches, int layer, const int* offsets, int sequences) {
    int sequence = blockIdx.x * blockDim.x + threadIdx.x;
    if (sequence < sequences)
        cache_layer(caches, sequence, layer)->length += offsets[sequence + 1] - offsets[sequence];
}

// Puts a block into the table of a layer.
KERNEL(32) cache_block(u64* blocks, int index, u64 block) {
    if (threadIdx.x == 0)
        blocks[index] = block;
}

// Moves a layer to a larger table, or makes it empty.
KERNEL(128) cache_table(CacheLayer* layer, u64* blocks, int entries) {
    const u64* old = layer->blocks;
    for (int i = threadIdx.x; i < entries; i += blockDim.x)
        blocks[i] = old[i];
    __syncthreads();
    if (threadIdx.x == 0)
        layer->blocks = blocks;
}

KERNEL(128) cache_length(CacheLayer* cache, int layers, int length) {
    for (int i = threadIdx.x; i < layers; i += blockDim.x)
        cache[i].length = length;
}

// The blocks of a multiprocessor: left to itself, the compiler spills to have more.
#define ATTEND(G, D, BLOCKS, T, NAME)                                                                                  \
    KERNEL(128, BLOCKS)                                                                                                \
    attend_rows_##G##_##D##_##NAME(const T* q, const T* k, const T* v, const u64* caches, int layer,                   \
                                   const int* offsets, int sequences, int heads, int kvHeads, int dim, float scale,    \
                                   int causal, int window, int parts, T* y, float* partials, int wide) {               \
        attend_rows<G, D / 32>(q, k, v, caches, layer, offsets, sequences, heads, kvHeads, dim, scale, causal,         \
                               window, parts, y, partials, wide);                                                      \
    }

#define APPEND(T, NAME)                                                                                                \
    KERNEL(128)                                                                                                        \
    append_##NAME(const T* k, const T* v, const u64* caches, int layer, const int* offsets, int width, int advance) {  \
        append(k, v, caches, layer, offsets, width, advance);                                                          \
    }                                                                                                                  \
    KERNEL(128) attend_merge_##NAME(const float* partials, T* y, int dim, int parts) {                                 \
        attend_merge(partials, y, dim, parts);                                                                         \
    }

#define FLASH(D, T, NAME)                                                                                              \
    KERNEL(128)                                                                                                        \
    flash_##D##_##NAME(const T* q, const T* k, const T* v, const u64* caches, int layer, const int* offsets,           \
                       int heads, int kvHeads, int dim, float scale, int causal, int window, T* y, int wide) {         \
        DYNAMIC_SHARED(shared);                                                                                        \
        Flash<T, D>::run(q, k, v, caches, layer, offsets, heads, kvHeads, dim, scale, causal, window, y, wide,         \
                         shared);                                                                                      \
    }

#define ALL(T, NAME)                                                                                                   \
    ATTEND(1, 128, 6, T, NAME)                                                                                         \
    ATTEND(2, 128, 4, T, NAME)                                                                                         \
    ATTEND(8, 128, 3, T, NAME)                                                                                         \
    ATTEND(1, 256, 6, T, NAME)                                                                                         \
    ATTEND(8, 256, 2, T, NAME)                                                                                         \
    APPEND(T, NAME)

#define ALL_FLASH(T, NAME)                                                                                             \
    FLASH(32, T, NAME)                                                                                                 \
    FLASH(64, T, NAME)                                                                                                 \
    FLASH(80, T, NAME)                                                                                                 \
    FLASH(128, T, NAME)

ALL(bf16, bf16)
ALL(f16, f16)
ALL(float, f32)
ALL_FLASH(bf16, bf16)
ALL_FLASH(f16, f16)
