#include "attention_tasks.h"

#include <stdlib.h>

#include "operators.h"

enum { TOKENS_APPENDED = 64, TOKENS_ATTENDING = 16 };
/* Scores that a task keeps at once should stay in the level-2 cache; those that tasks share, in the level-3 cache. */
enum { SCORES_BYTES = 256 << 10, SHARED_BYTES = 8 << 20 };
/* A task is shared out if it is more than this part of all work, and so many scores, or else waiting for each other
 * between steps takes longer. */
enum { SHARED_PART = 12, SHARED_SCORES = 8 << 10 };
/* Of a shared task: positions, rows of scores and dimensions of one part. */
enum { POSITIONS_SCORED = 1024, ROWS_SOFTENED = 4, DIMENSIONS_WEIGHED = 32 };

static int64_t tokens_of(const AttentionCall *call, int64_t row) { return call->starts[row + 1] - call->starts[row]; }

size_t tasks_most(const AttentionCall *call, int64_t num_rows) {
  return (size_t)call->starts[num_rows] * call->op->kv_heads;
}

/* Tasks of at most `most` tokens of a row, for each head; the last tokens of a prompt first, as they take longest. */
static size_t cut_row(const AttentionCall *call, int64_t row, int64_t most, Task *tasks) {
  size_t count = 0;
  for (int64_t end = tokens_of(call, row); end > 0; end -= most) {
    const int64_t first = end > most ? end - most : 0;
    for (int32_t head = 0; head < call->op->kv_heads; head++)
      tasks[count++] =
          (Task){.row = (int32_t)row, .kv_head = head, .first = (int32_t)first, .count = (int32_t)(end - first)};
  }
  return count;
}

size_t tasks_appending(const AttentionCall *call, int64_t num_rows, Task *tasks) {
  size_t count = 0;
  for (int64_t row = 0; row < num_rows; row++) count += cut_row(call, row, TOKENS_APPENDED, tasks + count);
  return count;
}

/* Whose scores fit, and, where that is possible, fill all tiles of queries. */
static int64_t most_attending(const AttentionCall *call, int64_t row) {
  const Task longest = {.row = (int32_t)row, .count = (int32_t)tokens_of(call, row)};
  const int64_t tiles = call->op->isa->queries, window = call->op->window;
  int64_t stride = span_of(call, &longest).stride;
  if (window > 0 && stride > window + 3 * LANES) stride = round_up(window) + 2 * LANES;
  int64_t fit = SCORES_BYTES / (int64_t)sizeof(float) / (call->group * stride);
  fit = fit < 1 ? 1 : fit > TOKENS_ATTENDING ? TOKENS_ATTENDING : fit;
  for (int64_t most = fit; most > fit / 2; most--)
    if (most * call->group % tiles == 0) return most;
  return fit;
}

static size_t scores_of(const AttentionCall *call, const Task *task) {
  return (size_t)task->count * call->group * span_of(call, task).stride;
}

Plan plan_attending(const AttentionCall *call, int64_t num_rows, Task *tasks) {
  Plan plan = {.tasks = tasks};
  size_t work = 0;
  /* Rows with many tokens come last in a call and should be begun first. */
  for (int64_t row = num_rows - 1; row >= 0; row--)
    plan.num += cut_row(call, row, most_attending(call, row), tasks + plan.num);
  for (size_t i = 0; i < plan.num; i++) work += scores_of(call, tasks + i);
  plan.num_parts = plan.num;
  for (size_t i = 0; i < plan.num; i++) {
    const Task task = tasks[i];
    const size_t scores = scores_of(call, &task);
    if (scores < SHARED_SCORES || scores * SHARED_PART <= work ||
        (plan.num_scores + scores) * sizeof(float) > SHARED_BYTES)
      continue;
    tasks[i] = tasks[plan.num_shared];
    tasks[plan.num_shared++] = task;
    plan.num_scores += scores;
    plan.num_parts += scores / POSITIONS_SCORED + task.count * call->group + call->size / LANES;
  }
  return plan;
}

/* A task for each `size` of [from, to). */
static size_t cut_step(Task task, int64_t from, int64_t to, int64_t size, Task *parts) {
  size_t count = 0;
  for (; from < to; from += size) {
    task.from = (int32_t)from, task.to = (int32_t)(to - from < size ? to : from + size);
    parts[count++] = task;
  }
  return count;
}

size_t tasks_of_step(const AttentionCall *call, const Plan *plan, Step step, float *scores, Task *parts) {
  size_t count = 0;
  for (size_t i = 0; i < plan->num_shared; i++) {
    Task task = plan->tasks[i];
    task.step = step, task.scores = scores;
    scores += scores_of(call, &task);
    const Span span = span_of(call, &task);
    if (step == SCORE) count += cut_step(task, span.begin, span.end, POSITIONS_SCORED, parts + count);
    if (step == SOFTEN) count += cut_step(task, 0, task.count * call->group, ROWS_SOFTENED, parts + count);
    if (step == WEIGH) count += cut_step(task, 0, call->size, DIMENSIONS_WEIGHED, parts + count);
  }
  if (step == SCORE)
    for (size_t i = plan->num_shared; i < plan->num; i++) parts[count++] = plan->tasks[i];
  return count;
}

/* For tests: the tasks of one step of a call whose rows are `starts` and `lengths`; how many, or -1 when these are more
 * than `room`. */
PUBLIC int64_t lepton_kernels_attention_tasks(const int32_t *starts, const int32_t *lengths, int64_t num_rows,
                                              int64_t heads, int64_t kv_heads, int64_t size, int64_t window, Step step,
                                              Task *tasks, int64_t room) {
  const Isa isa = {.queries = 12};
  const Attention op = {.isa = &isa, .heads = heads, .kv_heads = kv_heads, .window = window};
  const AttentionCall call = {
      .op = &op, .size = size, .group = heads / kv_heads, .starts = starts, .lengths = lengths};
  int64_t count = -1;
  Task *whole = malloc(tasks_most(&call, num_rows) * sizeof(Task));
  if (whole == NULL) return count;
  const Plan plan = plan_attending(&call, num_rows, whole);
  float *scores = malloc(plan.num_scores * sizeof(float) + 1);
  if (scores != NULL && plan.num_parts <= (size_t)room) count = (int64_t)tasks_of_step(&call, &plan, step, scores, tasks);
  free(scores);
  free(whole);
  return count;
}
