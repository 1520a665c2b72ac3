/* Attention against its definition in double: every rule of sight, heads of many widths, one past a tile, the cap reached. The
 * reference's gradient is itself held to difference quotients.
 *
 * Tensor cores take the weights p and their gradients in bf16, so that on a GPU a sum Σ p·v has besides the rounding of its result an error
 * whose size is known: each term is off by at most 2⁻⁹ of itself, the one as often up as the other down. `noise` is √Σ (p·v)². */
#include "kernel_check.h"

struct shape {
    size_t B, N, H, h;
};

struct problem {
    struct shape s;
    enum dlm_attend rule;
    double cap;
    double *q, *k, *v;       /* (B, N, H, h) */
    double *sink_k, *sink_v; /* (H, h) */
    uint8_t *noisy;
};

struct result {
    double *o, *lse;
    double *noise; /* of o */
};

static size_t elements(const struct shape *s)
{
    return s->B * s->N * s->H * s->h;
}

static bool visible(const struct problem *p, size_t b, size_t i, size_t j)
{
    const uint8_t *noisy = p->noisy + b * p->s.N;
    return p->rule == DLM_ATTEND_CAUSAL ? j <= i : p->rule == DLM_ATTEND_PREFIX ? noisy[i] >= noisy[j] : true;
}

static double inner(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Key j of a row, the sink last (j = N). */
static const double *key_of(const struct problem *p, size_t b, size_t head, size_t j, bool value)
{
    const struct shape *s = &p->s;
    if (j == s->N)
        return (value ? p->sink_v : p->sink_k) + head * s->h;
    return (value ? p->v : p->k) + ((b * s->N + j) * s->H + head) * s->h;
}

static struct result forward(const struct problem *p)
{
    const struct shape *s = &p->s;
    struct result r = {check_memory(elements(s) * sizeof(double)), check_memory(s->B * s->H * s->N * sizeof(double)),
                       check_memory(elements(s) * sizeof(double))};
    double *weight = check_memory((s->N + 1) * sizeof *weight);
    for (size_t b = 0; b < s->B; b++)
        for (size_t head = 0; head < s->H; head++)
            for (size_t i = 0; i < s->N; i++) {
                size_t at = ((b * s->N + i) * s->H + head) * s->h;
                double sum = 0;
                for (size_t j = 0; j <= s->N; j++) {
                    double u = inner(p->q + at, key_of(p, b, head, j, false), s->h) / (sqrt((double)s->h) * p->cap);
                    weight[j] = j == s->N || visible(p, b, i, j) ? exp(p->cap * tanh(u)) : 0;
                    sum += weight[j];
                }
                for (size_t j = 0; j <= s->N; j++)
                    for (size_t e = 0; e < s->h; e++) {
                        double part = weight[j] / sum * key_of(p, b, head, j, true)[e];
                        r.o[at + e] += part;
                        r.noise[at + e] = hypot(r.noise[at + e], part);
                    }
                r.lse[(b * s->H + head) * s->N + i] = log(sum);
            }
    free(weight);
    return r;
}

/* Gradients of Σ do·o and, beside each, the size of the parts that were added up, and their noise. D comes from the o that is given. */
struct gradient {
    double *dq, *dk, *dv, *dsink_k, *dsink_v;
};

static struct gradient gradient_new(const struct shape *s)
{
    size_t n = elements(s) * sizeof(double), m = s->H * s->h * sizeof(double);
    struct gradient g = {check_memory(n), check_memory(n), check_memory(n), check_memory(m), check_memory(m)};
    return g;
}

static void gradient_free(struct gradient *g)
{
    free(g->dq), free(g->dk), free(g->dv), free(g->dsink_k), free(g->dsink_v);
}

static void backward(const struct problem *p, const double *do_, const double *o, const double *lse, struct gradient *g,
                     struct gradient *size, struct gradient *noise)
{
    const struct shape *s = &p->s;
    double scale = 1 / sqrt((double)s->h);
    for (size_t b = 0; b < s->B; b++)
        for (size_t head = 0; head < s->H; head++)
            for (size_t i = 0; i < s->N; i++) {
                size_t at = ((b * s->N + i) * s->H + head) * s->h;
                double D_ = inner(do_ + at, o + at, s->h), all = 0;
                for (size_t e = 0; e < s->h; e++)
                    all += fabs(do_[at + e] * o[at + e]);
                for (size_t j = 0; j <= s->N; j++) {
                    if (j < s->N && !visible(p, b, i, j))
                        continue;
                    const double *k = key_of(p, b, head, j, false), *v = key_of(p, b, head, j, true);
                    double th = tanh(inner(p->q + at, k, s->h) * scale / p->cap);
                    double w = exp(p->cap * th - lse[(b * s->H + head) * s->N + i]), slope = 1 - th * th, dp = 0, large = all;
                    for (size_t e = 0; e < s->h; e++) {
                        dp += do_[at + e] * v[e];
                        large += fabs(do_[at + e] * v[e]);
                    }
                    double ds = w * (dp - D_) * slope * scale;
                    double unsure = w * large * (slope + 0.1) * scale; /* 1 - tanh² loses digits near the cap */
                    size_t other = j == s->N ? head * s->h : ((b * s->N + j) * s->H + head) * s->h;
                    double *dk = (j == s->N ? g->dsink_k : g->dk) + other, *dv = (j == s->N ? g->dsink_v : g->dv) + other;
                    double *sk = (j == s->N ? size->dsink_k : size->dk) + other,
                           *sv = (j == s->N ? size->dsink_v : size->dv) + other;
                    double *nk = (j == s->N ? noise->dsink_k : noise->dk) + other,
                           *nv = (j == s->N ? noise->dsink_v : noise->dv) + other;
                    for (size_t e = 0; e < s->h; e++) {
                        g->dq[at + e] += ds * k[e];
                        size->dq[at + e] += unsure * fabs(k[e]);
                        dk[e] += ds * p->q[at + e];
                        sk[e] += unsure * fabs(p->q[at + e]);
                        dv[e] += w * do_[at + e];
                        sv[e] += w * fabs(do_[at + e]);
                        noise->dq[at + e] = hypot(noise->dq[at + e], ds * k[e]);
                        nk[e] = hypot(nk[e], ds * p->q[at + e]);
                        nv[e] = hypot(nv[e], w * do_[at + e]);
                    }
                }
            }
}

static struct problem problem_new(struct shape s, enum dlm_attend rule, double cap, double loud, enum dlm_dtype act)
{
    size_t n = elements(&s);
    struct problem p = {s,
                        rule,
                        cap,
                        random_array(n, 0, loud, act),
                        random_array(n, 0, loud, act),
                        random_array(n, 0, 1, act),
                        random_array(s.H * s.h, 0, loud, DLM_F32),
                        random_array(s.H * s.h, 0, 1, DLM_F32),
                        check_memory(s.B * s.N)};
    for (size_t b = 0; b < s.B; b++) { /* a clean prefix, or runs of both kinds */
        size_t clean = (size_t)(uniform() * (double)s.N);
        bool runs = b % 2 || s.N > 128, noisy = uniform() < 0.5;
        for (size_t i = 0; i < s.N; i++) {
            noisy ^= uniform() < 0.015;
            p.noisy[b * s.N + i] = runs ? noisy : i >= clean;
        }
    }
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->q), free(p->k), free(p->v), free(p->sink_k), free(p->sink_v), free(p->noisy);
}

/* (T, d) into (T, ld) from column 2d on, where v lies, and `beside` in the other columns. */
static double *widened(const double *v, size_t T, size_t d, size_t ld, double beside)
{
    double *wide = check_memory(T * ld * sizeof *wide);
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < ld; i++)
            wide[t * ld + i] = i >= 2 * d && i < 3 * d ? v[t * d + i - 2 * d] : beside;
    return wide;
}

/* Six standard deviations of an error that is even within 2⁻⁹ of each term, for products in bf16. */
static double noise_of(enum dlm_dtype act)
{
    return !strcmp(K->name, "cuda") && act == DLM_BF16 ? 6 / sqrt(3) / 512 : 0;
}

static void tolerances(double *t, const double *want, const double *size, const double *noise, size_t n, double share, enum dlm_dtype act,
                       enum dlm_dtype products)
{
    for (size_t i = 0; i < n; i++)
        t[i] = share * size[i] + noise_of(products) * noise[i] + 1.01 * unit_of(act) * fabs(want[i]) + 1e-30;
}

/* How far a score may be off: what cap·tanh and exp round. On a GPU these are special functions, good to about 2⁻²², and the sums of q·k,
 * of √h·loud² or so, are chains of one addition after the other that tensor cores may cut off rather than round. */
static double score_share(double cap, size_t h, double loud)
{
    double here = 8 * cap * unit_of(DLM_F32);
    return strcmp(K->name, "cuda") ? here : 2 * here + 8 * sqrt((double)h) * loud * loud * unit_of(DLM_F32);
}

/* `more`: of columns behind v, which put its rows at odd addresses. */
static void check(struct shape s, size_t more, enum dlm_attend rule, double cap, double loud, enum dlm_dtype act)
{
    static const char *rules[] = {"full", "prefix", "causal"};
    struct problem p = problem_new(s, rule, cap, loud, act);
    size_t n = elements(&s), d = s.H * s.h, T = s.B * s.N, rows = s.B * s.H * s.N, ld = 3 * d + more;
    double *wide = widened(p.v, T, d, ld, NAN), *do_ = random_array(n, 0, 1, act),
           *tolerance = check_memory((T * ld + rows) * sizeof *tolerance);
    struct buffer q = put(p.q, n, act), k = put(p.k, n, act), qkv = put(wide, T * ld, act), o = put(NULL, n, act),
                  lse = put(NULL, rows, DLM_F32);
    struct buffer sk = put(p.sink_k, d, DLM_F32), sv = put(p.sink_v, d, DLM_F32);
    dlm_ptr noisy = put_bytes(p.noisy, T), none = {0}, seen = rule == DLM_ATTEND_PREFIX ? noisy : none;
    dlm_ptr v = dlm_ptr_at(qkv.at, 2 * d * dlm_dtype_size(act));
    K->attention(D, o.at, lse.at, q.at, k.at, v, ld, sk.at, sv.at, seen, rule, s.B, s.N, s.H, s.h, (float)cap, act);
    double *got_o = take(o), *got_lse = take(lse);
    struct result want = forward(&p);
    double share = score_share(cap, s.h, loud), most = fmax(largest(p.v, n), largest(p.sink_v, d));
    for (size_t i = 0; i < n; i++)
        tolerance[i] = share * most + noise_of(act) * want.noise[i] + 1.01 * unit_of(act) * fabs(want.o[i]);
    bool good = all_near(got_o, want.o, n, tolerance, 0) && all_near(got_lse, want.lse, rows, NULL, share);

    /* backward from the o and lse that forward left; the sink's gradients add to what is there */
    double *start = random_array(d, 0, 1, DLM_F32);
    struct buffer dout = put(do_, n, act), dq = put(NULL, n, act), dk = put(NULL, n, act), dqkv = put(NULL, T * ld, act);
    struct buffer dsk = put(start, d, DLM_F32), dsv = put(start, d, DLM_F32);
    K->attention_backward(D, dq.at, dk.at, dlm_ptr_at(dqkv.at, 2 * d * dlm_dtype_size(act)), ld, dsk.at, dsv.at, dout.at, o.at,
                          lse.at, q.at, k.at, v, ld, sk.at, sv.at, seen, rule, s.B, s.N, s.H, s.h, (float)cap, act);
    struct gradient g = gradient_new(&s), size = gradient_new(&s), noise = gradient_new(&s);
    backward(&p, do_, got_o, got_lse, &g, &size, &noise);
    share *= 2;
    double *got_dq = take(dq), *got_dk = take(dk), *got_dqkv = take(dqkv), *got_dsk = take(dsk), *got_dsv = take(dsv);
    double *want_dqkv = widened(g.dv, T, d, ld, 0), *size_dqkv = widened(size.dv, T, d, ld, 0),
           *noise_dqkv = widened(noise.dv, T, d, ld, 0);
    for (size_t e = 0; e < d; e++) {
        g.dsink_k[e] += start[e];
        g.dsink_v[e] += start[e];
    }
    tolerances(tolerance, g.dq, size.dq, noise.dq, n, share, act, act);
    good = all_near(got_dq, g.dq, n, tolerance, 0) && good;
    tolerances(tolerance, g.dk, size.dk, noise.dk, n, share, act, act);
    good = all_near(got_dk, g.dk, n, tolerance, 0) && good;
    tolerances(tolerance, want_dqkv, size_dqkv, noise_dqkv, T * ld, share, act, act);
    good = all_near(got_dqkv, want_dqkv, T * ld, tolerance, 0) && good;
    tolerances(tolerance, g.dsink_k, size.dsink_k, noise.dsink_k, d, share, DLM_F32, DLM_F32);
    good = all_near(got_dsk, g.dsink_k, d, tolerance, 0) && good;
    tolerances(tolerance, g.dsink_v, size.dsink_v, noise.dsink_v, d, share, DLM_F32, DLM_F32);
    good = all_near(got_dsv, g.dsink_v, d, tolerance, 0) && good;
    tap_ok(good, "B %zu, N %zu, H %zu, h %zu, rows of v %zu apart, %s, cap %g, %s", s.B, s.N, s.H, s.h, ld, rules[rule], cap,
           type_name(act));

    /* again, the same bits */
    struct buffer again = put(NULL, n, act);
    K->attention_backward(D, again.at, dk.at, dlm_ptr_at(dqkv.at, 2 * d * dlm_dtype_size(act)), ld, dsk.at, dsv.at, dout.at,
                          o.at, lse.at, q.at, k.at, v, ld, sk.at, sv.at, seen, rule, s.B, s.N, s.H, s.h, (float)cap, act);
    double *second = take(again);
    if (memcmp(second, got_dq, n * sizeof *second))
        tap_ok(false, "a repeated call gives the same bits");
    drop(again), drop(q), drop(k), drop(qkv), drop(o), drop(lse), drop(sk), drop(sv), drop(dout), drop(dq), drop(dk), drop(dqkv),
        drop(dsk), drop(dsv);
    K->free(D, noisy);
    free(second), free(wide), free(do_), free(tolerance), free(got_o), free(got_lse), free(want.o), free(want.lse), free(want.noise);
    free(start), free(got_dq), free(got_dk);
    free(got_dqkv), free(got_dsk), free(got_dsv), free(want_dqkv), free(size_dqkv), free(noise_dqkv);
    gradient_free(&g), gradient_free(&size), gradient_free(&noise), problem_free(&p);
}

static double total(const struct problem *p, const double *do_)
{
    struct result r = forward(p);
    double sum = inner(r.o, do_, elements(&p->s));
    free(r.o), free(r.lse), free(r.noise);
    return sum;
}

static bool differences(const struct problem *p, const double *do_, double *at, const double *grad, size_t n)
{
    double *want = check_memory(n * sizeof *want), step = 1e-5;
    for (size_t i = 0; i < n; i++) {
        double before = at[i];
        at[i] = before + step;
        double up = total(p, do_);
        at[i] = before - step;
        want[i] = (up - total(p, do_)) / (2 * step);
        at[i] = before;
    }
    bool good = all_near(grad, want, n, NULL, 1e-7 * (1 + largest(want, n)));
    free(want);
    return good;
}

static void check_reference(enum dlm_attend rule)
{
    struct shape s = {2, 5, 2, 4};
    struct problem p = problem_new(s, rule, 3, 1.5, DLM_F32);
    double *do_ = random_array(elements(&s), 0, 1, DLM_F32);
    struct result r = forward(&p);
    struct gradient g = gradient_new(&s), size = gradient_new(&s), noise = gradient_new(&s);
    backward(&p, do_, r.o, r.lse, &g, &size, &noise);
    size_t n = elements(&s), m = s.H * s.h;
    tap_ok(differences(&p, do_, p.q, g.dq, n) && differences(&p, do_, p.k, g.dk, n) && differences(&p, do_, p.v, g.dv, n) &&
               differences(&p, do_, p.sink_k, g.dsink_k, m) && differences(&p, do_, p.sink_v, g.dsink_v, m),
           "the reference's gradient agrees with difference quotients, rule %d", (int)rule);
    free(do_), free(r.o), free(r.lse), free(r.noise);
    gradient_free(&g), gradient_free(&size), gradient_free(&noise), problem_free(&p);
}

/* The last n of N rows on a cache that holds the others, against the same rows of a whole call: the same bits, and the cache's own
 * rows in place. */
static void check_cached(struct shape s, size_t at, enum dlm_attend rule, double cap, enum dlm_dtype act)
{
    struct problem p = problem_new(s, rule, cap, 1, act);
    size_t n = elements(&s), d = s.H * s.h, item = dlm_dtype_size(act), fresh = s.N - at;
    double *wide = widened(p.v, s.N, d, 3 * d, NAN);
    dlm_ptr none = {0};
    struct buffer q = put(p.q, n, act), k = put(p.k, n, act), v = put(p.v, n, act), qkv = put(wide, 3 * n, act), o = put(NULL, n, act),
                  lse = put(NULL, s.H * s.N, DLM_F32), sk = put(p.sink_k, d, DLM_F32), sv = put(p.sink_v, d, DLM_F32);
    struct buffer keys = put(p.k, n, act), values = put(p.v, n, act), o2 = put(NULL, fresh * d, act);
    K->attention(D, o.at, lse.at, q.at, k.at, v.at, d, sk.at, sv.at, none, rule, 1, s.N, s.H, s.h, (float)cap, act);
    K->zero(D, dlm_ptr_at(keys.at, at * d * item), fresh * d * item);
    K->zero(D, dlm_ptr_at(values.at, at * d * item), fresh * d * item);
    K->attention_cached(D, o2.at, keys.at, values.at, dlm_ptr_at(q.at, at * d * item), dlm_ptr_at(k.at, at * d * item),
                        dlm_ptr_at(qkv.at, (at * 3 + 2) * d * item), 3 * d, sk.at, sv.at, rule, at, fresh, s.H, s.h, (float)cap, act);
    double *whole = take(o), *part = take(o2), *got_k = take(keys), *got_v = take(values);
    tap_ok(!memcmp(whole + at * d, part, fresh * d * sizeof *part) && !memcmp(got_k, p.k, n * sizeof *got_k) &&
               !memcmp(got_v, p.v, n * sizeof *got_v),
           "cached: rows %zu to %zu, H %zu, h %zu, rule %d, cap %g, %s", at, s.N, s.H, s.h, (int)rule, cap, type_name(act));
    drop(q), drop(k), drop(v), drop(qkv), drop(o), drop(lse), drop(sk), drop(sv), drop(keys), drop(values), drop(o2);
    free(wide), free(whole), free(part), free(got_k), free(got_v);
    problem_free(&p);
}

int main(void)
{
    static const struct shape shapes[] = {{1, 1, 1, 2},    {2, 5, 2, 4},    {3, 17, 2, 6},  {1, 64, 1, 16},
                                          {2, 65, 2, 32},  {1, 67, 3, 48},  {1, 131, 2, 64}, {1, 70, 1, 128},
                                          {2, 63, 1, 10},  {1, 129, 1, 80}, {1, 200, 1, 128}, {1, 66, 1, 130},
                                          {1, 570, 1, 16}};
    check_seed = tap_seed();
    check_open(2);
    for (int rule = 0; rule < 3; rule++) {
        check_reference((enum dlm_attend)rule);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int act = 0; act < 2; act++)
                check(shapes[i], 0, (enum dlm_attend)rule, 30, i % 2 || i > 7 ? 1 : 4, act ? DLM_BF16 : DLM_F32);
        for (int act = 0; act < 2; act++) {
            check(shapes[4], 0, (enum dlm_attend)rule, 100, 10, act ? DLM_BF16 : DLM_F32);
            check(shapes[4], 0, (enum dlm_attend)rule, 2, 1, act ? DLM_BF16 : DLM_F32);
            check(shapes[5], 1, (enum dlm_attend)rule, 30, 1, act ? DLM_BF16 : DLM_F32);
            check(shapes[5], 2, (enum dlm_attend)rule, 30, 1, act ? DLM_BF16 : DLM_F32);
        }
    }
    for (int causal = 0; causal < 2; causal++)
        for (int act = 0; act < 2; act++) {
            static const size_t at[] = {0, 1, 63, 64, 65, 130, 100, 62}, h[] = {6, 22, 38, 54, 70, 86, 128, 8};
            for (size_t i = 0; i < sizeof at / sizeof *at; i++)
                check_cached((struct shape){1, 131, 2, h[i]}, at[i], causal ? DLM_ATTEND_CAUSAL : DLM_ATTEND_FULL, i == 3 ? 100 : 30,
                             act ? DLM_BF16 : DLM_F32);
        }
    check_close();
    return tap_end();
}
