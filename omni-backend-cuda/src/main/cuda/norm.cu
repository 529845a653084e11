// Norms over the last dimension: one block a row, which stays in cache between the passes.
#include "common.cuh"

template <class T>
DEVICE void rms_norm(const T* x, const float* weight, T* y, int features, float eps, int wide) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * features;
    y += (long long)blockIdx.x * features;
    float squares = 0.0f;
    if (wide) {
        for (int i = threadIdx.x * 8; i < features; i += blockDim.x * 8) {
            float v[8];
            load8(x + i, v);
#pragma unroll
            for (int e = 0; e < 8; e++)
                squares = fmaf(v[e], v[e], squares);
        }
    } else {
        for (int i = threadIdx.x; i < features; i += blockDim.x)
            squares = fmaf(to_float(x[i]), to_float(x[i]), squares);
    }
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / features + eps);
    if (wide) {
        for (int i = threadIdx.x * 8; i < features; i += blockDim.x * 8) {
            float v[8];
            float w[8];
            load8(x + i, v);
            load8(weight + i, w);
#pragma unroll
            for (int e = 0; e < 8; e++)
                v[e] = v[e] * scale * w[e];
            store8(y + i, v);
        }
    } else {
        for (int i = threadIdx.x; i < features; i += blockDim.x)
            y[i] = from_float<T>(to_float(x[i]) * scale * weight[i]);
    }
}

template <class T>
DEVICE void layer_norm(const T* x, const float* weight, const float* bias, T* y, int features, float eps) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * features;
    y += (long long)blockIdx.x * features;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < features; i += blockDim.x)
        sum += to_float(x[i]);
    float mean = block_sum(sum, scratch) / features;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < features; i += blockDim.x) {
        float d = to_float(x[i]) - mean;
        squares = fmaf(d, d, squares);
    }
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / features + eps);
    for (int i = threadIdx.x; i < features; i += blockDim.x)
        y[i] = from_float<T>((to_float(x[i]) - mean) * scale * weight[i] + bias[i]);
}

#define NORMS(T, NAME)                                                                                                 \
    KERNEL(256) rms_norm_##NAME(const T* x, const float* weight, T* y, int features, float eps, int wide) {            \
        rms_norm(x, weight, y, features, eps, wide);                                                                   \
    }                                                                                                                  \
    KERNEL(256)                                                                                                        \
    layer_norm_##NAME(const T* x, const float* weight, const float* bias, T* y, int features, float eps) {             \
        layer_norm(x, weight, bias, y, features, eps);                                                                 \
    }

NORMS(bf16, bf16)
NORMS(f16, f16)
NORMS(float, f32)
