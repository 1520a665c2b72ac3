/* --plan: what a run would cost, without training: parameters, FLOPs, memory by kind, and time at a matrix rate measured here and now. */
#ifndef DLM_RUN_PLAN_H
#define DLM_RUN_PLAN_H

#include "run/train.h"

#include <stdio.h>

/* Print TSV `quantity value unit` to f; memory is that of one of so many processes. Without --data, settings.vocab_size and seq_len must be given.
 * device_memory: bytes of the device to plan for, 0 for this one's. */
int dlm_plan(const struct dlm_train_job *job, size_t seq_len, int processes, double device_memory, FILE *f, struct dlm_error *err);

#endif
