#include "isa.h"

#include <string.h>

#include "operators.h"
#include "tensor.h"

/* The best one first. */
#define EACH_ISA(DO) DO(avx512_vnni) DO(avx_vnni) DO(avx2)

#define DECLARE(name) extern const Isa isa_##name;
#define ADDRESS(name) &isa_##name,
EACH_ISA(DECLARE)
static const Isa *const all[] = {EACH_ISA(ADDRESS)};
enum { NUM_ALL = sizeof all / sizeof *all, NAME_MAX = 32 };

OrtStatus *isa_of(const OrtFunction *api, const OrtKernelInfo *info, const Isa **found) {
  char name[NAME_MAX];
  size_t size = sizeof name;
  TRY(ort_attribute_string(api)(info, "isa", name, &size));
  for (int i = 0; i < NUM_ALL; i++) {
    *found = all[i];
    if (strcmp(name, all[i]->name) == 0 && all[i]->runs_here()) return NULL;
  }
  return ort_status(api)(ORT_INVALID_ARGUMENT, "lepton: this processor or library lacks the node's instruction set");
}

/* The name of the index-th instruction set that this processor has, the best one first; NULL behind the last. */
PUBLIC const char *lepton_kernels_isa(int index) {
  __builtin_cpu_init();
  for (int i = 0; i < NUM_ALL; i++)
    if (all[i]->runs_here() && index-- == 0) return all[i]->name;
  return NULL;
}
