/* Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3"): a counter-based generator.
 *
 * 128 random bits are a pure function of a 128-bit counter and a 64-bit key. Every random number of the toolkit is named by
 * its counter, so no device, thread, batch or resumption can change one. The one kernels header that libcommon/base may
 * include; plain C and CUDA C alike.
 */
#ifndef DLM_KERNELS_PHILOX_H
#define DLM_KERNELS_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define DLM_PHILOX_FN static __host__ __device__ inline
#else
#define DLM_PHILOX_FN static inline
#endif

typedef struct {
    uint32_t v[4];
} dlm_philox_t;

DLM_PHILOX_FN dlm_philox_t dlm_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    dlm_philox_t r = {{c0, c1, c2, c3}};
    return r;
}

/* Purposes: the last counter word. A number once given is never reused for something else. */
enum {
    DLM_RNG_CORRUPT = 1,      /* (example, position): keep?, uniform or mask?, which id */
    DLM_RNG_LEVEL = 2,        /* (example): level of a whole sequence, and u0 at example 2^64-1 */
    DLM_RNG_TOKEN_LEVEL = 3,  /* (example, position): level of one token */
    DLM_RNG_MODE = 4,         /* (example): independent levels?, prompt?, prompt fraction, empty fraction */
    DLM_RNG_EMPTY = 5,        /* (example, position): which positions are pads */
    DLM_RNG_INIT = 6,         /* (tensor, element/4): initial weights */
    DLM_RNG_EPOCH = 7,        /* (epoch, index): order of a later epoch */
    DLM_RNG_SHUFFLE = 8,      /* (document): order of dlm-shard */
    DLM_RNG_EVAL_LEVEL = 9,   /* (sequence, level): level of an evaluation draw */
    DLM_RNG_EVAL_CORRUPT = 10, /* (sequence*levels + level, position) */
    DLM_RNG_SAMPLE = 11,      /* (item, position) with the step in the high half of the item */
    DLM_RNG_BOOTSTRAP = 12,   /* (resample, index) */
    DLM_RNG_START = 13,       /* random starts of a fit */
    DLM_RNG_TEST = 14,        /* inputs of tests */
    DLM_RNG_SYNTHETIC = 15,   /* generated corpora and studies */
    DLM_RNG_SHOTS = 16,       /* (hash of an item, draw): which examples stand before it */
    DLM_RNG_MOMENT = 17,      /* (element/4, step): rounding of bf16 moments */
    DLM_RNG_GRADIENT = 18     /* (element/8, pass): rounding of bf16 gradients as they are summed */
};

/* The four words for item `i` (64 bits), position and purpose. */
DLM_PHILOX_FN dlm_philox_t dlm_philox_at(uint64_t seed, uint64_t i, uint32_t position, uint32_t purpose)
{
    return dlm_philox(seed, (uint32_t)i, (uint32_t)(i >> 32), position, purpose);
}

#endif
