// Moving rows: embeddings, scatter, transposition. An index out of range makes a row of zeros or is left out.
#include "common.cuh"

// A block a row.
template <class W, class T>
DEVICE void embedding(const W* table, const int* ids, T* y, int features, int entries, int wide) {
    int id = ids[blockIdx.x];
    bool known = id >= 0 && id < entries;
    const W* row = table + (long long)(known ? id : 0) * features;
    y += (long long)blockIdx.x * features;
    if (wide) {
        for (int i = threadIdx.x * 8; i < features; i += blockDim.x * 8) {
            float v[8] = {};
            if (known)
                load8(row + i, v);
            store8(y + i, v);
        }
    } else {
        for (int i = threadIdx.x; i < features; i += blockDim.x)
            y[i] = from_float<T>(known ? to_float(row[i]) : 0.0f);
    }
}

// A block a bag; weights may be null.
template <class W, class T>
DEVICE void embedding_bag(const W* table, const int* ids, const float* weights, T* y, int features, int entries, int n) {
    ids += (long long)blockIdx.x * n;
    if (weights)
        weights += (long long)blockIdx.x * n;
    for (int i = threadIdx.x; i < features; i += blockDim.x) {
        float sum = 0.0f;
        for (int j = 0; j < n; j++) {
            int id = ids[j];
            if (id >= 0 && id < entries)
                sum = fmaf(to_float(table[(long long)id * features + i]), weights ? weights[j] : 1.0f, sum);
        }
        y[(long long)blockIdx.x * features + i] = from_float<T>(sum);
    }
}

// y, a copy of the base, with rows put at, or added to, those that index names. blockIdx.y takes the rows of y whose
// number has that remainder, so that rows named twice are added in order and nothing is atomic.
template <class T>
DEVICE void scatter(T* y, const int* index, const T* rows, int n, int entries, int features, int add) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= features)
        return;
    for (int j = 0; j < n; j++) {
        int to = index[j];
        if (to < 0 || to >= entries || to % gridDim.y != blockIdx.y)
            continue;
        long long at = (long long)to * features + i;
        float value = to_float(rows[(long long)j * features + i]);
        y[at] = from_float<T>(add ? to_float(y[at]) + value : value);
    }
}

// Dimension d of y has size n_d and step s_d in x; unused ones come first, with size 1.
template <class T>
DEVICE void permute(const T* x, T* y, long long size, int n1, int n2, int n3, int n4, int n5, long long s0,
                    long long s1, long long s2, long long s3, long long s4, long long s5) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) {
        long long rest = i;
        long long from = rest % n5 * s5;
        rest /= n5;
        from += rest % n4 * s4;
        rest /= n4;
        from += rest % n3 * s3;
        rest /= n3;
        from += rest % n2 * s2;
        rest /= n2;
        from += rest % n1 * s1;
        from += rest / n1 * s0;
        y[i] = x[from];
    }
}

#define ROWS(W, WNAME, T, TNAME)                                                                                       \
    KERNEL(128)                                                                                                        \
    embedding_##WNAME##_##TNAME(const W* table, const int* ids, T* y, int features, int entries, int wide) {           \
        embedding(table, ids, y, features, entries, wide);                                                             \
    }                                                                                                                  \
    KERNEL(128)                                                                                                        \
    embedding_bag_##WNAME##_##TNAME(const W* table, const int* ids, const float* weights, T* y, int features,          \
                                    int entries, int n) {                                                              \
        embedding_bag(table, ids, weights, y, features, entries, n);                                                   \
    }

ROWS(bf16, bf16, bf16, bf16)
ROWS(float, f32, float, f32)
ROWS(bf16, bf16, float, f32)
ROWS(f16, f16, float, f32)
ROWS(f16, f16, f16, f16)

#define SCATTER(T, NAME)                                                                                               \
    KERNEL(128)                                                                                                        \
    scatter_##NAME(T* y, const int* index, const T* rows, int n, int entries, int features, int add) {                 \
        scatter(y, index, rows, n, entries, features, add);                                                            \
    }

SCATTER(bf16, bf16)
SCATTER(f16, f16)
SCATTER(float, f32)

#define PERMUTE(T, BITS)                                                                                               \
    KERNEL(256)                                                                                                        \
    permute_##BITS(const T* x, T* y, long long size, int n1, int n2, int n3, int n4, int n5, long long s0,             \
                   long long s1, long long s2, long long s3, long long s4, long long s5) {                             \
        permute(x, y, size, n1, n2, n3, n4, n5, s0, s1, s2, s3, s4, s5);                                               \
    }

PERMUTE(u16, 16)
PERMUTE(u32, 32)
