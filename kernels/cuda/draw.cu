/* One id a row of shares (method.md §9): a block a row.
 *
 * One look at the row gives the sums of its pieces of 256 ids and the likeliest id; the first thread then walks the sums, of which there are 512 at most
 * for 131,072 ids, to the piece that holds the draw, and that piece. Bound by reading the row once.
 */
#include "device.cuh"

static const unsigned THREADS = 256, PIECE = 256;

struct find {
    uint32_t id;    /* decided, or: */
    bool looking;   /* for the id among the piece's whose running sum passes `at` */
    size_t piece;
    double at;
};

/* The parts before the predictor's. */
static __device__ find by_parts(const dlm_draw &d, size_t V, uint32_t mask, double others, double at_z)
{
    const bool apart = d.z != DLM_DRAW_NONE, two = apart && d.z != mask;
    const double rest = (double)(V - 1 - two), stay = d.stay_share * at_z + d.stay, predicted = d.predicted * others;
    double at = d.u * (stay + d.to_mask + d.noise + predicted);
    if (apart && (at < stay || (d.to_mask == 0 && d.noise == 0 && predicted == 0)))
        return find{d.z, false, 0, 0};
    at -= stay;
    if (at < d.to_mask)
        return find{mask, false, 0, 0};
    at -= d.to_mask;
    if (d.noise > 0 && (at < d.noise || predicted == 0)) {
        const double place = at / d.noise * rest;
        uint32_t i = (uint32_t)(place < rest - 1 ? place : rest - 1);
        const uint32_t low = two && d.z < mask ? d.z : mask, high = two && d.z > mask ? d.z : mask;
        i += i >= low;
        return find{i + (two && i >= high), false, 0, 0};
    }
    return find{0, true, 0, (at - d.noise) / predicted * others};
}

/* Shared: (pieces + 1) doubles, THREADS / 32 of a likeliest share and its id, PIECE shares, one find. */
static __global__ void draw(dlm_drawn *drawn, const float *p, const dlm_draw *draws, size_t V, uint32_t mask)
{
    DLM_SHARED(double, sums);
    const size_t pieces = ceil_div(V, (size_t)PIECE);
    float *most_of = reinterpret_cast<float *>(sums + pieces + 1);
    uint32_t *best_of = reinterpret_cast<uint32_t *>(most_of + THREADS / 32);
    float *here = reinterpret_cast<float *>(best_of + THREADS / 32);
    find *found = reinterpret_cast<find *>(here + PIECE);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float *s = p + (size_t)blockIdx.x * V;
    const dlm_draw d = draws[blockIdx.x];
    const bool apart = d.z != DLM_DRAW_NONE;
    float most = -1;
    uint32_t best = 0;
    for (size_t piece = warp; piece < pieces; piece += THREADS / 32) {
        double sum = 0;
        for (unsigned i = lane; i < PIECE; i += 32) {
            const size_t v = piece * PIECE + i;
            const float share = v < V ? s[v] : 0;
            sum += (double)share;
            if (v < V && v != mask && share > most) {
                most = share;
                best = (uint32_t)v;
            }
        }
        sum = warp_reduce<sum_op>(sum);
        if (!lane)
            sums[piece] = sum;
    }
    for (int lanes = 16; lanes; lanes /= 2) {
        const float other = __shfl_xor_sync(DLM_WARP, most, lanes);
        const uint32_t id = __shfl_xor_sync(DLM_WARP, best, lanes);
        if (other > most || (other == most && id < best)) {
            most = other;
            best = id;
        }
    }
    if (!lane) {
        most_of[warp] = most;
        best_of[warp] = best;
    }
    __syncthreads();
    if (!threadIdx.x) {
        double sum = 0;
        for (size_t piece = 0; piece < pieces; piece++)
            sum += sums[piece];
        for (unsigned w = 1; w < THREADS / 32; w++)
            if (most_of[w] > most || (most_of[w] == most && best_of[w] < best)) {
                most = most_of[w];
                best = best_of[w];
            }
        const float at_z = apart ? s[d.z] : 0;
        dlm_drawn out = {mask, best, most, at_z};
        find f = {mask, false, 0, 0};
        if (!(sum - sum == 0)) { /* not a number, or not a finite one */
            out.best = mask;
            out.most = out.at_z = __uint_as_float(0x7fc00000u);
        } else {
            const double others = sum - (double)at_z > 0 ? sum - (double)at_z : 0;
            f = by_parts(d, V, mask, others, (double)at_z);
            double run = 0;
            for (size_t piece = 0; f.looking && piece < pieces; piece++) {
                const double own = sums[piece] - (apart && d.z / PIECE == piece ? (double)at_z : 0);
                f.piece = piece;
                if (run + own >= f.at)
                    break;
                run += piece + 1 < pieces ? own : 0;
            }
            f.at -= run;
        }
        out.id = f.id;
        drawn[blockIdx.x] = out;
        *found = f;
    }
    __syncthreads();
    const find f = *found;
    if (!f.looking)
        return;
    const size_t from = f.piece * PIECE;
    here[threadIdx.x] = from + threadIdx.x < V ? s[from + threadIdx.x] : 0;
    __syncthreads();
    if (threadIdx.x)
        return;
    double run = 0;
    size_t last = V;
    for (unsigned i = 0; i < PIECE && from + i < V; i++) {
        if ((apart && from + i == d.z) || !(here[i] > 0))
            continue;
        last = from + i;
        run += (double)here[i];
        if (f.at < run)
            break;
    }
    for (size_t v = from; last == V && v-- > 0;) /* rounding at the end falls to the last id that has a share */
        if (!(apart && v == d.z) && s[v] > 0)
            last = v;
    for (size_t v = from; last == V && v < V; v++)
        if (!(apart && v == d.z) && s[v] > 0)
            last = v;
    drawn[blockIdx.x].id = (uint32_t)(last < V ? last : mask);
}

void dlm_cuda_draw(struct dlm_device *dev, dlm_ptr drawn, dlm_ptr p, dlm_ptr draws, size_t n, size_t V, uint32_t mask)
{
    const size_t shared = (ceil_div(V, (size_t)PIECE) + 1) * sizeof(double) + THREADS / 32 * 8 + PIECE * sizeof(float) + sizeof(find);
    dlm_launch(dev, "draw", draw, dim3((unsigned)n), THREADS, shared, dlm_at<dlm_drawn>(drawn), dlm_at<float>(p), dlm_at<dlm_draw>(draws), V, mask);
}
