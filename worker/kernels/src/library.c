/* What ONNX Runtime calls when a session is told to load this library. */
#include "operators.h"

#include <stdlib.h>
#include <string.h>

PUBLIC OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  const OrtFunction *api = base->table(ORT_ABI_VERSION);
  if (api == NULL) return NULL;     /* too old: a graph that names an operator of ours will not load */
  OrtCustomOpDomain *domain = NULL; /* lives as long as the process: sessions refer to it */
  OrtStatus *failed = ort_domain_create(api)("lepton", &domain);
  if (failed == NULL) failed = ort_domain_add(api)(domain, &block_matmul);
  if (failed == NULL) failed = ort_domain_add(api)(domain, &attention);
  if (failed == NULL) failed = ort_domain_add(api)(domain, &largest);
  if (failed == NULL) failed = ort_options_add(api)(options, domain);
  return failed;
}

OrtStatus *operator_keep(const OrtFunction *api, const void *attributes, size_t size, void **kernel) {
  *kernel = malloc(size);
  if (*kernel == NULL) return ort_status(api)(ORT_FAIL, "lepton: no memory for an operator");
  memcpy(*kernel, attributes, size);
  return NULL;
}

const char *operator_provider(const struct OrtCustomOp *self) {
  (void)self;
  return NULL;
}

int operator_memory(const struct OrtCustomOp *self, size_t index) {
  (void)self, (void)index;
  return 0;
}

size_t operator_one(const struct OrtCustomOp *self) {
  (void)self;
  return 1;
}

int operator_float(const struct OrtCustomOp *self, size_t index) {
  (void)self, (void)index;
  return ORT_FLOAT;
}

int operator_required(const struct OrtCustomOp *self, size_t index) {
  (void)self, (void)index;
  return ORT_REQUIRED;
}
