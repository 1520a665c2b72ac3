/* Fibers, meetings, memory with walls: see cuda.h. */
#include "cuda.h"

#include <algorithm>
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

/* What a block of sm_80 may have. */
enum { MOST_THREADS = 1024, MOST_SHARED = 163 << 10, STACK = 64 << 10, EMULATED_VERSION = 13000 };

emulated_places emulated_here;

void emulated_fault(const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "emulated CUDA: block (%u, %u, %u) thread %u: ", emulated_here.block.x, emulated_here.block.y, emulated_here.block.z,
            emulated_here.thread.x);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    fflush(NULL);
    abort();
}

/* --- order -------------------------------------------------------------------------------------------------------------------------------- */

static uint64_t drawn;

uint32_t emulated_draw(uint32_t below)
{
    static bool seeded;
    if (!seeded) {
        const char *seed = getenv("DLM_EMULATE_SEED");
        drawn = seed ? strtoull(seed, NULL, 10) : 0;
        seeded = true;
    }
    uint64_t z = (drawn += 0x9E3779B97F4A7C15u); /* SplitMix64 (Steele et al., 2014) */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) % below);
}

static void shuffle(std::vector<unsigned> &v)
{
    for (size_t i = v.size(); i > 1; i--)
        std::swap(v[i - 1], v[emulated_draw((uint32_t)i)]);
}

/* --- fibers ------------------------------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Saves what a call keeps (System V ABI) on the stack that is left, and takes it from the one that is entered. */
struct context {
    void *sp;
};
extern "C" void emulated_switch(context *from, const context *to);
__asm__(".text\n.globl emulated_switch\n.hidden emulated_switch\n.type emulated_switch,@function\nemulated_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov (%rsi),%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

static void context_make(context *c, char *stack, void (*entry)(void))
{
    void **sp = (void **)(void *)(stack + STACK);
    *--sp = NULL; /* where entry would return to: it does not */
    *--sp = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--sp = NULL;
    c->sp = sp;
}
#else
struct context {
    ucontext_t u;
};
static void emulated_switch(context *from, const context *to)
{
    swapcontext(&from->u, &to->u);
}

static void context_make(context *c, char *stack, void (*entry)(void))
{
    getcontext(&c->u);
    c->u.uc_stack.ss_sp = stack;
    c->u.uc_stack.ss_size = STACK;
    c->u.uc_link = NULL;
    makecontext(&c->u, entry, 0);
}
#endif

/* Those that wait for each other: a block at a barrier, a warp anywhere. */
struct meeting {
    unsigned size, arrived, generation;
    const char *kind;
    int any[2];
    unsigned char brought[2][32][64]; /* a warp's, by parity of generation: no lane is more than one meeting ahead */
};

struct copy {
    void *to;
    const void *from;
    bool valid;
    unsigned group;
};

struct fiber {
    context at;
    char *stack;
    dim3 thread;
    unsigned index;
    bool done;
    const meeting *waits; /* until its generation is not this: */
    unsigned generation;
    const std::function<bool()> *until; /* or until this is so */
    const char *what;
    std::vector<copy> copies;
    unsigned group;
};

static struct {
    std::vector<fiber> fibers;
    std::vector<meeting> warps;
    meeting block;
    context scheduler;
    fiber *self;
    const std::function<void()> *kernel;
    char *shared;      /* this block's; its end is a wall */
    size_t shared_size;
    char *shared_room; /* MOST_SHARED and a page that cannot be touched */
    bool running;
} B;

void (*emulated_block_begins)(void), (*emulated_block_ends)(void);

static void yield(void)
{
    emulated_switch(&B.self->at, &B.scheduler);
}

static void body(void)
{
    (*B.kernel)();
    B.self->done = true;
    yield();
    abort();
}

/* Arrive, and go on when all have. */
static unsigned meet(meeting *m, const char *kind)
{
    if (m->arrived && strcmp(m->kind, kind))
        emulated_fault("waits in %s while others of its %s wait in %s", kind, m == &B.block ? "block" : "warp", m->kind);
    m->kind = kind;
    const unsigned generation = m->generation;
    if (++m->arrived == m->size) {
        m->arrived = 0;
        m->generation++;
    } else {
        B.self->waits = m;
        B.self->generation = generation;
        yield();
        B.self->waits = NULL;
    }
    return generation;
}

void __syncthreads(void)
{
    meet(&B.block, "__syncthreads");
}

int __syncthreads_or(int predicate)
{
    int *any = &B.block.any[B.block.generation & 1];
    if (!B.block.arrived)
        *any = 0;
    *any |= predicate != 0;
    meet(&B.block, "__syncthreads_or");
    return *any;
}

void emulated_wait_until(const char *what, const std::function<bool()> &so)
{
    B.self->until = &so;
    B.self->what = what;
    yield();
    B.self->until = NULL;
}

emulated_meeting emulated_meet(const char *kind, const void *bring, size_t bytes)
{
    meeting *m = &B.warps[B.self->index / 32];
    const int lane = (int)(B.self->index % 32);
    const unsigned parity = m->generation & 1;
    memcpy(m->brought[parity][lane], bring, bytes);
    meet(m, kind);
    return emulated_meeting{m->brought[parity], lane};
}

static void run_block(dim3 block, unsigned threads)
{
    std::vector<unsigned> order(threads);
    B.block = meeting{};
    B.block.size = threads;
    for (meeting &w : B.warps) {
        w = meeting{};
        w.size = 32;
    }
    B.shared = B.shared_room + MOST_SHARED - B.shared_size;
    memset(B.shared, 0xff, B.shared_size);
    emulated_here.block = block;
    for (unsigned i = 0; i < threads; i++) {
        fiber &f = B.fibers[i];
        const dim3 &t = emulated_here.threads;
        f.thread = dim3(i % t.x, i / t.x % t.y, i / t.x / t.y);
        f.index = i;
        f.done = false;
        f.waits = NULL;
        f.until = NULL;
        f.copies.clear();
        f.group = 0;
        context_make(&f.at, f.stack, body);
        order[i] = i;
    }
    if (emulated_block_begins)
        emulated_block_begins();
    for (unsigned left = threads; left;) {
        bool moved = false;
        shuffle(order);
        for (unsigned i : order) {
            fiber &f = B.fibers[i];
            if (f.done || (f.waits && f.waits->generation == f.generation) || (f.until && !(*f.until)()))
                continue;
            moved = true;
            B.self = &f;
            emulated_here.thread = f.thread;
            emulated_switch(&B.scheduler, &f.at);
            if (f.done) {
                left--;
                if (!f.copies.empty())
                    emulated_fault("ends with %zu copies that nobody waited for", f.copies.size());
            }
        }
        if (!moved)
            for (unsigned i = 0; i < threads; i++)
                if (!B.fibers[i].done)
                    emulated_fault("thread %u waits in %s for what never comes", i,
                                   B.fibers[i].until ? B.fibers[i].what : B.fibers[i].waits->kind);
    }
    if (emulated_block_ends)
        emulated_block_ends();
}

static char *pages(size_t bytes, char **whole, size_t *whole_size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
    char *p = (char *)mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    mprotect(p + room, page, PROT_NONE);
    *whole = p;
    *whole_size = room + page;
    return p + room - bytes;
}

static void run(dim3 blocks, dim3 threads, size_t shared, const std::function<void()> &kernel)
{
    const unsigned n = threads.x * threads.y * threads.z;
    const size_t many = (size_t)blocks.x * blocks.y * blocks.z;
    emulated_here.threads = threads;
    emulated_here.blocks = blocks;
    if (!B.shared_room) {
        char *whole;
        size_t size;
        B.shared_room = pages(MOST_SHARED, &whole, &size);
        if (!B.shared_room)
            emulated_fault("no memory");
    }
    while (B.fibers.size() < n) {
        char *whole;
        size_t size;
        fiber f{};
        f.stack = pages(STACK, &whole, &size);
        if (!f.stack)
            emulated_fault("no memory");
        B.fibers.push_back(f);
    }
    B.warps.resize(n / 32);
    B.kernel = &kernel;
    B.shared_size = (shared + 127) / 128 * 128;
    B.running = true;
    /* Blocks in an order of their own: a stride that meets every one. */
    size_t stride = many > 1 ? 1 + emulated_draw((uint32_t)std::min<size_t>(many - 1, 0xfffffffe)) : 1;
    size_t at = emulated_draw((uint32_t)std::min<size_t>(many, 0xfffffffe));
    while (std::__gcd(stride, many) != 1)
        stride++;
    for (size_t i = 0; i < many; i++, at = (at + stride) % many)
        run_block(dim3((unsigned)(at % blocks.x), (unsigned)(at / blocks.x % blocks.y), (unsigned)(at / blocks.x / blocks.y)), n);
    B.running = false;
}

void emulated_launch(cudaStream_t stream, dim3 blocks, dim3 threads, size_t shared, const std::function<void()> &kernel)
{
    const unsigned n = threads.x * threads.y * threads.z;
    if (B.running)
        emulated_fault("a launch within a kernel");
    if (!n || n > MOST_THREADS || n % 32)
        emulated_fault("a launch with blocks of %u threads", n);
    if (shared > MOST_SHARED)
        emulated_fault("a launch with %zu bytes of shared memory", shared);
    if (!blocks.x || !blocks.y || !blocks.z || blocks.x > 0x7fffffffu || blocks.y > 65535 || blocks.z > 65535)
        emulated_fault("a launch of %u × %u × %u blocks", blocks.x, blocks.y, blocks.z);
    emulated_queue(stream, [=] { return run(blocks, threads, shared, kernel), true; });
}

/* --- shared memory ------------------------------------------------------------------------------------------------------------------------ */

void *emulated_shared(void)
{
    return B.shared;
}

size_t emulated_shared_size(void)
{
    return B.shared_size;
}

static void in_shared(const void *p, size_t bytes, size_t align, const char *what)
{
    const char *c = (const char *)p;
    if (c < B.shared || c + bytes > B.shared + B.shared_size)
        emulated_fault("%s outside of shared memory", what);
    if ((size_t)(c - B.shared) % align)
        emulated_fault("%s at byte %zu of shared memory, which is no multiple of %zu", what, (size_t)(c - B.shared), align);
}

void emulated_copy_async(void *shared, const void *global, bool valid)
{
    in_shared(shared, 16, 16, "copy_async");
    if (valid && (uintptr_t)global % 16)
        emulated_fault("copy_async from an address that is no multiple of 16");
    memset(shared, 0xff, 16);
    B.self->copies.push_back(copy{shared, global, valid, B.self->group});
}

void emulated_copy_commit(void)
{
    B.self->group++;
}

void emulated_copy_wait(int left)
{
    std::vector<copy> &all = B.self->copies;
    size_t kept = 0;
    for (copy &c : all) {
        if ((int)(B.self->group - c.group) <= left) {
            all[kept++] = c;
            continue;
        }
        if (c.valid)
            memcpy(c.to, c.from, 16);
        else
            memset(c.to, 0, 16);
    }
    all.resize(kept);
}

/* --- tensor cores --------------------------------------------------------------------------------------------------------------------------- */

static float value(uint32_t pair, int which)
{
    return __uint_as_float((which ? pair >> 16 : pair & 0xffffu) << 16);
}

void emulated_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    uint32_t bring[6] = {a[0], a[1], a[2], a[3], b[0], b[1]}, of[32][6];
    emulated_meeting m = emulated_meet("mma_bf16", bring, sizeof bring);
    for (int lane = 0; lane < 32; lane++)
        memcpy(of[lane], m.lane[lane], sizeof of[lane]);
    for (int i = 0; i < 4; i++) {
        const int row = m.self / 4 + i / 2 * 8, column = m.self % 4 * 2 + i % 2;
        double sum = 0; /* tensor cores add a product's sixteen terms at once and round at the end, near enough */
        for (int k = 0; k < 16; k++) {
            float x = value(of[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2);
            float y = value(of[column * 4 + k % 8 / 2][4 + k / 8], k % 2);
            sum += (double)x * (double)y;
        }
        d[i] = (float)((double)d[i] + sum);
    }
}

void emulated_load_matrices(uint32_t (&r)[4], const void *row, bool transposed)
{
    in_shared(row, 16, 16, "load_matrices");
    emulated_meeting m = emulated_meet(transposed ? "load_matrices_transposed" : "load_matrices", &row, sizeof row);
    uint16_t item[2];
    for (int j = 0; j < 4; j++) {
        for (int i = 0; i < 2; i++) {
            const int at = m.self % 4 * 2 + i, y = transposed ? at : m.self / 4, x = transposed ? m.self / 4 : at;
            memcpy(&item[i], (const char *)emulated_lane<const void *>(m, j * 8 + y) + 2 * x, 2);
        }
        r[j] = (uint32_t)item[0] | (uint32_t)item[1] << 16;
    }
}

/* --- runtime -------------------------------------------------------------------------------------------------------------------------------- */

struct block_of_memory {
    char *whole;
    size_t size;
};
static std::map<void *, block_of_memory> memory;

/* What the machine is said to have. */
static size_t said(const char *name, size_t otherwise)
{
    const char *v = getenv(name);
    return v ? strtoull(v, NULL, 10) : otherwise;
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "invalid device ordinal";
    }
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    int driver;
    cudaDriverGetVersion(&driver);
    *count = (int)said("DLM_EMULATE_DEVICES", 1);
    if (driver < EMULATED_VERSION)
        return cudaErrorInsufficientDriver;
    return *count ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int i)
{
    return (size_t)i < said("DLM_EMULATE_DEVICES", 1) ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int i)
{
    if (cudaSetDevice(i))
        return cudaErrorInvalidDevice;
    *p = cudaDeviceProp{};
    snprintf(p->name, sizeof p->name, "emulated on the host");
    p->major = (int)said("DLM_EMULATE_CAPABILITY", 80) / 10;
    p->minor = (int)said("DLM_EMULATE_CAPABILITY", 80) % 10;
    p->multiProcessorCount = 2;
    size_t ignored;
    cudaMemGetInfo(&ignored, &p->totalGlobalMem);
    p->sharedMemPerBlockOptin = MOST_SHARED;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = EMULATED_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *v)
{
    *v = (int)said("DLM_EMULATE_DRIVER", EMULATED_VERSION);
    return cudaSuccess;
}

static size_t allocated;

cudaError_t cudaMemGetInfo(size_t *free_, size_t *total)
{
    *total = said("DLM_EMULATE_MEMORY", (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE));
    *free_ = *total > allocated ? *total - allocated : 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **to, size_t bytes)
{
    const size_t rounded = (bytes + 255) / 256 * 256;
    size_t left, all;
    block_of_memory b;
    cudaMemGetInfo(&left, &all);
    if (emulated_recording())
        return cudaErrorStreamCaptureUnsupported;
    if (rounded > left)
        return cudaErrorMemoryAllocation;
    char *p = rounded >= bytes && rounded < (size_t)1 << 46 ? pages(rounded, &b.whole, &b.size) : NULL;
    if (!p)
        return cudaErrorMemoryAllocation;
    if (rounded < (size_t)1 << 26)
        memset(p, 0xff, rounded);
    memory[p] = b;
    allocated += b.size - (size_t)sysconf(_SC_PAGESIZE); /* that after it is not the caller's */
    emulated_count_allocation(allocated);
    *to = p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    emulated_wait_all();
    auto at = memory.find(p);
    if (at == memory.end())
        emulated_fault("cudaFree of an address that cudaMalloc did not give");
    munmap(at->second.whole, at->second.size);
    allocated -= at->second.size - (size_t)sysconf(_SC_PAGESIZE);
    memory.erase(at);
    return cudaSuccess;
}
