/* What this build is: version, compiler, flags. Printed by --version and written into every checkpoint's state. */
#ifndef DLM_BASE_BUILD_H
#define DLM_BASE_BUILD_H

/* "0.1.0" */
const char *dlm_build_version(void);
/* "gcc 12.2.0, -O2 -march=native …" */
const char *dlm_build_flags(void);

/* The cores this process may use: affinity mask and, where one is set, the control group's quota rounded up. */
int dlm_build_cores(void);

#endif
