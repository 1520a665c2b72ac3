/* The two makers of matrix products: oneDNN's, and a plain one that is always built and is the reference in tests.
 *
 * Shapes and meaning as in kernels.h. Packs of one kind are not for the other.
 */
#ifndef DLM_CPU_LINEAR_H
#define DLM_CPU_LINEAR_H

#include "device.h"

size_t dlm_linear_plain_pack_size(struct dlm_device *, size_t O, size_t I, enum dlm_dtype act);
void dlm_linear_plain_pack(struct dlm_device *, dlm_ptr pack, dlm_ptr w, size_t O, size_t I, enum dlm_dtype act);
void dlm_linear_plain(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                      enum dlm_dtype y_type, float scale);
void dlm_linear_plain_dx(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I,
                         enum dlm_dtype act, enum dlm_dtype dx_type, float scale);
void dlm_linear_plain_dw(struct dlm_device *, dlm_ptr dw, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I, enum dlm_dtype act,
                         float scale);
/* With W bf16 as it lies. */
void dlm_linear_plain_bf16(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                           enum dlm_dtype y_type, float scale);
void dlm_linear_plain_bf16_dx(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                              enum dlm_dtype dx_type, float scale);

#if DLM_ONEDNN
/* The engine of one device; false, and the device failed, when oneDNN gives none. */
bool dlm_gemm_open(struct dlm_device *);
void dlm_gemm_close(struct dlm_device *);
/* "oneDNN 2.6.3" */
void dlm_gemm_describe(char *to, size_t size);

size_t dlm_linear_onednn_pack_size(struct dlm_device *, size_t O, size_t I, enum dlm_dtype act);
void dlm_linear_onednn_pack(struct dlm_device *, dlm_ptr pack, dlm_ptr w, size_t O, size_t I, enum dlm_dtype act);
void dlm_linear_onednn(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                       enum dlm_dtype y_type, float scale);
void dlm_linear_onednn_dx(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I,
                          enum dlm_dtype act, enum dlm_dtype dx_type, float scale);
void dlm_linear_onednn_dw(struct dlm_device *, dlm_ptr dw, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I,
                          enum dlm_dtype act, float scale);
void dlm_linear_onednn_bf16(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                            enum dlm_dtype y_type, float scale);
void dlm_linear_onednn_bf16_dx(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr w, size_t T, size_t O, size_t I,
                               enum dlm_dtype act, enum dlm_dtype dx_type, float scale);
#endif

#endif
