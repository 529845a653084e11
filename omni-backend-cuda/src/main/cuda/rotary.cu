// Rotary embedding, with the norm of each head before it.
#include "common.cuh"

// positions [rows, tokens], table [tokens, 2, pairs]; a thread a pair.
KERNEL(256)
rotary_table(const float* positions, const float* frequencies, const int* rows, float* table, int tokens, int pairs) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (long long)tokens * pairs)
        return;
    long long token = i / pairs;
    int pair = (int)(i % pairs);
    float angle = positions[(long long)rows[pair] * tokens + token] * frequencies[pair];
    table[token * 2 * pairs + pair] = cosf(angle);
    table[token * 2 * pairs + pairs + pair] = sinf(angle);
}

// A warp a head.
template <class T>
DEVICE void rotary(const T* x, const float* norm, float eps, const float* table, T* y, int tokens, int heads, int pairs) {
    long long head = (long long)blockIdx.x * 4 + (threadIdx.x >> 5);
    if (head >= (long long)tokens * heads)
        return;
    int lane = threadIdx.x & 31;
    long long at = head * 2 * pairs;
    const float* turn = table + head / heads * 2 * pairs;
    float scale = 1.0f;
    if (norm) {
        float squares = 0.0f;
        for (int i = lane; i < 2 * pairs; i += 32)
            squares = fmaf(to_float(x[at + i]), to_float(x[at + i]), squares);
        scale = 1.0f / sqrtf(warp_sum(squares) / (2 * pairs) + eps);
    }
    for (int i = lane; i < pairs; i += 32) {
        float a = to_float(x[at + i]);
        float b = to_float(x[at + pairs + i]);
        if (norm) {
            a = a * scale * norm[i];
            b = b * scale * norm[pairs + i];
        }
        float cosine = turn[i];
        float sine = turn[pairs + i];
        y[at + i] = from_float<T>(a * cosine - b * sine);
        y[at + pairs + i] = from_float<T>(b * cosine + a * sine);
    }
}

#define ROTARY(T, NAME)                                                                                                \
    KERNEL(128)                                                                                                        \
    rotary_##NAME(const T* x, const float* norm, float eps, const float* table, T* y, int tokens, int heads,           \
                  int pairs) {                                                                                         \
        rotary(x, norm, eps, table, y, tokens, heads, pairs);                                                          \
    }

ROTARY(bf16, bf16)
ROTARY(f16, f16)
ROTARY(float, f32)
