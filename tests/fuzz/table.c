/* Tables of metrics, in both manners of taking bad rows. */
#include "fuzz.h"
#include "metric/metric.h"
#include "metric/table.h"

#include <math.h>

static void one(const uint8_t *bytes, size_t n)
{
    for (int way = 0; way < 2; way++) {
        const char *path[2] = {as_file(bytes, n), NULL};
        path[1] = path[0];
        struct dlm_table *t;
        struct dlm_error err = {{0}};
        if (dlm_table_new(&t, path, 1 + (size_t)way, &err))
            exit(2);
        int step = dlm_table_want(t, "step", true, &err), loss = dlm_table_want(t, "loss", false, &err);
        if (way) {
            dlm_table_want_all(t);
            dlm_table_skip_bad(t);
        }
        double x;
        int rc;
        while ((rc = dlm_table_next(t, &err)) > 0) {
            int bad = dlm_table_number(t, step, &x, &err);
            bad = bad ? bad : dlm_table_number(t, loss, &x, &err);
            must_say(bad, &err);
            size_t sum = 0;
            for (int i = 0; i < dlm_table_slots(t); i++)
                sum += strlen(dlm_table_text(t, i)) + strlen(dlm_table_column(t, i));
            if (sum > SIZE_MAX / 2)
                abort();
            if ((rc = dlm_table_skip(t, bad, &err)))
                break;
        }
        must_say(rc, &err);
        dlm_table_free(t);
    }
}

static uint8_t *seeds(int i, size_t *n)
{
    if (i == 1)
        return text_seed("step\tloss\tnote\n1\t2.5\tNA\n2\t\tx\nloss\tstep\n1e-3\t3\n", n);
    if (i == 2)
        return text_seed("run\tkind\tstep\tloss\r\nr\ttrain\t1\t2\r\nr\ttrain\t1\t2\r\nr\tval\t0x10\tnan\n", n);
    if (i)
        return NULL;
    char *b = NULL;
    FILE *f = open_memstream(&b, n);
    struct dlm_error err;
    struct dlm_metric m = {.run = "r", .kind = "train", .noise = "mask", .params = 100, .step = 1, .loss = 2.5, .elbo = NAN};
    if (!f || dlm_metric_write_header(f, "seed", &err) || dlm_metric_write(f, "seed", &m, &err))
        exit(2);
    m.step = 2;
    if (dlm_metric_write(f, "seed", &m, &err))
        exit(2);
    fclose(f);
    return (uint8_t *)b;
}
