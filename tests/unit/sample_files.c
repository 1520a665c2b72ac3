/* What samples begin from and what they are written to: prompts, transcripts. With arguments it is the maker of small
 * checkpoints for sample.bats:
 *
 *     sample_files DIR diffusion|ar NOISE     writes a random network over 264 ids, context 24
 */
#include "base/rng.h"
#include "model/checkpoint.h"
#include "run/prompts.h"
#include "run/restore.h"
#include "run/transcript.h"
#include "tap.h"
#include "text/compose.h"

#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BEGIN, END, PAD, MASK, MERGED = 260, V = 264, CONTEXT = 24 };

static uint32_t byte_id(char c)
{
    return 4u + (uint8_t)c;
}

/* Four special ids, the 256 bytes, and "th", "the", "he", " t". */
static char *vocabulary(void)
{
    static const char *specials[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"};
    static uint8_t bytes[256];
    static struct dlm_token_bytes tokens[V - 4];
    for (int b = 0; b < 256; b++) {
        bytes[b] = (uint8_t)b;
        tokens[b] = (struct dlm_token_bytes){bytes + b, 1};
    }
    static const char *words[] = {"th", "the", "he", " t"};
    for (int i = 0; i < 4; i++)
        tokens[256 + i] = (struct dlm_token_bytes){(const uint8_t *)words[i], strlen(words[i])};
    static const uint32_t merges[][2] = {{'t', 'h'}, {256, 'e'}, {'h', 'e'}, {' ', 't'}};
    struct dlm_vocab_plan p = {.specials = specials, .n_specials = 4, .tokens = tokens, .n_tokens = V - 4, .merges = merges, .n_merges = 4};
    struct dlm_error err = {{0}};
    char *json;
    if (dlm_vocab_compose(&json, &p, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return json;
}

static int make_checkpoint(const char *dir, const char *kind, const char *noise)
{
    struct dlm_error err = {{0}};
    struct dlm_config c;
    struct dlm_layout l;
    struct dlm_curriculum cur;
    dlm_config_default(&c, 16, 2, 2, 32, V, CONTEXT);
    c.causal = !strcmp(kind, "ar");
    if (dlm_curriculum_parse(&cur, noise, &err) || dlm_layout_init(&l, &c, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    c.noise_shift = cur.to.shift;
    if (cur.moves || cur.to.mix || cur.to.slope != 1)
        dlm_curriculum_print(&cur, c.dlm_noise, sizeof c.dlm_noise);
    float *w = calloc(l.total, sizeof *w);
    struct dlm_rng r;
    dlm_rng_init(&r, 1, 1, DLM_RNG_TEST);
    for (size_t i = 0; w && i < l.n; i++)
        for (size_t k = 0; k < l.tensors[i].n; k++)
            w[l.tensors[i].offset + k] = (float)(dlm_rng_normal(&r) * (l.tensors[i].kind == DLM_TENSOR_HEAD ? 0.012 : 0.5));
    char *json = vocabulary();
    struct dlm_checkpoint_write cw = {.config = &c, .layout = &l, .weights = w, .tokenizer = json, .tokenizer_len = strlen(json)};
    int rc = w ? dlm_checkpoint_save(dir, &cw, &err) : 1;
    if (rc)
        fprintf(stderr, "%s\n", err.msg);
    free(json);
    free(w);
    dlm_layout_release(&l);
    return rc != 0;
}

static struct dlm_vocab *vocab(void)
{
    struct dlm_error err = {{0}};
    struct dlm_vocab *v;
    char *json = vocabulary();
    if (dlm_vocab_parse(&v, json, strlen(json), "test", &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    free(json);
    return v;
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(text, 1, strlen(text), f) != strlen(text) || fclose(f))
        exit(1);
}

static void prompts(const struct dlm_vocab *v, const char *dir)
{
    struct dlm_error err = {{0}};
    struct dlm_prompts p = {0};
    bool good = !dlm_prompts_add(&p, v, "the a", 5, 10, &err) && p.n == 1 && p.at[0].n == 3 && p.at[0].ids[0] == MERGED + 1 &&
                p.at[0].ids[1] == byte_id(' ') && p.at[0].ids[2] == byte_id('a');
    tap_ok(good, "a prompt's ids are the encoder's, without an end id");
    int rc = dlm_prompts_add(&p, v, "abcdef", 6, 5, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, "6 tokens") && strstr(err.msg, "5"), "a prompt that is too long says by how much: %s", err.msg);
    dlm_prompts_release(&p);

    char path[4200];
    snprintf(path, sizeof path, "%s/p.jsonl", dir);
    write_file(path, "{\"q\":\"one\",\"x\":1}\n\n  \n{\"q\":\"\"}\r\n{\"q\":\"a\\u0000b\"}");
    rc = dlm_prompts_read(&p, v, path, "q", 10, &err);
    tap_ok(!rc && p.n == 3 && p.at[0].len == 3 && p.at[1].n == 0 && p.at[2].len == 3 && p.at[2].n == 3 && !strcmp(p.at[0].text, "one"),
           "JSON Lines: empty texts, NULs, blank lines, a last line without its end");
    dlm_prompts_release(&p);

    static const struct {
        const char *text, *want;
    } bad[] = {
        {"{\"q\":\"a\"}\n{\"q\":\"b\"\n", ":2: not JSON"},
        {"{\"q\":\"a\"} x\n", ":1: not JSON"},
        {"{\"q\":\"\xff\"}\n", ":1: not JSON"},
        {"\n[1]\n", ":2: not a JSON object"},
        {"{\"r\":\"a\"}\n", ":1: the object has no field 'q'"},
        {"{\"q\":\"a\"}\n{\"q\":3}\n", ":2: the field 'q' is no string"},
        {"{\"q\":\"abcdefghijk\"}\n", ":1: the prompt has 11 tokens"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(path, bad[i].text);
        rc = dlm_prompts_read(&p, v, path, "q", 10, &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, bad[i].want) && strstr(err.msg, path) == err.msg, "%s", bad[i].want);
        dlm_prompts_release(&p);
    }
    snprintf(path, sizeof path, "%s/absent", dir);
    tap_ok(dlm_prompts_read(&p, v, path, "q", 10, &err) == DLM_EIO && strstr(err.msg, path), "an absent file is named");
    tap_ok(dlm_prompts_read(&p, v, dir, "q", 10, &err) == DLM_EIO && strstr(err.msg, dir), "a directory is no file");
    dlm_prompts_release(&p);
}

static const uint32_t first_text[] = {MERGED + 1, PAD, 4 + 'x', END, 4 + 'y'}, second_text[] = {4 + 0xC3, 4 + 0xA9, 4 + 0xFF, 4 + '"', 4 + '\n', 4 + 1};

/* Both texts in a format; the bytes written. The first one's prompt holds its first id. */
static char *written(const struct dlm_vocab *v, enum dlm_transcript_format format, size_t *len)
{
    char *bytes = NULL;
    FILE *f = open_memstream(&bytes, len);
    struct dlm_error err = {{0}};
    struct dlm_transcript t;
    uint32_t id = MERGED + 1;
    struct dlm_prompt p = {.text = (char *)(uintptr_t)"the", .len = 3, .ids = &id, .n = 1};
    int rc = !f || dlm_transcript_open(&t, f, "memory", format, v, 42, &err) || dlm_transcript_add(&t, 0, first_text, 5, &p, &err) ||
             dlm_transcript_add(&t, 7, second_text, 6, NULL, &err) || dlm_transcript_finish(&t, &err);
    if (rc || fclose(f)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    dlm_transcript_release(&t);
    return bytes;
}

static void transcripts(const struct dlm_vocab *v, const char *dir)
{
    size_t len;
    char *bytes = written(v, DLM_TRANSCRIPT_TEXT, &len);
    static const char want[] = "thex\n\xC3\xA9\xFF\"\n\x01\n";
    tap_ok(len == sizeof want - 1 && !memcmp(bytes, want, len), "text: up to the end id, special ids are nothing, bytes as they are");
    free(bytes);

    bytes = written(v, DLM_TRANSCRIPT_JSONL, &len);
    char *second = strchr(bytes, '\n') + 1;
    json_t *a = json_loadb(bytes, (size_t)(second - bytes), 0, NULL), *b = json_loads(second, 0, NULL);
    bool good = a && b && !strcmp(json_string_value(json_object_get(a, "text")), "thex") && !strcmp(json_string_value(json_object_get(a, "prompt")), "the") &&
                json_array_size(json_object_get(a, "ids")) == 3 && json_integer_value(json_object_get(a, "seed")) == 42 &&
                json_integer_value(json_object_get(a, "index")) == 0 && json_integer_value(json_object_get(b, "index")) == 7 &&
                json_integer_value(json_array_get(json_object_get(b, "ids"), 2)) == 4 + 0xFF &&
                !strcmp(json_string_value(json_object_get(b, "text")), "\xC3\xA9\xEF\xBF\xBD\"\n\x01") &&
                !strcmp(json_string_value(json_object_get(b, "prompt")), "");
    tap_ok(good, "jsonl: valid JSON whatever the bytes, with prompt, ids, seed and index");
    json_decref(a);
    json_decref(b);
    free(bytes);

    bytes = written(v, DLM_TRANSCRIPT_TOKENS, &len);
    char path[4200];
    snprintf(path, sizeof path, "%s/s.tok.zst", dir);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, len, f) != len || fclose(f))
        exit(1);
    free(bytes);
    struct dlm_error err = {{0}};
    struct dlm_stream_reader *r;
    uint32_t ids[64], expected[] = {MERGED + 1, PAD, 4 + 'x', END, 4 + 0xC3, 4 + 0xA9, 4 + 0xFF, 4 + '"', 4 + '\n', 4 + 1, END};
    size_t got = 0, n = 0;
    int rc = dlm_stream_reader_open(&r, path, &err);
    do {
        rc = rc ? rc : dlm_stream_read(r, ids + n, 64 - n, &got, &err);
        n += rc ? 0 : got;
    } while (!rc && got && n < 64);
    tap_ok(!rc && n == 11 && !memcmp(ids, expected, sizeof expected) && dlm_stream_reader_totals(r).documents == 2,
           "tokens: a stream of documents, each ended by the end id %s", err.msg);
    if (!rc)
        dlm_stream_reader_close(r);
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return make_checkpoint(argv[1], argv[2], argv[3]);
    char dir[] = "/tmp/dlm-sample-XXXXXX", command[64];
    if (!mkdtemp(dir))
        return 1;
    struct dlm_vocab *v = vocab();
    prompts(v, dir);
    transcripts(v, dir);
    dlm_vocab_free(v);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    tap_ok(system(command) == 0, "clean up");
    return tap_end();
}
