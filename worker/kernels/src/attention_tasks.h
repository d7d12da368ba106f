/* How the work of one call of Attention is cut into tasks. No cut changes a bit of a result: scores are independent of
 * each other, a row of scores is softened by one task, and an output is summed by one task, from its first position on.
 *
 * A few tasks that are long beside all others (a chunk of a long prompt beside rows that decode, one long row) would
 * leave most threads without work. They are shared out in three steps, each of which needs all of the one before:
 *
 *   scores of 1,024 positions │ weights of 4 rows of scores │ outputs of 32 dimensions
 */
#ifndef LEPTON_ATTENTION_TASKS_H
#define LEPTON_ATTENTION_TASKS_H

#include <stddef.h>

#include "attention.h"

typedef struct {
  Task *tasks;         /* those that are shared out come first */
  size_t num, num_shared;
  size_t num_scores;   /* that the shared ones keep between steps */
  size_t num_parts;    /* most that one step is cut into, with the other tasks */
} Plan;

/* Most tasks that `tasks_appending` or `plan_attending` make. */
size_t tasks_most(const AttentionCall *call, int64_t num_rows);

/* Tasks that write keys and values; how many. */
size_t tasks_appending(const AttentionCall *call, int64_t num_rows, Task *tasks);

/* Tasks that attend, in room for `tasks_most`. */
Plan plan_attending(const AttentionCall *call, int64_t num_rows, Task *tasks);

/* Parts of one step of the shared tasks, in room for `num_parts`, which keep their scores in `scores`; with the first
 * step also what is not shared. How many. */
size_t tasks_of_step(const AttentionCall *call, const Plan *plan, Step step, float *scores, Task *parts);

#endif
