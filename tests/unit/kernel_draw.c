/* The draw of a row: over a grid of u each id comes as often as its parts say, on rows of 2 to 70,000 ids; nothing without a part is ever drawn; the
 * likeliest id, its share and z's are told; a row that holds no numbers is told. Rows that are cut, of up to 131,072 ids, give the very ids that sorting and
 * adding up give, and every device those of the CPU. */
#include "kernel_check.h"

/* What fraction of the draws each id should get. */
static void expected(double *p, const struct dlm_draw *d, const float *s, size_t V, uint32_t mask)
{
    const bool apart = d->z != DLM_DRAW_NONE;
    double sum = 0, others = (double)(V - 1 - (apart && d->z != mask));
    for (uint32_t v = 0; v < V; v++) {
        if (apart && v == d->z)
            p[v] = d->stay_share * (double)s[v] + d->stay;
        else
            p[v] = (v == mask ? d->to_mask : others > 0 ? d->noise / others : 0) + d->predicted * (double)s[v];
        sum += p[v];
    }
    for (uint32_t v = 0; v < V; v++)
        p[v] = sum > 0 ? p[v] / sum : v == d->z;
}

static double *checked_shares(float *s, size_t V, uint32_t mask)
{
    double *d = check_memory(V * sizeof *d), sum = 0;
    for (size_t v = 0; v < V; v++)
        sum += d[v] = v == mask || draw() % 5 == 0 ? 0 : exp(2 * normal());
    if (sum == 0)
        sum += d[mask == 0] = 1;
    for (size_t v = 0; v < V; v++)
        s[v] = (float)(d[v] / sum);
    return d;
}

/* rows: draws of one distribution, u over a grid. */
static void check_grid(size_t V, int kind)
{
    const uint32_t mask = draw() % (uint32_t)V, z = kind == 0 ? DLM_DRAW_NONE : kind == 1 ? mask : draw() % (uint32_t)V;
    const size_t n = V > 5000 ? 40 : getenv("DLM_TEST_MODULE") ? 300 : 2000; /* the emulation takes its time */
    float *row = check_memory(V * sizeof *row), *p = check_memory(n * V * sizeof *p);
    double *d = checked_shares(row, V, mask), *want = check_memory(V * sizeof *want), *seen = check_memory(V * sizeof *seen);
    struct dlm_draw *draws = check_memory(n * sizeof *draws), one = {.predicted = uniform(), .z = z};
    struct dlm_drawn *drawn = check_memory(n * sizeof *drawn);
    if (kind) {
        one.stay_share = kind == 4 ? 0 : uniform();
        one.stay = kind == 4 ? 0 : 0.3 * uniform();
        one.to_mask = kind == 1 || z == mask ? 0 : 0.3 * uniform();
        one.noise = kind == 3 || V - 1 - (z != mask) == 0 ? 0 : 0.5 * uniform();
    }
    for (size_t i = 0; i < n; i++) {
        draws[i] = one;
        draws[i].u = ((double)i + 0.5) / (double)n;
        memcpy(p + i * V, row, V * sizeof *row);
    }
    expected(want, &one, row, V, mask);
    dlm_ptr dp = put_bytes(p, n * V * sizeof *p), dd = put_bytes(draws, n * sizeof *draws), out = K->alloc(D, n * sizeof *drawn);
    K->draw(D, out, dp, dd, n, V, mask);
    K->download(D, drawn, out, n * sizeof *drawn);
    uint32_t best = mask == 0;
    for (uint32_t v = best + 1; v < V; v++)
        best = v != mask && row[v] > row[best] ? v : best;
    bool told = true, none = true;
    for (size_t i = 0; i < n; i++) {
        told = told && drawn[i].best == best && drawn[i].most == row[best] && drawn[i].at_z == (z == DLM_DRAW_NONE ? 0 : row[z]);
        none = none && drawn[i].id < V && want[drawn[i].id] > 0;
        if (drawn[i].id < V)
            seen[drawn[i].id]++;
    }
    double most = 0;
    for (size_t v = 0; v < V; v++)
        most = fmax(most, fabs(seen[v] / (double)n - want[v]));
    /* an id may have three intervals of u, each off by one */
    tap_ok(told && none && most <= 6.0 / (double)n, "V %zu, kind %d: off by %.2g, best told %d, only what has a part %d", V, kind, most, told, none);
    K->free(D, dp), K->free(D, dd), K->free(D, out);
    free(row), free(p), free(d), free(want), free(seen), free(draws), free(drawn);
}

static void check_edges(void)
{
    enum { V = 300, N = 4 };
    static float p[N][V];
    struct dlm_draw d[N];
    struct dlm_drawn out[N];
    for (int i = 0; i < N; i++) {
        d[i] = (struct dlm_draw){.u = i == 0 ? 0x1p-53 : 1 - 0x1p-53, .predicted = 1, .z = DLM_DRAW_NONE};
        p[i][17] = 0.25f;
        p[i][280] = 0.75f;
    }
    p[2][280] = NAN;
    d[3] = (struct dlm_draw){.u = 0.7, .z = 5}; /* nothing has a part: z stays */
    dlm_ptr dp = put_bytes(p, sizeof p), dd = put_bytes(d, sizeof d), at = K->alloc(D, sizeof out);
    K->draw(D, at, dp, dd, N, V, 299);
    K->download(D, out, at, sizeof out);
    tap_ok(out[0].id == 17 && out[1].id == 280 && out[0].best == 280, "the ends of u give the first and the last id with a share");
    tap_ok(isnan(out[2].most) && out[3].most == 0.75f, "a row that holds no number is told, and no other");
    tap_ok(out[3].id == 5, "where nothing has a part, z stays");
    K->free(D, dp), K->free(D, dd), K->free(D, at);
}

/* --- rows that are cut --------------------------------------------------------------------------------------------------------- */

enum shape { RANDOM, FEW_VALUES, EQUAL, ONE, WIDE, DYADIC, SHAPES };
static const char *const shape_names[] = {"random", "few values", "all equal", "one id", "of any size down to nothing", "powers of two"};

static void shape_row(float *s, size_t V, uint32_t mask, enum shape shape)
{
    double *d = check_memory(V * sizeof *d), sum = 0;
    const size_t one = mask == 0 ? V - 1 : draw() % mask;
    for (size_t v = 0; v < V; v++) {
        d[v] = shape == RANDOM       ? (draw() % 5 ? exp(2 * normal()) : 0)
               : shape == FEW_VALUES ? 1 + draw() % 4 * 3
               : shape == EQUAL      ? 1
               : shape == ONE        ? v == one
               : shape == WIDE       ? exp(25 * normal())
                                     : 0;
        if (v == mask)
            d[v] = 0;
        sum += d[v];
    }
    if (sum == 0)
        sum += d[one] = 1;
    for (size_t v = 0; v < V; v++)
        s[v] = (float)(d[v] / sum);
    if (shape == DYADIC) { /* from the last id on, 1/2, 1/4, 1/8, and eighths of an eighth: every sum is exact */
        memset(s, 0, V * sizeof *s);
        for (size_t v = V, k = 0; v-- > 0 && k < 11;)
            if (v != mask) {
                s[v] = k < 3 ? ldexpf(1, -1 - (int)k) : 0x1p-6f;
                k++;
            }
    }
    free(d);
}

static const float *by_share_row;

static int by_share(const void *a, const void *b)
{
    const uint32_t l = *(const uint32_t *)a, r = *(const uint32_t *)b;
    const float x = by_share_row[l], y = by_share_row[r];
    return x != y ? (x > y ? -1 : 1) : (l > r) - (l < r);
}

/* The parts of every id under the cut, by sorting. */
static void cut_parts(double *part, const struct dlm_draw *d, const float *s, const uint32_t *order, double total, size_t V, uint32_t mask)
{
    const bool apart = d->z != DLM_DRAW_NONE;
    double held = 0, rest = (double)(V - 1 - (apart && d->z != mask));
    memset(part, 0, V * sizeof *part);
    for (size_t i = 0; i < V && i < d->top_k && s[order[i]] > 0 && (!i || held < d->top_p * total || d->top_p >= 1); i++) {
        part[order[i]] = (double)s[order[i]];
        held += part[order[i]];
    }
    for (size_t v = 0; v < V; v++) {
        const double share = part[v] / held;
        part[v] = apart && v == d->z ? d->stay_share * share + d->stay : (v == mask ? 0 : rest > 0 ? d->noise / rest : 0) + d->predicted * share;
        part[v] += v == mask ? d->to_mask : 0;
    }
}

/* The id at u, and in *close whether rounding might make it another. */
static uint32_t cut_id(const double *part, double u, size_t V, bool *close)
{
    double all = 0, run = 0;
    for (size_t v = 0; v < V; v++)
        all += part[v];
    *close = false;
    for (uint32_t v = 0; v < V; v++) {
        run += part[v];
        *close = *close || (part[v] > 0 && fabs(run - u * all) < 1e-11 * all);
        if (part[v] > 0 && (run > u * all || run >= all * (1 - 1e-15)))
            return v;
    }
    return UINT32_MAX;
}

static const struct dlm_kernels *cpu;
static struct dlm_device *cpu_device;

static void check_cut(size_t V, enum shape shape)
{
    const bool emulated = getenv("DLM_TEST_MODULE"), few = emulated && V > 300; /* it takes its time */
    const size_t each = emulated ? 1 : V > 5000 ? 2 : 12;
    const struct {
        uint32_t k;
        double p;
    } cuts[] = {{1, 1}, {2, 1}, {(uint32_t)(V / 2 + 1), 1}, {(uint32_t)V, 1}, {UINT32_MAX, 1}, {7, 0.6}, {50, 0.9}, {(uint32_t)V, 0.5}, {(uint32_t)V, 0.875},
                {(uint32_t)V, 1e-12}, {(uint32_t)V, 0}, {(uint32_t)V, 0.9999}, {(uint32_t)(V / 3 + 1), uniform()}, {1 + draw() % (uint32_t)V, uniform()}};
    const size_t kinds = few ? 1 : 4, n_cuts = sizeof cuts / sizeof *cuts, n = n_cuts * kinds * each;
    const uint32_t mask = draw() % 3 ? draw() % (uint32_t)V : draw() % 2 ? 0 : (uint32_t)V - 1;
    float *row = check_memory(V * sizeof *row), *p = check_memory(n * V * sizeof *p);
    double *part = check_memory(V * sizeof *part), total = 0;
    uint32_t *order = check_memory(V * sizeof *order), best = mask == 0;
    struct dlm_draw *d = check_memory(n * sizeof *d);
    struct dlm_drawn *out = check_memory(n * sizeof *out), *same = check_memory(n * sizeof *same);
    shape_row(row, V, mask, shape);
    for (uint32_t v = 0; v < V; v++) {
        total += (double)row[v];
        order[v] = v;
        best = v != mask && row[v] > row[best] ? v : best;
    }
    by_share_row = row;
    qsort(order, V, sizeof *order, by_share);
    for (size_t i = 0; i < n; i++) {
        const size_t kind = few ? i % 4 : i / each % kinds;
        memcpy(p + i * V, row, V * sizeof *row);
        d[i] = (struct dlm_draw){.u = i % 12 == 0 ? 0x1p-53 : i % 12 == 11 ? 1 - 0x1p-53 : uniform(), .predicted = 1, .z = DLM_DRAW_NONE,
                                 .top_k = cuts[i / each / kinds].k, .top_p = cuts[i / each / kinds].p};
        if (!kind)
            continue;
        d[i].z = kind == 1 ? mask : draw() % 3 ? draw() % (uint32_t)V : order[draw() % 3 % V];
        d[i].stay_share = kind == 3 ? 1 : uniform();
        d[i].predicted = kind == 3 ? 1 : uniform();
        if (kind < 3) {
            d[i].stay = 0.3 * uniform();
            d[i].to_mask = d[i].z == mask ? 0 : 0.3 * uniform();
            d[i].noise = V - 1 - (d[i].z != mask) == 0 ? 0 : 0.5 * uniform();
        }
    }
    dlm_ptr dp = put_bytes(p, n * V * sizeof *p), dd = put_bytes(d, n * sizeof *d), at = K->alloc(D, n * sizeof *out);
    K->draw(D, at, dp, dd, n, V, mask);
    K->download(D, out, at, n * sizeof *out);
    if (cpu)
        cpu->draw(cpu_device, (dlm_ptr){(uintptr_t)same}, (dlm_ptr){(uintptr_t)p}, (dlm_ptr){(uintptr_t)d}, n, V, mask);
    size_t wrong = 0, unsure = 0, first = n, other = 0;
    uint32_t wanted = 0;
    bool told = true;
    for (size_t i = 0; i < n; i++) {
        bool close;
        cut_parts(part, &d[i], row, order, total, V, mask);
        const uint32_t want = cut_id(part, d[i].u, V, &close);
        const bool right = out[i].id == want || (close && out[i].id < V && part[out[i].id] > 0);
        unsure += close;
        wanted = !right && !wrong ? want : wanted;
        first = !right && !wrong ? i : first;
        wrong += !right;
        told = told && out[i].best == best && out[i].most == row[best] && out[i].at_z == (d[i].z == DLM_DRAW_NONE ? 0 : row[d[i].z]);
        other += cpu && out[i].id != same[i].id;
    }
    if (wrong)
        printf("# row %zu: top %u, %.17g, z %u, mask %u, u %.17g: %u, not %u\n", first, d[first].top_k, d[first].top_p, d[first].z, mask, d[first].u, out[first].id, wanted);
    tap_ok(!wrong && !other && told && unsure <= n / 2, "V %zu cut, shares %s: %zu of %zu ids are others than by sorting, %zu than the CPU's (%zu near an edge)", V,
           shape_names[shape], wrong, n, other, unsure);
    K->free(D, dp), K->free(D, dd), K->free(D, at);
    free(row), free(p), free(part), free(order), free(d), free(out), free(same);
}

static void check_cut_edges(void)
{
    enum { V = 600, N = 5, MASK = 3 };
    static float p[N][V];
    struct dlm_draw d[N];
    struct dlm_drawn out[N];
    for (int i = 0; i < N; i++) {
        d[i] = (struct dlm_draw){.u = 0.999, .predicted = 1, .z = DLM_DRAW_NONE, .top_k = 4, .top_p = 1};
        for (int v = 0; v < V; v++)
            p[i][v] = v == MASK ? 0 : 1.0f / (V - 1);
    }
    d[1].top_p = 2.5 / (V - 1);
    p[2][V - 1] = INFINITY;
    memset(p[3], 0, sizeof p[3]); /* no shares at all */
    d[4] = (struct dlm_draw){.u = 0.5, .z = V - 1, .stay_share = 1, .top_k = 2, .top_p = 1}; /* nothing has a part: z is cut away */
    dlm_ptr dp = put_bytes(p, sizeof p), dd = put_bytes(d, sizeof d), at = K->alloc(D, sizeof out);
    K->draw(D, at, dp, dd, N, V, MASK);
    K->download(D, out, at, sizeof out);
    tap_ok(out[0].id == 4 && out[1].id == 2, "of equal shares the smaller ids stay, without the mask");
    tap_ok(isnan(out[2].most) && out[3].id == 0 && out[3].most == 0, "a row that holds no number is told, and one that holds none but 0 gives an id");
    tap_ok(out[4].id == V - 1, "where nothing has a part, z stays");
    K->free(D, dp), K->free(D, dd), K->free(D, at);
}

int main(void)
{
    static const size_t sizes[] = {2, 3, 31, 256, 257, 700, 70001};
    check_seed = tap_seed();
    check_open(2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < 5; kind++)
            check_grid(sizes[i], kind);
    check_edges();
    if (getenv("DLM_TEST_MODULE")) {
        char msg[200];
        cpu = dlm_kernels_cpu();
        cpu_device = cpu->open(0, 1, msg, sizeof msg);
    }
    static const size_t cut_sizes[] = {2, 3, 31, 256, 257, 700, 5000, 70001, 131072};
    for (size_t i = 0; i < sizeof cut_sizes / sizeof *cut_sizes; i++)
        for (int shape = 0; shape < SHAPES; shape++)
            if (cut_sizes[i] <= 5000 || shape == (cut_sizes[i] > 70001 ? WIDE : RANDOM) || shape == FEW_VALUES)
                check_cut(cut_sizes[i], (enum shape)shape);
    check_cut_edges();
    if (cpu_device)
        cpu->close(cpu_device);
    check_close();
    return tap_end();
}
