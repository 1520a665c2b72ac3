/* A shard set, opened, read by sequence, and verified.
 *
 * Each shard's index is small and its file descriptor scarce, so a bounded number of shards is open at a time, the longest unused
 * giving way. What opening cannot tell without reading everything (that a shard is the file whose checksum the manifest has) is
 * what dlm_shards_verify is for; every frame that is read is checked against its hash either way.
 */
#include "token/shards.h"

#include "base/stop.h"
#include "token/manifest.h"
#include "token/stream.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    OPEN_SHARDS = 32,
    CHUNK_BYTES = 256 << 10,
    MANIFEST_MAX = 1 << 30
};

struct slot {
    struct dlm_stream_index *index; /* NULL: free */
    size_t row;
    uint64_t used;
};

struct dlm_shards {
    char *dir;
    char *text; /* manifest.tsv */
    size_t text_len;
    uint64_t hash;
    struct dlm_manifest manifest;
    struct dlm_vocab *vocab;
    size_t seq_len;
    uint64_t sequences[2], bytes[2];
    uint64_t *first;    /* (rows): number in its split of a row's first sequence */
    size_t split_at[3]; /* rows of split k are split_at[k] … split_at[k+1]-1 */
    struct slot slots[OPEN_SHARDS];
    uint64_t clock;
    /* The last frame read. */
    uint32_t *frame;
    size_t frame_room, frame_n;
    size_t frame_row;
    uint64_t frame_first;
    uint64_t frames; /* read so far */
};

static char *path_of(const struct dlm_shards *s, const char *file)
{
    char *path;
    return asprintf(&path, "%s/%s", s->dir, file) < 0 ? NULL : path;
}

/* The whole of a regular file of at most `max` bytes; *bytes is malloc'ed, a NUL follows it. */
static int read_file(const char *path, size_t max, char **bytes, size_t *len, struct dlm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    char *b = NULL;
    size_t n = 0, room = 0;
    for (;;) {
        if (room - n < 2) {
            size_t more = room ? 2 * room : 4096;
            char *p = realloc(b, more);
            if (!p) {
                rc = dlm_fail(err, DLM_ENOMEM, "out of memory reading '%s'", path);
                break;
            }
            b = p;
            room = more;
        }
        ssize_t got = read(fd, b + n, room - n - 1);
        if (got < 0 && errno == EINTR && !dlm_stop_signal())
            continue;
        if (got < 0)
            rc = dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
        else if ((n += (size_t)got) > max)
            rc = dlm_fail(err, DLM_EDATA, "'%s' is too large", path);
        if (rc || !got)
            break;
    }
    close(fd);
    if (rc) {
        free(b);
        return rc;
    }
    b[n] = 0;
    *bytes = b;
    *len = n;
    return 0;
}

/* The manifest says `what` is `want`, the file says it is `got`. */
static int differs(const char *path, const char *what, uint64_t want, uint64_t got, struct dlm_error *err)
{
    return dlm_fail(err, DLM_EDATA, "'%s' contradicts the manifest: %s is %" PRIu64 " there and %" PRIu64 " here", path, what, want, got);
}

static int check_shard(struct dlm_shards *s, const struct dlm_manifest_row *r, const char *path, const struct dlm_stream_index *x,
                       struct dlm_error *err)
{
    const struct dlm_stream_info *i = dlm_stream_index_info(x);
    struct dlm_stream_totals t = dlm_stream_index_totals(x);
    struct dlm_specials special = dlm_vocab_specials(s->vocab);
    if (i->fingerprint != dlm_vocab_fingerprint(s->vocab))
        return dlm_fail(err, DLM_EDATA, "'%s' has another vocabulary than '%s/tokenizer.json': fingerprints %016" PRIx64 " and %016" PRIx64,
                        path, s->dir, i->fingerprint, dlm_vocab_fingerprint(s->vocab));
    if (i->vocab_size != dlm_vocab_size(s->vocab) || memcmp(&i->specials, &special, sizeof special))
        return dlm_fail(err, DLM_EDATA, "'%s' is corrupt at offset 0: its head contradicts the vocabulary", path);
    if (!i->split)
        return dlm_fail(err, DLM_EDATA, "'%s' is a token stream, but no shard", path);
    if (i->split != r->split + 1 || i->part != r->number) {
        char name[DLM_MANIFEST_NAME_MAX];
        dlm_manifest_file(name, i->split - 1, i->part);
        return dlm_fail(err, DLM_EDATA, "'%s' contradicts the manifest: it is shard '%s'", path, name);
    }
    if (!s->seq_len)
        s->seq_len = i->seq_len;
    if (i->seq_len != s->seq_len)
        return dlm_fail(err, DLM_EDATA, "'%s' has sequences of %u tokens, the shards before it of %zu", path, i->seq_len, s->seq_len);
    if (t.tokens != r->tokens)
        return differs(path, "tokens", r->tokens, t.tokens, err);
    if (t.tokens % s->seq_len)
        return dlm_fail(err, DLM_EDATA, "'%s' is corrupt at offset 0: it does not hold whole sequences", path);
    if (t.tokens / s->seq_len != r->sequences || !r->sequences)
        return differs(path, "sequences", r->sequences, t.tokens / s->seq_len, err);
    if (t.bytes != r->bytes)
        return differs(path, "bytes", r->bytes, t.bytes, err);
    for (uint64_t id = 0; id < t.tokens;) {
        uint64_t first;
        size_t n;
        dlm_stream_index_find(x, id, &first, &n);
        if (n % s->seq_len)
            return dlm_fail(err, DLM_EDATA, "'%s' is corrupt at offset 0: a frame does not hold whole sequences", path);
        id = first + n;
    }
    return 0;
}

/* The index of a row's shard, opened and checked where it is not open. */
static int open_row(struct dlm_shards *s, size_t row, struct dlm_stream_index **x, struct dlm_error *err)
{
    struct slot *oldest = &s->slots[0];
    for (size_t i = 0; i < OPEN_SHARDS; i++) {
        struct slot *k = &s->slots[i];
        if (k->index && k->row == row) {
            k->used = ++s->clock;
            *x = k->index;
            return 0;
        }
        if (!k->index || (oldest->index && k->used < oldest->used))
            oldest = k;
    }
    const struct dlm_manifest_row *r = &s->manifest.rows[row];
    char name[DLM_MANIFEST_NAME_MAX];
    dlm_manifest_file(name, r->split, r->number);
    char *path = path_of(s, name);
    if (!path)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    int rc = dlm_stream_index_open(x, path, err);
    if (!rc && (rc = check_shard(s, r, path, *x, err)))
        dlm_stream_index_close(*x);
    free(path);
    if (rc)
        return rc;
    dlm_stream_index_close(oldest->index);
    *oldest = (struct slot){*x, row, ++s->clock};
    return 0;
}

/* A shard that the manifest does not name is a sign that rows were lost. */
static int check_strangers(struct dlm_shards *s, struct dlm_error *err)
{
    DIR *d = opendir(s->dir);
    if (!d)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", s->dir);
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        unsigned long number;
        int split = !strncmp(e->d_name, "val-", 4);
        char name[DLM_MANIFEST_NAME_MAX], *end;
        if (!split && strncmp(e->d_name, "train-", 6))
            continue;
        errno = 0;
        number = strtoul(e->d_name + (split ? 4 : 6), &end, 10);
        if (errno || number > UINT32_MAX)
            continue;
        dlm_manifest_file(name, split, (uint32_t)number);
        if (!strcmp(name, e->d_name) && number >= s->split_at[split + 1] - s->split_at[split])
            rc = dlm_fail(err, DLM_EDATA, "'%s/%s' is a shard that the manifest does not name", s->dir, name);
    }
    closedir(d);
    return rc;
}

static int load(struct dlm_shards *s, struct dlm_error *err)
{
    char *path = path_of(s, "manifest.tsv");
    if (!path)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    int rc = read_file(path, MANIFEST_MAX, &s->text, &s->text_len, err);
    if (!rc)
        rc = dlm_manifest_parse(&s->manifest, s->text, s->text_len, path, err);
    free(path);
    if (rc)
        return rc;
    s->hash = XXH64(s->text, s->text_len, 0);
    path = path_of(s, "tokenizer.json");
    if (!path)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    rc = dlm_vocab_load(&s->vocab, path, err);
    free(path);
    if (rc)
        return rc;
    size_t n = s->manifest.n;
    s->first = malloc(n * sizeof *s->first);
    if (!s->first)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    s->split_at[1] = s->split_at[2] = n;
    for (size_t i = 0; i < n; i++) {
        const struct dlm_manifest_row *r = &s->manifest.rows[i];
        struct dlm_stream_index *x;
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        rc = open_row(s, i, &x, err); /* sequences and bytes are then those of a file, so their sums cannot overflow */
        if (rc)
            return rc;
        if (r->split && i < s->split_at[1])
            s->split_at[1] = i;
        s->first[i] = s->sequences[r->split];
        s->sequences[r->split] += r->sequences;
        s->bytes[r->split] += r->bytes;
    }
    return check_strangers(s, err);
}

int dlm_shards_open(struct dlm_shards **out, const char *dir, struct dlm_error *err)
{
    *out = NULL;
    struct stat st;
    if (stat(dir, &st))
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", dir);
    if (!S_ISDIR(st.st_mode))
        return dlm_fail(err, DLM_EDATA, "'%s' is not a shard set: not a directory", dir);
    struct dlm_shards *s = calloc(1, sizeof *s);
    if (!s)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    s->frame_row = SIZE_MAX;
    s->dir = strdup(dir);
    size_t len = s->dir ? strlen(dir) : 0;
    while (len > 1 && s->dir[len - 1] == '/')
        s->dir[--len] = 0;
    int rc = s->dir ? load(s, err) : dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (rc) {
        dlm_shards_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void dlm_shards_close(struct dlm_shards *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < OPEN_SHARDS; i++)
        dlm_stream_index_close(s->slots[i].index);
    dlm_manifest_release(&s->manifest);
    dlm_vocab_free(s->vocab);
    free(s->first);
    free(s->frame);
    free(s->text);
    free(s->dir);
    free(s);
}

size_t dlm_shards_seq_len(const struct dlm_shards *s)
{
    return s->seq_len;
}

uint64_t dlm_shards_sequences(const struct dlm_shards *s, enum dlm_shards_split split)
{
    return s->sequences[split];
}

uint64_t dlm_shards_bytes(const struct dlm_shards *s, enum dlm_shards_split split)
{
    return s->bytes[split];
}

const struct dlm_vocab *dlm_shards_vocab(const struct dlm_shards *s)
{
    return s->vocab;
}

const char *dlm_shards_manifest(const struct dlm_shards *s, size_t *len)
{
    *len = s->text_len;
    return s->text;
}

uint64_t dlm_shards_hash(const struct dlm_shards *s)
{
    return s->hash;
}

int dlm_shards_read(struct dlm_shards *s, enum dlm_shards_split split, uint64_t index, uint32_t *ids, struct dlm_error *err)
{
    assert(index < s->sequences[split]);
    size_t lo = s->split_at[split], hi = s->split_at[split + 1]; /* first[lo] ≤ index < first[hi] */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->first[mid] <= index)
            lo = mid;
        else
            hi = mid;
    }
    uint64_t at = (index - s->first[lo]) * s->seq_len;
    if (s->frame_row != lo || at < s->frame_first || at >= s->frame_first + s->frame_n) {
        struct dlm_stream_index *x;
        uint64_t first;
        size_t n;
        int rc = open_row(s, lo, &x, err);
        if (rc)
            return rc;
        uint64_t frame = dlm_stream_index_find(x, at, &first, &n);
        s->frame_row = SIZE_MAX; /* until it has been read */
        if (n > s->frame_room) {
            free(s->frame);
            s->frame_room = 0;
            s->frame = malloc(n * sizeof *s->frame);
            if (!s->frame)
                return dlm_fail(err, DLM_ENOMEM, "out of memory");
            s->frame_room = n;
        }
        s->frames++;
        rc = dlm_stream_index_read(x, frame, s->frame, err);
        if (rc)
            return rc;
        s->frame_row = lo;
        s->frame_first = first;
        s->frame_n = n;
    }
    memcpy(ids, s->frame + (at - s->frame_first), s->seq_len * sizeof *ids);
    return 0;
}

uint64_t dlm_shards_frames(const struct dlm_shards *s)
{
    return s->frames;
}

/* --- verifying ------------------------------------------------------------------------------------------------------------ */

static int hash_file(const char *path, uint64_t *hash, struct dlm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    XXH64_state_t *h = XXH64_createState();
    uint8_t *b = malloc(CHUNK_BYTES);
    if (!h || !b)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    else
        XXH64_reset(h, 0);
    while (!rc) {
        ssize_t got = dlm_stop_signal() ? 0 : read(fd, b, CHUNK_BYTES);
        if (dlm_stop_signal())
            rc = dlm_fail(err, DLM_ESTOPPED, "stopped");
        else if (got < 0 && errno != EINTR)
            rc = dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
        if (rc || !got)
            break;
        if (got > 0)
            XXH64_update(h, b, (size_t)got);
    }
    if (!rc)
        *hash = XXH64_digest(h);
    XXH64_freeState(h);
    free(b);
    close(fd);
    return rc;
}

static int verify_row(struct dlm_shards *s, size_t row, struct dlm_error *err)
{
    const struct dlm_manifest_row *r = &s->manifest.rows[row];
    char name[DLM_MANIFEST_NAME_MAX];
    dlm_manifest_file(name, r->split, r->number);
    char *path = path_of(s, name);
    uint32_t *ids = malloc(CHUNK_BYTES);
    uint64_t hash = 0, bytes = 0, documents = 0;
    struct dlm_specials special = dlm_vocab_specials(s->vocab);
    struct dlm_stream_reader *reader = NULL;
    int rc = path && ids ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (!rc)
        rc = dlm_stream_reader_open(&reader, path, err); /* first, for an error that says where */
    for (size_t got = 1; !rc && got;) {
        rc = dlm_stream_read(reader, ids, CHUNK_BYTES / sizeof *ids, &got, err);
        if (rc)
            break;
        bytes += dlm_vocab_count_bytes(s->vocab, ids, got);
        for (size_t i = 0; i < got; i++)
            documents += ids[i] == special.end;
        if (dlm_stop_signal())
            rc = dlm_fail(err, DLM_ESTOPPED, "stopped");
    }
    if (!rc && bytes != r->bytes)
        rc = dlm_fail(err, DLM_EDATA, "'%s' does not hold the text bytes it says: %" PRIu64 ", not %" PRIu64, path, bytes, r->bytes);
    if (!rc && documents != dlm_stream_reader_totals(reader).documents)
        rc = dlm_fail(err, DLM_EDATA, "'%s' does not hold the documents it says: %" PRIu64 ", not %" PRIu64, path, documents,
                      dlm_stream_reader_totals(reader).documents);
    dlm_stream_reader_close(reader);
    if (!rc)
        rc = hash_file(path, &hash, err);
    if (!rc && hash != r->checksum)
        rc = dlm_fail(err, DLM_EDATA, "'%s' contradicts the manifest: checksum is %016" PRIx64 " there and %016" PRIx64 " here", path,
                      r->checksum, hash);
    free(ids);
    free(path);
    return rc;
}

int dlm_shards_verify(const char *dir, struct dlm_error *err)
{
    struct dlm_shards *s;
    int rc = dlm_shards_open(&s, dir, err);
    for (size_t i = 0; !rc && i < s->manifest.n; i++)
        rc = verify_row(s, i, err);
    dlm_shards_close(s);
    return rc;
}
