/* A queue of tasks and its threads. One lock for all: tasks are milliseconds long. */
#include "token/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <zstd.h>

struct lane {
    struct dlm_pool *pool;
    pthread_t thread;
    bool begun;
    ZSTD_CCtx *zstd;
};

struct queue {
    struct dlm_task *first, **end;
};

struct dlm_pool {
    int n;
    bool quit;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct queue queue[2]; /* urgent ones, others */
    struct lane lanes[];
};

int dlm_pool_thread(pthread_t *thread, void *(*run)(void *), void *arg, struct dlm_error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(thread, NULL, run, arg);
    int rc = errno ? dlm_fail_errno(err, DLM_EIO, "cannot start a thread") : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static struct dlm_task *take(struct dlm_pool *p)
{
    for (int i = 0; i < 2; i++) {
        struct queue *q = &p->queue[i];
        struct dlm_task *t = q->first;
        if (!t)
            continue;
        q->first = t->next;
        if (!q->first)
            q->end = &q->first;
        return t;
    }
    return NULL;
}

static void *serve(void *arg)
{
    struct lane *l = arg;
    struct dlm_pool *p = l->pool;
    int lane = (int)(l - p->lanes);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct dlm_task *t = take(p);
        if (t) {
            pthread_mutex_unlock(&p->lock);
            t->run(t, lane);
            pthread_mutex_lock(&p->lock);
            t->done = true;
            pthread_cond_broadcast(&p->done);
        } else if (p->quit) {
            break;
        } else {
            pthread_cond_wait(&p->work, &p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int dlm_pool_new(struct dlm_pool **out, int threads, struct dlm_error *err)
{
    size_t n = threads < 1 ? 1 : (size_t)threads;
    struct dlm_pool *p = calloc(1, sizeof *p + n * sizeof *p->lanes);
    *out = NULL;
    if (!p)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    p->n = (int)n;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->queue[0].end = &p->queue[0].first;
    p->queue[1].end = &p->queue[1].first;
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        p->lanes[i].pool = p;
        p->lanes[i].zstd = ZSTD_createCCtx();
        if (!p->lanes[i].zstd)
            rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; n > 1 && i < n && !rc; i++) {
        rc = dlm_pool_thread(&p->lanes[i].thread, serve, &p->lanes[i], err);
        p->lanes[i].begun = !rc;
    }
    if (rc)
        dlm_pool_free(p);
    else
        *out = p;
    return rc;
}

void dlm_pool_free(struct dlm_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n; i++) {
        if (p->lanes[i].begun)
            pthread_join(p->lanes[i].thread, NULL);
        ZSTD_freeCCtx(p->lanes[i].zstd);
    }
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    free(p);
}

int dlm_pool_lanes(const struct dlm_pool *p)
{
    return p->n;
}

void *dlm_pool_zstd(const struct dlm_pool *p, int lane)
{
    return p->lanes[lane].zstd;
}

void dlm_pool_submit(struct dlm_pool *p, struct dlm_task *t, bool urgent)
{
    t->next = NULL;
    if (p->n == 1) {
        t->run(t, 0);
        t->done = true;
        return;
    }
    pthread_mutex_lock(&p->lock);
    struct queue *q = &p->queue[!urgent];
    t->done = false;
    *q->end = t;
    q->end = &t->next;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

void dlm_pool_wait(struct dlm_pool *p, struct dlm_task *t)
{
    if (p->n == 1)
        return;
    pthread_mutex_lock(&p->lock);
    while (!t->done)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

bool dlm_pool_done(struct dlm_pool *p, const struct dlm_task *t)
{
    pthread_mutex_lock(&p->lock);
    bool done = t->done;
    pthread_mutex_unlock(&p->lock);
    return done;
}
