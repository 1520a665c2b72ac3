/* The exchange over MPI: the module dlm-mpi.so. Knows MPI and nothing of training.
 *
 * A sum for all is reduced to rank 0 and sent out from there, not reduced everywhere at once: MPI does not promise that every rank would round alike, and
 * weights that differ in a bit on two ranks drift apart. A sum for one is not MPI's at all, which adds in an order of its own: it is made in order of
 * rank, so that its bits are those of any other transport.
 */
#include "run/exchange.h"

#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 1 << 22 /* elements at a time: counts are ints */, ADDED = 1 << 18 /* of a sum in order */ };

static char said[MPI_MAX_ERROR_STRING + 32];
static int own_rank, size;

static bool well(int rc)
{
    char text[MPI_MAX_ERROR_STRING];
    int len = 0;
    if (rc == MPI_SUCCESS)
        return true;
    if (MPI_Error_string(rc, text, &len) != MPI_SUCCESS)
        snprintf(text, sizeof text, "error %d", rc);
    for (char *p = text; *p; p++)
        *p = *p == '\n' ? ' ' : *p;
    snprintf(said, sizeof said, "MPI: %s", text);
    return false;
}

static bool join(int *rank, int *ranks, char *word, size_t word_size)
{
    int level, ready = 0;
    if (!well(MPI_Initialized(&ready)) || (!ready && !well(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level))) ||
        !well(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)) || !well(MPI_Comm_rank(MPI_COMM_WORLD, rank)) ||
        !well(MPI_Comm_size(MPI_COMM_WORLD, ranks))) {
        snprintf(word, word_size, "%s", said);
        return false;
    }
    own_rank = *rank;
    size = *ranks;
    return true;
}

static bool sum(void *x, size_t n, size_t item, MPI_Datatype type)
{
    for (size_t at = 0; at < n; at += PIECE) {
        int some = (int)(n - at < PIECE ? n - at : PIECE);
        char *p = (char *)x + at * item;
        if (!well(MPI_Reduce(own_rank ? p : MPI_IN_PLACE, p, some, type, MPI_SUM, 0, MPI_COMM_WORLD)) || !well(MPI_Bcast(p, some, type, 0, MPI_COMM_WORLD)))
            return false;
    }
    return true;
}

static bool sum_f32(float *x, size_t n)
{
    return sum(x, n, sizeof *x, MPI_FLOAT);
}

/* The root adds what each rank sends, in order of rank, in a buffer beside its own part. */
static bool add_in_order(float *x, int n, int root)
{
    static float total[ADDED], part[ADDED];
    for (int r = 0; r < size; r++) {
        if (r != root && !well(MPI_Recv(part, n, MPI_FLOAT, r, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE)))
            return false;
        const float *from = r == root ? x : part;
        for (int i = 0; i < n; i++)
            total[i] = r ? total[i] + from[i] : from[i];
    }
    memcpy(x, total, (size_t)n * sizeof *x);
    return true;
}

static bool reduce_f32(float *x, size_t n, int root)
{
    for (size_t at = 0; at < n; at += ADDED) {
        const int some = (int)(n - at < ADDED ? n - at : ADDED);
        if (own_rank == root ? !add_in_order(x + at, some, root) : !well(MPI_Send(x + at, some, MPI_FLOAT, root, 0, MPI_COMM_WORLD)))
            return false;
    }
    return true;
}

static bool sum_f64(double *x, size_t n)
{
    return sum(x, n, sizeof *x, MPI_DOUBLE);
}

static bool broadcast(void *x, size_t bytes, int root)
{
    for (size_t at = 0; at < bytes; at += PIECE)
        if (!well(MPI_Bcast((char *)x + at, (int)(bytes - at < PIECE ? bytes - at : PIECE), MPI_BYTE, root, MPI_COMM_WORLD)))
            return false;
    return true;
}

static void leave(void)
{
    MPI_Finalize();
}

static const char *word(void)
{
    return said;
}

const struct dlm_exchange *dlm_exchange(void);
const struct dlm_exchange *dlm_exchange(void)
{
    static struct dlm_exchange e = {.join = join, .sum_f32 = sum_f32, .sum_f64 = sum_f64, .reduce_f32 = reduce_f32, .broadcast = broadcast, .leave = leave, .word = word};
    static char name[MPI_MAX_LIBRARY_VERSION_STRING];
    int len = 0;
    if (MPI_Get_library_version(name, &len) != MPI_SUCCESS)
        strcpy(name, "MPI");
    name[strcspn(name, ",\n")] = 0;
    e.name = name;
    return &e;
}
