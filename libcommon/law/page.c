/* A report as a page; see page.h. */
#include "law/page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void put_escaped(const char *p, FILE *to)
{
    for (; *p; p++)
        if (*p != '\f')
            fprintf(to, *p == '<' ? "&lt;" : *p == '>' ? "&gt;" : *p == '&' ? "&amp;" : "%c", *p);
}

/* The report's text: what is not indented is a title, a heading or, where it is long, a paragraph; the rest stands as it is. */
static int copy_report(const struct dlm_folder *o, FILE *to, struct dlm_error *err)
{
    char *path, *line = NULL;
    size_t room = 0, n = 0;
    bool pre = false, paragraph = false;
    if (asprintf(&path, "%s/report.txt", o->made) < 0)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    FILE *f = fopen(path, "re");
    free(path);
    if (!f)
        return dlm_fail_errno(err, DLM_EIO, "cannot open 'report.txt'");
    for (; getline(&line, &room, f) >= 0; n++) {
        line[strcspn(line, "\n")] = 0;
        const char *text = line + (*line == '\f');
        const bool plain = *text && *text != ' ', goes_on = plain && paragraph;
        if (!*text && !pre)
            continue;
        if (pre && plain)
            fputs("</pre>\n", to);
        if (plain) {
            const char *tag = !n ? "h1" : strlen(text) > 85 || goes_on ? "p" : "h2";
            fprintf(to, "<%s>", tag);
            put_escaped(text, to);
            fprintf(to, "</%s>\n", tag);
            paragraph = *tag == 'p';
        } else {
            if (!pre)
                fputs("<pre>", to);
            put_escaped(text, to);
            fputc('\n', to);
            paragraph = false;
        }
        pre = !plain;
    }
    if (pre)
        fputs("</pre>\n", to);
    free(line);
    fclose(f);
    return 0;
}

/* Copy an SVG of the report without what stands before its root. Its ids get a prefix, since several stand in one page. */
static int copy_figure(const struct dlm_folder *o, const char *name, size_t number, FILE *to, struct dlm_error *err)
{
    static const char *const ids[] = {"id=\"", "url(#", "href=\"#", "href='#", "id='"};
    char *path, *line = NULL;
    size_t room = 0;
    bool begun = false;
    if (asprintf(&path, "%s/%s", o->made, name) < 0)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    FILE *f = fopen(path, "re");
    free(path);
    if (!f)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", name);
    while (getline(&line, &room, f) >= 0) {
        char *p = begun ? line : strstr(line, "<svg");
        begun |= p != NULL;
        while (p && *p) {
            size_t n = 0;
            for (size_t i = 0; i < sizeof ids / sizeof *ids && !n; i++)
                if (!strncmp(p, ids[i], strlen(ids[i])))
                    n = strlen(ids[i]);
            if (n)
                fprintf(to, "%.*sf%zu-", (int)n, p, number);
            else
                fputc(*p, to);
            p += n ? n : 1;
        }
    }
    free(line);
    fclose(f);
    return 0;
}

int dlm_page_write(struct dlm_folder *o, struct dlm_error *err)
{
    struct dlm_output out;
    int rc = dlm_folder_open(o, "report.html", &out, err);
    if (rc)
        return rc;
    errno = 0;
    fputs(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>A scaling "
        "study</title>\n<style>body{max-width:62em;"
        "margin:2em auto;padding:0 1em;font-family:sans-serif;color:#222}h1{font-size:140%}h2{font-size:110%;margin:1.6em 0 .4em}"
        "p{margin:.2em 0}pre{white-space:pre-wrap;font-size:85%;line-height:1.45;margin:.3em 0}"
        "figure{margin:2.5em auto;max-width:46em}figcaption{font-size:90%;margin-top:.4em}svg{width:100%;height:auto}"
        "</style></head><body>\n",
        out.file);
    rc = copy_report(o, out.file, err);
    for (size_t i = 0; i < o->n_figures && !rc; i++) {
        fputs("<figure>", out.file);
        rc = copy_figure(o, o->figures[i].file, i + 1, out.file, err);
        fprintf(out.file, "<figcaption>%s (%s)</figcaption></figure>\n", o->figures[i].title, o->figures[i].tsv);
    }
    fputs("</body></html>\n", out.file);
    if (!rc && ferror(out.file))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write 'report.html'");
    return dlm_folder_close(&out, rc, err);
}
