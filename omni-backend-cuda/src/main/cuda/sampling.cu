// Drawing the next token, as io.omni.api.HostSampler defines it, without sorting the vocabulary.
//
// Scores become unsigned keys in their order. The k-th largest key, the key at which the kept probability reaches top p,
// and the key that a uniform number falls on are each found from the top digit down: a histogram of the keys' next eight
// bits, of their number or their probability, tells the digit. Probabilities are integers, 2⁻⁴⁰ of the likeliest one's, so
// that sums do not depend on the order of the threads.
#include "common.cuh"

struct SamplerState {
    u64 seed;
    u64 draws;
    float temperature;
    float topP;
    float penalty;
    int topK;
    int doSample;
    int words;
    u64 unused[3];
    // then words of bits: the tokens seen, the tokens suppressed
};
static_assert(sizeof(SamplerState) == 64, "as CudaSampler lays it out");

// Keys of −∞ and below; NaN has key 0.
constexpr u32 LOWEST = 0x007fffffu;

DEVICE u32 key_of(float score) {
    u32 bits = __float_as_uint(score + 0.0f);
    if (score != score)
        return 0;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVICE float score_of(u32 key) { return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

DEVICE u64 mass_of(u32 key, float largest) {
    return (u64)((double)expf(score_of(key) - largest) * 1099511627776.0);
}

// Number `index` of the random sequence of a seed, in [0, 1): SplitMix64 by counter.
DEVICE double uniform(u64 seed, u64 index) {
    u64 z = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (double)((z ^ z >> 31) >> 11) * (1.0 / 9007199254740992.0);
}

struct Found {
    u32 key;
    // what is above the key, and what equals it
    u64 above;
    u64 equal;
};

constexpr int SHARES = 16;

// The largest key such that everything down to it, itself included, comes to `target`: counts keys, or with `weighted`
// sums their masses. Keys below `least` do not count. If all do not reach the target, the least key there is.
DEVICE Found descend(const u32* keys, int n, u32 least, bool weighted, float largest, u64 target, u64* bins,
                     Found* found) {
    if (threadIdx.x == 0)
        *found = Found{0, 0, 0};
#pragma unroll 1
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256 * SHARES; i += blockDim.x)
            bins[i] = 0;
        __syncthreads();
        u32 prefix = found->key;
        u32 known = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            u32 key = keys[i];
            // lanes have bins of their own, since most scores share their top digits
            if (key >= least && key > LOWEST && (key & known) == prefix)
                atomicAdd(&bins[(key >> shift & 255) * SHARES + (threadIdx.x & (SHARES - 1))],
                          weighted ? mass_of(key, largest) : 1ull);
        }
        __syncthreads();
        if (threadIdx.x < 256) {
            u64 sum = 0;
            for (int s = 0; s < SHARES; s++)
                sum += bins[threadIdx.x * SHARES + s];
            bins[threadIdx.x * SHARES] = sum;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 0;
            u64 above = found->above;
            u64 equal = 0;
            for (int d = 255; d >= 0; d--) {
                u64 sum = bins[d * SHARES];
                if (sum == 0)
                    continue;
                above += equal;
                digit = d;
                equal = sum;
                if (above + equal >= target)
                    break;
            }
            *found = Found{prefix | (u32)digit << shift, above, equal};
        }
        __syncthreads();
    }
    Found result = *found;
    __syncthreads();
    return result;
}

// The index of number `rank` of the keys that equal `key`; threads take runs of indexes, so that it is the rank by index.
DEVICE int ranked(const u32* keys, int n, u32 key, u64 rank, u64* counts, int* result) {
    int run = (n + blockDim.x - 1) / blockDim.x;
    int from = threadIdx.x * run;
    int to = min(n, from + run);
    u64 count = 0;
    for (int i = from; i < to; i++)
        count += keys[i] == key;
    counts[threadIdx.x] = count;
    if (threadIdx.x == 0)
        *result = 0;
    __syncthreads();
    u64 before = 0;
    for (int t = 0; t < threadIdx.x; t++)
        before += counts[t];
    if (rank >= before && rank < before + count)
        for (int i = from; i < to; i++)
            if (keys[i] == key && before++ == rank)
                *result = i;
    __syncthreads();
    return *result;
}

// A block a row; keys [rows, vocabulary] is scratch.
template <class T>
DEVICE void sample(const T* logits, const u64* states, u32* keys, int* tokens, int vocabulary) {
    __shared__ u64 bins[256 * SHARES];
    __shared__ Found found;
    __shared__ int chosen;
    SamplerState* state = (SamplerState*)states[blockIdx.x];
    u32* seen = (u32*)(state + 1);
    const u32* suppressed = seen + state->words;
    logits += (long long)blockIdx.x * vocabulary;
    keys += (long long)blockIdx.x * vocabulary;
    bool draw = state->doSample != 0;
    // the largest key, the lowest id first
    u64 best = 0;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
        float score = to_float(logits[i]);
        if (state->penalty != 1.0f && seen[i / 32] >> i % 32 & 1)
            score = score < 0.0f ? score * state->penalty : score / state->penalty;
        if (suppressed[i / 32] >> i % 32 & 1)
            score = -INFINITE;
        if (draw)
            score = score / state->temperature;
        u32 key = key_of(score);
        if (draw)
            keys[i] = key;
        u64 candidate = (u64)key << 32 | (u32)~i;
        if (key > LOWEST && candidate > best)
            best = candidate;
    }
    bins[threadIdx.x] = best;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            bins[threadIdx.x] = max(bins[threadIdx.x], bins[threadIdx.x + half]);
        __syncthreads();
    }
    best = bins[0];
    __syncthreads();
    int token = best == 0 ? 0 : (int)~(u32)best;
    if (draw && best != 0) {
        float largest = score_of((u32)(best >> 32));
        u32 least = 0;
        if (state->topK > 0 && state->topK < vocabulary)
            least = descend(keys, vocabulary, 0, false, largest, state->topK, bins, &found).key;
        // a target out of reach ends at the least key, with everything above or equal
        Found all = descend(keys, vocabulary, least, true, largest, ~0ull >> 1, bins, &found);
        u64 total = all.above + all.equal;
        if (state->topP < 1.0f) {
            u64 target = (u64)ceil((double)state->topP * (double)total);
            Found cut = descend(keys, vocabulary, least, true, largest, target, bins, &found);
            u64 one = mass_of(cut.key, largest);
            u64 ties = one == 0 ? 0 : (target - min(target, cut.above) + one - 1) / one;
            total = min(total, cut.above + ties * one);
            least = cut.key;
        }
        u64 target = (u64)(uniform(state->seed, state->draws) * (double)total) + 1;
        Found hit = descend(keys, vocabulary, least, true, largest, min(target, total), bins, &found);
        u64 one = mass_of(hit.key, largest);
        u64 rank = one == 0 || target <= hit.above ? 0 : (min(target, total) - 1 - hit.above) / one;
        token = ranked(keys, vocabulary, hit.key, rank, bins, &chosen);
    }
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = token;
        seen[token / 32] |= 1u << token % 32;
        state->draws++;
    }
}

#define SAMPLE(T, NAME)                                                                                                \
    KERNEL(1024) sample_##NAME(const T* logits, const u64* states, u32* keys, int* tokens, int vocabulary) {           \
        sample(logits, states, keys, tokens, vocabulary);                                                              \
    }

SAMPLE(bf16, bf16)
SAMPLE(f16, f16)
SAMPLE(float, f32)
