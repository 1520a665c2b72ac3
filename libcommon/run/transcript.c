/* Finished samples written out. */
#include "run/transcript.h"

#include "text/utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int dlm_transcript_open(struct dlm_transcript *t, FILE *file, const char *name, enum dlm_transcript_format format, const struct dlm_vocab *v,
                        uint64_t seed, struct dlm_error *err)
{
    *t = (struct dlm_transcript){.file = file, .format = format, .vocab = v, .seed = seed};
    if (format != DLM_TRANSCRIPT_TOKENS)
        return 0;
    struct dlm_stream_info info = dlm_stream_info_of(v);
    return dlm_stream_writer_new(&t->stream, file, name, &info, 3, 1, 0, err);
}

void dlm_transcript_release(struct dlm_transcript *t)
{
    dlm_stream_writer_free(t->stream);
    *t = (struct dlm_transcript){0};
}

int dlm_transcript_finish(struct dlm_transcript *t, struct dlm_error *err)
{
    return t->stream ? dlm_stream_finish(t->stream, err) : 0;
}

/* The bytes of the ids, malloc'ed. A model may have more ids than its vocabulary: those stand for nothing. */
static char *decode(const struct dlm_vocab *v, const uint32_t *ids, size_t n, size_t *len)
{
    size_t total = 0, some;
    uint32_t size = dlm_vocab_size(v);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < size) {
            dlm_vocab_bytes(v, ids[i], &some);
            total += some;
        }
    char *text = malloc(total + 1);
    if (!text)
        return NULL;
    *len = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < size) {
            const uint8_t *bytes = dlm_vocab_bytes(v, ids[i], &some);
            if (some)
                memcpy(text + *len, bytes, some);
            *len += some;
        }
    return text;
}

static void put_json(FILE *f, const char *text, size_t len)
{
    putc('"', f);
    for (size_t i = 0; i < len;) {
        const uint8_t *s = (const uint8_t *)text + i;
        size_t n = dlm_utf8_char(s, len - i);
        if (!n)
            fputs("\\ufffd", f);
        else if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if (*s == '\n')
            fputs("\\n", f);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(f, "\\u%04x", *s);
        else
            fwrite(s, 1, n, f);
        i += n ? n : 1;
    }
    putc('"', f);
}

size_t dlm_transcript_end(const struct dlm_vocab *v, const uint32_t *ids, size_t n, size_t prompt)
{
    const uint32_t end = dlm_vocab_specials(v).end;
    while (prompt < n && ids[prompt] != end)
        prompt++;
    return prompt;
}

int dlm_transcript_add(struct dlm_transcript *t, uint64_t index, const uint32_t *ids, size_t n, const struct dlm_prompt *prompt,
                       struct dlm_error *err)
{
    uint32_t end = dlm_vocab_specials(t->vocab).end;
    size_t stop = dlm_transcript_end(t->vocab, ids, n, prompt ? prompt->n : 0);
    if (t->format == DLM_TRANSCRIPT_TOKENS) {
        int rc = dlm_stream_write(t->stream, ids, stop, err);
        if (!rc && end != DLM_NO_ID)
            rc = dlm_stream_write(t->stream, &end, 1, err);
        dlm_stream_count_documents(t->stream, 1);
        return rc;
    }
    size_t len;
    char *text = decode(t->vocab, ids, stop, &len);
    if (!text)
        return dlm_fail(err, DLM_ENOMEM, "no memory for a text of %zu tokens", stop);
    if (t->format == DLM_TRANSCRIPT_TEXT) {
        fwrite(text, 1, len, t->file);
        putc('\n', t->file);
    } else {
        fputs("{\"text\":", t->file);
        put_json(t->file, text, len);
        fputs(",\"prompt\":", t->file);
        put_json(t->file, prompt ? prompt->text : "", prompt ? prompt->len : 0);
        fputs(",\"ids\":[", t->file);
        for (size_t i = 0; i < stop; i++)
            fprintf(t->file, i ? ",%" PRIu32 : "%" PRIu32, ids[i]);
        fprintf(t->file, "],\"seed\":%" PRIu64 ",\"index\":%" PRIu64 "}\n", t->seed, index);
    }
    free(text);
    return 0;
}
