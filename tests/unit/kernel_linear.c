/* Matrix products of both makers against sums in double: y = scale·x·Wᵀ, dx = scale·dy·W, dw += scale·dyᵀ·x. */
#include "kernel_check.h"

#include "cpu/linear.h"

struct maker {
    const char *name;
    size_t (*pack_size)(struct dlm_device *, size_t, size_t, enum dlm_dtype);
    void (*pack)(struct dlm_device *, dlm_ptr, dlm_ptr, size_t, size_t, enum dlm_dtype);
    void (*forward)(struct dlm_device *, dlm_ptr, dlm_ptr, dlm_ptr, size_t, size_t, size_t, enum dlm_dtype, enum dlm_dtype,
                    float);
    void (*dx)(struct dlm_device *, dlm_ptr, dlm_ptr, dlm_ptr, size_t, size_t, size_t, enum dlm_dtype, enum dlm_dtype, float);
    void (*dw)(struct dlm_device *, dlm_ptr, dlm_ptr, dlm_ptr, size_t, size_t, size_t, enum dlm_dtype, float);
};

/* c (m, n) = base + scale·Σ_k a[m, k]·b[k, n], and the tolerance of each: units of rounding of what was added up. */
static void reference(double *c, double *tolerance, const double *base, double scale, size_t m, size_t n, size_t k,
                      const double *a, size_t am, size_t ak, const double *b, size_t bk, size_t bn, enum dlm_dtype out)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (size_t q = 0; q < k; q++) {
                double t = a[i * am + q * ak] * b[q * bk + j * bn];
                sum += t;
                size += fabs(t);
            }
            double before = base ? base[i * n + j] : 0;
            c[i * n + j] = before + scale * sum;
            tolerance[i * n + j] = (fabs(before) + fabs(scale) * size) * unit_of(DLM_F32) * (2 + sqrt((double)k)) * 2 +
                                   fabs(c[i * n + j]) * unit_of(out) * 1.01 + 1e-30;
        }
}

/* Like put, one element past where an allocation begins where `astray`; drop it by its base. */
static struct buffer place(const double *values, size_t n, enum dlm_dtype t, bool astray, struct buffer *base)
{
    double *copy = check_memory((n + 1) * sizeof *copy);
    if (values)
        memcpy(copy + astray, values, n * sizeof *copy);
    *base = put(copy, n + astray, t);
    free(copy);
    return (struct buffer){dlm_ptr_at(base->at, astray ? dlm_dtype_size(t) : 0), n, t};
}

static void check(const struct maker *m, size_t T, size_t O, size_t I, enum dlm_dtype act, enum dlm_dtype out, double scale, bool astray)
{
    double *x = random_array(T * I, 0, 1, act), *w = random_array(O * I, 0, 1, DLM_F32), *dy = random_array(T * O, 0, 1, act);
    double *start = random_array(O * I, 0, 1, DLM_F32);
    size_t most = T * O > T * I ? T * O : T * I;
    most = O * I > most ? O * I : most;
    double *want = check_memory(most * sizeof *want), *tolerance = check_memory(most * sizeof *tolerance);
    struct buffer base[5], bw = put(w, O * I, DLM_F32), bx = place(x, T * I, act, astray, base), bdy = place(dy, T * O, act, astray, base + 1);
    struct buffer by = place(NULL, T * O, out, astray, base + 2), bdx = place(NULL, T * I, out, astray, base + 3),
                  bdw = place(start, O * I, DLM_F32, astray, base + 4);
    for (size_t i = 0; i < O * I; i++) /* packing rounds */
        w[i] = kept(w[i], act);
    dlm_ptr pack = K->alloc(D, m->pack_size(D, O, I, act));
    m->pack(D, pack, bw.at, O, I, act);

    m->forward(D, by.at, bx.at, pack, T, O, I, act, out, (float)scale);
    double *y = take(by);
    reference(want, tolerance, NULL, (float)scale, T, O, I, x, I, 1, w, 1, I, out);
    bool good = all_near(y, want, T * O, tolerance, 0);
    m->dx(D, bdx.at, bdy.at, pack, T, O, I, act, out, (float)scale);
    double *dx = take(bdx);
    reference(want, tolerance, NULL, (float)scale, T, I, O, dy, O, 1, w, I, 1, out);
    good = all_near(dx, want, T * I, tolerance, 0) && good;
    m->dw(D, bdw.at, bdy.at, bx.at, T, O, I, act, (float)scale);
    double *dw = take(bdw);
    reference(want, tolerance, start, (float)scale, O, I, T, dy, 1, O, x, I, 1, DLM_F32);
    good = all_near(dw, want, O * I, tolerance, 0) && good;
    tap_ok(good, "%s, T %zu, O %zu, I %zu, %s to %s, scale %g%s", m->name, T, O, I, type_name(act), type_name(out), scale, astray ? ", astray" : "");

    /* the same call again: the same bits */
    struct buffer again_base, again = place(start, O * I, DLM_F32, astray, &again_base);
    m->dw(D, again.at, bdy.at, bx.at, T, O, I, act, (float)scale);
    double *second = take(again);
    if (memcmp(second, dw, O * I * sizeof *dw))
        tap_ok(false, "%s: a repeated call gives the same bits", m->name);
    for (int i = 0; i < 5; i++)
        drop(base[i]);
    drop(bw), drop(again_base);
    K->free(D, pack);
    free(x), free(w), free(dy), free(start), free(want), free(tolerance), free(y), free(dx), free(dw), free(second);
}

/* W in bf16 as it lies, for the entries that take it so. */
static size_t rows_size(struct dlm_device *dev, size_t O, size_t I, enum dlm_dtype act)
{
    (void)dev;
    return O * I * dlm_dtype_size(act);
}

static void rows_pack(struct dlm_device *dev, dlm_ptr to, dlm_ptr from, size_t O, size_t I, enum dlm_dtype act)
{
    float *w = check_memory(O * I * sizeof *w);
    uint16_t *half = check_memory(O * I * sizeof *half);
    (void)act;
    K->download(dev, w, from, O * I * sizeof *w);
    for (size_t i = 0; i < O * I; i++)
        half[i] = bf16_of(w[i]);
    K->upload(dev, to, half, O * I * sizeof *half);
    K->sync(dev);
    free(w), free(half);
}

int main(void)
{
    static const size_t sizes[][3] = {{1, 1, 1},     {1, 7, 5},      {2, 3, 64},     {7, 13, 11},    {63, 64, 65},  {64, 64, 64},
                                      {65, 17, 129}, {100, 192, 64}, {129, 65, 257}, {130, 131, 32}, {200, 67, 300}};
    check_seed = tap_seed();
    check_open(2);
    const struct maker makers[] = {
        {"plain", dlm_linear_plain_pack_size, dlm_linear_plain_pack, dlm_linear_plain, dlm_linear_plain_dx, dlm_linear_plain_dw},
        {"the table's", K->linear_pack_size, K->linear_pack, K->linear, K->linear_dx, K->linear_dw},
        {"plain, W as it lies", rows_size, rows_pack, dlm_linear_plain_bf16, dlm_linear_plain_bf16_dx, dlm_linear_plain_dw},
        {"the table's, W as it lies", rows_size, rows_pack, K->linear_bf16, K->linear_bf16_dx, K->linear_dw},
    };
    const size_t n_makers = sizeof makers / sizeof *makers;
    for (size_t m = 0; m < n_makers; m++) {
        if (getenv("DLM_TEST_MODULE") && m % 2 == 0) /* the plain ones are of the CPU */
            continue;
        if (!makers[m].forward) {
            tap_skip(1, "%s has no %s", K->name, makers[m].name);
            continue;
        }
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int types = m < 2 ? 0 : 1; types < 3; types++)
                check(makers + m, sizes[i][0], sizes[i][1], sizes[i][2], types ? DLM_BF16 : DLM_F32,
                      types == 1 ? DLM_BF16 : DLM_F32, i % 2 ? 1.0 : 8.0 / 3, false);
        check(makers + m, 65, 24, 40, DLM_BF16, DLM_BF16, 1, true);
        check(makers + m, 17, 7, 13, DLM_BF16, DLM_F32, 1, true);
    }
    check_close();
    return tap_end();
}
