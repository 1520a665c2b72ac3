/* Recordings: the calls between two moments as one CUDA graph, which costs the host one launch.
 *
 * While one is made, the device's stream captures what is queued. What cannot be captured (a copy from or to the host, a wait, more scratch), and every
 * error, spoils the recording and is not the device's failure: nothing was done, and the caller makes its calls anew, where an error that is real comes
 * back. Arguments are kept by value, so what they point to must stay; what the device itself may move is its scratch, and it counts how often.
 */
#include "device.cuh"

#include <stdlib.h>

struct dlm_recording {
    cudaGraphExec_t exec;
    unsigned moves; /* of the scratch, before it was made */
};

bool dlm_cuda_record(struct dlm_device *dev)
{
    if (dlm_device_failed(dev) || !dev->graphs || dev->records)
        return false;
    if (cudaStreamBeginCapture(dev->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        cudaGetLastError(); /* is no later launch's */
        return false;
    }
    dev->records = true;
    dev->spoilt = false;
    return true;
}

struct dlm_recording *dlm_cuda_recorded(struct dlm_device *dev)
{
    if (!dev->records)
        return NULL;
    cudaGraph_t graph = NULL;
    const cudaError_t e = cudaStreamEndCapture(dev->stream, &graph);
    struct dlm_recording *r = NULL;
    dev->records = false;
    if (e == cudaSuccess && graph && !dev->spoilt)
        r = static_cast<struct dlm_recording *>(calloc(1, sizeof *r));
    if (r && cudaGraphInstantiate(&r->exec, graph, 0) != cudaSuccess) {
        free(r);
        r = NULL;
    }
    if (r)
        r->moves = dev->moves;
    else
        cudaGetLastError();
    if (graph)
        cudaGraphDestroy(graph);
    return r;
}

bool dlm_cuda_replay(struct dlm_device *dev, struct dlm_recording *r)
{
    if (dlm_device_failed(dev))
        return true; /* as every call does nothing then */
    if (r->moves != dev->moves || dev->records)
        return false;
    dlm_device_good(dev, cudaGraphLaunch(r->exec, dev->stream), "replaying");
    return true;
}

void dlm_cuda_forget(struct dlm_device *, struct dlm_recording *r)
{
    if (!r)
        return;
    cudaGraphExecDestroy(r->exec); /* one that still runs ends first */
    free(r);
}
