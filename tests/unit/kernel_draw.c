/* The draw of a row: over a grid of u each id comes as often as its parts say, on rows of 2 to 70,000 ids; nothing without a part is ever drawn; the
 * likeliest id, its share and z's are told; a row that holds no numbers is told. */
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

int main(void)
{
    static const size_t sizes[] = {2, 3, 31, 256, 257, 700, 70001};
    check_seed = tap_seed();
    check_open(2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < 5; kind++)
            check_grid(sizes[i], kind);
    check_edges();
    check_close();
    return tap_end();
}
