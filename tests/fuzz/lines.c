/* JSON Lines that a model answers, one object after the other: what is read is answered, and the answer is an object again. */
#include "fuzz.h"
#include "run/jsonlines.h"

static void one(const uint8_t *bytes, size_t n)
{
    static const char *const added[] = {"text", "score", NULL};
    struct dlm_lines l;
    struct dlm_error err = {{0}};
    int rc = dlm_lines_open(&l, as_file(bytes, n), &err);
    must_say(rc, &err);
    if (rc)
        return;
    while ((rc = dlm_lines_next(&l, &err)) > 0) {
        size_t others = json_object_size(l.object) - (json_object_get(l.object, "text") != NULL) - (json_object_get(l.object, "score") != NULL);
        if (!others)
            continue;
        char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);
        if (!f)
            exit(2);
        rc = dlm_lines_answer(&l, added, f, &err);
        must_say(rc, &err);
        if (!rc)
            fputs(", \"score\": 1}", f);
        fclose(f);
        json_t *again = rc ? NULL : json_loadb(text, len, JSON_ALLOW_NUL, NULL);
        if (!rc && !json_is_object(again))
            abort();
        json_decref(again);
        free(text);
        if (rc)
            break;
    }
    must_say(rc < 0 ? rc : 0, &err);
    dlm_lines_close(&l);
}

static uint8_t *seeds(int i, size_t *n)
{
    return i ? NULL : text_seed("{\"id\": 1, \"text\": \"one\"}\n\n{\"score\":[1,2],\"a\":{\"text\":\"}\"} , \"\\u0062\": 1e3}\r\n{\"text\":1,\"text\\n\":2}", n);
}
