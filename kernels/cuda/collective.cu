/* What several GPUs do together, by NCCL, which is loaded where several processes train and not before.
 *
 * A sum over ranks is not NCCL's: it would round to bf16 at every hop, in an order that hangs on the topology. The parts go to their owner as they are, and
 * the owner adds them in order of rank in float32, so that the bits are those of any other transport. As much is sent as a reduce-scatter by rings sends.
 */
#include "device.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__CUDACC__) || __has_include(<nccl.h>)
#include <nccl.h>
#define HAVE_NCCL 1
#endif

#ifdef HAVE_NCCL

static const size_t CHUNK = (size_t)4 << 20; /* elements of a part on their way at a time */

struct dlm_collective {
    ncclComm_t comm;
    int rank, size;
    void *received; /* (size - 1, CHUNK) f32 at most */
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
    decltype(&ncclBroadcast) broadcast;
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
                    symbol(l, &nccl.broadcast, "ncclBroadcast") && symbol(l, &nccl.word, "ncclGetErrorString") &&
                    symbol(l, &nccl.id, "ncclGetUniqueId")))
        return true;
    dlm_device_fail(dev, "NCCL is too old: %s", dlerror());
    return false;
}
#else
static bool load(struct dlm_device *)
{
    nccl = {ncclGetUniqueId, ncclCommInitRank, ncclCommDestroy, ncclGroupStart, ncclGroupEnd, ncclSend, ncclRecv, ncclBroadcast, ncclGetErrorString};
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

static size_t received_bytes(int size)
{
    return (size_t)(size - 1) * CHUNK * sizeof(float);
}

size_t dlm_cuda_group_bytes(struct dlm_device *dev, int size)
{
    return dev->collective || size < 2 ? 0 : received_bytes(size);
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
    return dlm_device_good(dev, cudaMalloc(&c->received, received_bytes(size)), "getting room for a group's parts") &&
           good(dev, nccl.init(&c->comm, size, u, rank), "joining a group");
}

void dlm_collective_close(struct dlm_device *dev)
{
    struct dlm_collective *c = dev->collective;
    if (c && c->comm && !dlm_device_failed(dev)) /* after a failure the others may not come to the same call */
        nccl.destroy(c->comm);
    if (c)
        cudaFree(c->received);
    free(c);
}

/* x (n) += the ranks' parts: those before this one, then its own, then those behind, each `stride` apart. */
template <typename A> static __global__ void sum_parts(A *x, const A *parts, size_t n, size_t stride, int rank, int size)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        float sum = 0;
        for (int r = 0; r < size; r++)
            sum += to_f32(r == rank ? x[i] : parts[(size_t)(r < rank ? r : r - 1) * stride + i]);
        x[i] = to_act<A>(sum);
    }
}

template <typename A> static void reduce_scatter(struct dlm_device *dev, A *x, ncclDataType_t type, const size_t *bound)
{
    struct dlm_collective *c = dev->collective;
    A *received = static_cast<A *>(c->received);
    size_t most = 0;
    for (int r = 0; r < c->size; r++)
        most = bound[r + 1] - bound[r] > most ? bound[r + 1] - bound[r] : most;
    /* The chunk at `at` of every range at once; where a range is shorter, nothing. */
    for (size_t at = 0; at < most; at += CHUNK) {
        const size_t mine = bound[c->rank] + at < bound[c->rank + 1] ? bound[c->rank + 1] - bound[c->rank] - at : 0, n = mine < CHUNK ? mine : CHUNK;
        if (!good(dev, nccl.start(), "sending"))
            return;
        for (int r = 0; r < c->size; r++) {
            const size_t left = bound[r] + at < bound[r + 1] ? bound[r + 1] - bound[r] - at : 0, some = left < CHUNK ? left : CHUNK;
            if (r == c->rank)
                continue;
            if (some)
                good(dev, nccl.send(x + bound[r] + at, some, type, r, c->comm, dev->stream), "sending");
            if (n)
                good(dev, nccl.recv(received + (size_t)(r < c->rank ? r : r - 1) * CHUNK, n, type, r, c->comm, dev->stream), "receiving");
        }
        if (!good(dev, nccl.end(), "exchanging parts of a sum"))
            return;
        if (n)
            dlm_launch(dev, "sum_parts", sum_parts<A>, dim3((unsigned)ceil_div(n, (size_t)1024)), 256, 0, x + bound[c->rank] + at, received, n, CHUNK, c->rank,
                       c->size);
    }
}

void dlm_cuda_group_reduce_scatter(struct dlm_device *dev, dlm_ptr x, enum dlm_dtype type, const size_t *bound)
{
    if (dlm_device_failed(dev))
        return;
    if (type == DLM_BF16)
        reduce_scatter(dev, dlm_at<bf16>(x), ncclBfloat16, bound);
    else
        reduce_scatter(dev, dlm_at<float>(x), ncclFloat32, bound);
}

void dlm_cuda_group_all_gather(struct dlm_device *dev, dlm_ptr x, enum dlm_dtype type, const size_t *bound)
{
    if (dlm_device_failed(dev) || !good(dev, nccl.start(), "telling"))
        return;
    for (int r = 0; r < dev->collective->size; r++) {
        char *at = dlm_at<char>(dlm_ptr_at(x, bound[r] * dlm_dtype_size(type)));
        if (bound[r + 1] > bound[r])
            good(dev, nccl.broadcast(at, at, (bound[r + 1] - bound[r]) * dlm_dtype_size(type), ncclChar, r, dev->collective->comm, dev->stream), "telling");
    }
    good(dev, nccl.end(), "gathering the parts");
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

void dlm_cuda_group_reduce_scatter(struct dlm_device *dev, dlm_ptr, enum dlm_dtype, const size_t *)
{
    without(dev);
}

void dlm_cuda_group_all_gather(struct dlm_device *dev, dlm_ptr, enum dlm_dtype, const size_t *)
{
    without(dev);
}

#endif
