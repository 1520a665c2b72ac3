/* One id a row of shares (method.md §9): a block a row.
 *
 * One look at the row gives the sums of its pieces of 256 ids and the likeliest id; the first thread then walks the sums, of which there are 512 at most
 * for 131,072 ids, to the piece that holds the draw, and that piece. Bound by reading the row once.
 *
 * A row that is cut (cut.h) is read four times, and what is read again comes from a cache: each digit of the least share that stays takes a look, of which the
 * first is the same as above, and the last gives what stays of each piece. Bins are counted in shared memory by atomics on integers, where each thread adds up
 * a run of ids of one bin by itself. The first warp walks bins, pieces and ids.
 */
#include "../cut.h"
#include "device.cuh"

static const unsigned THREADS = 256, PIECE = 256;

struct find {
    uint32_t id;    /* decided, or: */
    bool looking;   /* for the id among the piece's whose running sum passes `at`; or: */
    bool cut;       /* nothing is known yet */
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
        return find{d.z, false, false, 0, 0};
    at -= stay;
    if (at < d.to_mask)
        return find{mask, false, false, 0, 0};
    at -= d.to_mask;
    if (d.noise > 0 && (at < d.noise || predicted == 0)) {
        const double place = at / d.noise * rest;
        uint32_t i = (uint32_t)(place < rest - 1 ? place : rest - 1);
        const uint32_t low = two && d.z < mask ? d.z : mask, high = two && d.z > mask ? d.z : mask;
        i += i >= low;
        return find{i + (two && i >= high), false, false, 0, 0};
    }
    return find{0, true, false, 0, (at - d.noise) / predicted * others};
}

/* --- rows that are cut --------------------------------------------------------------------------------------------------------------- */

/* What bins, pieces or ids come to. */
struct part {
    uint32_t count;
    int64_t units;
};

/* By a whole warp: the first i < n at which pred(i, what values 0 … i come to) is true, n where it nowhere is; *before is what those before come to. */
template <typename Value, typename Pred> static __device__ unsigned warp_first(unsigned n, Value value, Pred pred, part *before)
{
    const unsigned lane = threadIdx.x % 32;
    part carry = {0, 0};
    for (unsigned base = 0; base < n; base += 32) {
        const unsigned i = base + lane;
        const part own = i < n ? value(i) : part{0, 0};
        part upto = own;
        for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
            const uint32_t count = __shfl_up_sync(DLM_WARP, upto.count, lanes);
            const int64_t units = __shfl_up_sync(DLM_WARP, upto.units, lanes);
            upto.count += lane >= lanes ? count : 0;
            upto.units += lane >= lanes ? units : 0;
        }
        upto.count += carry.count;
        upto.units += carry.units;
        const unsigned hits = __ballot_sync(DLM_WARP, i < n && pred(i, upto));
        const int from = hits ? __ffs((int)hits) - 1 : 31;
        carry.count = __shfl_sync(DLM_WARP, hits ? upto.count - own.count : upto.count, from);
        carry.units = __shfl_sync(DLM_WARP, hits ? upto.units - own.units : upto.units, from);
        if (hits) {
            *before = carry;
            return base + (unsigned)from;
        }
    }
    *before = carry;
    return n;
}

struct bins {
    unsigned count[DLM_CUT_BINS], low[DLM_CUT_BINS], high[DLM_CUT_BINS]; /* ids, and what is beyond the digit, all told */

    __device__ __forceinline__ part of(uint32_t base, unsigned bin, unsigned shift) const
    {
        return part{count[bin], dlm_cut_units(base | bin << shift, count[bin], (uint64_t)high[bin] << 32 | low[bin])};
    }
    __device__ __forceinline__ void clear()
    {
        for (unsigned b = threadIdx.x; b < DLM_CUT_BINS; b += THREADS)
            count[b] = low[b] = high[b] = 0;
    }
};

/* A thread's run of ids of one bin. */
struct run_of {
    unsigned bin, count;
    uint64_t over;

    __device__ __forceinline__ void add(bins *to, unsigned bin_, uint32_t over_)
    {
        if (bin_ != bin) {
            flush(to);
            bin = bin_;
        }
        count++;
        over += over_;
    }
    __device__ __forceinline__ void flush(bins *to)
    {
        if (!count)
            return;
        const unsigned low = (unsigned)over, before = (atomicAdd(&to->count[bin], count), atomicAdd(&to->low[bin], low));
        const unsigned high = (unsigned)(over >> 32) + (before + low < before);
        if (high)
            atomicAdd(&to->high[bin], high);
        count = 0;
        over = 0;
    }
};

/* The bits of an id of the first level's bin. */
static __device__ __forceinline__ void count_first(run_of *run, bins *to, uint32_t bits)
{
    const unsigned shift = dlm_cut_shift(0), last = dlm_cut_bins(0) - 1;
    if (!bits || bits >> 31)
        return;
    const unsigned digit = bits >> shift < last ? bits >> shift : last;
    run->add(to, digit, bits - (digit << shift));
}

/* What the block knows of the cut. */
struct knife {
    dlm_cut cut;
    uint32_t ties, left; /* ids of the least share, and how many of them stay */
    unsigned long long until; /* and the first that does not */
};

static __device__ __forceinline__ bool stays(const knife *k, uint32_t bits, size_t v)
{
    return bits > k->cut.least || (bits == k->cut.least && v < k->until);
}

/* By the first warp: one digit more of the least share. */
static __device__ void take_digit(knife *k, const bins *b, int level)
{
    const unsigned shift = dlm_cut_shift(level), last = dlm_cut_bins(level) - 1;
    const dlm_cut c = k->cut;
    part before, none;
    unsigned i = warp_first(
        last + 1, [=](unsigned j) { return b->of(c.least, last - j, shift); },
        [=](unsigned, part upto) { return dlm_cut_full(&c, upto.count, upto.units); }, &before);
    if (i > last) { /* all stay: the last bin that holds any, after which nothing more comes */
        const part all = before;
        i = warp_first(
            last + 1, [=](unsigned j) { return b->of(c.least, last - j, shift); }, [=](unsigned, part upto) { return upto.count == all.count; }, &none);
        before = none;
    }
    __syncwarp();
    if (!threadIdx.x) {
        k->cut.least = c.least | (last - i) << shift;
        k->cut.count = c.count + before.count;
        k->cut.sum = c.sum + before.units;
        k->ties = b->count[last - i];
    }
}

/* By the whole block, once the first level's bins are counted: the cut, up to `until`. `sums` has room for a warp's reduction. */
static __device__ void cut_row(knife *k, bins *b, const dlm_draw *d, const float *s, size_t V, int64_t *sums)
{
    int64_t total = 0;
    for (unsigned i = threadIdx.x; i < DLM_CUT_BINS; i += THREADS)
        total += b->of(0, i, dlm_cut_shift(0)).units;
    total = block_reduce<sum_op>(total, sums);
    if (!threadIdx.x) {
        k->cut = dlm_cut_begin(d, total);
        k->until = V;
    }
    for (int level = 0;; level++) {
        __syncthreads();
        if (threadIdx.x < 32)
            take_digit(k, b, level);
        __syncthreads();
        if (level == DLM_CUT_LEVELS - 1)
            return;
        b->clear();
        __syncthreads();
        const unsigned above = dlm_cut_shift(level), shift = dlm_cut_shift(level + 1);
        const uint32_t least = k->cut.least;
        run_of run = {0, 0, 0};
        for (size_t v = threadIdx.x; v < V; v += THREADS) {
            const uint32_t bits = __float_as_uint(s[v]);
            if (bits && bits >> above == least >> above)
                run.add(b, (bits - least) >> shift, (bits - least) & ((1u << shift) - 1));
        }
        run.flush(b);
    }
}

/* By the whole block: what stays of each piece; of ids of the least share, whose number goes to ties, nothing. Returns the sum. */
static __device__ int64_t cut_pieces(const knife *k, const float *s, size_t V, int64_t *units, unsigned *ties, int64_t *sums)
{
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t pieces = ceil_div(V, (size_t)PIECE);
    int64_t held = 0;
    for (size_t piece = warp; piece < pieces; piece += THREADS / 32) {
        int64_t own = 0;
        unsigned same = 0;
#pragma unroll
        for (unsigned i = 0; i < PIECE / 32; i++) {
            const size_t v = piece * PIECE + i * 32 + lane;
            const uint32_t bits = v < V ? __float_as_uint(s[v]) : 0;
            own += bits > k->cut.least ? dlm_cut_units(bits, 1, 0) : 0;
            same += v < V && bits == k->cut.least;
        }
        own = warp_reduce<sum_op>(own);
        same = warp_reduce<sum_op>(same);
        if (!lane) {
            units[piece] = own;
            ties[piece] = same;
            held += own;
        }
    }
    return block_reduce<sum_op>(held, sums);
}

/* By the whole block; what is drawn is told by the first thread. */
static __device__ uint32_t draw_cut(knife *k, bins *b, const dlm_draw *d, const float *s, size_t V, uint32_t mask, uint32_t best, int64_t *units, unsigned *ties, int64_t *sums)
{
    cut_row(k, b, d, s, V, sums);
    const int64_t above = cut_pieces(k, s, V, units, ties, sums), each = dlm_cut_units(k->cut.least, 1, 0);
    if (threadIdx.x >= 32)
        return 0;
    const unsigned lane = threadIdx.x, pieces = (unsigned)ceil_div(V, (size_t)PIECE);
    const uint32_t n = k->ties, left = dlm_cut_ties(&k->cut, n, each);
    unsigned tied = pieces; /* the piece of the last id of the least share that stays, if not all do, and how many stay there */
    uint32_t stay_there = 0;
    if (left < n) {
        part before;
        tied = warp_first(pieces, [=](unsigned i) { return part{ties[i], 0}; }, [=](unsigned, part upto) { return upto.count >= left; }, &before);
        stay_there = left - before.count;
        const size_t from = (size_t)tied * PIECE;
        const unsigned i = warp_first(
            PIECE, [=](unsigned j) { return part{from + j < V && __float_as_uint(s[from + j]) == k->cut.least, 0}; },
            [=](unsigned, part upto) { return upto.count >= stay_there; }, &before);
        if (!lane)
            k->until = from + i + 1;
        __syncwarp();
    }
    const bool apart = d->z != DLM_DRAW_NONE;
    const uint32_t z_bits = apart ? __float_as_uint(s[d->z]) : 0;
    const int64_t at_z = apart && stays(k, z_bits, d->z) ? dlm_cut_units(z_bits, 1, 0) : 0;
    const dlm_cut_line line = dlm_cut_line_of(d, (uint32_t)V, mask, above + (left < n ? left : n) * each, at_z);
    if (!(line.all > 0))
        return apart ? d->z : best;
    const double u = d->u;
    part before, inside;
    const unsigned piece = warp_first(
        pieces, [=](unsigned i) { return part{0, units[i] + (i < tied ? ties[i] : i == tied ? stay_there : 0) * each}; },
        [=](unsigned i, part upto) { return i + 1 == pieces || dlm_cut_reached(&line, u, (i + 1) * PIECE - 1, upto.units); }, &before);
    const size_t from = (size_t)piece * PIECE;
    const unsigned some = V - from < PIECE ? (unsigned)(V - from) : PIECE;
    const int64_t come = before.units;
    const unsigned i = warp_first(
        some,
        [=](unsigned j) {
            const uint32_t bits = __float_as_uint(s[from + j]);
            return part{0, stays(k, bits, from + j) ? dlm_cut_units(bits, 1, 0) : 0};
        },
        [=](unsigned j, part upto) { return j + 1 == some || dlm_cut_reached(&line, u, (uint32_t)(from + j), come + upto.units); }, &inside);
    return (uint32_t)(from + i);
}

/* --- any row ------------------------------------------------------------------------------------------------------------------------- */

/* Of pieces: their sums, or units of what stays; ids of the least share. */
struct layout {
    size_t ties, most, best, here, found, cut, counts, bytes; /* bytes on from the beginning; the sums are there, with one to spare and a warp's reduction */

    __host__ __device__ explicit layout(size_t V)
    {
        const size_t pieces = ceil_div(V, (size_t)PIECE);
        found = (pieces + THREADS / 32) * sizeof(double);
        cut = found + sizeof(find);
        most = cut + sizeof(knife);
        best = most + THREADS / 32 * sizeof(float);
        here = best + THREADS / 32 * sizeof(uint32_t);
        ties = here + PIECE * sizeof(float);
        counts = ties + pieces * sizeof(unsigned);
        bytes = counts + sizeof(bins);
    }
};

static __global__ void draw(dlm_drawn *drawn, const float *p, const dlm_draw *draws, size_t V, uint32_t mask)
{
    DLM_SHARED(unsigned char, shared);
    const size_t pieces = ceil_div(V, (size_t)PIECE);
    const layout at(V);
    double *sums = reinterpret_cast<double *>(shared);
    float *most_of = reinterpret_cast<float *>(shared + at.most), *here = reinterpret_cast<float *>(shared + at.here);
    uint32_t *best_of = reinterpret_cast<uint32_t *>(shared + at.best);
    find *found = reinterpret_cast<find *>(shared + at.found);
    bins *counts = reinterpret_cast<bins *>(shared + at.counts);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float *s = p + (size_t)blockIdx.x * V;
    const dlm_draw d = draws[blockIdx.x];
    const bool apart = d.z != DLM_DRAW_NONE;
    float most = -1;
    uint32_t best = 0;
    run_of tally = {0, 0, 0};
    if (d.top_k) {
        counts->clear();
        __syncthreads();
    }
    for (size_t piece = warp; piece < pieces; piece += THREADS / 32) {
        double sum = 0;
#pragma unroll
        for (unsigned i = 0; i < PIECE / 32; i++) {
            const size_t v = piece * PIECE + i * 32 + lane;
            const float share = v < V ? s[v] : 0;
            sum += (double)share;
            if (v < V && v != mask && share > most) {
                most = share;
                best = (uint32_t)v;
            }
            if (d.top_k)
                count_first(&tally, counts, __float_as_uint(share));
        }
        sum = warp_reduce<sum_op>(sum);
        if (!lane)
            sums[piece] = sum;
    }
    tally.flush(counts);
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
        find f = {mask, false, false, 0, 0};
        if (!(sum - sum == 0)) { /* not a number, or not a finite one */
            out.best = mask;
            out.most = out.at_z = __uint_as_float(0x7fc00000u);
        } else if (d.top_k) {
            f.cut = true;
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
    if (f.cut) {
        const uint32_t id = draw_cut(reinterpret_cast<knife *>(shared + at.cut), counts, draws + blockIdx.x, s, V, mask, best, reinterpret_cast<int64_t *>(sums),
                                     reinterpret_cast<unsigned *>(shared + at.ties), reinterpret_cast<int64_t *>(sums + pieces));
        if (!threadIdx.x)
            drawn[blockIdx.x].id = id;
        return;
    }
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
    dlm_launch(dev, "draw", draw, dim3((unsigned)n), THREADS, layout(V).bytes, dlm_at<dlm_drawn>(drawn), dlm_at<float>(p), dlm_at<dlm_draw>(draws), V, mask);
}
