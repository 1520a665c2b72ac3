/* NCCL's calls that kernels/cuda/collective.cu makes, over memory that the emulated GPUs of one machine share. Queued on streams, as NCCL's are. */
#ifndef DLM_TESTS_EMULATE_NCCL_H
#define DLM_TESTS_EMULATE_NCCL_H

#include "cuda.h"

typedef struct emulated_comm *ncclComm_t;
typedef struct {
    char internal[128];
} ncclUniqueId;
enum ncclResult_t { ncclSuccess = 0, ncclSystemError = 2, ncclInvalidUsage = 5 };
enum ncclDataType_t { ncclChar = 0, ncclFloat32 = 7, ncclBfloat16 = 9 };

ncclResult_t ncclGetUniqueId(ncclUniqueId *);
ncclResult_t ncclCommInitRank(ncclComm_t *, int size, ncclUniqueId, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t);
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclSend(const void *, size_t count, ncclDataType_t, int peer, ncclComm_t, cudaStream_t);
ncclResult_t ncclRecv(void *, size_t count, ncclDataType_t, int peer, ncclComm_t, cudaStream_t);
ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t, ncclComm_t, cudaStream_t);
const char *ncclGetErrorString(ncclResult_t);

#endif
