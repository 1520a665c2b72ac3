/* Threads that do tasks, for text that is encoded and frames that are compressed.
 *
 * A pool of one lane has no thread: a task is done when dlm_pool_submit returns. A pool of more has a thread for each lane, and the
 * threads that submit and wait come on top; those are meant to read, to write and to wait. Tasks begin in the order in which they
 * were submitted, urgent ones before all others. A task must not wait for another. Each lane has a zstd context, so that however many
 * writers share a pool, there are as many as threads. All functions but new and free may be called by any thread that is no lane.
 */
#ifndef DLM_TOKEN_POOL_H
#define DLM_TOKEN_POOL_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct dlm_pool;

/* Part of what the task is about; zeroed, but for `run`, before it is submitted, and the caller's again when it was waited for. */
struct dlm_task {
    void (*run)(struct dlm_task *t, int lane);
    struct dlm_task *next;
    bool done;
};

/* `threads` < 1 is 1. */
int dlm_pool_new(struct dlm_pool **out, int threads, struct dlm_error *err);
/* Every task must have been waited for. */
void dlm_pool_free(struct dlm_pool *p);
int dlm_pool_lanes(const struct dlm_pool *p);

void dlm_pool_submit(struct dlm_pool *p, struct dlm_task *t, bool urgent);
/* Until the task is done. */
void dlm_pool_wait(struct dlm_pool *p, struct dlm_task *t);
/* Whether it is. */
bool dlm_pool_done(struct dlm_pool *p, const struct dlm_task *t);

/* The ZSTD_CCtx of a lane, for the task that runs in it; parameters are whatever the task before left. */
void *dlm_pool_zstd(const struct dlm_pool *p, int lane);

/* Any thread, with every signal blocked, so that they interrupt the one that started it. pthread_join ends it. */
int dlm_pool_thread(pthread_t *thread, void *(*run)(void *), void *arg, struct dlm_error *err);

#endif
