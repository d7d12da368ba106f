/* The operator Largest: what it is given, how it is shared out. */
#include "largest.h"

#include <stdlib.h>

#include "operators.h"
#include "tensor.h"

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
  const Largest *op = kernel;
  Tensor x;
  TRY(tensor_input(op->api, context, 0, &x));
  if (x.num_dims != 2 || x.dims[1] < 1 || x.dims[1] > INT32_MAX - LANES)
    return ort_status(op->api)(ORT_INVALID_ARGUMENT, "lepton.Largest: x is not [rows, size]");
  Tensor y = {.num_dims = 1, .dims = {x.dims[0]}};
  TRY(tensor_output(op->api, context, 0, &y));
  LargestCall call = {.x = x.data, .size = x.dims[1], .y = y.data};
  if (x.dims[0] > 1) return ort_parallel_for(op->api)(context, op->isa->find_largest, x.dims[0], 0, &call);
  if (x.dims[0] == 1) op->isa->find_largest(&call, 0);
  return NULL;
}

static OrtStatus *create(const struct OrtCustomOp *self, const OrtFunction *api, const OrtKernelInfo *info,
                         void **kernel) {
  (void)self;
  Largest op = {.api = api};
  TRY(isa_of(api, info, &op.isa));
  return operator_keep(api, &op, sizeof op, kernel);
}

static const char *name(const struct OrtCustomOp *self) {
  (void)self;
  return "Largest";
}

static int output_type(const struct OrtCustomOp *self, size_t index) {
  (void)self, (void)index;
  return ORT_INT64;
}

const struct OrtCustomOp largest = {
    .version = ORT_ABI_VERSION,
    .name = name,
    .provider = operator_provider,
    .input_type = operator_float,
    .num_inputs = operator_one,
    .output_type = output_type,
    .num_outputs = operator_one,
    .destroy = free,
    .input_kind = operator_required,
    .output_kind = operator_required,
    .input_memory = operator_memory,
    .create = create,
    .compute = compute,
};
