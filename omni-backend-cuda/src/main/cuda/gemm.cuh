// Tiles of matrix products, C[m, n] = Σ A[m, k] · B[n, k], for operands that a loader finds: rows of a matrix, rows named
// by an index, or the taps of a convolution.
//
// A loader has a type Element, row(i), which does the work that is the same for all k, and at(row, k), the address of an
// element or null for a zero; any() is some address that can be read. With `wide`, eight elements from a multiple of eight
// on are neighbours at a 16-byte boundary and exist or not together. Of weights in blocks, row(i) is all there is to know.
// A sink takes two neighbouring results at a time.
#pragma once
#include "blocks.cuh"

template <class L>
constexpr bool LOADS_BLOCKS = IN_BLOCKS<typename L::Element>;

// One element as a number, 0 if it is not there.
template <class L>
DEVICE float value(const L& loader, const typename L::Row& row, int k) {
    if constexpr (LOADS_BLOCKS<L>) {
        return row.values ? element(row, k) : 0.0f;
    } else {
        const typename L::Element* from = loader.at(row, k);
        return from ? to_float(*from) : 0.0f;
    }
}

// Rows of a matrix.
template <class T>
struct MatrixRows {
    typedef T Element;
    typedef decltype(row_of((const T*)nullptr, 0, 0, 0)) Row;
    const T* base;
    int rows;
    int depth;
    DEVICE const T* any() const { return base; }
    DEVICE Row row(int i) const { return i < rows ? row_of(base, i, rows, depth) : Row{}; }
    DEVICE const T* at(Row row, int k) const { return row ? row + k : nullptr; }
};

// Rows of two matrices in turn, `run` of one and then `run` of the other, so that a thread ends up with both results.
template <class T, int run>
struct PairedRows {
    typedef T Element;
    typedef decltype(row_of((const T*)nullptr, 0, 0, 0)) Row;
    const T* first;
    const T* second;
    int rows;
    int depth;
    DEVICE const T* any() const { return first; }
    DEVICE Row row(int i) const {
        int block = i / run;
        int at = block / 2 * run + i % run;
        return at < rows ? row_of(block % 2 ? second : first, at, rows, depth) : Row{};
    }
    DEVICE const T* at(Row row, int k) const { return row ? row + k : nullptr; }
};

// Tile of 32-element steps in shared memory: 16-byte chunks, swizzled so that eight rows of a chunk touch all banks.
template <class T>
DEVICE T* chunk(T* tile, int row, int chunk) { return tile + row * 32 + (chunk ^ (row >> 1 & 3)) * 8; }

// On the tensor cores, in T, bf16 or f16. paired: columns are those of PairedRows<.., 8>, and the sink gets silu(first) ·
// second. Elements of b are T too, or in blocks.
template <class T, int M, int N, int WARPS_M, int WARPS_N, bool paired>
struct TensorTile {
    static constexpr int ROWS = M;
    static constexpr int COLUMNS = N;
    static constexpr int THREADS = WARPS_M * WARPS_N * 32;
    static constexpr int RUN = 8;
    static constexpr int STAGES = 3;
    static constexpr int SHARED = STAGES * (M + N) * 32 * 2;

    template <class L>
    static DEVICE void load(const L& loader, const typename L::Row* rows, T* tile, int count, int at, int end,
                            bool wide) {
#pragma unroll 4
        for (int i = 0; i < count; i++) {
            int piece = threadIdx.x + i * THREADS;
            int k = at + (piece & 3) * 8;
            T* to = chunk(tile, piece >> 2, piece & 3);
            if (wide) {
                const T* from = k < end ? loader.at(rows[i], k) : nullptr;
                copy_async(to, from ? from : loader.any(), from != nullptr);
            } else {
#pragma unroll 1
                for (int e = 0; e < 8; e++) {
                    const T* from = k + e < end ? loader.at(rows[i], k + e) : nullptr;
                    to[e] = from ? *from : T{0};
                }
            }
        }
    }

    // Blocks pass through registers: fetched before the products of a step, unpacked after them.
    template <int count, class L>
    static DEVICE void fetch(Eight (&pieces)[count], const typename L::Row (&rows)[count], int at, int end) {
#pragma unroll
        for (int i = 0; i < count; i++) {
            int k = at + ((threadIdx.x + i * THREADS) & 3) * 8;
            pieces[i] = k < end && rows[i].values ? fetch8(rows[i], k) : Eight{};
        }
    }
    template <int count, class Q>
    static DEVICE void unpack(const Eight (&pieces)[count], T* tile) {
#pragma unroll
        for (int i = 0; i < count; i++) {
            int piece = threadIdx.x + i * THREADS;
            float v[8];
            Q::unpack(pieces[i].words, pieces[i].scale, v);
            store8(chunk(tile, piece >> 2, piece & 3), v);
        }
    }

    template <class A, class B, class Sink>
    static DEVICE void run(const A& a, const B& b, const Sink& sink, int row, int column, int begin, int end, bool wide,
                           unsigned char* shared) {
        constexpr int A_PIECES = M * 4 / THREADS;
        constexpr int B_PIECES = N * 4 / THREADS;
        constexpr int TM = M / WARPS_M / 16;
        constexpr int TN = N / WARPS_N / 8;
        T* aTiles = reinterpret_cast<T*>(shared);
        T* bTiles = aTiles + STAGES * M * 32;
        int lane = threadIdx.x & 31;
        int warp = threadIdx.x >> 5;
        int warpRow = warp / WARPS_N * (M / WARPS_M);
        int warpColumn = warp % WARPS_N * (N / WARPS_N);

        typename A::Row aRows[A_PIECES];
        typename B::Row bRows[B_PIECES];
#pragma unroll
        for (int i = 0; i < A_PIECES; i++)
            aRows[i] = a.row(row + ((threadIdx.x + i * THREADS) >> 2));
#pragma unroll
        for (int i = 0; i < B_PIECES; i++)
            bRows[i] = b.row(column + ((threadIdx.x + i * THREADS) >> 2));

        Eight pieces[B_PIECES];
        auto start = [&](int step) {
            T* aTile = aTiles + step % STAGES * M * 32;
            load(a, aRows, aTile, A_PIECES, begin + step * 32, end, wide);
            if constexpr (LOADS_BLOCKS<B>)
                fetch<B_PIECES, B>(pieces, bRows, begin + step * 32, end);
            else
                load(b, bRows, bTiles + step % STAGES * N * 32, B_PIECES, begin + step * 32, end, wide);
        };
        auto finish = [&](int step) {
            if constexpr (LOADS_BLOCKS<B>)
                unpack<B_PIECES, typename B::Element>(pieces, bTiles + step % STAGES * N * 32);
        };

        float sums[TM][TN][4] = {};
        int steps = (end - begin + 31) / 32;
#pragma unroll 1
        for (int s = 0; s < STAGES - 1; s++) {
            if (s < steps) {
                start(s);
                finish(s);
            }
            commit_copies();
        }
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            await_copies<STAGES - 2>();
            // also keeps the stage that is loaded next from those still reading it
            __syncthreads();
            int ahead = step + STAGES - 1;
            if (ahead < steps)
                start(ahead);
            commit_copies();
            T* aTile = aTiles + step % STAGES * M * 32;
            T* bTile = bTiles + step % STAGES * N * 32;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                u32 aParts[TM][4];
                u32 bParts[TN / 2][4];
#pragma unroll
                for (int i = 0; i < TM; i++)
                    load_matrices(aParts[i], chunk(aTile, warpRow + i * 16 + (lane & 15), half * 2 + (lane >> 4)));
#pragma unroll
                for (int j = 0; j < TN / 2; j++)
                    load_matrices(bParts[j], chunk(bTile, warpColumn + j * 16 + (lane & 7) + (lane >> 4) * 8,
                                                   half * 2 + (lane >> 3 & 1)));
#pragma unroll
                for (int i = 0; i < TM; i++)
#pragma unroll
                    for (int j = 0; j < TN; j++)
                        mma<T>(sums[i][j], aParts[i], bParts[j / 2][j % 2 * 2], bParts[j / 2][j % 2 * 2 + 1]);
            }
            if (ahead < steps)
                finish(ahead);
        }

        // Results go through shared memory, sixteen rows a warp at a time, so that stores of a row are together.
        __syncthreads();
        constexpr int STRIDE = N / WARPS_N + 4;
        float* mine = reinterpret_cast<float*>(shared) + warp * 16 * STRIDE;
#pragma unroll
        for (int i = 0; i < TM; i++) {
            __syncwarp();
#pragma unroll
            for (int j = 0; j < TN; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    mine[(lane / 4 + e / 2 * 8) * STRIDE + j * 8 + lane % 4 * 2 + e % 2] = sums[i][j][e];
            __syncwarp();
            constexpr int PAIRS = N / WARPS_N / (paired ? 4 : 2);
#pragma unroll 1
            for (int p = lane; p < 16 * PAIRS; p += 32) {
                int r = p / PAIRS;
                int c = p % PAIRS * 2;
                int outRow = row + warpRow + i * 16 + r;
                if (paired) {
                    const float* gate = mine + r * STRIDE + c / 8 * 16 + c % 8;
                    sink(outRow, (column + warpColumn) / 2 + c, silu(gate[0]) * gate[8], silu(gate[1]) * gate[9]);
                } else {
                    sink(outRow, column + warpColumn + c, mine[r * STRIDE + c], mine[r * STRIDE + c + 1]);
                }
            }
        }
    }
};

// With float32 multiply-adds: any element types, exact to float32. paired: columns are those of PairedRows<.., 1>.
template <bool paired>
struct PlainTile {
    static constexpr int ROWS = 64;
    static constexpr int COLUMNS = 64;
    static constexpr int THREADS = 256;
    static constexpr int RUN = 1;
    static constexpr int STRIDE = 68;
    static constexpr int SHARED = 64 * STRIDE * 4;

    template <class L>
    static DEVICE void load(const L& loader, const typename L::Row* rows, float* tile, int at, int end) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int piece = threadIdx.x + i * THREADS;
            int k = at + (piece & 15);
            tile[(piece & 15) * STRIDE + (piece >> 4)] = k < end ? value(loader, rows[i], k) : 0.0f;
        }
    }

    template <class A, class B, class Sink>
    static DEVICE void run(const A& a, const B& b, const Sink& sink, int row, int column, int begin, int end, bool,
                           unsigned char* shared) {
        float* aTile = reinterpret_cast<float*>(shared);
        float* bTile = aTile + 16 * STRIDE;
        typename A::Row aRows[4];
        typename B::Row bRows[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            aRows[i] = a.row(row + ((threadIdx.x + i * THREADS) >> 4));
            bRows[i] = b.row(column + ((threadIdx.x + i * THREADS) >> 4));
        }
        int tm = threadIdx.x / 16 * 4;
        int tn = threadIdx.x % 16 * 4;
        float sums[4][4] = {};
#pragma unroll 1
        for (int at = begin; at < end; at += 16) {
            load(a, aRows, aTile, at, end);
            load(b, bRows, bTile, at, end);
            __syncthreads();
#pragma unroll
            for (int k = 0; k < 16; k++) {
                float4 x = *reinterpret_cast<float4*>(aTile + k * STRIDE + tm);
                float4 y = *reinterpret_cast<float4*>(bTile + k * STRIDE + tn);
                float xs[4] = {x.x, x.y, x.z, x.w};
                float ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        sums[i][j] = fmaf(xs[i], ys[j], sums[i][j]);
            }
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                aTile[(tm + i) * STRIDE + tn + j] = sums[i][j];
        __syncthreads();
        constexpr int PAIRS = paired ? 16 : 32;
#pragma unroll 1
        for (int p = threadIdx.x; p < 64 * PAIRS; p += THREADS) {
            int r = p / PAIRS;
            int c = p % PAIRS * 2;
            const float* from = aTile + r * STRIDE + c * (paired ? 2 : 1);
            if (paired)
                sink(row + r, column / 2 + c, silu(from[0]) * from[1], silu(from[2]) * from[3]);
            else
                sink(row + r, column + c, from[0], from[1]);
        }
    }
};

// Rows of a result, with bias and activation: y in its own type, or `exact` in float32 if not null.
template <class T>
struct ResultRows {
    T* y;
    float* exact;
    const float* bias;
    int activation;
    int rows;
    int columns;

    DEVICE void store(int row, int column, float value) const {
        if (bias)
            value += bias[column];
        value = activate(activation, value);
        long long at = (long long)row * columns + column;
        if (exact)
            exact[at] = value;
        else
            y[at] = from_float<T>(value);
    }

    DEVICE void operator()(int row, int column, float first, float second) const {
        if (row >= rows)
            return;
        if (column < columns)
            store(row, column, first);
        if (column + 1 < columns)
            store(row, column + 1, second);
    }
};

template <class T>
using Large = TensorTile<T, 128, 128, 2, 4, false>;
template <class T>
using LargePaired = TensorTile<T, 128, 128, 2, 4, true>;
template <class T>
using Small = TensorTile<T, 64, 64, 2, 2, false>;
template <class T>
using SmallPaired = TensorTile<T, 64, 64, 2, 2, true>;
typedef PlainTile<false> Plain;
typedef PlainTile<true> PlainPaired;
