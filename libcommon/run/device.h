/* From the words `--device` and `--dtype` to an opened back end.
 *
 * `auto` takes CUDA where its module is installed and finds a GPU, else the CPU, and says why in the backend's `fallback` where auto was asked for by
 * name. `cuda` without a number is the GPU of this process among those that a launcher started on this machine. The type `auto` is bf16 where the device
 * multiplies it in hardware and the caller prefers speed, else f32.
 */
#ifndef DLM_RUN_DEVICE_H
#define DLM_RUN_DEVICE_H

#include "base/error.h"
#include "model/network.h"

enum dlm_dtype_option { DLM_DTYPE_AUTO = 0, DLM_DTYPE_F32 = 1, DLM_DTYPE_BF16 = 2 }; /* the order of --dtype's choices */

/* device: NULL or "auto", "cpu", "cuda", "cuda:N". threads: 0 for the cores this process may use. */
int dlm_device_open(struct dlm_backend *out, const char *device, int threads, struct dlm_error *err);
void dlm_device_close(struct dlm_backend *b);
/* The type to compute in; `fast` says what auto prefers: true for training and sampling, false for scores. */
enum dlm_dtype dlm_device_dtype(const struct dlm_backend *b, int dtype_option, bool fast);
/* The libraries that a model is computed with, and their versions. */
void dlm_device_libraries(char *to, size_t size);
const char *dlm_device_dtype_name(enum dlm_dtype t); /* "f32", "bf16" */

#endif
