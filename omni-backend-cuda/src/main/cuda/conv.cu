// Convolutions as matrix products over the taps, which no array of patches is made for. Weights are laid out
// [taps, out, in] when they are loaded.
#include "gemm.cuh"

// x [images, height, width, in]; a row is one cell of the output. One dimension is height 1.
template <class T>
struct Patches {
    typedef T Element;
    struct Row {
        const T* image;
        int top;
        int left;
    };
    const T* base;
    int height;
    int width;
    int in;
    int outHeight;
    int outWidth;
    int kernelWidth;
    int stride;
    int dilation;
    int padTop;
    int padLeft;
    int rows;

    DEVICE const T* any() const { return base; }
    DEVICE Row row(int i) const {
        if (i >= rows)
            return Row{nullptr, 0, 0};
        int column = i % outWidth;
        int image = i / outWidth / outHeight;
        int line = i / outWidth % outHeight;
        return Row{base + (long long)image * height * width * in, line * stride - padTop, column * stride - padLeft};
    }
    DEVICE const T* at(const Row& row, int k) const {
        int tap = k / in;
        int y = row.top + tap / kernelWidth * dilation;
        int x = row.left + tap % kernelWidth * dilation;
        return row.image && y >= 0 && y < height && x >= 0 && x < width
                   ? row.image + ((long long)y * width + x) * in + k % in
                   : nullptr;
    }
};

// Every stride-th tap from `phase` on of a weight [taps, out, in].
template <class W>
struct Taps {
    typedef W Element;
    typedef int Row;
    const W* base;
    int taps;
    int out;
    int in;
    int phase;
    int stride;

    DEVICE const W* any() const { return base; }
    DEVICE Row row(int i) const { return i < out ? i : -1; }
    DEVICE const W* at(Row row, int k) const {
        int tap = phase + k / in * stride;
        return row >= 0 && tap < taps ? base + ((long long)tap * out + row) * in + k % in : nullptr;
    }
};

// For a transposed convolution: output step `first` + row of one phase reads input steps going back from it.
template <class T>
struct StepsBack {
    typedef T Element;
    typedef int Row;
    const T* base;
    int time;
    int in;
    int first;

    DEVICE const T* any() const { return base; }
    DEVICE Row row(int i) const { return first + i; }
    DEVICE const T* at(Row row, int k) const {
        int from = row - k / in;
        return from >= 0 && from < time ? base + (long long)from * in + k % in : nullptr;
    }
};

// Row i is output step start + i · stride.
template <class T>
struct SpreadResults {
    ResultRows<T> result;
    int start;
    int stride;
    DEVICE void operator()(int row, int column, float first, float second) const {
        result(start + row * stride, column, first, second);
    }
};

template <class Tile, class T, class W>
DEVICE void conv(const T* x, const W* weight, const float* bias, T* y, int images, int height, int width, int in,
                 int outHeight, int outWidth, int out, int taps, int kernelWidth, int stride, int dilation, int padTop,
                 int padLeft, int activation, int wide) {
    DYNAMIC_SHARED(shared);
    int rows = images * outHeight * outWidth;
    Tile::run(Patches<T>{x, height, width, in, outHeight, outWidth, kernelWidth, stride, dilation, padTop, padLeft, rows},
              Taps<W>{weight, taps, out, in, 0, 1}, ResultRows<T>{y, nullptr, bias, activation, rows, out},
              blockIdx.x * Tile::ROWS, blockIdx.y * Tile::COLUMNS, 0, taps * in, wide, shared);
}

// blockIdx.z is the phase: outputs t with (t + trim) mod stride = phase read taps phase, phase + stride, ..
template <class Tile, class T, class W>
DEVICE void conv_transpose(const T* x, const W* weight, const float* bias, T* y, int time, int in, int length, int out,
                           int taps, int stride, int trim, int wide) {
    DYNAMIC_SHARED(shared);
    int phase = blockIdx.z;
    int first = phase >= trim ? 0 : (trim - phase + stride - 1) / stride;
    int start = first * stride + phase - trim;
    if (start + (int)blockIdx.x * Tile::ROWS * stride >= length)
        return;
    int depth = phase < taps ? (taps - phase + stride - 1) / stride * in : 0;
    Tile::run(StepsBack<T>{x, time, in, first}, Taps<W>{weight, taps, out, in, phase, stride},
              SpreadResults<T>{ResultRows<T>{y, nullptr, bias, NONE, length, out}, start, stride},
              blockIdx.x * Tile::ROWS, blockIdx.y * Tile::COLUMNS, 0, depth, wide, shared);
}

// 1-D with groups, as in depthwise layers: a thread an output. weight [taps, out, in / groups].
template <class T, class W>
DEVICE void conv_groups(const T* x, const W* weight, const float* bias, T* y, int time, int in, int length, int out,
                        int taps, int stride, int dilation, int groups, int padLeft) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (long long)length * out)
        return;
    int t = (int)(i / out);
    int o = (int)(i % out);
    int groupIn = in / groups;
    int first = o / (out / groups) * groupIn;
    float sum = bias ? bias[o] : 0.0f;
    for (int tap = 0; tap < taps; tap++) {
        int from = t * stride + tap * dilation - padLeft;
        if (from < 0 || from >= time)
            continue;
        for (int c = 0; c < groupIn; c++)
            sum = fmaf(to_float(x[(long long)from * in + first + c]),
                       to_float(weight[((long long)tap * out + o) * groupIn + c]), sum);
    }
    y[i] = from_float<T>(sum);
}

#define CONV(TILE_NAME, TILE_TYPE, THREADS, T, W, NAME)                                                                \
    KERNEL(THREADS)                                                                                                    \
    conv_##TILE_NAME##_##NAME(const T* x, const W* weight, const float* bias, T* y, int images, int height, int width, \
                              int in, int outHeight, int outWidth, int out, int taps, int kernelWidth, int stride,     \
                              int dilation, int padTop, int padLeft, int activation, int wide) {                       \
        conv<TILE_TYPE>(x, weight, bias, y, images, height, width, in, outHeight, outWidth, out, taps, kernelWidth,    \
                        stride, dilation, padTop, padLeft, activation, wide);                                          \
    }                                                                                                                  \
    KERNEL(THREADS)                                                                                                    \
    conv_transpose_##TILE_NAME##_##NAME(const T* x, const W* weight, const float* bias, T* y, int time, int in,        \
                                        int length, int out, int taps, int stride, int trim, int wide) {               \
        conv_transpose<TILE_TYPE>(x, weight, bias, y, time, in, length, out, taps, stride, trim, wide);                \
    }

#define GROUPS(T, W, NAME)                                                                                             \
    KERNEL(256)                                                                                                        \
    conv_groups_##NAME(const T* x, const W* weight, const float* bias, T* y, int time, int in, int length, int out,    \
                       int taps, int stride, int dilation, int groups, int padLeft) {                                  \
        conv_groups(x, weight, bias, y, time, in, length, out, taps, stride, dilation, groups, padLeft);               \
    }

CONV(large, Large<bf16>, 256, bf16, bf16, bf16_bf16)
CONV(small, Small<bf16>, 128, bf16, bf16, bf16_bf16)
CONV(large, Large<f16>, 256, f16, f16, f16_f16)
CONV(small, Small<f16>, 128, f16, f16, f16_f16)
CONV(plain, Plain, 256, float, float, f32_f32)
CONV(plain, Plain, 256, float, bf16, f32_bf16)
CONV(plain, Plain, 256, float, f16, f32_f16)
GROUPS(bf16, bf16, bf16_bf16)
GROUPS(f16, f16, f16_f16)
GROUPS(float, float, f32_f32)
GROUPS(float, bf16, f32_bf16)
GROUPS(float, f16, f32_f16)
