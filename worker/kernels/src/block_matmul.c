/* The operator BlockMatMul: what it is given, how it is shared out. */
#include "block_matmul.h"

#include <stdlib.h>

#include "operators.h"
#include "tensor.h"

/* Bytes of rounded positions that are worked on before the next weights come: they should stay in the level-2 cache. */
enum { POSITIONS_BYTES = 384 << 10 };

static OrtStatus *run(const BlockMatMul *op, OrtKernelContext *context, BlockMatMulCall *call) {
  const OrtFunction *api = op->api;
  const Isa *isa = op->isa;
  const size_t num_positions = call->num_positions, blocks = num_positions * call->num_blocks;
  char *memory = scratch(0, num_positions * call->padded + 64 + 3 * blocks * sizeof(float));
  if (memory == NULL) return ort_status(api)(ORT_FAIL, "lepton.BlockMatMul: no memory");
  call->scale = (float *)memory;
  call->sum = call->scale + blocks;
  call->start = (int32_t *)(call->sum + blocks);
  call->rounded = (int8_t *)(call->start + blocks);
  if (num_positions * op->size < 32768) {
    for (size_t position = 0; position < num_positions; position++) isa->round_position(call, position);
  } else {
    TRY(ort_parallel_for(api)(context, isa->round_position, num_positions, 0, call));
  }
  /* In shares of the positions that fit into the level-2 cache. */
  BlockMatMulCall share = *call;
  const int64_t groups = POSITIONS_BYTES / call->padded / isa->rows, most = (groups > 0 ? groups : 1) * isa->rows;
  for (int64_t from = 0; from < call->num_positions; from += most) {
    share.num_positions = call->num_positions - from < most ? call->num_positions - from : most;
    share.rounded = call->rounded + from * call->padded;
    share.scale = call->scale + from * call->num_blocks;
    share.sum = call->sum + from * call->num_blocks;
    share.start = call->start + from * call->num_blocks;
    share.y = call->y + from * call->width;
    TRY(ort_parallel_for(api)(context, isa->multiply, call->num_tasks, 0, &share));
  }
  return NULL;
}

static int64_t count(const Tensor *tensor) {
  int64_t product = 1;
  for (size_t i = 0; i < tensor->num_dims; i++) product *= tensor->dims[i];
  return product;
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
  const BlockMatMul *op = kernel;
  Tensor x, weights, scales, zeros, bias;
  TRY(tensor_input(op->api, context, 0, &x));
  TRY(tensor_input(op->api, context, 1, &weights));
  TRY(tensor_input(op->api, context, 2, &scales));
  TRY(tensor_input(op->api, context, 3, &zeros));
  TRY(tensor_input(op->api, context, 4, &bias));
  BlockMatMulCall call = {.op = op, .x = x.data, .weights = weights.data, .scales = scales.data};
  call.zeros = zeros.data;
  call.bias = bias.data;
  call.padded = (op->size + 7) / 8 * 8;
  call.num_blocks = (op->size + op->block - 1) / op->block;
  call.num_tasks = (op->num_outputs + OUTPUTS - 1) / OUTPUTS;
  const int64_t num_scales = call.num_tasks * call.num_blocks * OUTPUTS;
  if (x.num_dims < 1 || x.dims[x.num_dims - 1] != op->size ||
      count(&weights) != call.num_tasks * OUTPUTS * call.padded * op->bits / 8 ||
      count(&scales) != num_scales || (zeros.data != NULL && count(&zeros) != num_scales) ||
      (bias.data != NULL && (op->gated || count(&bias) != op->num_outputs)))
    return ort_status(op->api)(ORT_INVALID_ARGUMENT, "lepton.BlockMatMul: shapes do not fit its attributes");
  call.num_positions = count(&x) / op->size;
  Tensor y = x;
  call.width = op->gated ? op->num_outputs / 2 : op->num_outputs;
  y.dims[y.num_dims - 1] = call.width;
  TRY(tensor_output(op->api, context, 0, &y));
  call.y = y.data;
  if (call.num_positions == 0) return NULL;
  return run(op, context, &call);
}

static OrtStatus *create(const struct OrtCustomOp *self, const OrtFunction *api, const OrtKernelInfo *info,
                         void **kernel) {
  (void)self;
  BlockMatMul op = {.api = api};
  TRY(ort_attribute_int(api)(info, "K", &op.size));
  TRY(ort_attribute_int(api)(info, "N", &op.num_outputs));
  TRY(ort_attribute_int(api)(info, "bits", &op.bits));
  TRY(ort_attribute_int(api)(info, "block_size", &op.block));
  TRY(ort_attribute_int(api)(info, "gated", &op.gated));
  TRY(isa_of(api, info, &op.isa));
  if (op.size < 1 || op.num_outputs < 1 || (op.bits != 4 && op.bits != 8) || op.block < 16 ||
      op.block % 16 != 0 || op.block > 1024 || (op.gated && op.num_outputs % 2 != 0))
    return ort_status(api)(ORT_INVALID_ARGUMENT, "lepton.BlockMatMul: attributes out of range");
  return operator_keep(api, &op, sizeof op, kernel);
}

static const char *name(const struct OrtCustomOp *self) {
  (void)self;
  return "BlockMatMul";
}

static size_t num_inputs(const struct OrtCustomOp *self) {
  (void)self;
  return 5;
}

static int input_type(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  return index == 1 ? ORT_UINT8 : ORT_FLOAT;
}

static int input_kind(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  return index < 3 ? ORT_REQUIRED : ORT_OPTIONAL;
}

const struct OrtCustomOp block_matmul = {
    .version = ORT_ABI_VERSION,
    .name = name,
    .provider = operator_provider,
    .input_type = input_type,
    .num_inputs = num_inputs,
    .output_type = operator_float,
    .num_outputs = operator_one,
    .destroy = free,
    .input_kind = input_kind,
    .output_kind = operator_required,
    .input_memory = operator_memory,
    .create = create,
    .compute = compute,
};
