/* The diffusion loss and cross-entropy of the kernels: against the definitions of method.md §3 in long double, against finite
 * differences, at the exact oracles, and against published reference numbers where they are at hand. */
#include "kernel_check.h"

#include <jansson.h>

/* method.md §1: ρ = σ(λ + b), everything in double. */
struct noise {
    const char *name;
    double shift;
};

static const struct noise noises[] = {
    {"masked", -1000}, {"low-uniform", -2}, {"balanced", 0}, {"high-uniform", 2}, {"uniform", 1000}};
enum { NOISES = 5 };

static double sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

/* The kernel's view of a token; the caps of the weights are the caller's, so that oracles can go without. */
static struct dlm_row row_of(double shift, double log_snr, uint32_t x, uint32_t z, uint32_t mask, size_t V, double cap,
                             double elbo_cap)
{
    double alpha = sigmoid(log_snr), beta = sigmoid(-log_snr), rho = sigmoid(log_snr + shift), other = sigmoid(-log_snr - shift);
    double pi = z == mask ? other : rho / (double)(V - 1), dpi = z == mask ? -rho * other : rho * other / (double)(V - 1);
    double bottom = pi + (z == x ? exp(log_snr) : 0), w = bottom > 0 ? (pi - dpi) / bottom : 0, elbo = w / (alpha * beta);
    struct dlm_row r = {(float)alpha, (float)(beta * rho / (double)(V - 1)), (float)(w < cap ? w : cap),
                        (float)(elbo < elbo_cap ? elbo : elbo_cap)};
    return r;
}

/* The definition, with α and c as the kernel gets them. `size` (V) is how large the parts are that cancel in each gradient. */
static void definition(const double *l, size_t V, uint32_t x, uint32_t z, uint32_t mask, struct dlm_row row, double terms[4],
                       double *grad, double *size)
{
    long double most = -INFINITY, sum = 0, alpha = row.alpha, c = row.c, w = row.weight;
    long double *s = check_memory(V * sizeof *s);
    for (size_t v = 0; v < V; v++)
        if (v != mask && l[v] > most)
            most = l[v];
    for (size_t v = 0; v < V; v++)
        sum += s[v] = v == mask ? 0 : expl(l[v] - most);
    for (size_t v = 0; v < V; v++)
        s[v] /= sum;
    long double kl = 0, is = 0, pull = 0;
    for (size_t v = 0; v < V; v++) {
        if (v == mask)
            continue; /* q(m|x) = p(m) */
        long double q = (v == x ? alpha : 0) + c, p = alpha * s[v] + c;
        kl += q > 0 ? q * logl(q / p) - (q - p) : p; /* Σ (q - p) = 0 */
        long double g = q > 0 ? -w * q / p : 0;
        if (v == z) {
            long double r = q / (p > 1e-12L ? p : 1e-12L);
            is = r - logl(r) - 1;
            if (p > 1e-12L)
                g += w * (1 / p - q / (p * p));
        }
        if (grad)
            grad[v] = (double)(s[v] * alpha * g);
        pull += s[v] * alpha * g;
    }
    if (grad) {
        grad[mask] = 0;
        if (size)
            size[mask] = 0;
        for (size_t v = 0; v < V; v++) {
            if (v == mask)
                continue;
            long double q = (v == x ? alpha : 0) + c, p = alpha * s[v] + c, g = q > 0 ? -w * q / p : 0;
            if (v == z && p > 1e-12L)
                g += w * (1 / p - q / (p * p));
            grad[v] = (double)(s[v] * (alpha * g - pull));
            if (size)
                size[v] = (double)(s[v] * (fabsl(alpha * g) + fabsl(pull) + w * alpha));
        }
    }
    terms[DLM_TERM_KL] = (double)(w * kl);
    terms[DLM_TERM_IS] = (double)(w * is);
    terms[DLM_TERM_LOSS] = (double)(w * (kl + is));
    terms[DLM_TERM_ELBO] = (double)(row.elbo_weight * (kl + is));
    free(s);
}

/* n rows through the kernel; terms (n, 4) and, unless NULL, gradients (n, V). */
static double *kernel(const double *logits, const uint32_t *x, const uint32_t *z, const struct dlm_row *row, size_t n, size_t V,
                      uint32_t mask, enum dlm_dtype act, double **grad, bool in_place)
{
    struct buffer l = put(logits, n * V, DLM_F32), t = put(NULL, n * DLM_TERMS, DLM_F32), g = {{0}, n * V, act};
    if (grad)
        g = in_place ? l : put(NULL, n * V, act);
    dlm_ptr dx = put_bytes(x, n * 4), dz = put_bytes(z, n * 4), dr = put_bytes(row, n * sizeof *row);
    K->diffusion_loss(D, t.at, g.at, l.at, dx, dz, dr, n, V, mask, act);
    double *terms = take(t);
    if (grad)
        *grad = take(g);
    K->free(D, dx), K->free(D, dz), K->free(D, dr);
    drop(l), drop(t);
    if (grad && !in_place)
        drop(g);
    return terms;
}

static void check_definition(size_t V, double spread, enum dlm_dtype act)
{
    static const double levels[] = {-9, -6.5, -3, 0, 2, 5, 9}, shifts[] = {-1000, -40, -16, -2, 0, 2, 1000};
    enum { ROWS = 7 * 7 * 3 };
    double *logits = check_memory(ROWS * V * sizeof *logits);
    uint32_t x[ROWS], z[ROWS], mask = (uint32_t)(V > 3 ? 3 : V - 1);
    struct dlm_row row[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        size_t kind = i % 3;
        do
            x[i] = (uint32_t)(uniform() * (double)V);
        while (x[i] == mask);
        z[i] = kind == 0 ? mask : x[i];
        double shift = shifts[i / 3 % 7];
        if (kind == 2 && V > 2 && shift > -100)
            do
                z[i] = (uint32_t)(uniform() * (double)V);
            while (z[i] == mask || z[i] == x[i]);
        row[i] = row_of(shift, levels[i / 21], x[i], z[i], mask, V, 1e3, 1e6);
        for (size_t v = 0; v < V; v++)
            logits[i * V + v] = kept(spread * normal(), DLM_F32);
    }
    double *grad, *terms = kernel(logits, x, z, row, ROWS, V, mask, act, &grad, act == DLM_F32 && spread > 1);
    double *want = check_memory(V * sizeof *want), *size = check_memory(V * sizeof *size);
    bool good = true, sums = true;
    for (size_t i = 0; i < ROWS; i++) {
        double exact[4], tolerance[4], total = 0;
        definition(logits + i * V, V, x[i], z[i], mask, row[i], exact, want, size);
        double over = 4e-6 + 1e-6 * spread;
        for (int k = 0; k < 4; k++)
            tolerance[k] = over * fabs(exact[k]) + 1e-12;
        double all = 0;
        for (size_t v = 0; v < V; v++) {
            size[v] = size[v] * (2e-6 + 1e-6 * spread) + fabs(want[v]) * unit_of(act) * 1.01 + 1e-30;
            all += size[v];
        }
        bool row_good = all_near(terms + i * 4, exact, 4, tolerance, 0) && all_near(grad + i * V, want, V, size, 0);
        for (size_t v = 0; v < V; v++)
            total += grad[i * V + v];
        if (!row_good)
            printf("# row %zu: λ %g, shift %g, x %u, z %u\n", i, levels[i / 21], shifts[i / 3 % 7], x[i], z[i]);
        good = good && row_good && grad[i * V + mask] == 0;
        sums = sums && fabs(total) <= all;
    }
    tap_ok(good, "the loss and its gradient follow their definition: V %zu, logits %g·N(0, 1), %s", V, spread, type_name(act));
    tap_ok(sums, "rows of the gradient sum to zero (oracle 4): V %zu, logits %g·N(0, 1), %s", V, spread, type_name(act));
    free(logits), free(want), free(size), free(grad), free(terms);
}

/* Oracle 4: at s = one-hot(x) the gradient vanishes. */
static void check_one_hot(void)
{
    enum { V = 301, ROWS = 15 };
    double *logits = check_memory(ROWS * V * sizeof *logits);
    uint32_t x[ROWS], z[ROWS];
    struct dlm_row row[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        x[i] = (uint32_t)(5 + i);
        z[i] = i % 3 == 0 ? 3 : i % 3 == 1 || i < 3 ? x[i] : x[i] + 7;
        row[i] = row_of(noises[i / 3].shift, 0.3, x[i], z[i], 3, V, 1e3, 1e6);
        for (size_t v = 0; v < V; v++)
            logits[i * V + v] = v == x[i] ? 0 : -200;
    }
    double *grad, *terms = kernel(logits, x, z, row, ROWS, V, 3, DLM_F32, &grad, false);
    tap_ok(largest(grad, ROWS * V) == 0 && largest(terms, ROWS * 4) <= 1e-12,
           "at one-hot(x) loss and gradient vanish (oracle 4): %g, %g", largest(terms, ROWS * 4), largest(grad, ROWS * V));
    free(logits), free(grad), free(terms);
}

/* Central differences of the definition's loss, so that the formula of the gradient stands on its own. */
static void check_differences(void)
{
    enum { V = 11 };
    bool good = true;
    for (int trial = 0; trial < 40; trial++) {
        double logits[V], grad[V], terms[4];
        for (size_t v = 0; v < V; v++)
            logits[v] = kept(2 * normal(), DLM_F32);
        uint32_t x = 4, z = trial % 3 == 0 ? 3 : trial % 3 == 1 ? 4 : 7;
        double shift = noises[1 + trial % 4].shift, log_snr = 12 * uniform() - 6;
        struct dlm_row row = row_of(shift, log_snr, x, z, 3, V, 1e3, 1e6);
        double *got, *t = kernel(logits, &x, &z, &row, 1, V, 3, DLM_F32, &got, false);
        for (size_t v = 0; v < V; v++) {
            double step = 1e-4, at = logits[v];
            logits[v] = at + step;
            definition(logits, V, x, z, 3, row, terms, NULL, NULL);
            double up = terms[DLM_TERM_LOSS];
            logits[v] = at - step;
            definition(logits, V, x, z, 3, row, terms, NULL, NULL);
            grad[v] = (up - terms[DLM_TERM_LOSS]) / (2 * step);
            logits[v] = at;
        }
        good = all_near(got, grad, V, NULL, 1e-5 * largest(grad, V) + 1e-7 * fabs(t[0]) + 1e-12) && good;
        free(got), free(t);
    }
    tap_ok(good, "the gradient agrees with central differences");
}

/* ∫ dλ Σ_z q(z|x) w (KL + IS) over [-range, range] by midpoints, for fixed logits; by symmetry of constant logits only three z
 * where `flat`. */
static double integral(const double *logits, size_t V, uint32_t x, double shift, double range, size_t points, bool flat)
{
    uint32_t mask = 3;
    size_t each = flat ? 3 : V, chunk = 1 + 3000000 / (each * V), done = 0;
    double total = 0, width = 2 * range / (double)points;
    struct buffer l = {{0}, 0, DLM_F32};
    size_t rows = chunk * each;
    double *copies = check_memory(rows * V * sizeof *copies);
    for (size_t i = 0; i < rows; i++)
        memcpy(copies + i * V, logits, V * sizeof *copies);
    l = put(copies, rows * V, DLM_F32);
    free(copies);
    uint32_t *xs = check_memory(rows * 4), *zs = check_memory(rows * 4);
    struct dlm_row *row = check_memory(rows * sizeof *row);
    double *share = check_memory(rows * sizeof *share);
    float *terms = check_memory(rows * DLM_TERMS * sizeof *terms);
    dlm_ptr dx = K->alloc(D, rows * 4), dz = K->alloc(D, rows * 4), dr = K->alloc(D, rows * sizeof *row);
    dlm_ptr dt = K->alloc(D, rows * DLM_TERMS * sizeof *terms);
    while (done < points) {
        size_t now = points - done < chunk ? points - done : chunk;
        for (size_t i = 0; i < now * each; i++) {
            double log_snr = -range + width * ((double)(done + i / each) + 0.5);
            double alpha = sigmoid(log_snr), beta = sigmoid(-log_snr), rho = sigmoid(log_snr + shift);
            uint32_t z = (uint32_t)(i % each);
            if (flat)
                z = z == 0 ? x : z == 1 ? mask : x + 1;
            double q = (z == x ? alpha : 0) + beta * (z == mask ? sigmoid(-log_snr - shift) : rho / (double)(V - 1));
            share[i] = q * (flat && z != x && z != mask ? (double)(V - 2) : 1);
            xs[i] = x;
            zs[i] = z;
            row[i] = row_of(shift, log_snr, x, z, mask, V, INFINITY, INFINITY);
            if (q == 0)
                row[i].weight = 0;
        }
        size_t n = now * each;
        K->upload(D, dx, xs, n * 4), K->upload(D, dz, zs, n * 4), K->upload(D, dr, row, n * sizeof *row);
        dlm_ptr none = {0};
        K->diffusion_loss(D, dt, none, l.at, dx, dz, dr, n, V, mask, DLM_F32);
        K->download(D, terms, dt, n * DLM_TERMS * sizeof *terms);
        for (size_t i = 0; i < n; i++)
            total += share[i] > 0 ? share[i] * (double)terms[i * DLM_TERMS + DLM_TERM_LOSS] : 0;
        done += now;
    }
    drop(l);
    K->free(D, dx), K->free(D, dz), K->free(D, dr), K->free(D, dt);
    free(xs), free(zs), free(row), free(share), free(terms);
    return total * width;
}

static void check_oracles(void)
{
    static const double small[NOISES] = {3.890860, 3.889711, 3.889820, 3.889984, 3.890141};
    static const double large[NOISES] = {11.780586, 11.779405, 11.779524, 11.779730, 11.780557};
    const bool emulated = strstr(K->describe(D), "emulated") != NULL; /* tests/emulate: a thread at a time */
    double *flat = check_memory(131072 * sizeof *flat), random[50];
    for (size_t v = 0; v < 50; v++)
        random[v] = kept(1.5 * normal(), DLM_F32);
    double sum = 0;
    for (size_t v = 0; v < 50; v++)
        sum += v == 3 ? 0 : exp(random[v]);
    for (int i = 0; i < NOISES; i++) {
        tap_near(integral(flat, 50, 9, noises[i].shift, 30, emulated ? 600 : 6000, true), log(49), 4e-6,
                 "∫ = log 49, constant logits, %s (oracle 1)", noises[i].name);
        if (!emulated || i % 2 == 0)
            tap_near(integral(random, 50, 9, noises[i].shift, 30, 600, false), log(sum) - random[9], 8e-6,
                     "∫ = -log s(x), random predictor, %s (oracle 1)", noises[i].name);
        tap_near(integral(flat, 50, 9, noises[i].shift, 9, 256, true), small[i], 1e-5, "over [-9, 9], V 50, %s (oracle 2)",
                 noises[i].name);
        if (!emulated || i == 2)
            tap_near(integral(flat, 131072, 9, noises[i].shift, 9, 256, true), large[i], 1.5e-5,
                     "over [-9, 9], V 131072, %s (oracle 2)", noises[i].name);
    }
    bool good = true;
    for (double log_snr = -8.75; log_snr < 9; log_snr += 0.5) {
        uint32_t x[2] = {9, 9}, z[2] = {3, 9};
        struct dlm_row row[2] = {row_of(-1000, log_snr, 9, 3, 3, 50, 1e3, 1e6), row_of(-1000, log_snr, 9, 9, 3, 50, 1e3, 1e6)};
        double both[100];
        memcpy(both, random, sizeof random);
        memcpy(both + 50, random, sizeof random);
        double *terms = kernel(both, x, z, row, 2, 50, 3, DLM_F32, NULL, false);
        double want[2] = {(log(sum) - random[9]) / sigmoid(-log_snr), 0},
               got[2] = {terms[DLM_TERM_ELBO], terms[4 + DLM_TERM_ELBO]};
        good = all_near(got, want, 2, NULL, 1e-6 * want[0]) && good;
        free(terms);
    }
    tap_ok(good, "masked: the ELBO of a token is -log s(x)/(1-α) where z is the mask and 0 where it is x (oracle 3)");

    /* float32 keeps its digits at λ = -9 and a large vocabulary: against the definition, logits of a trained scale */
    double *wide = check_memory(131072 * sizeof *wide), exact[4];
    for (size_t v = 0; v < 131072; v++)
        wide[v] = kept(2 * normal(), DLM_F32);
    uint32_t x = 70000, z = 90000;
    for (int i = 1; i < NOISES; i++) {
        struct dlm_row row = row_of(noises[i].shift, -9, x, z, 3, 131072, 1e3, 1e6);
        double *terms = kernel(wide, &x, &z, &row, 1, 131072, 3, DLM_F32, NULL, false);
        definition(wide, 131072, x, z, 3, row, exact, NULL, NULL);
        tap_near(terms[DLM_TERM_ELBO], exact[DLM_TERM_ELBO], 2e-7 * exact[DLM_TERM_ELBO], "ELBO at λ = -9, V 131072, %s",
                 noises[i].name);
        free(terms);
    }
    free(flat), free(wide);
}

/* Where α ≪ c loss and gradient are of second order in α: they keep their digits all the same. */
static void check_second_order(void)
{
    double logits[7], exact[4], want[7];
    bool good = true;
    for (int trial = 0; trial < 20; trial++) {
        for (size_t v = 0; v < 7; v++)
            logits[v] = kept(normal(), DLM_F32);
        uint32_t x = 5, z = trial % 2 ? 3 : 5;
        struct dlm_row row = row_of(1000, -9, x, x, 3, 7, 1e3, 1e6);
        row.weight = row.elbo_weight = 1;
        double *grad, *terms = kernel(logits, &x, &z, &row, 1, 7, 3, DLM_F32, &grad, false);
        definition(logits, 7, x, z, 3, row, exact, want, NULL);
        good = all_near(grad, want, 7, NULL, 3e-6 * largest(want, 7)) &&
               all_near(terms, exact, 4, NULL, 2e-6 * largest(exact, 4)) && good;
        good = fabs(terms[DLM_TERM_KL] - exact[DLM_TERM_KL]) <= 2e-6 * exact[DLM_TERM_KL] && good;
        free(grad), free(terms);
    }
    tap_ok(good, "digits are kept at second order in α");
}

static void check_cross_entropy(size_t V, double spread, enum dlm_dtype act)
{
    enum { ROWS = 9 };
    uint32_t mask = V > 5 ? 5 : 0, target[ROWS];
    double *logits = random_array(ROWS * V, 0, spread, DLM_F32), *grad_want = check_memory(ROWS * V * sizeof *grad_want),
           want[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        do
            target[i] = (uint32_t)(uniform() * (double)V);
        while (target[i] == mask);
        long double most = -INFINITY, sum = 0;
        for (size_t v = 0; v < V; v++)
            if (v != mask && logits[i * V + v] > most)
                most = logits[i * V + v];
        for (size_t v = 0; v < V; v++)
            sum += v == mask ? 0 : expl(logits[i * V + v] - most);
        want[i] = (double)(logl(sum) + most - logits[i * V + target[i]]);
        for (size_t v = 0; v < V; v++)
            grad_want[i * V + v] = v == mask ? 0 : (double)(expl(logits[i * V + v] - most) / sum - (v == target[i]));
    }
    struct buffer l = put(logits, ROWS * V, DLM_F32), n = put(NULL, ROWS, DLM_F32), g = put(NULL, ROWS * V, act);
    dlm_ptr t = put_bytes(target, sizeof target), none = {0};
    K->cross_entropy(D, n.at, g.at, l.at, t, ROWS, V, mask, act);
    double *nll = take(n), *grad = take(g);
    bool good = all_near(nll, want, ROWS, NULL, 3e-6 * (1 + spread)) &&
                all_near(grad, grad_want, ROWS * V, NULL, act == DLM_BF16 ? 4e-3 : 2e-6 * (1 + spread));
    K->cross_entropy(D, n.at, none, l.at, t, ROWS, V, mask, act);
    double *second = take(n);
    good = good && !memcmp(nll, second, ROWS * sizeof *nll);
    if (act == DLM_F32) {
        K->cross_entropy(D, n.at, l.at, l.at, t, ROWS, V, mask, act);
        double *in_place = take(l);
        good = good && !memcmp(grad, in_place, ROWS * V * sizeof *grad);
        free(in_place);
    }
    tap_ok(good, "cross-entropy, V %zu, logits %g·N(0, 1), %s", V, spread, type_name(act));
    drop(l), drop(n), drop(g);
    K->free(D, t);
    free(logits), free(grad_want), free(nll), free(grad), free(second);
}

static double field(const json_t *j, const char *name)
{
    return json_number_value(json_object_get(j, name));
}

static void check_reference(void)
{
    const char *folder = getenv("DLM_REFERENCE");
    char path[4096];
    snprintf(path, sizeof path, "%s/loss.json", folder ? folder : "../shared/reference");
    json_t *list = json_load_file(path, 0, NULL);
    if (!list) {
        tap_skip(3, "no reference numbers at %s", path);
        return;
    }
    size_t cases = json_array_size(list);
    double worst[3] = {0, 0, 0};
    for (size_t i = 0; i < cases; i++) {
        json_t *c = json_array_get(list, i), *l = json_object_get(c, "logits"), *g = json_object_get(c, "grad");
        size_t V = (size_t)field(c, "vocab");
        uint32_t x = (uint32_t)field(c, "x"), z = (uint32_t)field(c, "z"), mask = (uint32_t)field(c, "mask");
        double *logits = check_memory(V * sizeof *logits), *want = check_memory(V * sizeof *want), *grad;
        for (size_t v = 0; v < V; v++) {
            logits[v] = json_number_value(json_array_get(l, v));
            want[v] = json_number_value(json_array_get(g, v));
        }
        struct dlm_row row = row_of(field(c, "shift"), field(c, "log_snr"), x, z, mask, V, 1e3, 1e6);
        double *terms = kernel(logits, &x, &z, &row, 1, V, mask, DLM_F32, &grad, false);
        static const char *names[] = {"loss", "elbo", "kl_loss", "is_loss"};
        for (int k = 0; k < 4; k++) {
            /* the reference adds up terms of the size of w in float32, which leaves it that much uncertain where the loss is
             * small */
            double expected = field(c, names[k]),
                   rounding = 4 * unit_of(DLM_F32) * (double)(k == 1 ? row.elbo_weight : row.weight);
            double off =
                fmax(fabs(terms[k] - expected) - rounding, 0) / fmax(fabs(k < 2 ? expected : field(c, "loss")), rounding + 1e-30);
            double allowed = k == 1 ? 1e-2 : 2e-4;
            int group = k == 1;
            worst[group] = tap_worst(worst[group], isnan(terms[k]) ? NAN : off);
            if (off > allowed)
                printf("# case %zu, %s, λ %g, x %u, z %u: %s %.9g, reference %.9g\n", i,
                       json_string_value(json_object_get(c, "noise")), field(c, "log_snr"), x, z, names[k], terms[k], expected);
        }
        /* its weight w is made from 1 - α by subtraction, which moves the whole row alike by as much as the loss: that share
         * first, the rest to 3e-5 */
        double along = 0, square = 0, most = largest(want, V), off = 0;
        for (size_t v = 0; v < V; v++) {
            along += grad[v] * want[v];
            square += grad[v] * grad[v];
        }
        double share = square > 0 ? along / square : 1;
        if (!(fabs(share - 1) <= 2e-4))
            off = 1;
        for (size_t v = 0; v < V; v++)
            off = fabs(share * grad[v] - want[v]) > off * most ? fabs(share * grad[v] - want[v]) / most : off;
        worst[2] = off > worst[2] ? off : worst[2];
        if (off > 3e-5)
            printf("# case %zu, %s, λ %g, x %u, z %u: gradient off by %.3g of its largest\n", i,
                   json_string_value(json_object_get(c, "noise")), field(c, "log_snr"), x, z, off);
        free(logits), free(want), free(grad), free(terms);
    }
    tap_deviation(cases ? worst[0] : INFINITY, 2e-4, "loss.json: loss, KL and IS of the kernel in float32, relative, %zu rows", cases);
    tap_deviation(cases ? worst[1] : INFINITY, 1e-2, "loss.json: ELBO of the kernel in float32, relative, %zu rows", cases);
    tap_deviation(cases ? worst[2] : INFINITY, 3e-5, "loss.json: gradient of the kernel in float32, share of its largest entry, %zu rows", cases);
    json_decref(list);
}

/* Softmax in long double, the mask left out; in place as well. */
static void check_shares(size_t V, double scale, double loud)
{
    enum { ROWS = 5 };
    double *l = random_array(ROWS * V, 0, loud, DLM_F32), *want = check_memory(ROWS * V * sizeof *want);
    uint32_t mask = draw() % (uint32_t)V;
    for (size_t r = 0; r < ROWS; r++) {
        long double most = -INFINITY, sum = 0;
        l[r * V + mask] = 60; /* must not matter */
        for (size_t v = 0; v < V; v++)
            if (v != mask)
                most = fmaxl(most, (long double)(float)scale * l[r * V + v]);
        for (size_t v = 0; v < V; v++)
            sum += v == mask ? 0 : expl((long double)(float)scale * l[r * V + v] - most);
        for (size_t v = 0; v < V; v++)
            want[r * V + v] = v == mask ? 0 : (double)(expl((long double)(float)scale * l[r * V + v] - most) / sum);
    }
    struct buffer logits = put(l, ROWS * V, DLM_F32), out = put(NULL, ROWS * V, DLM_F32);
    K->shares(D, out.at, logits.at, ROWS, V, mask, (float)scale);
    K->shares(D, logits.at, logits.at, ROWS, V, mask, (float)scale);
    double *got = take(out), *same = take(logits);
    bool good = !memcmp(got, same, ROWS * V * sizeof *got);
    for (size_t r = 0; r < ROWS; r++) {
        double sum = 0;
        for (size_t v = 0; v < V; v++) { /* an error of the exponent is one of the share */
            double relative = (8 + 4 * scale * loud * 6) * unit_of(DLM_F32);
            good = good && fabs(got[r * V + v] - want[r * V + v]) <= relative * want[r * V + v] + 1e-37;
            sum += got[r * V + v];
        }
        good = good && fabs(sum - 1) < 1e-5 && got[r * V + mask] == 0;
    }
    tap_ok(good, "shares: V %zu, scale %g, logits of %g", V, scale, loud);
    drop(logits), drop(out);
    free(l), free(want), free(got), free(same);
}

int main(void)
{
    static const size_t sizes[] = {2, 3, 7, 50, 513, 516, 1031, 9000};
    check_seed = tap_seed();
    check_open(2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int scale = 0; scale < 3; scale++)
            check_definition(sizes[i], scale == 0 ? 0 : scale == 1 ? 1 : 10, i % 2 && scale == 1 ? DLM_BF16 : DLM_F32);
    check_one_hot();
    check_differences();
    check_oracles();
    check_second_order();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int scale = 0; scale < 2; scale++)
            check_cross_entropy(sizes[i], scale ? 12 : 1, (i + (size_t)scale) % 2 ? DLM_BF16 : DLM_F32);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int k = 0; k < 3; k++)
            check_shares(sizes[i], k == 0 ? 1 : k == 1 ? 0.1 : 7, k == 2 ? 10 : 2);
    check_reference();
    check_close();
    return tap_end();
}
