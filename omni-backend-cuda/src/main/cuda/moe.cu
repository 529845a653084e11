// Which experts a token goes to, and the order of the work that follows from it.
#include "common.cuh"

// A warp a token: softmax of the logits, the k largest, the lower expert first on a tie.
KERNEL(128)
moe_choose(const float* logits, int* chosen, float* share, int tokens, int experts, int k, int normalise) {
    DYNAMIC_SHARED(scratch);
    int token = blockIdx.x * 4 + (threadIdx.x >> 5);
    if (token >= tokens)
        return;
    int lane = threadIdx.x & 31;
    float* p = reinterpret_cast<float*>(scratch) + (threadIdx.x >> 5) * experts;
    logits += (long long)token * experts;
    float largest = -INFINITE;
    for (int i = lane; i < experts; i += 32)
        largest = fmaxf(largest, logits[i]);
    largest = warp_max(largest);
    float sum = 0.0f;
    for (int i = lane; i < experts; i += 32)
        sum += p[i] = expf(logits[i] - largest);
    sum = warp_sum(sum);
    __syncwarp();
    float kept = 0.0f;
    for (int c = 0; c < k; c++) {
        float best = -1.0f;
        int at = experts;
        for (int i = lane; i < experts; i += 32)
            if (p[i] > best) {
                best = p[i];
                at = i;
            }
#pragma unroll
        for (int step = 16; step > 0; step >>= 1) {
            float other = __shfl_xor_sync(0xffffffffu, best, step);
            int otherAt = __shfl_xor_sync(0xffffffffu, at, step);
            if (other > best || (other == best && otherAt < at)) {
                best = other;
                at = otherAt;
            }
        }
        // logits that are all NaN choose nothing; expert 0 then keeps the indexes in range
        at = at < experts ? at : 0;
        kept += best;
        if (lane == 0) {
            p[at] = -2.0f;
            chosen[token * k + c] = at;
            share[token * k + c] = best / sum;
        }
        __syncwarp();
    }
    if (normalise && lane < k)
        for (int c = lane; c < k; c += 32)
            share[token * k + c] *= sum / kept;
}

// One block: the choices, numbers of token · k + c, in order of their experts; and the tiles of tileRows that cover them,
// each an expert, the first of its choices and the end of the expert's, or expert −1 for no tile.
KERNEL(1024)
moe_plan(const int* chosen, int choices, int experts, int tileRows, int* order, int* tiles, int tileLimit) {
    DYNAMIC_SHARED(scratch);
    int* counts = reinterpret_cast<int*>(scratch);
    int* starts = counts + experts;
    int* firstTile = starts + experts + 1;
    for (int e = threadIdx.x; e < experts; e += blockDim.x)
        counts[e] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < choices; i += blockDim.x)
        atomicAdd(&counts[chosen[i]], 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        int start = 0;
        int tile = 0;
        for (int e = 0; e < experts; e++) {
            starts[e] = start;
            firstTile[e] = tile;
            start += counts[e];
            tile += (counts[e] + tileRows - 1) / tileRows;
        }
        starts[experts] = start;
        firstTile[experts] = tile;
    }
    __syncthreads();
    for (int t = threadIdx.x; t < tileLimit; t += blockDim.x)
        if (t >= firstTile[experts])
            tiles[3 * t] = -1;
    for (int e = threadIdx.x; e < experts; e += blockDim.x) {
        for (int t = firstTile[e]; t < firstTile[e + 1]; t++) {
            tiles[3 * t] = e;
            tiles[3 * t + 1] = starts[e] + (t - firstTile[e]) * tileRows;
            tiles[3 * t + 2] = starts[e + 1];
        }
        counts[e] = 0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < choices; i += blockDim.x) {
        int e = chosen[i];
        order[starts[e] + atomicAdd(&counts[e], 1)] = i;
    }
}
