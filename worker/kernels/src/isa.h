/* Instruction sets: what one is, and which there are.
 *
 * The operators are written once, for sixteen numbers at a time (`isa/functions.h`, `isa/*_kernel.h`), and compiled for each instruction set by a file of its name in `isa/`: it says how sixteen
 * numbers lie in registers, how bytes are multiplied, and how many sums fit. A new one is such a file and its name in
 * `EACH_ISA`.
 */
#ifndef LEPTON_ISA_H
#define LEPTON_ISA_H

#include "ort_abi.h"

enum { LANES = 16 };

#define INLINE static inline __attribute__((always_inline))

typedef struct {
  const char *name; /* as in the attribute `isa` of a node */
  int (*runs_here)(void);
  int64_t rows; /* positions of one tile of a product: how rounded positions lie in memory */
  void (*round_position)(void *block_matmul_call, size_t position);
  void (*multiply)(void *block_matmul_call, size_t task);
  int64_t queries; /* of one tile of scores */
  void (*append)(void *attention_call, size_t task);
  void (*attend)(void *attention_call, size_t task);
  void (*find_largest)(void *largest_call, size_t row);
} Isa;

/* For a file in `isa/`: its own `runs_here`, and what the headers that it includes have made there. */
#define DEFINE_ISA(its_name)                                                                            \
  const Isa isa_##its_name = {                                                                          \
      .name = #its_name, .runs_here = runs_here, .rows = ROWS, .round_position = round_position,        \
      .multiply = multiply, .queries = QUERIES_SCORED, .append = append, .attend = attend,              \
      .find_largest = find_largest,                                                                     \
  };

/* The instruction set that a node names; an error when this processor lacks it. */
OrtStatus *isa_of(const OrtFunction *api, const OrtKernelInfo *info, const Isa **found);

#endif
