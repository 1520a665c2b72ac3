/* Notes for the person; see notes.h. */
#include "law/notes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int dlm_notes_add(struct dlm_notes *notes, struct dlm_error *err, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < notes->n; i++)
        if (!strcmp(notes->at[i], text))
            return 0;
    char **more = realloc(notes->at, (notes->n + 1) * sizeof *more);
    if (!more)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    notes->at = more;
    if (!(more[notes->n] = strdup(text)))
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    notes->n++;
    return 0;
}

void dlm_notes_cut(struct dlm_notes *notes, size_t n)
{
    while (notes->n > n)
        free(notes->at[--notes->n]);
}

void dlm_notes_release(struct dlm_notes *notes)
{
    dlm_notes_cut(notes, 0);
    free(notes->at);
    *notes = (struct dlm_notes){0};
}
