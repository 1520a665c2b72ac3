/* What this build is: version, compiler, flags. Printed by --version and written into every checkpoint's state. */
#ifndef DLM_BASE_BUILD_H
#define DLM_BASE_BUILD_H

#include <stdint.h>

/* "0.1.0" */
const char *dlm_build_version(void);
/* "gcc 12.2.0, -O2 -march=native …" */
const char *dlm_build_flags(void);

/* The cores this process may use: affinity mask and, where one is set, the control group's quota rounded up. */
int dlm_build_cores(void);
/* Bytes of memory that are free for this process: what the kernel calls available, and no more than the control group leaves. UINT64_MAX: unknown. */
uint64_t dlm_build_memory(void);

#endif
