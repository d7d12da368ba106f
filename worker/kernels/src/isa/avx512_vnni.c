/* AVX-512 with VNNI: Intel from Cascade Lake and Ice Lake on, AMD from Zen 4 on. */
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#include "lanes_512.h"

INLINE Ints vpdpbusd(Ints sum, Ints weights, Ints x) { return _mm512_dpbusd_epi32(sum, weights, x); }

#include "dot_vnni.h"

#include "block_matmul_kernel.h"
#include "attention_kernel.h"
#include "largest_kernel.h"

static int runs_here(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

DEFINE_ISA(avx512_vnni)
