/* What several GPUs do together, by NCCL, which is loaded where several processes train and not before.
 *
 * A sum over ranks is not NCCL's: it would round to bf16 at every hop, in an order that hangs on the topology. The parts go to their owner as they are, and
 * the owner adds them in order of rank in float32, so that the bits are those of any other transport. As much is sent as a reduce-scatter by rings sends.
 *
 * All of it is queued on a stream of its own, behind what the device's stream holds by then and beside what comes later. An owner's stripes lie far apart:
 * they are packed to be sent, and unpacked where they are received. Sizes are in words of 16 bytes, which stripes and pieces are made of. A piece goes
 * window by window, a window being so many places of every rank (stripes.h), so that all ranks send and receive at any time.
 */
#include "vector.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__CUDACC__) || __has_include(<nccl.h>)
#include <nccl.h>
#define HAVE_NCCL 1
#endif

#ifdef HAVE_NCCL

static const size_t MOST_ROOM = (size_t)8 << 20, ALL_ROOM = (size_t)128 << 20; /* bytes of a window on their way to a rank, and to all */
static const unsigned THREADS = 256, SUM_BLOCKS = 1024;

struct dlm_collective {
    ncclComm_t comm;
    int rank, size;
    cudaStream_t stream;
    cudaEvent_t queued, done; /* on the device's stream, and on this one */
    size_t room;              /* words of a window */
    uint4 *sent, *received;   /* (size, room) each */
    double *squares;          /* (SUM_BLOCKS): of all sums since they were last asked for */
};

/* The library's calls; in the emulation they are linked. */
static struct {
    decltype(&ncclGetUniqueId) id;
    decltype(&ncclCommInitRank) init;
    decltype(&ncclCommDestroy) destroy;
    decltype(&ncclGroupStart) start;
    decltype(&ncclGroupEnd) end;
    decltype(&ncclSend) send;
    decltype(&ncclRecv) recv;
    decltype(&ncclAllGather) all_gather;
    decltype(&ncclGetErrorString) word;
} nccl;

#ifdef __CUDACC__
template <typename F> static bool symbol(void *library, F *to, const char *name)
{
    void *at = dlsym(library, name);
    memcpy(to, &at, sizeof at);
    return at != NULL;
}

static bool load(struct dlm_device *dev)
{
    void *l = nccl.id ? NULL : dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!nccl.id && !l) {
        dlm_device_fail(dev, "NCCL cannot be loaded: %s", dlerror());
        return false;
    }
    if (nccl.id || (symbol(l, &nccl.init, "ncclCommInitRank") && symbol(l, &nccl.destroy, "ncclCommDestroy") && symbol(l, &nccl.start, "ncclGroupStart") &&
                    symbol(l, &nccl.end, "ncclGroupEnd") && symbol(l, &nccl.send, "ncclSend") && symbol(l, &nccl.recv, "ncclRecv") &&
                    symbol(l, &nccl.all_gather, "ncclAllGather") && symbol(l, &nccl.word, "ncclGetErrorString") &&
                    symbol(l, &nccl.id, "ncclGetUniqueId")))
        return true;
    dlm_device_fail(dev, "NCCL is too old: %s", dlerror());
    return false;
}
#else
static bool load(struct dlm_device *)
{
    nccl = {ncclGetUniqueId, ncclCommInitRank, ncclCommDestroy, ncclGroupStart, ncclGroupEnd, ncclSend, ncclRecv, ncclAllGather, ncclGetErrorString};
    return true;
}
#endif

static bool good(struct dlm_device *dev, ncclResult_t r, const char *what)
{
    if (r != ncclSuccess)
        dlm_device_fail(dev, "NCCL, %s: %s", what, nccl.word(r));
    return r == ncclSuccess;
}

bool dlm_cuda_group_id(struct dlm_device *dev, unsigned char *id)
{
    ncclUniqueId u;
    static_assert(sizeof u == DLM_GROUP_ID, "an id is told as bytes");
    if (!load(dev) || !good(dev, nccl.id(&u), "making a group"))
        return false;
    memcpy(id, &u, sizeof u);
    return true;
}

/* Words of a window. */
static size_t room_of(int size)
{
    const size_t share = ALL_ROOM / (size_t)size / sizeof(uint4);
    return share < MOST_ROOM / sizeof(uint4) ? share : MOST_ROOM / sizeof(uint4);
}

static size_t buffer_bytes(int size)
{
    return 2 * (size_t)size * room_of(size) * sizeof(uint4) + SUM_BLOCKS * sizeof(double);
}

size_t dlm_cuda_group_bytes(struct dlm_device *dev, int size)
{
    return dev->collective || size < 2 ? 0 : buffer_bytes(size);
}

bool dlm_cuda_group_join(struct dlm_device *dev, const unsigned char *id, int rank, int size)
{
    ncclUniqueId u;
    if (!load(dev))
        return false;
    memcpy(&u, id, sizeof u);
    struct dlm_collective *c = static_cast<struct dlm_collective *>(calloc(1, sizeof *c));
    if (!c) {
        dlm_device_fail(dev, "out of memory");
        return false;
    }
    dev->collective = c;
    c->rank = rank;
    c->size = size;
    c->room = room_of(size);
    int least = 0, most = 0; /* what is sent is waited for by others: it goes first */
    void *buffer = NULL;
    if (!dlm_device_good(dev, cudaDeviceGetStreamPriorityRange(&least, &most), "asking for priorities") ||
        !dlm_device_good(dev, cudaStreamCreateWithPriority(&c->stream, cudaStreamNonBlocking, most), "making a stream") ||
        !dlm_device_good(dev, cudaEventCreateWithFlags(&c->queued, cudaEventDisableTiming), "making an event") ||
        !dlm_device_good(dev, cudaEventCreateWithFlags(&c->done, cudaEventDisableTiming), "making an event") ||
        !dlm_device_good(dev, cudaMalloc(&buffer, buffer_bytes(size)), "getting room for a group's parts"))
        return false;
    c->sent = static_cast<uint4 *>(buffer);
    c->received = c->sent + (size_t)size * c->room;
    c->squares = reinterpret_cast<double *>(c->received + (size_t)size * c->room);
    return dlm_device_good(dev, cudaMemsetAsync(c->squares, 0, SUM_BLOCKS * sizeof(double), c->stream), "clearing memory") &&
           good(dev, nccl.init(&c->comm, size, u, rank), "joining a group");
}

void dlm_collective_close(struct dlm_device *dev)
{
    struct dlm_collective *c = dev->collective;
    if (!c)
        return;
    if (c->comm && !dlm_device_failed(dev)) { /* after a failure the others may not come to the same call */
        cudaStreamSynchronize(c->stream);
        nccl.destroy(c->comm);
    }
    cudaFree(c->sent);
    if (c->queued)
        cudaEventDestroy(c->queued);
    if (c->done)
        cudaEventDestroy(c->done);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    free(c);
}

/* --- windows --------------------------------------------------------------------------------------------------------------------------- */

/* A window of a piece, which is words [first, end) of the array. */
struct window {
    struct dlm_stripes stripes;
    size_t first, end;
    size_t place, room; /* of every rank's places, the first and how many */
    int rank;
};

struct places {
    size_t from, to;
};

/* Those of rank r's that the window has of the piece. */
static __host__ __device__ inline struct places places_of(const struct window &w, int r)
{
    const size_t from = dlm_stripes_before(&w.stripes, r, w.first), to = dlm_stripes_before(&w.stripes, r, w.end), end = w.place + w.room;
    struct places p = {from < w.place ? w.place : from, to < end ? to : end};
    p.to = p.to < p.from ? p.from : p.to;
    return p;
}

static size_t words_of(const struct window &w, int r)
{
    const struct places p = places_of(w, r);
    return p.to - p.from;
}

/* f(i, e) for this thread's words of rank r's: the window's i-th is the piece's e-th. Blocks share them out. */
template <typename F> DLM_DEVICE void each_word(const struct window &w, int r, F f)
{
    const struct places p = places_of(w, r);
    const size_t each = ceil_div(p.to - p.from, (size_t)gridDim.x), begin = p.from + blockIdx.x * each, end = begin + each < p.to ? begin + each : p.to;
    size_t e = 0, neighbours = 0;
    for (size_t i = begin + threadIdx.x; i < end; i += THREADS) {
        if (neighbours > THREADS) {
            e += THREADS;
            neighbours -= THREADS;
        } else {
            e = dlm_stripes_element(&w.stripes, r, i, &neighbours);
        }
        f(i - p.from, e - w.first);
    }
}

static unsigned blocks_for(size_t words)
{
    const size_t blocks = ceil_div(words, (size_t)4 * THREADS);
    return (unsigned)(blocks < SUM_BLOCKS ? blocks : SUM_BLOCKS);
}

/* Between the piece x and the parts, rank r's at parts + r·stride, by rows of blocks: of this rank alone, or of all others. */
template <bool Pack, bool Own> static __global__ void carry(uint4 *x, uint4 *parts, size_t stride, struct window w)
{
    const int r = Own ? w.rank : (int)blockIdx.y + ((int)blockIdx.y >= w.rank);
    uint4 *part = parts + (size_t)r * stride;
    each_word(w, r, [=](size_t i, size_t e) {
        if (Pack)
            word_put(part + i, word_at<uint4>(x + e));
        else
            word_put(x + e, word_at<uint4>(part + i));
    });
}

/* x += what came from the others, in order of rank, and squares (gridDim.x) += those of the sums. */
template <typename A> static __global__ void sum_parts(A *x, const A *parts, double *squares, struct window w)
{
    DLM_SHARED(double, shared);
    constexpr unsigned W = 16 / sizeof(A);
    double square = 0;
    each_word(w, w.rank, [&](size_t i, size_t e) {
        float sum[W], v[W];
        for (int r = 0; r < w.stripes.size; r++) {
            load(v, r == w.rank ? x + e * W : parts + ((size_t)r * w.room + i) * W);
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                sum[j] = r ? sum[j] + v[j] : v[j];
        }
        store(x + e * W, sum);
        load(v, x + e * W); /* as it was rounded */
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            square += (double)v[j] * (double)v[j];
    });
    square = block_reduce<sum_op>(square, shared);
    if (threadIdx.x == 0)
        squares[blockIdx.x] += square;
}

/* The first window, its places still to come, of a piece behind all that the device's stream holds. False: the device has failed. */
static bool begin(struct dlm_device *dev, struct window *w, size_t item, size_t first, size_t n, struct dlm_stripes stripes)
{
    struct dlm_collective *c = dev->collective;
    const size_t each = 16 / item;
    if (dlm_device_failed(dev))
        return false;
    if (first % each || n % each || stripes.each % each || stripes.size != c->size) {
        dlm_device_fail(dev, "a piece of %zu elements at %zu is not made of words", n, first);
        return false;
    }
    *w = {{ceil_div(stripes.total, each), stripes.each / each, c->size}, first / each, (first + n) / each, 0, c->room, c->rank};
    w->place = dlm_stripes_before(&w->stripes, c->size - 1, w->first); /* the last rank is behind the others */
    return dlm_device_good(dev, cudaEventRecord(c->queued, dev->stream), "ordering streams") &&
           dlm_device_good(dev, cudaStreamWaitEvent(c->stream, c->queued, 0), "ordering streams");
}

static bool within(const struct window &w)
{
    return w.place < dlm_stripes_before(&w.stripes, 0, w.end);
}

/* The most words that a rank has of the window. */
static size_t most_words(const struct window &w)
{
    size_t most = 0;
    for (int r = 0; r < w.stripes.size; r++)
        most = words_of(w, r) > most ? words_of(w, r) : most;
    return most;
}

static void exchange(struct dlm_device *dev, const struct window &w)
{
    struct dlm_collective *c = dev->collective;
    const size_t mine = words_of(w, c->rank);
    if (!good(dev, nccl.start(), "sending"))
        return;
    for (int r = 0; r < c->size; r++) {
        const size_t words = words_of(w, r);
        if (r != c->rank && words)
            good(dev, nccl.send(c->sent + (size_t)r * c->room, words * sizeof(uint4), ncclChar, r, c->comm, c->stream), "sending");
        if (r != c->rank && mine)
            good(dev, nccl.recv(c->received + (size_t)r * c->room, mine * sizeof(uint4), ncclChar, r, c->comm, c->stream), "receiving");
    }
    good(dev, nccl.end(), "exchanging parts of a sum");
}

template <typename A> static void reduce_scatter(struct dlm_device *dev, A *x, struct window w)
{
    struct dlm_collective *c = dev->collective;
    for (; within(w) && !dlm_device_failed(dev); w.place += w.room) {
        const unsigned others = (unsigned)c->size - 1, rows = blocks_for(most_words(w));
        if (!rows) /* a short piece may begin a stripe behind the last rank's place */
            continue;
        dlm_launch_on(dev, c->stream, "pack", carry<true, false>, dim3(rows, others), THREADS, 0, reinterpret_cast<uint4 *>(x), c->sent, c->room, w);
        exchange(dev, w);
        dlm_launch_on(dev, c->stream, "sum_parts", sum_parts<A>, dim3(blocks_for(words_of(w, c->rank))), THREADS, THREADS / 32 * sizeof(double), x,
                      reinterpret_cast<A *>(c->received), c->squares, w);
    }
}

void dlm_cuda_group_reduce_scatter(struct dlm_device *dev, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, struct dlm_stripes stripes)
{
    struct window w;
    if (!begin(dev, &w, dlm_dtype_size(type), first, n, stripes))
        return;
    if (type == DLM_BF16)
        reduce_scatter(dev, dlm_at<bf16>(x), w);
    else
        reduce_scatter(dev, dlm_at<float>(x), w);
}

void dlm_cuda_group_all_gather(struct dlm_device *dev, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, struct dlm_stripes stripes)
{
    struct window w;
    struct dlm_collective *c = dev->collective;
    if (!begin(dev, &w, dlm_dtype_size(type), first, n, stripes))
        return;
    for (; within(w) && !dlm_device_failed(dev); w.place += w.room) {
        const size_t most = most_words(w); /* every rank sends as many, whatever stands there */
        const unsigned others = (unsigned)c->size - 1, rows = blocks_for(most);
        if (!rows)
            continue;
        dlm_launch_on(dev, c->stream, "pack", carry<true, true>, dim3(rows), THREADS, 0, dlm_at<uint4>(x), c->received, most, w);
        good(dev, nccl.all_gather(c->received + (size_t)c->rank * most, c->received, most * sizeof(uint4), ncclChar, c->comm, c->stream), "gathering the parts");
        dlm_launch_on(dev, c->stream, "unpack", carry<false, false>, dim3(rows, others), THREADS, 0, dlm_at<uint4>(x), c->received, most, w);
    }
}

void dlm_cuda_group_wait(struct dlm_device *dev)
{
    struct dlm_collective *c = dev->collective;
    if (!dlm_device_failed(dev) && dlm_device_good(dev, cudaEventRecord(c->done, c->stream), "ordering streams"))
        dlm_device_good(dev, cudaStreamWaitEvent(dev->stream, c->done, 0), "ordering streams");
}

double dlm_cuda_group_squares(struct dlm_device *dev)
{
    struct dlm_collective *c = dev->collective;
    double host[SUM_BLOCKS], total = 0;
    if (dlm_device_failed(dev) ||
        !dlm_device_good(dev, cudaMemcpyAsync(host, c->squares, sizeof host, cudaMemcpyDeviceToHost, c->stream), "summing") ||
        !dlm_device_good(dev, cudaStreamSynchronize(c->stream), "summing") ||
        !dlm_device_good(dev, cudaMemsetAsync(c->squares, 0, sizeof host, c->stream), "clearing memory"))
        return 0;
    for (unsigned i = 0; i < SUM_BLOCKS; i++)
        total += host[i];
    return total;
}

#else

static bool without(struct dlm_device *dev)
{
    dlm_device_fail(dev, "this module was built without NCCL");
    return false;
}

bool dlm_cuda_group_id(struct dlm_device *dev, unsigned char *)
{
    return without(dev);
}

bool dlm_cuda_group_join(struct dlm_device *dev, const unsigned char *, int, int)
{
    return without(dev);
}

size_t dlm_cuda_group_bytes(struct dlm_device *, int)
{
    return 0;
}

void dlm_collective_close(struct dlm_device *)
{
}

void dlm_cuda_group_reduce_scatter(struct dlm_device *dev, dlm_ptr, enum dlm_dtype, size_t, size_t, struct dlm_stripes)
{
    without(dev);
}

void dlm_cuda_group_all_gather(struct dlm_device *dev, dlm_ptr, enum dlm_dtype, size_t, size_t, struct dlm_stripes)
{
    without(dev);
}

void dlm_cuda_group_wait(struct dlm_device *)
{
}

double dlm_cuda_group_squares(struct dlm_device *)
{
    return 0;
}

#endif
