/* Streams, events, graphs and copies: see cuda.h.
 *
 * What is queued on a stream waits there until the host waits for it. Then streams run, one piece of work of one of them after the other, which one being
 * drawn: work on two streams that nothing orders meets in any order, and what the host did not wait for may not have happened.
 *
 * DLM_EMULATE_REPORT names a file that gets a line of names and values: the most bytes that were allocated at once; allocations; `before`, the work
 * that was queued before the last of them; the work queued piece by piece, by graphs, and the graphs launched and made.
 */
#include "cuda.h"

#include <deque>
#include <memory>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

struct work {
    emulated_poll run;    /* or, where that is empty: */
    cudaStream_t behind;  /* wait until that stream has done so much */
    uint64_t ticket;
};

struct emulated_stream {
    std::deque<work> queue;
    uint64_t issued, done; /* pieces of work */
    emulated_graph *records;
};

struct emulated_event {
    cudaStream_t stream; /* NULL: never recorded, which is as good as done */
    uint64_t ticket;
};

struct emulated_graph {
    std::vector<emulated_poll> all;
};

static std::vector<cudaStream_t> streams;
static std::vector<cudaStream_t> &ended = *new std::vector<cudaStream_t>(); /* which events may still speak of */

static struct counts {
    size_t most, allocations, before, pieces, replayed, launched, made;
    ~counts()
    {
        const char *name = getenv("DLM_EMULATE_REPORT");
        FILE *f = name ? fopen(name, "a") : NULL;
        if (!f)
            return;
        fprintf(f, "most %zu allocations %zu before %zu pieces %zu replayed %zu launched %zu made %zu\n", most, allocations, before, pieces, replayed,
                launched, made);
        fclose(f);
    }
} counts;

void emulated_count_allocation(size_t allocated)
{
    counts.most = allocated > counts.most ? allocated : counts.most;
    counts.allocations++;
    counts.before = counts.pieces + counts.replayed;
}

/* Work of one stream, drawn among those that can go on, or the end of waits. False: none can now. */
static bool advance(void)
{
    std::vector<cudaStream_t> ready;
    bool polls = false, waited = false;
    for (cudaStream_t s : streams) {
        while (!s->queue.empty() && !s->queue.front().run && (!s->queue.front().behind || s->queue.front().behind->done >= s->queue.front().ticket)) {
            s->queue.pop_front();
            s->done++;
            waited = true;
        }
        if (!s->queue.empty() && s->queue.front().run)
            ready.push_back(s);
    }
    if (waited)
        return true; /* others may wait for just that */
    while (!ready.empty()) {
        const size_t i = emulated_draw((uint32_t)ready.size());
        cudaStream_t s = ready[i];
        if (s->queue.front().run()) {
            s->queue.pop_front();
            s->done++;
            return true;
        }
        polls = true;
        ready.erase(ready.begin() + (long)i);
    }
    if (!polls)
        emulated_fault("streams wait for each other");
    return false;
}

static void wait_until(cudaStream_t s, uint64_t ticket)
{
    while (s->done < ticket)
        if (!advance())
            sched_yield();
}

void emulated_wait_all(void)
{
    for (size_t i = 0; i < streams.size(); i++)
        wait_until(streams[i], streams[i]->issued);
}

void emulated_queue(cudaStream_t s, const emulated_poll &run)
{
    if (!s)
        emulated_fault("work for the default stream, which nothing here uses");
    if (s->records) {
        s->records->all.push_back(run);
        return;
    }
    s->queue.push_back(work{run, NULL, 0});
    s->issued++;
    counts.pieces++;
}

bool emulated_recording(void)
{
    for (cudaStream_t s : streams)
        if (s->records)
            return true;
    return false;
}

/* --- streams and events --------------------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    streams.push_back(*s = new emulated_stream());
    return cudaSuccess;
}

/* Which of two goes first is drawn all the same. */
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(s, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *most)
{
    *least = *most = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s->records)
        return cudaErrorStreamCaptureUnsupported;
    wait_until(s, s->issued);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    wait_until(s, s->issued);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s)
            streams.erase(streams.begin() + (long)i);
    s->queue.clear();
    ended.push_back(s);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new emulated_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    if (s->records)
        return cudaErrorStreamCaptureUnsupported; /* allowed by CUDA, and not done here */
    *e = emulated_event{s, s->issued};
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    if (s->records)
        return cudaErrorStreamCaptureUnsupported;
    s->queue.push_back(work{emulated_poll(), e->stream, e->ticket});
    s->issued++;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e->stream)
        wait_until(e->stream, e->ticket);
    return cudaSuccess;
}

/* --- graphs --------------------------------------------------------------------------------------------------------------------------- */

struct emulated_exec {
    std::shared_ptr<emulated_graph> graph;
};

/* DLM_EMULATE_GRAPHS: what fails. */
static bool fails(const char *what)
{
    const char *v = getenv("DLM_EMULATE_GRAPHS");
    return v && !strcmp(v, what);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (s->records || fails("begin"))
        return cudaErrorStreamCaptureUnsupported;
    s->records = new emulated_graph();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    *g = s->records;
    s->records = NULL;
    if (*g && fails("end")) {
        delete *g;
        *g = NULL;
    }
    return *g ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long)
{
    if (fails("instantiate"))
        return cudaErrorMemoryAllocation;
    *exec = new emulated_exec{std::make_shared<emulated_graph>(*g)};
    counts.made++;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    const std::shared_ptr<emulated_graph> g = exec->graph;
    if (fails("launch"))
        return cudaErrorMemoryAllocation;
    for (size_t i = 0; i < g->all.size(); i++)
        emulated_queue(s, [g, i] { return g->all[i](); });
    counts.launched++;
    counts.pieces -= g->all.size();
    counts.replayed += g->all.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

/* --- copies --------------------------------------------------------------------------------------------------------------------------- */

struct range {
    const char *at;
    size_t bytes;
};
static std::vector<range> pinned;

cudaError_t cudaMallocHost(void **to, size_t bytes)
{
    *to = malloc(bytes);
    if (!*to)
        return cudaErrorMemoryAllocation;
    pinned.push_back(range{static_cast<char *>(*to), bytes});
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    emulated_wait_all();
    for (size_t i = 0; i < pinned.size(); i++)
        if (pinned[i].at == p)
            pinned.erase(pinned.begin() + (long)i);
    free(p);
    return cudaSuccess;
}

static bool is_pinned(const void *p, size_t bytes)
{
    for (const range &r : pinned)
        if (static_cast<const char *>(p) >= r.at && static_cast<const char *>(p) + bytes <= r.at + r.bytes)
            return true;
    return false;
}

/* The host's memory is read and written at once, the stream having ended, unless it is pinned. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
    const bool waits = kind != cudaMemcpyDeviceToDevice && !is_pinned(kind == cudaMemcpyHostToDevice ? from : to, bytes);
    if (!waits) {
        emulated_queue(s, [=] { return memcpy(to, from, bytes), true; });
        return cudaSuccess;
    }
    cudaError_t e = cudaStreamSynchronize(s);
    if (e == cudaSuccess)
        memcpy(to, from, bytes);
    return e;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t s)
{
    emulated_queue(s, [=] { return memset(p, byte, bytes), true; });
    return cudaSuccess;
}
