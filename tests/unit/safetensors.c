/* safetensors: what is written reads back; every kind of lying header is refused. */
#include "model/safetensors.h"
#include "tap.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/dlm-safetensors-XXXXXX";
static char path[64];

static void put(const void *header, uint64_t claimed, size_t header_len, size_t data_len)
{
    FILE *f = fopen(path, "w");
    if (!f)
        abort();
    fwrite(&claimed, 8, 1, f);
    fwrite(header, 1, header_len, f);
    for (size_t i = 0; i < data_len; i++)
        putc((int)(i & 0x3f), f);
    if (fclose(f))
        abort();
}

static int open_text(const char *header, size_t data_len, struct dlm_st_file *f, struct dlm_error *err)
{
    put(header, strlen(header), strlen(header), data_len);
    *err = (struct dlm_error){""};
    return dlm_st_open(f, path, err);
}

static void refuse(const char *what, const char *header, size_t data_len)
{
    struct dlm_st_file f;
    struct dlm_error err;
    int rc = open_text(header, data_len, &f, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, path) && f.fd < 0 && !f.entries, "%s: %s", what, err.msg);
    if (!rc)
        dlm_st_close(&f);
}

static void test_hostile(void)
{
    struct dlm_st_file f;
    struct dlm_error err;
#define ONE(dtype, shape, offsets) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    tap_ok(!open_text(ONE("F32", "[2,3]", "[0,24]"), 24, &f, &err), "the plain case is read: %s", err.msg);
    dlm_st_close(&f);
    tap_ok(!open_text(ONE("F32", "[]", "[0,4]"), 4, &f, &err) && f.entries[0].rank == 0 && f.entries[0].n == 1, "so is a scalar: %s", err.msg);
    dlm_st_close(&f);
    tap_ok(!open_text(ONE("F32", "[7,0]", "[0,0]"), 0, &f, &err) && f.entries[0].n == 0, "and an empty tensor: %s", err.msg);
    dlm_st_close(&f);
    tap_ok(!open_text("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[2,5]},\"z\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]},"
                      "\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}    ", 5, &f, &err),
           "tensors in any order, with padding: %s", err.msg);
    uint8_t byte[3] = {0};
    tap_ok(dlm_st_find(&f, "b") && dlm_st_find(&f, "b")->type == DLM_ST_U8 && !dlm_st_find(&f, "c") && !dlm_st_read(&f, dlm_st_find(&f, "b"), byte, &err) && byte[0] == 2 &&
               byte[2] == 4,
           "each is found by name");
    float to[4];
    tap_ok(dlm_st_read_f32(&f, dlm_st_find(&f, "a"), to, &err) == DLM_EDATA, "half precision is not read as float32: %s", err.msg);
    dlm_st_close(&f);
    tap_ok(!open_text("{}", 0, &f, &err) && !dlm_st_find(&f, "a"), "a file without tensors is read: %s", err.msg);
    dlm_st_close(&f);

    refuse("an end beyond the file", ONE("F32", "[2,3]", "[0,28]"), 24);
    refuse("an end before the begin", ONE("F32", "[2,3]", "[24,0]"), 24);
    refuse("data left over", ONE("F32", "[2,3]", "[0,24]"), 25);
    refuse("data missing", ONE("F32", "[2,3]", "[0,24]"), 23);
    refuse("a gap before", ONE("F32", "[2,3]", "[4,28]"), 28);
    refuse("a shape larger than its range", ONE("F32", "[2,4]", "[0,24]"), 24);
    refuse("a shape smaller than its range", ONE("BF16", "[2,3]", "[0,24]"), 24);
    refuse("a shape whose product wraps to the range", ONE("F32", "[4294967296,4294967296,6]", "[0,24]"), 24);
    refuse("a shape whose bytes wrap to the range", ONE("F64", "[2305843009213693952]", "[0,0]"), 0);
    refuse("a negative dimension", ONE("F32", "[-2,-3]", "[0,24]"), 24);
    refuse("a dimension that is no whole number", ONE("F32", "[2.0,3]", "[0,24]"), 24);
    refuse("a dimension that is text", ONE("F32", "[\"2\",3]", "[0,24]"), 24);
    refuse("a dimension beyond 64 bits", ONE("F32", "[99999999999999999999]", "[0,24]"), 24);
    refuse("nine dimensions", ONE("F32", "[1,1,1,1,1,1,1,2,3]", "[0,24]"), 24);
    refuse("an offset that is no whole number", ONE("F32", "[2,3]", "[0,24.0]"), 24);
    refuse("a negative offset", ONE("F32", "[2,3]", "[-4,20]"), 24);
    refuse("three offsets", ONE("F32", "[2,3]", "[0,24,24]"), 24);
    refuse("an unknown dtype", ONE("F99", "[2,3]", "[0,24]"), 24);
    refuse("a dtype that is a number", "{\"a\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    refuse("an entry without shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4);
    refuse("an entry with something else", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4);
    refuse("an entry that is a list", "{\"a\":[1]}", 4);
    refuse("a name twice", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8);
    refuse("two tensors in one place", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    refuse("two that overlap", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12);
    refuse("a gap between two", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 12);
    refuse("metadata that is no object", "{\"__metadata__\":3}", 0);
    refuse("metadata that holds a number", "{\"__metadata__\":{\"format\":3}}", 0);
    refuse("a list", "[{}]", 0);
    refuse("no JSON", "{\"a\":", 0);
    refuse("something after the object", "{}x", 0);
    refuse("bytes that are not UTF-8", "{\"\xff\":1}", 0);
    refuse("an escaped NUL in a name", "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    refuse("spaces before the object", "  {}", 0);
    refuse("an empty header", "", 8);

    char *deep = malloc(200001); /* must not exhaust the stack */
    memset(deep, '[', 200000);
    memcpy(deep, "{\"a\":", 5);
    deep[200000] = 0;
    refuse("a header nested too deep", deep, 0);
    free(deep);

    static const uint64_t lies[] = {3, 24, 1u << 20, (uint64_t)1 << 40, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        put("{}", lies[i], 2, 0);
        tap_ok(dlm_st_open(&f, path, &err) == DLM_EDATA && strstr(err.msg, path), "a header of %llu bytes in a file of 10: %s",
               (unsigned long long)lies[i], err.msg);
    }
    if (truncate(path, 7))
        abort();
    tap_ok(dlm_st_open(&f, path, &err) == DLM_EDATA, "seven bytes: %s", err.msg);
    if (truncate(path, 0))
        abort();
    tap_ok(dlm_st_open(&f, path, &err) == DLM_EDATA, "an empty file: %s", err.msg);
    tap_ok(dlm_st_open(&f, dir, &err) == DLM_EDATA, "a directory: %s", err.msg);
    tap_ok(dlm_st_open(&f, "/nonexistent/x", &err) == DLM_EIO, "no file: %s", err.msg);
    unlink(path);
    if (mkfifo(path, 0600))
        abort();
    tap_ok(dlm_st_open(&f, path, &err) == DLM_EDATA, "a pipe: %s", err.msg);
    unlink(path);
}

/* Any one byte of the header changed, or the file cut anywhere: refused or read, never worse. */
static void test_mutations(void)
{
    static const float data[12] = {0};
    const size_t s1[] = {2, 3}, s2[] = {6};
    struct dlm_st_item items[] = {{"alpha", DLM_ST_F32, 2, s1, data}, {"beta", DLM_ST_BF16, 1, s2, data}};
    struct dlm_error err;
    if (dlm_st_write(path, items, 2, &err))
        abort();
    int fd = open(path, O_RDWR);
    char byte;
    size_t size = (size_t)lseek(fd, 0, SEEK_END), refused = 0, tried = 0;
    struct dlm_st_file f;
    for (size_t i = 0; i + 36 < size; i++)
        for (int change = 1; change < 256; change += 13) {
            if (pread(fd, &byte, 1, (off_t)i) != 1)
                abort();
            char other = (char)(byte ^ change);
            if (pwrite(fd, &other, 1, (off_t)i) != 1)
                abort();
            tried++;
            if (dlm_st_open(&f, path, &err)) {
                refused++;
                if (f.fd >= 0 || !err.msg[0])
                    abort();
            } else {
                for (size_t k = 0; k < f.n; k++) {
                    float to[16];
                    if (f.entries[k].n <= 16)
                        (void)dlm_st_read_f32(&f, &f.entries[k], to, &err);
                }
                dlm_st_close(&f);
            }
            if (pwrite(fd, &byte, 1, (off_t)i) != 1)
                abort();
        }
    tap_ok(refused > tried / 2, "%zu of %zu changed headers are refused, none does harm", refused, tried);
    bool good = true;
    for (size_t cut = size; cut-- > 0;) {
        if (ftruncate(fd, (off_t)cut))
            abort();
        good &= dlm_st_open(&f, path, &err) == DLM_EDATA;
    }
    tap_ok(good, "a file cut anywhere is refused");
    close(fd);
    unlink(path);
}

static void test_round_trip(void)
{
    float a[6] = {0, -0.0f, 1.5f, -3.25e-30f, INFINITY, NAN}, back[8192];
    const size_t s1[] = {2, 3}, s2[] = {8191}, s3[] = {1, 4};
    float *big = malloc(8191 * sizeof *big);
    for (size_t i = 0; i < 8191; i++)
        big[i] = (float)i * 0.37f - 1000;
    /* bf16 has 8 bits: 257 lies between 256 and 258 and goes away from zero, as 259 does to 260; 1 + 2^-8 + 2^-20 goes up. */
    float halves[4] = {257, 259, 1 + 0x1p-8f + 0x1p-20f, 3.3962e38f};
    struct dlm_st_item items[] = {{"a", DLM_ST_F32, 2, s1, a}, {"b.weight", DLM_ST_F32, 1, s2, big}, {"h", DLM_ST_BF16, 2, s3, halves},
                                  {"n", DLM_ST_BF16, 2, s1, a}, {"wide", DLM_ST_BF16, 1, s2, big}};
    struct dlm_error err = {""};
    struct dlm_st_file f;
    tap_ok(!dlm_st_write(path, items, 5, &err), "a file is written: %s", err.msg);
    tap_ok(!dlm_st_open(&f, path, &err) && f.n == 5, "and opens: %s", err.msg);
    uint64_t n;
    char head[92];
    if (pread(f.fd, &n, 8, 0) != 8 || pread(f.fd, head, sizeof head, 0) != sizeof head)
        abort();
    tap_ok(n % 8 == 0 && !strncmp(head + 8, "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},", 84),
           "its header is as Hugging Face writes it");
    const struct dlm_st_entry *e = dlm_st_find(&f, "a");
    tap_ok(e && e->rank == 2 && e->shape[1] == 3 && !dlm_st_read_f32(&f, e, back, &err) && !memcmp(a, back, sizeof a), "float32 keeps every bit");
    e = dlm_st_find(&f, "b.weight");
    tap_ok(e && !dlm_st_read_f32(&f, e, back, &err) && !memcmp(big, back, 8191 * 4), "also of more than a block");
    e = dlm_st_find(&f, "h");
    tap_ok(e && e->type == DLM_ST_BF16 && !dlm_st_read_f32(&f, e, back, &err) && back[0] == 258 && back[1] == 260 && back[2] == 1 + 0x1p-7f && isinf(back[3]),
           "bf16 rounds to the nearest, halves away from zero");
    e = dlm_st_find(&f, "n");
    tap_ok(e && !dlm_st_read_f32(&f, e, back, &err) && back[0] == 0 && signbit(back[1]) && back[2] == 1.5f && isinf(back[4]) && isnan(back[5]),
           "bf16 keeps what is not finite");
    e = dlm_st_find(&f, "wide");
    double worst = 0;
    if (e && !dlm_st_read_f32(&f, e, back, &err))
        for (size_t i = 0; i < 8191; i++)
            worst = fmax(worst, fabs(back[i] - big[i]) / fmax(fabs(big[i]), 1e-3));
    tap_ok(e && worst > 0 && worst <= 0x1p-8, "bf16 is within half a unit of 8 bits");
    dlm_st_close(&f);
    unlink(path);
    if (symlink("/dev/full", path)) /* by another name: a failed write must not remove what is no regular file */
        abort();
    tap_ok(dlm_st_write(path, items, 5, &err) == DLM_EIO && !access(path, F_OK), "a full disk: %s", err.msg);
    tap_ok(dlm_st_write("/nonexistent/x", items, 5, &err) == DLM_EIO, "no such directory: %s", err.msg);
    free(big);
    unlink(path);
}

/* BF16 and I16 together are the float32, whatever its low half: every low half under even and odd upper ones, both signs, subnormals. */
static void test_low_halves(void)
{
    static const uint16_t high[] = {0x3f80, 0x3f81, 0xbf80, 0xbf81, 0x0000, 0x8000, 0x0001, 0x7f7e, 0x4113};
    const size_t n = 65536 * (sizeof high / sizeof *high), shape[] = {n};
    float *v = calloc(n, sizeof *v), *back = calloc(n, sizeof *back);
    if (!v || !back)
        abort();
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)high[i >> 16] << 16 | (uint32_t)(i & 0xffff);
        memcpy(&v[i], &bits, 4);
    }
    struct dlm_st_item items[] = {{"v", DLM_ST_BF16, 1, shape, v}, {"v.low", DLM_ST_I16, 1, shape, v}};
    struct dlm_error err = {""};
    struct dlm_st_file f;
    if (dlm_st_write(path, items, 2, &err) || dlm_st_open(&f, path, &err))
        abort();
    const struct dlm_st_entry *e = dlm_st_find(&f, "v"), *low = dlm_st_find(&f, "v.low");
    double worst = 0;
    if (!dlm_st_read_f32(&f, e, back, &err))
        for (size_t i = 0; i < n; i++)
            if (fabs(v[i]) > 1e-30)
                worst = fmax(worst, fabs(back[i] / v[i] - 1));
    tap_ok(worst <= 0x1p-8, "bf16 is the nearest (off by %g at most)", worst);
    tap_ok(low && low->type == DLM_ST_I16 && low->bytes == 2 * n && !dlm_st_add_low(&f, low, back, &err) && !memcmp(back, v, n * sizeof *v),
           "with its low half it is the float32 again, to the bit");
    tap_ok(dlm_st_add_low(&f, low, back, &err) == DLM_EDATA && dlm_st_add_low(&f, e, back, &err) == DLM_EDATA, "twice is an error, and so is another type: %s", err.msg);
    dlm_st_close(&f);
    free(v), free(back);
    unlink(path);
}

/* Another process cuts the file after it was opened: an error, not a signal. */
static void test_cut_short(void)
{
    float data[5000] = {0}, back[5000];
    const size_t shape[] = {5000};
    struct dlm_st_item items[] = {{"a", DLM_ST_F32, 1, shape, data}, {"b", DLM_ST_BF16, 1, shape, data}};
    struct dlm_st_file f;
    struct dlm_error err = {""};
    if (dlm_st_write(path, items, 2, &err) || dlm_st_open(&f, path, &err) || truncate(path, 15000))
        abort();
    tap_ok(dlm_st_read_f32(&f, dlm_st_find(&f, "a"), back, &err) == DLM_EDATA && strstr(err.msg, path) && strstr(err.msg, "15000"), "cut while read: %s", err.msg);
    tap_ok(dlm_st_read_f32(&f, dlm_st_find(&f, "b"), back, &err) == DLM_EDATA, "also where nothing is left: %s", err.msg);
    dlm_st_close(&f);
    unlink(path);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/t.safetensors", dir);
    test_round_trip();
    test_low_halves();
    test_hostile();
    test_mutations();
    test_cut_short();
    rmdir(dir);
    return tap_end();
}
