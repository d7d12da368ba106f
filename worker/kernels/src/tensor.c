#include "tensor.h"

#include <stdlib.h>

OrtStatus *tensor_input(const OrtFunction *api, const OrtKernelContext *context, size_t index, Tensor *found) {
  const OrtValue *value = NULL;
  OrtTensorInfo *info = NULL;
  *found = (Tensor){0};
  TRY(ort_input(api)(context, index, &value));
  if (value == NULL) return NULL;
  TRY(ort_data(api)((OrtValue *)value, &found->data));
  TRY(ort_tensor_info(api)(value, &info));
  OrtStatus *failed = ort_num_dims(api)(info, &found->num_dims);
  if (failed == NULL && found->num_dims > TENSOR_DIMS_MAX)
    failed = ort_status(api)(ORT_INVALID_ARGUMENT, "lepton: a tensor has more than four dimensions");
  if (failed == NULL) failed = ort_dims(api)(info, found->dims, found->num_dims);
  ort_release_tensor_info(api)(info);
  return failed;
}

OrtStatus *tensor_output(const OrtFunction *api, OrtKernelContext *context, size_t index, Tensor *wanted) {
  OrtValue *value = NULL;
  TRY(ort_output(api)(context, index, wanted->dims, wanted->num_dims, &value));
  return ort_data(api)(value, &wanted->data);
}

void *scratch(int which, size_t num_bytes) {
  static _Thread_local struct {
    void *memory;
    size_t size;
  } kept[4];
  if (kept[which].size < num_bytes) {
    free(kept[which].memory);
    kept[which].size = (num_bytes + 4095) / 4096 * 4096;
    kept[which].memory = aligned_alloc(64, kept[which].size);
    if (kept[which].memory == NULL) kept[which].size = 0;
  }
  return kept[which].memory;
}
