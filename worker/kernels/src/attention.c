/* The operator Attention: what it is given, whether that fits, how it is shared out. */
#include "attention.h"

#include <stdlib.h>
#include <string.h>

#include "attention_tasks.h"
#include "operators.h"
#include "tensor.h"

enum { NUM_INPUTS = 12 };

static OrtStatus *run(OrtKernelContext *context, AttentionCall *call, int64_t num_rows) {
  const OrtFunction *api = call->op->api;
  const Isa *isa = call->op->isa;
  if (num_rows == 0) return NULL;
  const size_t most = tasks_most(call, num_rows);
  Task *tasks = scratch(2, 2 * most * sizeof(Task)), *writing = tasks + most;
  if (tasks == NULL) return ort_status(api)(ORT_FAIL, "lepton.Attention: no memory");
  const Plan plan = plan_attending(call, num_rows, tasks);
  /* Single tokens in slots of their own need no keys that another task of this run writes. */
  call->appends = plan.num_shared == 0;
  for (int64_t row = 0; row < num_rows; row++)
    call->appends &= call->starts[row + 1] - call->starts[row] == 1 && (row == 0 || call->slots[row - 1] < call->slots[row]);
  if (!call->appends) {
    call->tasks = writing;
    TRY(ort_parallel_for(api)(context, isa->append, tasks_appending(call, num_rows, writing), 0, call));
  }
  float *scores = scratch(3, plan.num_scores * sizeof(float) + plan.num_parts * sizeof(Task));
  if (scores == NULL) return ort_status(api)(ORT_FAIL, "lepton.Attention: no memory");
  Task *parts = (Task *)(scores + plan.num_scores);
  call->tasks = parts;
  for (Step step = SCORE; step <= (plan.num_shared ? WEIGH : SCORE); step++)
    TRY(ort_parallel_for(api)(context, isa->attend, tasks_of_step(call, &plan, step, scores, parts), 0, call));
  return call->failed ? ort_status(api)(ORT_FAIL, "lepton.Attention: no memory") : NULL;
}

/* What does not fit, in words; NULL when all does. `input` as above; fills in what follows from shapes. */
static const char *check(AttentionCall *call, const Tensor *input) {
  const Attention *op = call->op;
  const Tensor *query = &input[0], *key = &input[1], *keys = &input[3], *slots = &input[5], *cos = &input[8];
  if (keys->num_dims != 4 || keys->dims[1] != op->kv_heads || keys->dims[2] % LANES || keys->dims[3] % LANES ||
      keys->dims[3] > HEAD_MAX || memcmp(keys->dims, input[4].dims, sizeof keys->dims))
    return "lepton.Attention: keys and values are not [slots, kv_heads, capacity, size], the last two multiples of 16";
  if (slots->num_dims != 1 || input[6].num_dims != 1 || input[7].num_dims != 1 ||
      input[6].dims[0] != slots->dims[0] + 1 || input[7].dims[0] != slots->dims[0])
    return "lepton.Attention: slots, starts and lengths do not fit each other";
  for (size_t i = 10; i < NUM_INPUTS; i++)
    if (op->kept == KEPT_INT8 && (input[i].num_dims != 3 || memcmp(keys->dims, input[i].dims, 3 * sizeof(int64_t))))
      return "lepton.Attention: scales are not [slots, kv_heads, capacity]";
  if (query->num_dims < 2) return "lepton.Attention: query has no tokens";
  if (op->rotates && (cos->data == NULL || input[9].data == NULL || cos->num_dims != 2 || 2 * cos->dims[1] > keys->dims[3]))
    return "lepton.Attention: cos and sin do not fit a head";

  call->size = keys->dims[3], call->capacity = keys->dims[2], call->group = op->heads / op->kv_heads;
  call->rotated = op->rotates ? 2 * cos->dims[1] : 0;
  const int64_t own = op->heads * call->size, shared = op->kv_heads * call->size;
  call->query_stride = query->dims[query->num_dims - 1];
  if (key->data == NULL) {
    call->kv_stride = call->query_stride;
    call->key = call->query + own, call->value = call->key + shared;
    if (call->query_stride != own + 2 * shared) return "lepton.Attention: query, key and value have another width";
  } else {
    call->kv_stride = shared;
    call->key = key->data, call->value = input[2].data;
    if (call->query_stride != own || key->dims[key->num_dims - 1] != shared || call->value == NULL)
      return "lepton.Attention: query, key or value has another width";
  }
  int64_t tokens = 1, next = 0;
  for (size_t i = 0; i + 1 < query->num_dims; i++) tokens *= query->dims[i];
  for (int64_t row = 0; row < slots->dims[0]; row++) {
    const int64_t count = call->starts[row + 1] - call->starts[row];
    if (call->starts[row] != next || count < 1 || call->lengths[row] < count || call->lengths[row] > call->capacity ||
        call->slots[row] < 0 || call->slots[row] >= keys->dims[0])
      return "lepton.Attention: a row is out of bounds";
    if (op->rotates && call->lengths[row] > cos->dims[0])
      return "lepton.Attention: cos_cache and sin_cache have fewer positions than a row";
    next += count;
  }
  return next == tokens ? NULL : "lepton.Attention: starts do not cover the tokens";
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
  const Attention *op = kernel;
  Tensor input[NUM_INPUTS];
  for (size_t i = 0; i < NUM_INPUTS; i++) TRY(tensor_input(op->api, context, i, &input[i]));
  AttentionCall call = {.op = op, .query = input[0].data, .keys = input[3].data, .values = input[4].data};
  call.slots = input[5].data, call.starts = input[6].data, call.lengths = input[7].data;
  call.cos = input[8].data, call.sin = input[9].data;
  if (op->kept == KEPT_INT8) call.key_scales = input[10].data, call.value_scales = input[11].data;
  const char *wrong = check(&call, input);
  if (wrong != NULL) return ort_status(op->api)(ORT_INVALID_ARGUMENT, wrong);
  Tensor out = input[0];
  out.dims[out.num_dims - 1] = op->heads * call.size;
  TRY(tensor_output(op->api, context, 0, &out));
  call.out = out.data;
  return run(context, &call, input[5].dims[0]);
}

static OrtStatus *create(const struct OrtCustomOp *self, const OrtFunction *api, const OrtKernelInfo *info,
                         void **kernel) {
  (void)self;
  Attention op = {.api = api};
  TRY(ort_attribute_int(api)(info, "num_heads", &op.heads));
  TRY(ort_attribute_int(api)(info, "kv_num_heads", &op.kv_heads));
  TRY(ort_attribute_int(api)(info, "local_window_size", &op.window));
  TRY(ort_attribute_int(api)(info, "do_rotary", &op.rotates));
  TRY(ort_attribute_int(api)(info, "rotary_interleaved", &op.interleaved));
  TRY(ort_attribute_int(api)(info, "kv_bits", &op.kept));
  TRY(ort_attribute_float(api)(info, "scale", &op.scale));
  TRY(ort_attribute_float(api)(info, "softcap", &op.softcap));
  TRY(isa_of(api, info, &op.isa));
  if (op.kv_heads < 1 || op.heads < op.kv_heads || op.heads % op.kv_heads != 0 || !(op.scale > 0) ||
      (op.kept != KEPT_FLOAT32 && op.kept != KEPT_FLOAT16 && op.kept != KEPT_INT8))
    return ort_status(api)(ORT_INVALID_ARGUMENT, "lepton.Attention: attributes out of range");
  return operator_keep(api, &op, sizeof op, kernel);
}

static const char *name(const struct OrtCustomOp *self) {
  (void)self;
  return "Attention";
}

static size_t num_inputs(const struct OrtCustomOp *self) {
  (void)self;
  return NUM_INPUTS;
}

static int input_type(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  if (index == 3 || index == 4) return ORT_ANY; /* `kv_bits` says what it is */
  return index >= 5 && index <= 7 ? ORT_INT32 : ORT_FLOAT;
}

static int input_kind(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  return index == 1 || index == 2 || index >= 8 ? ORT_OPTIONAL : ORT_REQUIRED;
}

const struct OrtCustomOp attention = {
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
