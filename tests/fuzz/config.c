/* config.json of a checkpoint. */
#include "fuzz.h"
#include "model/config.h"

static void one(const uint8_t *bytes, size_t n)
{
    struct dlm_config c;
    struct dlm_error err = {{0}};
    must_say(dlm_config_read(&c, as_file(bytes, n), &err), &err);
}

static uint8_t *seeds(int i, size_t *n)
{
    struct dlm_config c;
    if (i > 1)
        return NULL;
    dlm_config_default(&c, 64, 2, 2, 0, 300, 128);
    c.mask = 3;
    c.end = 1;
    c.causal = i;
    char *s = dlm_config_format(&c, "float32");
    *n = s ? strlen(s) : 0;
    return (uint8_t *)s;
}
