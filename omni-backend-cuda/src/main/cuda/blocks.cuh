// Weights in blocks of 32 neighbours of a row that share a scale: io.omni.api.DType's Q8 and Q4. On the card a matrix is the
// quantised values of all its rows, then all scales, so that 16-byte loads are aligned: 32 signed bytes a block, or 16
// with q + 8 of element j in byte j's low and of element j + 16 in its high half.
#pragma once
#include "common.cuh"

struct q8 {
    static constexpr int BYTES = 32;
    static constexpr int BIAS = 128;
    // Elements in 16 bytes.
    static constexpr int RUN = 16;
    // Four neighbours as q + BIAS, of a word's low or high halves.
    static DEVICE u32 biased(u32 word, bool) { return word ^ 0x80808080u; }
};
struct q4 {
    static constexpr int BYTES = 16;
    static constexpr int BIAS = 8;
    static constexpr int RUN = 32;
    static DEVICE u32 biased(u32 word, bool high) { return (high ? word >> 4 : word) & 0x0f0f0f0fu; }
};

template <class W>
constexpr bool IN_BLOCKS = false;
template <>
constexpr bool IN_BLOCKS<q8> = true;
template <>
constexpr bool IN_BLOCKS<q4> = true;

// A row; its values are null for none.
template <class Q>
struct Blocks {
    const unsigned char* values;
    const f16* scales;
};

// Row i of a matrix [rows, depth]; depth is whole blocks.
template <class Q>
DEVICE Blocks<Q> blocks_row(const Q* weight, int i, int rows, int depth) {
    long long blocks = depth / 32;
    const unsigned char* base = reinterpret_cast<const unsigned char*>(weight);
    return Blocks<Q>{base + i * blocks * Q::BYTES,
                     reinterpret_cast<const f16*>(base + rows * blocks * Q::BYTES) + i * blocks};
}
template <class W>
DEVICE const W* row_of(const W* weight, int i, int, int depth) {
    return weight + (long long)i * depth;
}
DEVICE Blocks<q8> row_of(const q8* weight, int i, int rows, int depth) { return blocks_row(weight, i, rows, depth); }
DEVICE Blocks<q4> row_of(const q4* weight, int i, int rows, int depth) { return blocks_row(weight, i, rows, depth); }

// Eight neighbours before they are numbers.
struct Eight {
    u32 words[2];
    float scale;

    // 0x47 makes byte u of the mantissa 2¹⁵ + u; the sum is scale · q, without rounding.
    template <class Q>
    DEVICE void unpack(bool high, float (&v)[8]) const {
        float offset = -(32768.0f + Q::BIAS) * scale;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 bytes = Q::biased(words[half], high);
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[half * 4 + i] =
                    fmaf(__uint_as_float(__byte_perm(bytes, 0x47000000u, 0x7404u | i << 4)), scale, offset);
        }
    }
};

// Where the eight from k on, a multiple of eight, have their bytes.
template <class Q>
DEVICE const unsigned char* eight_at(const Blocks<Q>& row, int k) {
    return row.values + k / 32 * Q::BYTES + k % Q::BYTES;
}
template <class Q>
DEVICE bool high_half(int k) {
    return k % 32 >= Q::BYTES;
}

template <class Q>
DEVICE Eight fetch8(const Blocks<Q>& row, int k) {
    uint2 words = *reinterpret_cast<const uint2*>(eight_at(row, k));
    return Eight{{words.x, words.y}, to_float(row.scales[k / 32])};
}

template <class Q>
DEVICE void load8(const Blocks<Q>& row, int k, float (&v)[8]) {
    fetch8(row, k).template unpack<Q>(high_half<Q>(k), v);
}
template <class W>
DEVICE void load8(const W* row, int k, float (&v)[8]) {
    load8(row + k, v);
}

template <class Q>
DEVICE float element(const Blocks<Q>& row, int k) {
    u32 biased = Q::biased(row.values[k / 32 * Q::BYTES + k % Q::BYTES], high_half<Q>(k)) & 255;
    return (float)((int)biased - Q::BIAS) * to_float(row.scales[k / 32]);
}
template <class W>
DEVICE float element(const W* row, int k) {
    return to_float(row[k]);
}
