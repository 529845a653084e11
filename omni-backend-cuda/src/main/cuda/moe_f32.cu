// Activations in float32.
#include "moe.cuh"

PLAIN(float, f32_f32)
PLAIN(bf16, f32_bf16)
PLAIN(f16, f32_f16)
PLAIN(q8, f32_q8)
PLAIN(q4, f32_q4)
COMBINE(float, f32)
