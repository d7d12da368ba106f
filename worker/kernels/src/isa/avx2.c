/* AVX2 with FMA and F16C: Intel from Haswell on, AMD from Zen on. */
#pragma GCC target("avx2,fma,f16c")
#include "lanes_256.h"

#include "dot_pairs.h"

#include "block_matmul_kernel.h"
#include "attention_kernel.h"
#include "largest_kernel.h"

static int runs_here(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

DEFINE_ISA(avx2)
