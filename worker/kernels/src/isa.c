#include "isa.h"

#include <string.h>

#include "operators.h"
#include "tensor.h"


/* The best one first. */
static const Isa *const all[] = {
    &isa_avx512_vnni,
    &isa_avx_vnni,
    &isa_avx2,
};
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
