/* Mailboxes in shared memory: one for each pair of ranks and direction. See nccl.h. */
#include "nccl.h"

#include <atomic>
#include <fcntl.h>
#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>

enum { LETTER = 16 << 10, MOST_RANKS = 8 };

struct mailbox {
    std::atomic<unsigned> full; /* bytes of the letter in it, 0: empty */
    char letter[LETTER];
};

struct room {
    std::atomic<int> joined;
    mailbox box[MOST_RANKS][MOST_RANKS]; /* from, to */
};

struct emulated_comm {
    room *shared;
    int rank, size;
};

struct job {
    char *at;
    size_t left;
    int peer;
    bool send;
    ncclComm_t comm;
};
static std::vector<job> jobs; /* of the group that is open */
static cudaStream_t jobs_stream;
static int groups;

const char *ncclGetErrorString(ncclResult_t r)
{
    return r == ncclSuccess ? "no error" : r == ncclInvalidUsage ? "invalid usage" : "unhandled system error";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    snprintf(id->internal, sizeof id->internal, "/dlm-emulated-%d-%lld%09ld", (int)getpid(), (long long)t.tv_sec, t.tv_nsec);
    return getenv("DLM_EMULATE_NCCL") ? ncclSystemError : ncclSuccess; /* set: it fails */
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank)
{
    if (size > MOST_RANKS)
        return ncclInvalidUsage;
    int fd = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(room)))
        return ncclSystemError;
    void *p = mmap(NULL, sizeof(room), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return ncclSystemError;
    *comm = new emulated_comm{static_cast<room *>(p), rank, size};
    ++(*comm)->shared->joined;
    while ((*comm)->shared->joined < size)
        sched_yield();
    if (!rank)
        shm_unlink(id.internal);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    munmap(comm->shared, sizeof(room));
    delete comm;
    return ncclSuccess;
}

/* One letter, if it can go or has come. */
static bool move(job &j)
{
    mailbox &m = j.send ? j.comm->shared->box[j.comm->rank][j.peer] : j.comm->shared->box[j.peer][j.comm->rank];
    const unsigned there = m.full.load(std::memory_order_acquire);
    if (j.send != !there)
        return false;
    unsigned n = j.send ? (unsigned)(j.left < (size_t)LETTER ? j.left : (size_t)LETTER) : there;
    if (n > j.left)
        emulated_fault("rank %d gets %u bytes from rank %d where it awaits %zu", j.comm->rank, n, j.peer, j.left);
    if (j.send)
        memcpy(m.letter, j.at, n);
    else
        memcpy(j.at, m.letter, n);
    m.full.store(j.send ? n : 0, std::memory_order_release);
    j.at += n;
    j.left -= n;
    return true;
}

/* Letters of these, those between the same ranks in the same direction in order, the others as they can. True when all are over. */
static bool work(std::vector<job> &all)
{
    for (bool moved = true; moved;) {
        bool busy[2][MOST_RANKS] = {}, open = false;
        moved = false;
        for (job &j : all) {
            if (!j.left || busy[j.send][j.peer])
                continue;
            busy[j.send][j.peer] = open = true;
            moved |= move(j);
        }
        if (!open)
            return true;
    }
    return false;
}

static void queue_jobs(void)
{
    const std::shared_ptr<std::vector<job>> all = std::make_shared<std::vector<job>>(jobs);
    if (!jobs.empty())
        emulated_queue(jobs_stream, [all] { return work(*all); });
    jobs.clear();
}

ncclResult_t ncclGroupStart(void)
{
    groups++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (!--groups)
        queue_jobs();
    return ncclSuccess;
}

static size_t size_of(ncclDataType_t type)
{
    return type == ncclFloat32 ? 4 : type == ncclBfloat16 ? 2 : 1;
}

static ncclResult_t queue(const void *at, size_t count, ncclDataType_t type, int peer, bool send, ncclComm_t comm, cudaStream_t stream)
{
    if (peer < 0 || peer >= comm->size || peer == comm->rank || (!jobs.empty() && stream != jobs_stream))
        return ncclInvalidUsage;
    jobs_stream = stream;
    jobs.push_back(job{static_cast<char *>(const_cast<void *>(at)), count * size_of(type), peer, send, comm});
    if (!groups)
        queue_jobs();
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return queue(from, count, type, peer, true, comm, stream);
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return queue(to, count, type, peer, false, comm, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
    const size_t bytes = count * size_of(type);
    char *all = static_cast<char *>(to);
    if (from != all + (size_t)comm->rank * bytes)
        return ncclInvalidUsage; /* only in place */
    ncclGroupStart();
    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank) {
            ncclSend(from, count, type, r, comm, stream);
            ncclRecv(all + (size_t)r * bytes, count, type, r, comm, stream);
        }
    return ncclGroupEnd();
}
