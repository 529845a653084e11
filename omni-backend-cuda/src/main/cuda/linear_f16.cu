// Activations in float16.
#include "linear.cuh"

TENSOR(f16, f16, f16_f16)
TENSOR(f16, q8, f16_q8)
TENSOR(f16, q4, f16_q4)
MERGE(f16, f16)
