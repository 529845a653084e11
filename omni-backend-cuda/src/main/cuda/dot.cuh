// Products of a weight's row with a few rows, by a warp: bound by reading the weight, so each lane loads 16 bytes at a time.
#pragma once
#include "blocks.cuh"

// This lane's part of weight · x for up to N rows; weight is a row's address or Blocks.
template <int N, class T, class Row>
DEVICE void dot_rows(float (&sums)[N], const T* __restrict__ x, Row weight, int rows, int depth, bool wide) {
    int lane = threadIdx.x & 31;
    if (wide) {
        constexpr int AHEAD = N == 1 ? 4 : 1;
#pragma unroll AHEAD
        for (int k = lane * 8; k < depth; k += 256) {
            float w[8];
            load8(weight, k, w);
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
            float w = element(weight, k);
#pragma unroll
            for (int n = 0; n < N; n++)
                if (n < rows)
                    sums[n] = fmaf(to_float(x[(long long)n * depth + k]), w, sums[n]);
        }
    }
}

// The same for one row and blocks, 16 bytes a lane.
template <class T, class Q>
DEVICE void dot_blocks(float (&sum)[1], const T* __restrict__ x, Blocks<Q> weight, int depth) {
    // elements of 16 bytes
    constexpr int RUN = 32 / Q::WORDS;
    constexpr int AHEAD = 64 / RUN;
#pragma unroll AHEAD
    for (int k = (threadIdx.x & 31) * RUN; k < depth; k += 32 * RUN) {
        uint4 q = *reinterpret_cast<const uint4*>(weight.values + k / RUN * 16);
        u32 words[4] = {q.x, q.y, q.z, q.w};
        float scale = to_float(weight.scales[k / 32]);
#pragma unroll
        for (int e = 0; e < RUN / 8; e++) {
            float w[8];
            float v[8];
            Q::unpack(words + e * Q::WORDS, scale, w);
            load8(x + k + e * 8, v);
#pragma unroll
            for (int i = 0; i < 8; i++)
                sum[0] = fmaf(v[i], w[i], sum[0]);
        }
    }
}

template <int N, class T, class W>
DEVICE void dot(float (&sums)[N], const T* __restrict__ x, const W* __restrict__ weight, int rows, int depth, bool wide) {
    dot_rows(sums, x, weight, rows, depth, wide);
}
template <int N, class T, class Q>
DEVICE void dot(float (&sums)[N], const T* __restrict__ x, Blocks<Q> weight, int rows, int depth, bool wide) {
    if constexpr (N == 1)
        dot_blocks(sums, x, weight, depth);
    else
        dot_rows(sums, x, weight, rows, depth, wide);
}
