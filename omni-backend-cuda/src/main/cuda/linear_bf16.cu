// Activations in bfloat16.
#include "linear.cuh"

TENSOR(bf16, bf16, bf16_bf16)
TENSOR(bf16, q8, bf16_q8)
TENSOR(bf16, q4, bf16_q4)
MERGE(bf16, bf16)
