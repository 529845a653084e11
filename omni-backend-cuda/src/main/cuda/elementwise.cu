// Functions of single elements. With `wide`, a thread takes eight at a time; n is then a multiple of eight and so is the
// length of a row that is repeated.
#include "blocks.cuh"

// Calls f(i) for each element, or f8(i) for each eight.
template <class F, class F8>
DEVICE void each(long long n, int wide, F f, F8 f8) {
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long step = (long long)gridDim.x * blockDim.x;
    if (wide)
        for (long long i = at * 8; i < n; i += step * 8)
            f8(i);
    else
        for (long long i = at; i < n; i += step)
            f(i);
}

template <class T>
DEVICE void unary(const T* x, T* y, long long n, int function, int wide) {
    each(
        n, wide, [&](long long i) { y[i] = from_float<T>(activate(function, to_float(x[i]))); },
        [&](long long i) {
            float v[8];
            load8(x + i, v);
#pragma unroll 1
            for (int e = 0; e < 2; e++) {
                // halves, turned round, so that the code of the function is there four times rather than eight
#pragma unroll
                for (int h = 0; h < 4; h++) {
                    float result = activate(function, v[h]);
                    v[h] = v[h + 4];
                    v[h + 4] = result;
                }
            }
            store8(y + i, v);
        });
}

// NaN stays NaN, unlike with fminf and fmaxf.
DEVICE float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

template <class T>
DEVICE void clamp_all(const T* x, T* y, long long n, float low, float high, int wide) {
    each(
        n, wide, [&](long long i) { y[i] = from_float<T>(clamp(to_float(x[i]), low, high)); },
        [&](long long i) {
            float v[8];
            load8(x + i, v);
#pragma unroll
            for (int e = 0; e < 8; e++)
                v[e] = clamp(v[e], low, high);
            store8(y + i, v);
        });
}

// b repeats after `period` elements.
template <class T>
DEVICE void binary(const T* a, const T* b, T* y, long long n, long long period, int multiply, int wide) {
    each(
        n, wide,
        [&](long long i) {
            float x = to_float(a[i]);
            float z = to_float(b[i % period]);
            y[i] = from_float<T>(multiply ? x * z : x + z);
        },
        [&](long long i) {
            float x[8];
            float z[8];
            load8(a + i, x);
            load8(b + i % period, z);
#pragma unroll
            for (int e = 0; e < 8; e++)
                x[e] = multiply ? x[e] * z[e] : x[e] + z[e];
            store8(y + i, x);
        });
}

template <class T>
DEVICE void add_scaled(const T* residual, const T* x, const float* scale, T* y, long long n, int features, int wide) {
    each(
        n, wide,
        [&](long long i) {
            y[i] = from_float<T>(fmaf(to_float(x[i]), scale[i % features], to_float(residual[i])));
        },
        [&](long long i) {
            float r[8];
            float v[8];
            float s[8];
            load8(residual + i, r);
            load8(x + i, v);
            load8(scale + i % features, s);
#pragma unroll
            for (int e = 0; e < 8; e++)
                r[e] = fmaf(v[e], s[e], r[e]);
            store8(y + i, r);
        });
}

template <class T>
DEVICE void snake(const T* x, const float* alpha, const float* beta, T* y, long long n, int features) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        int f = (int)(i % features);
        float v = to_float(x[i]);
        float sine = sinf(v * expf(alpha[f]));
        y[i] = from_float<T>(v + sine * sine / (expf(beta[f]) + 1e-9f));
    }
}

template <class From, class To>
DEVICE void convert(const From* x, To* y, long long n, int wide) {
    each(
        n, wide, [&](long long i) { y[i] = from_float<To>(to_float(x[i])); },
        [&](long long i) {
            float v[8];
            load8(x + i, v);
            store8(y + i, v);
        });
}

// Of weights in blocks, n elements in all, eight a thread.
template <class Q, class To>
DEVICE void convert_blocks(const Q* x, To* y, long long n) {
    long long step = (long long)gridDim.x * blockDim.x * 8;
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8; i < n; i += step) {
        // a row of one block each, so that all of the weight is one matrix
        Blocks<Q> block = row_of(x, (int)(i / 32), (int)(n / 32), 32);
        float v[8];
        load8(block, (int)(i % 32), v);
        store8(y + i, v);
    }
}

// Lays out a matrix for the card whose blocks are stored 32 rows together: in a block the scales of 32 rows, then words, the
// first of each row, the second of each row and so on. A thread a word of values; depth is that of the matrix in blocks.
KERNEL(256) lay_out_blocks(const u32* stored, u32* y, long long blocks, int depth, int words) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < blocks * words; i += step) {
        long long block = i / words;
        long long row = block / depth;
        const u32* from = stored + (row / 32 * depth + block % depth) * (16 + 32 * words);
        y[i] = from[16 + i % words * 32 + row % 32];
        if (i % words == 0)
            reinterpret_cast<u16*>(y + blocks * words)[block] = reinterpret_cast<const u16*>(from)[row % 32];
    }
}

#define ELEMENTWISE(T, NAME)                                                                                           \
    KERNEL(256) activation_##NAME(const T* x, T* y, long long n, int function, int wide) {                             \
        unary(x, y, n, function, wide);                                                                                \
    }                                                                                                                  \
    KERNEL(256) clamp_##NAME(const T* x, T* y, long long n, float low, float high, int wide) {                         \
        clamp_all(x, y, n, low, high, wide);                                                                           \
    }                                                                                                                  \
    KERNEL(256)                                                                                                        \
    binary_##NAME(const T* a, const T* b, T* y, long long n, long long period, int multiply, int wide) {               \
        binary(a, b, y, n, period, multiply, wide);                                                                    \
    }                                                                                                                  \
    KERNEL(256)                                                                                                        \
    add_scaled_##NAME(const T* residual, const T* x, const float* scale, T* y, long long n, int features, int wide) {  \
        add_scaled(residual, x, scale, y, n, features, wide);                                                          \
    }                                                                                                                  \
    KERNEL(256)                                                                                                        \
    snake_##NAME(const T* x, const float* alpha, const float* beta, T* y, long long n, int features) {                 \
        snake(x, alpha, beta, y, n, features);                                                                         \
    }

ELEMENTWISE(bf16, bf16)
ELEMENTWISE(f16, f16)
ELEMENTWISE(float, f32)

#define CONVERT(From, FROM, To, TO)                                                                                    \
    KERNEL(256) convert_##FROM##_##TO(const From* x, To* y, long long n, int wide) { convert(x, y, n, wide); }

CONVERT(float, f32, bf16, bf16)
CONVERT(float, f32, f16, f16)
CONVERT(f16, f16, bf16, bf16)
CONVERT(f16, f16, float, f32)
CONVERT(bf16, bf16, f16, f16)
CONVERT(bf16, bf16, float, f32)

#define CONVERT_BLOCKS(Q, To, TO)                                                                                      \
    KERNEL(256) convert_##Q##_##TO(const Q* x, To* y, long long n) { convert_blocks(x, y, n); }

CONVERT_BLOCKS(q8, bf16, bf16)
CONVERT_BLOCKS(q8, f16, f16)
CONVERT_BLOCKS(q8, float, f32)
CONVERT_BLOCKS(q4, bf16, bf16)
CONVERT_BLOCKS(q4, f16, f16)
CONVERT_BLOCKS(q4, float, f32)
