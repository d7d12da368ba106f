/* AVX2 with AVX-VNNI: Intel's client processors from Alder Lake on, which have no AVX-512. */
#pragma GCC target("avx2,fma,f16c,avxvnni")
#include "lanes_256.h"

INLINE Ints vpdpbusd(Ints sum, Ints weights, Ints x) { return EACH_3(Ints, _mm256_dpbusd_avx_epi32, sum, weights, x); }

#include "dot_vnni.h"

#include "block_matmul_kernel.h"
#include "attention_kernel.h"
#include "largest_kernel.h"

static int runs_here(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("avxvnni");
}

DEFINE_ISA(avx_vnni)
