/* A text as it comes out of the noise. The picture is put together in memory and written at once, so that it does not flicker. */
#include "run/watch.h"

#include "base/progress.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

struct picture {
    FILE *to;
    unsigned rows, columns, row, column; /* of the terminal, of the pen */
    bool full;
};

static void end_line(struct picture *p)
{
    p->full = p->full || p->row + 1 >= p->rows;
    if (p->full)
        return;
    fputs("\033[K\r\n", p->to);
    p->row++;
    p->column = 0;
}

/* `width` columns of text that is n bytes. */
static void put(struct picture *p, const char *s, size_t n, unsigned width)
{
    if (p->column + width > p->columns)
        end_line(p);
    if (p->full)
        return;
    fwrite(s, 1, n, p->to);
    p->column += width;
}

static void put_text(struct picture *p, const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n && !p->full;) {
        size_t len = dlm_utf8_char(s + i, n - i);
        utf8proc_int32_t c = 0xfffd;
        if (len)
            utf8proc_iterate(s + i, (utf8proc_ssize_t)len, &c);
        int width = len ? utf8proc_charwidth(c) : 1;
        if (c == '\n')
            end_line(p);
        else if (c == '\t')
            put(p, " ", 1, 1);
        else if (!len)
            put(p, "\xef\xbf\xbd", 3, 1);
        else if (c >= 0x20 && c != 0x7f && utf8proc_category(c) != UTF8PROC_CATEGORY_CC)
            put(p, (const char *)s + i, len, width > 0 ? (unsigned)width : 0);
        i += len ? len : 1;
    }
}

/* Text as part of a line: what would end or move it is a space. */
static void put_plain(FILE *to, const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = dlm_utf8_char(s + i, n - i);
        utf8proc_int32_t c = 0xfffd;
        if (len)
            utf8proc_iterate(s + i, (utf8proc_ssize_t)len, &c);
        utf8proc_category_t kind = utf8proc_category(c);
        if (!len)
            fputs("\xef\xbf\xbd", to);
        else if (kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_ZL || kind == UTF8PROC_CATEGORY_ZP)
            fputc(' ', to);
        else
            fwrite(s + i, 1, len, to);
        i += len ? len : 1;
    }
}

void dlm_watch_line(FILE *to, const struct dlm_vocab *v, uint32_t mask, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n;) {
        const char *name = ids[i] < dlm_vocab_size(v) ? dlm_vocab_special_text(v, ids[i]) : "?";
        if (ids[i] == mask || name) {
            fputs(ids[i] == mask ? "\xe2\x96\x91" : name, to);
            i++;
            continue;
        }
        /* A character may be spread over several ids. */
        char *text = NULL;
        size_t len = 0;
        FILE *run = open_memstream(&text, &len);
        for (; i < n && ids[i] != mask && ids[i] < dlm_vocab_size(v) && !dlm_vocab_special_text(v, ids[i]); i++) {
            size_t bytes;
            const uint8_t *s = dlm_vocab_bytes(v, ids[i], &bytes);
            if (run)
                fwrite(s, 1, bytes, run);
        }
        if (run && fclose(run) == 0)
            put_plain(to, (const uint8_t *)text, len);
        free(text);
    }
}

void dlm_watch_erase(struct dlm_watch *w)
{
    if (w->lines)
        fprintf(w->terminal, "\r\033[%uA\033[J", w->lines);
    w->lines = 0;
    fflush(w->terminal);
}

void dlm_watch_draw(struct dlm_watch *w, const char *title, const uint32_t *ids, size_t n, bool last)
{
    double now = dlm_progress_now();
    if (!last && w->lines && now - w->drawn < 1.0 / 30)
        return;
    struct winsize size = {0};
    if (ioctl(fileno(w->terminal), TIOCGWINSZ, &size) || !size.ws_row || !size.ws_col)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    char *text = NULL;
    size_t len = 0;
    struct picture p = {.to = open_memstream(&text, &len), .rows = size.ws_row, .columns = size.ws_col};
    if (!p.to)
        return; /* a picture less */
    if (w->lines)
        fprintf(p.to, "\r\033[%uA", w->lines);
    put_text(&p, (const uint8_t *)title, strlen(title));
    end_line(&p);
    for (size_t i = 0; i < n && !p.full; i++) {
        size_t bytes;
        const char *name = ids[i] < dlm_vocab_size(w->vocab) ? dlm_vocab_special_text(w->vocab, ids[i]) : "?";
        if (ids[i] == w->mask)
            put(&p, "\xe2\x96\x91", 3, 1);
        else if (name)
            put_text(&p, (const uint8_t *)name, strlen(name));
        else {
            const uint8_t *s = dlm_vocab_bytes(w->vocab, ids[i], &bytes);
            put_text(&p, s, bytes);
        }
    }
    p.full = false;
    p.rows += p.row + 1 >= p.rows; /* the last line may be closed, whatever is above it */
    end_line(&p);
    fputs("\033[J", p.to);
    if (fclose(p.to) == 0 && text) {
        fwrite(text, 1, len, w->terminal);
        fflush(w->terminal);
        w->lines = p.row;
        w->drawn = now;
    }
    free(text);
}
