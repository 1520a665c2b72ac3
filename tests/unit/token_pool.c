/* The pool: every task done once, by any number of lanes, waited for from several threads; urgent ones first. */
#include "base/error.h"
#include "tap.h"
#include "token/pool.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 2000 };

struct work {
    struct dlm_task task;
    int number, lane;
    atomic_int times;
};

static struct work works[TASKS];
static atomic_int order, seen[TASKS];

static void note(struct dlm_task *t, int lane)
{
    struct work *w = (struct work *)(void *)t;
    seen[atomic_fetch_add(&order, 1)] = w->number;
    w->lane = lane;
    atomic_fetch_add(&w->times, 1);
}

static void reset(void)
{
    order = 0;
    memset(works, 0, sizeof works);
    for (int i = 0; i < TASKS; i++) {
        works[i].task.run = note;
        works[i].number = i;
    }
}

/* Half of the tasks, from a thread of its own. */
struct half {
    struct dlm_pool *pool;
    int from;
    bool good;
};

static void *do_half(void *arg)
{
    struct half *h = arg;
    h->good = true;
    for (int i = h->from; i < TASKS; i += 2) {
        dlm_pool_submit(h->pool, &works[i].task, i % 3 == 0);
        if (i >= h->from + 20) { /* ten on their way */
            dlm_pool_wait(h->pool, &works[i - 20].task);
            h->good &= works[i - 20].times == 1 && dlm_pool_done(h->pool, &works[i - 20].task);
        }
    }
    for (int i = h->from; i < TASKS; i += 2)
        dlm_pool_wait(h->pool, &works[i].task);
    return NULL;
}

/* Holds a lane until it is let go. */
struct holder {
    struct dlm_task task;
    atomic_bool held, go;
};

static void hold(struct dlm_task *t, int lane)
{
    struct holder *h = (struct holder *)(void *)t;
    (void)lane;
    h->held = true;
    while (!h->go)
        usleep(1000);
}

int main(void)
{
    struct dlm_error err = {{0}};
    for (int threads = 0; threads <= 9; threads += 3) {
        struct dlm_pool *p;
        int lanes = threads < 1 ? 1 : threads;
        bool good = !dlm_pool_new(&p, threads, &err) && dlm_pool_lanes(p) == lanes;
        reset();
        struct half a = {p, 0, false}, b = {p, 1, false};
        pthread_t other;
        good = good && !dlm_pool_thread(&other, do_half, &b, &err);
        if (good) {
            if (lanes == 1) /* a pool without threads is for one thread */
                pthread_join(other, NULL);
            do_half(&a);
            if (lanes > 1)
                pthread_join(other, NULL);
        }
        good = good && a.good && b.good && order == TASKS;
        for (int i = 0; i < TASKS; i++)
            good &= works[i].times == 1 && works[i].lane >= 0 && works[i].lane < lanes && works[i].task.done;
        for (int i = 0; i < lanes; i++)
            good &= dlm_pool_zstd(p, i) && (!i || dlm_pool_zstd(p, i) != dlm_pool_zstd(p, 0));
        tap_ok(good, "%d lanes: each of %d tasks from two threads is done once", lanes, TASKS);
        dlm_pool_free(p);
    }
    struct dlm_pool *p;
    struct holder holders[2] = {{.task.run = hold}, {.task.run = hold}};
    if (dlm_pool_new(&p, 2, &err))
        return 1;
    reset();
    for (int i = 0; i < 2; i++) {
        dlm_pool_submit(p, &holders[i].task, false);
        while (!holders[i].held)
            usleep(1000);
    }
    for (int i = 0; i < 20; i++)
        dlm_pool_submit(p, &works[i].task, i % 2);
    bool waits = !dlm_pool_done(p, &works[1].task) && order == 0;
    holders[0].go = true; /* one lane does them all */
    for (int i = 0; i < 20; i++)
        dlm_pool_wait(p, &works[i].task);
    bool sorted = true;
    for (int i = 0; i < 20; i++)
        sorted &= seen[i] == (i < 10 ? 2 * i + 1 : 2 * (i - 10));
    tap_ok(waits && sorted, "urgent tasks begin first, each kind in order");
    holders[1].go = true;
    for (int i = 0; i < 2; i++)
        dlm_pool_wait(p, &holders[i].task);
    dlm_pool_free(p);
    return tap_end();
}
