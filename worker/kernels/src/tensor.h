/* Tensors of a kernel call, without ceremony. A status that is not NULL goes back to ONNX Runtime as it is. */
#ifndef LEPTON_TENSOR_H
#define LEPTON_TENSOR_H

#include "ort_abi.h"

#define TENSOR_DIMS_MAX 4
#define TRY(expression)                     \
  do {                                      \
    OrtStatus *failed_ = (expression);      \
    if (failed_ != NULL) return failed_;    \
  } while (0)

typedef struct {
  void *data; /* NULL when an optional input is absent */
  size_t num_dims;
  int64_t dims[TENSOR_DIMS_MAX];
} Tensor;

OrtStatus *tensor_input(const OrtFunction *api, const OrtKernelContext *context, size_t index, Tensor *found);
OrtStatus *tensor_output(const OrtFunction *api, OrtKernelContext *context, size_t index, Tensor *wanted);

/* Memory of the calling thread, reused by the next call on this thread, aligned to 64 bytes; NULL when there is none. */
void *scratch(int which, size_t num_bytes);

#endif
