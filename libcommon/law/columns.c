/* What tables of results share; see columns.h. */
#include "law/columns.h"

#include <math.h>
#include <string.h>

void dlm_columns_names(FILE *f, const char *by)
{
    for (const char *p = by; *p; p++)
        fputc(*p == ',' ? '\t' : *p, f);
    if (*by)
        fputc('\t', f);
}

void dlm_columns_group(FILE *f, const char *by, const char *group)
{
    if (!*by)
        return;
    size_t left = 1;
    for (const char *p = by; *p; p++)
        left += *p == ',';
    for (const char *p = group; *p; p++) {
        bool cut = *p == '/' && left > 1;
        fputc(cut ? '\t' : *p, f);
        left -= cut;
    }
    for (; left > 1; left--) /* a name made of fewer values, as `pooled` is */
        fputs("\tNA", f);
    fputc('\t', f);
}

bool dlm_columns_has(const char *by, const char *name)
{
    const size_t n = strlen(name);
    for (const char *p = by; *p; p += strcspn(p, ","), p += *p == ',')
        if (!strncmp(p, name, n) && (p[n] == ',' || !p[n]))
            return true;
    return false;
}

void dlm_columns_number(FILE *f, double v, int digits)
{
    if (isfinite(v))
        fprintf(f, "\t%.*g", digits, v);
    else
        fputs("\tNA", f);
}
