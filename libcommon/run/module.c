/* Finding and loading a module. */
#include "run/module.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *dlm_module_open(const char *name, bool global, bool *absent, char *why, size_t why_size)
{
    static const char *const beside[] = {"../lib/dlm", "lib/dlm"};
    const char *dir = getenv("DLM_LIBDIR");
    char self[4096], path[4300];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? (self[n] = 0, strrchr(self, '/')) : NULL;
    if (slash)
        *slash = 0;
    *absent = true;
    snprintf(why, why_size, "there is none beside the program, nor in DLM_LIBDIR");
    for (int i = 0; i < (dir ? 1 : slash ? 2 : 0); i++) {
        if (dir)
            snprintf(path, sizeof path, "%s/%s", dir, name);
        else
            snprintf(path, sizeof path, "%s/%s/%s", self, beside[i], name);
        if (access(path, F_OK))
            continue;
        *absent = false;
        void *m = dlopen(path, RTLD_NOW | (global ? RTLD_GLOBAL : RTLD_LOCAL));
        if (!m)
            snprintf(why, why_size, "%s", dlerror());
        return m;
    }
    return NULL;
}
