/* Collectives between devices: three processes with an emulated GPU each (tests/emulate), or as many as there are GPUs where DLM_TEST_MODULE names the module
 * for those. Sums and gathers of pieces that begin and end anywhere in their stripes, over several windows, to the bit; the order in which the device's own
 * work and the exchange run is drawn anew with each seed, so that a wait that is missing is seen. */
#include "kernel_check.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 3, SEEDS = 3 };

static struct shared {
    unsigned char id[DLM_GROUP_ID];
    volatile int made;
    char word[MOST][200];
} *shared;

static int rank, size;

/* What rank r holds at element e: of many magnitudes, and exact in bf16. */
static float value(int r, size_t e)
{
    const uint32_t h = (uint32_t)(e * 2654435761u) ^ (uint32_t)(r * 40503 + 77);
    const float f = (float)((int)(h >> 8 & 0xff) - 128) * (float)(1 << (h >> 3 & 7));
    return f / 16;
}

static float narrowed(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &bits, 4);
    return f;
}

static void set(void *host, enum dlm_dtype type, size_t i, float f)
{
    memcpy((char *)host + i * dlm_dtype_size(type), (char *)&f + (type == DLM_BF16 ? 2 : 0), dlm_dtype_size(type));
}

static float got(const void *host, enum dlm_dtype type, size_t i)
{
    float f = 0;
    memcpy((char *)&f + (type == DLM_BF16 ? 2 : 0), (const char *)host + i * dlm_dtype_size(type), dlm_dtype_size(type));
    return f;
}

static float sum_at(enum dlm_dtype type, size_t e)
{
    float sum = value(0, e);
    for (int r = 1; r < size; r++)
        sum += value(r, e);
    return type == DLM_BF16 ? narrowed(sum) : sum;
}

/* Elements [first, first + n) of the array, summed, squared, gathered. */
static bool piece(const struct dlm_stripes *s, enum dlm_dtype type, size_t first, size_t n)
{
    const size_t bytes = n * dlm_dtype_size(type);
    void *host = check_memory(bytes), *back = check_memory(bytes);
    dlm_ptr x = K->alloc(D, bytes), y = K->alloc(D, bytes);
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        set(host, type, i, value(rank, first + i));
    K->upload(D, y, host, bytes);
    K->copy(D, x, y, bytes); /* queued just before */
    K->group_reduce_scatter(D, x, type, first, n, *s);
    K->zero(D, y, bytes); /* beside it */
    const double told = K->group_squares(D);
    K->copy(D, y, x, bytes);
    K->download(D, back, y, bytes);
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        const bool own = dlm_stripes_owner(s, first + i) == rank;
        const float want = own ? sum_at(type, first + i) : value(rank, first + i);
        good = got(back, type, i) == want;
        squares += own ? (double)want * (double)want : 0;
        set(host, type, i, own ? want : -1);
    }
    good = good && fabs(told - squares) <= 1e-12 * squares;
    const bool summed = good;
    K->upload(D, y, host, bytes);
    K->copy(D, x, y, bytes);
    K->group_all_gather(D, x, type, first, n, *s);
    K->zero(D, y, bytes);
    K->group_wait(D);
    K->copy(D, y, x, bytes);
    K->download(D, back, y, bytes);
    for (size_t i = 0; i < n && good; i++)
        good = got(back, type, i) == sum_at(type, first + i);
    if (!good && !shared->word[rank][0])
        snprintf(shared->word[rank], sizeof shared->word[rank], "rank %d, %s: %zu from %zu of %zu in stripes of %zu, %s%s", rank, summed ? "gather" : "sum", n, first,
                 s->total, s->each, type == DLM_BF16 ? "bf16" : "f32", K->sync(D) ? K->sync(D) : "");
    free(host), free(back);
    K->free(D, x), K->free(D, y);
    return good;
}

static int member(int seed)
{
    char msg[200], number[20];
    snprintf(number, sizeof number, "%d", seed * MOST + rank);
    setenv("DLM_EMULATE_SEED", number, 1);
    K = check_kernels();
    D = K->open(rank, 1, msg, sizeof msg);
    if (!D)
        return 1;
    if (!rank) {
        const bool made = K->group_id(D, shared->id);
        __sync_synchronize();
        shared->made = made ? 1 : -1;
    }
    while (!shared->made)
        usleep(100);
    if (shared->made < 0 || !K->group_join(D, shared->id, rank, size)) {
        snprintf(shared->word[rank], sizeof shared->word[rank], "rank %d: %.150s", rank, shared->made < 0 ? "no group" : K->sync(D));
        return 1;
    }
    bool good = true;
    for (int type = DLM_F32; type <= DLM_BF16; type++) {
        const struct dlm_stripes some[] = {{48, 64, size}, {2048, 64, size}, {66704, 1024, size}}, wide = {9000000 & ~15, 2600000 & ~63, size};
        for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
            const size_t total = some[i].total, half = total / 32 * 16;
            good = piece(&some[i], (enum dlm_dtype)type, 0, total) && good;
            good = piece(&some[i], (enum dlm_dtype)type, 16, total - 32) && good;
            good = piece(&some[i], (enum dlm_dtype)type, half, 16) && good; /* in one stripe */
            good = piece(&some[i], (enum dlm_dtype)type, half, total - half) && good;
            good = piece(&some[i], (enum dlm_dtype)type, half, 0) && good;
        }
        if (!seed && type == DLM_F32) { /* several windows, which are shorter than a stripe; some are empty */
            good = piece(&wide, (enum dlm_dtype)type, 4096, wide.total - 4096) && good;
            good = piece(&wide, (enum dlm_dtype)type, wide.each - 32, 16) && good;
        }
    }
    good = !K->sync(D) && good;
    K->close(D);
    return !good;
}

int main(void)
{
    char path[4096];
    const char *module = getenv("DLM_TEST_MODULE"), *bin = getenv("DLM_BIN");
    if (!module) {
        snprintf(path, sizeof path, "%s/emulated/dlm-cuda.so", bin ? bin : "build");
        setenv("DLM_TEST_MODULE", path, 1);
        setenv("DLM_EMULATE_DEVICES", "3", 1);
        size = access(path, R_OK) ? 0 : MOST;
    } else {
        size = check_kernels()->count();
        size = size > MOST ? MOST : size;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (size < 2 || shared == MAP_FAILED) {
        tap_skip(SEEDS, module ? "there are not two GPUs" : "built without the emulation");
        return tap_end();
    }
    for (int seed = 0; seed < SEEDS; seed++) {
        pid_t child[MOST];
        memset(shared, 0, sizeof *shared);
        for (rank = 0; rank < size; rank++)
            if (!(child[rank] = fork()))
                _exit(member(seed));
        bool good = true;
        for (int r = 0; r < size; r++) {
            int status = 1;
            good = child[r] > 0 && waitpid(child[r], &status, 0) == child[r] && !status && good;
        }
        tap_ok(good, "%d devices sum and gather pieces, to the bit, order %d %s %s %s", size, seed, shared->word[0], shared->word[1], shared->word[2]);
    }
    return tap_end();
}
