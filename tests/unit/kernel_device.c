/* Opening, memory and the sticky failure of the CPU device; and that results do not depend on what ran before. */
#include "kernel_check.h"

int main(void)
{
    check_seed = tap_seed();
    char msg[200] = "";
    K = dlm_kernels_cpu();
    tap_ok(!K->open(1, 2, msg, sizeof msg) && strstr(msg, "1"), "no second cpu: %s", msg);
    tap_ok(!K->open(0, 0, msg, sizeof msg) && strstr(msg, "0 threads"), "not without threads: %s", msg);
    check_open(3);
    tap_ok(strstr(K->describe(D), "cpu, 3 threads") == K->describe(D) && !strcmp(K->name, "cpu"), "it says what it is: %s",
           K->describe(D));
    tap_ok(K->native(D, DLM_F32), "float32 is native");
    printf("# bf16 is %snative\n", K->native(D, DLM_BF16) ? "" : "not ");

    bool aligned = true, zero = true;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 1000003, (size_t)9 << 20};
    dlm_ptr p[8];
    for (int i = 0; i < 8; i++) {
        p[i] = K->alloc(D, sizes[i]);
        aligned = aligned && p[i].at && p[i].at % 64 == 0;
        unsigned char *host = check_memory(sizes[i]);
        memset(host, 1, sizes[i]);
        K->download(D, host, p[i], sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            zero = zero && host[j] == 0;
        memset(host, 7, sizes[i]);
        K->upload(D, p[i], host, sizes[i]);
        free(host);
    }
    tap_ok(aligned && zero, "memory is aligned and zero-filled");
    K->zero(D, p[7], sizes[7]);
    K->copy(D, p[6], p[7], 1000);
    unsigned char *host = check_memory(sizes[7]);
    K->download(D, host, p[7], sizes[7]);
    zero = true;
    for (size_t j = 0; j < sizes[7]; j++)
        zero = zero && host[j] == 0;
    K->download(D, host, p[6], sizes[6]);
    for (size_t j = 0; j < sizes[6]; j++)
        zero = zero && host[j] == (j < 1000 ? 0 : 7);
    tap_ok(zero, "zero and copy touch what they are told to");
    free(host);
    for (int i = 0; i < 8; i++)
        K->free(D, p[i]);
    dlm_ptr none = {0};
    K->free(D, none);
    tap_ok(K->alloc(D, SIZE_MAX).at == 0 && K->alloc(D, SIZE_MAX - 64).at == 0 && K->alloc(D, (size_t)1 << 60).at == 0,
           "memory that is not there is none");

    /* nothing to do is nothing done */
    struct buffer some = put(NULL, 64, DLM_F32);
    K->norm(D, some.at, some.at, some.at, some.at, 0, 4, 1e-6f, DLM_F32);
    K->embed(D, some.at, some.at, some.at, 0, 4);
    K->embed_backward(D, some.at, some.at, some.at, 0, 4, 4);
    K->gather_rows(D, some.at, some.at, some.at, 0, 4, DLM_F32);
    K->diffusion_loss(D, some.at, none, some.at, some.at, some.at, some.at, 0, 4, 3, DLM_F32);
    K->bias_relu2_backward(D, some.at, some.at, some.at, some.at, some.at, 0, 4, DLM_F32);
    dlm_ptr pack = K->alloc(D, K->linear_pack_size(D, 4, 4, DLM_F32));
    K->linear_pack(D, pack, some.at, 4, 4, DLM_F32);
    K->linear(D, some.at, some.at, pack, 0, 4, 4, DLM_F32, DLM_F32, 1);
    K->linear_dw(D, some.at, some.at, some.at, 0, 4, 4, DLM_F32, 1);
    double *still = take(some);
    tap_ok(!K->sync(D) && largest(still, 64) == 0, "no rows, no work");
    K->free(D, pack);
    drop(some);
    free(still);

    /* scratch for this cannot be had; the failure stays, and later calls do nothing */
    struct buffer x = put(NULL, 4, DLM_F32);
    float one = 1;
    K->upload(D, x.at, &one, 4);
    K->attention(D, none, none, none, none, none, 0, none, none, none, DLM_ATTEND_FULL, 1, (size_t)1 << 50, 1, 64, 30, DLM_F32);
    const char *failure = K->sync(D);
    tap_ok(failure && strstr(failure, "out of memory"), "a failure is told by sync: %s", failure ? failure : "(none)");
    K->zero(D, x.at, 4);
    K->sum_squares(D, x.at, 4);
    const char *again = K->sync(D);
    float value;
    memcpy(&value, (void *)(uintptr_t)x.at.at, 4);
    tap_ok(again == failure && value == 1, "and it stays, and later calls do nothing");
    drop(x);
    K->close(D);
    K->close(NULL);
    return tap_end();
}
