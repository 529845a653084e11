// Weights in blocks of 32 neighbours of a row that share a scale: io.omni.api.DType's Q8 and Q4. On the card a matrix is the
// quantised values of all its rows, then all scales, so that 16-byte loads are aligned. Values are four to a word, q + 128,
// or eight, q + 8, the first in the lowest bits.
#pragma once
#include "common.cuh"

// The four bytes u of a word as scale · u + offset, into every STEP-th. 0x47 makes byte u of the mantissa 2¹⁵ + u, so that
// with an offset of −(2¹⁵ + bias) · scale the sum is scale · q without rounding.
template <int STEP>
DEVICE void expand(u32 bytes, float scale, float offset, float* v) {
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i * STEP] = fmaf(__uint_as_float(__byte_perm(bytes, 0x47000000u, 0x7404u | i << 4)), scale, offset);
}

struct q8 {
    // Bytes of a block, and words of eight elements.
    static constexpr int BYTES = 32;
    static constexpr int WORDS = 2;
    static DEVICE void unpack(const u32* words, float scale, float (&v)[8]) {
        float offset = -(32768.0f + 128.0f) * scale;
        expand<1>(words[0], scale, offset, v);
        expand<1>(words[1], scale, offset, v + 4);
    }
    static DEVICE int get(const unsigned char* block, int i) { return block[i] - 128; }
};
struct q4 {
    static constexpr int BYTES = 16;
    static constexpr int WORDS = 1;
    static DEVICE void unpack(const u32* words, float scale, float (&v)[8]) {
        float offset = -(32768.0f + 8.0f) * scale;
        expand<2>(words[0] & 0x0f0f0f0fu, scale, offset, v);
        expand<2>(words[0] >> 4 & 0x0f0f0f0fu, scale, offset, v + 1);
    }
    static DEVICE int get(const unsigned char* block, int i) { return (block[i / 2] >> i % 2 * 4 & 15) - 8; }
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
};

// Those from k on, a multiple of eight.
template <class Q>
DEVICE Eight fetch8(const Blocks<Q>& row, int k) {
    const u32* words = reinterpret_cast<const u32*>(row.values) + k / 8 * Q::WORDS;
    float scale = to_float(row.scales[k / 32]);
    if constexpr (Q::WORDS == 2) {
        uint2 both = *reinterpret_cast<const uint2*>(words);
        return Eight{{both.x, both.y}, scale};
    } else {
        return Eight{{*words, 0}, scale};
    }
}

template <class Q>
DEVICE void load8(const Blocks<Q>& row, int k, float (&v)[8]) {
    Eight eight = fetch8(row, k);
    Q::unpack(eight.words, eight.scale, v);
}
template <class W>
DEVICE void load8(const W* row, int k, float (&v)[8]) {
    load8(row + k, v);
}

template <class Q>
DEVICE float element(const Blocks<Q>& row, int k) {
    return (float)Q::get(row.values + k / 32 * Q::BYTES, k % 32) * to_float(row.scales[k / 32]);
}
template <class W>
DEVICE float element(const W* row, int k) {
    return to_float(row[k]);
}
