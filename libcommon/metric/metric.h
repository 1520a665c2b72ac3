/* The metrics of runs: one list of TSV columns, and the writer (dlm-metrics(5)).
 *
 * Every row repeats the run's facts, so that rows survive cat, grep, sort and awk. NAN and NULL print as NA.
 */
#ifndef DLM_METRIC_METRIC_H
#define DLM_METRIC_METRIC_H

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* X(name, type): T text, U whole number, R real. The order is the file's. */
#define DLM_METRIC_COLUMNS(X) \
    X(run, T) X(kind, T) X(noise, T) X(objective, T) X(params, U) X(flops_tok, R) X(width, U) X(layers, U) X(seq_len, U) X(batch_tok, U) \
    X(lr, R) X(seed, U) X(step, U) X(tokens, U) X(unique_tokens, U) X(flops, R) X(loss, R) X(elbo, R) X(elbo_se, R) X(kl, R) X(is, R) \
    X(bpb, R) X(grad_norm, R) X(tok_s, R) X(mfu, R) X(joules, R) X(seconds, R) X(dtype, T) X(device, T)

struct dlm_metric {
#define DLM_METRIC_T const char *
#define DLM_METRIC_U uint64_t
#define DLM_METRIC_R double
#define X(name, type) DLM_METRIC_##type name;
    DLM_METRIC_COLUMNS(X)
#undef X
};

/* A header line; a row, flushed (rows go out one by one). Reals are printed with enough digits to come back equal (%.9g). */
int dlm_metric_write_header(FILE *f, const char *name, struct dlm_error *err);
int dlm_metric_write(FILE *f, const char *name, const struct dlm_metric *m, struct dlm_error *err);
/* The row as text with its newline; the caller frees it. NULL: no memory. */
char *dlm_metric_format(const struct dlm_metric *m);

#endif
