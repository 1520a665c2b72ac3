/* Files of laws: what is read is written, read again the same, and asked. */
#include "fuzz.h"
#include "law/lawfile.h"

static void one(const uint8_t *bytes, size_t n)
{
    const char *path = as_file(bytes, n);
    struct dlm_laws l = {0}, again = {0};
    struct dlm_error err = {{0}};
    int rc = dlm_laws_read(&l, &path, 1, &err);
    must_say(rc, &err);
    if (rc)
        return;
    struct dlm_prediction p;
    for (size_t i = 0; i < l.n; i++)
        for (double x = 1e-3; x < 1e25; x *= 1e9)
            dlm_laws_predict(&l, l.at[i].law, l.at[i].group, l.at[i].y, l.at[i].x, x, &p);
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f || dlm_laws_write(&l, f, "output", &err))
        exit(2);
    fclose(f);
    path = as_file((uint8_t *)text, len);
    if (dlm_laws_read(&again, &path, 1, &err) || again.n != l.n)
        abort();
    free(text);
    dlm_laws_release(&l);
    dlm_laws_release(&again);
}

static uint8_t *seeds(int i, size_t *n)
{
    static const char *const text[] = {
        "law\tgroup\tterm\tvalue\tlo\thi\tse\tn\tr2\tobjective\ty\tx\tby\n"
        "optimum\tmask\tA\t0.5\t0.4\t0.6\t0.05\t9\t0.99\t1e-3\tparams\tflops\tall\noptimum\tmask\tk\t0.4\tNA\tNA\tNA\t9\tNA\tNA\tparams\tflops\tall\n"
        "optimum\tmask\tx_min\t1e15\tNA\tNA\tNA\t9\tNA\tNA\tparams\tflops\tall\noptimum.band\tmask\t1e15\t1e6\t9e5\t2e6\tNA\t9\tNA\tNA\tparams\tflops\tall\n"
        "optimum.band\tmask\t1e17\t1e7\t9e6\t2e7\tNA\t9\tNA\tNA\tparams\tflops\tall\n",
        "law\tgroup\tterm\tvalue\tlo\thi\tse\tn\tr2\tobjective\nloss\tg\tA\t400\t1\t2\t3\t4\t5\t6\nloss\tg\tbeta\t0.3\t1\t2\t3\t4\t5\t6\nloss\tg\tB\t1\t1\t2\t3\t4\t5\t6\n"};
    return i < 2 ? text_seed(text[i], n) : NULL;
}
