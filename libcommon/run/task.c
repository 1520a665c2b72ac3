/* Tasks: reading items, asking the network, adding up. What an item's likelihood is: run/score.c; how texts are filled: run/sample.c. */
#include "run/task.h"

#include "base/rng.h"
#include "run/extract.h"
#include "run/overlap.h"
#include "run/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define RESAMPLES 1000

enum kind { NO_KIND, CHOICE, CLOZE, GENERATE };

static const char *const kind_names[] = {"", "choice", "cloze", "generate"};

/* What one item came to. */
struct verdict {
    uint64_t hash; /* of its line */
    double value[DLM_TASK_METRICS];
};

struct task {
    const struct dlm_task_plan *plan;
    const struct dlm_backend *b;
    const struct dlm_restored *model;
    struct dlm_task_result *out;
    struct dlm_lines lines;
    struct dlm_item_reader reader;
    struct dlm_scorer *scorer;
    struct dlm_sampler *sampler;
    size_t sampler_length;
    enum kind kind;
    bool judged, answered; /* generate: which figures there are */
    bool bad;              /* the failure at hand is the item's */
    struct dlm_item item;
    char *shots;           /* owned: the examples before the item */
    size_t shots_n;
    uint32_t *ids;         /* (length) */
    uint8_t *given;
    struct verdict *verdict; /* owned, (n of out) */
    size_t cap;
    json_t *details;       /* owned: of the item at hand */
};

size_t dlm_task_batch(size_t length, bool autoregressive)
{
    const size_t score = autoregressive ? 1 : dlm_score_batch(length), sample = dlm_sample_chunk(length);
    return score > sample ? score : sample;
}

/* The item is no good, with the reason in `why`. */
static int bad_item(struct task *t, int rc, const struct dlm_error *why, struct dlm_error *err)
{
    if (rc != DLM_EDATA)
        return dlm_fail(err, (enum dlm_err)rc, "%s", why->msg);
    t->bad = true;
    return dlm_lines_fail(&t->lines, err, "%s", why->msg);
}

static int bad(struct task *t, struct dlm_error *err, const char *why)
{
    t->bad = true;
    return dlm_lines_fail(&t->lines, err, "%s", why);
}

/* --- figures ----------------------------------------------------------------------------------------------------------------- */

static const char *const figures[][6] = {
    [CHOICE] = {"accuracy", "accuracy_per_token", "accuracy_per_byte", "chance"},
    [CLOZE] = {"exact_match", "token_accuracy"},
    [GENERATE] = {"exact_match", "f1", "rouge1", "rouge2", "rougeL"},
};

static void name_figures(struct task *t)
{
    struct dlm_task_result *r = t->out;
    r->metrics = 0;
    for (size_t i = 0; i < 6 && figures[t->kind][i] && (t->kind != GENERATE || t->answered); i++)
        r->metric[r->metrics++].name = figures[t->kind][i];
    if (t->judged)
        r->metric[r->metrics++].name = "judge";
}

static int by_hash(const void *a, const void *b)
{
    const uint64_t x = ((const struct verdict *)a)->hash, y = ((const struct verdict *)b)->hash;
    return (x > y) - (x < y);
}

/* Means over the items, and the standard deviation of means over resampled items. Items stand in the order of their hashes, whatever the file's was. */
static void sum_up(struct task *t)
{
    struct dlm_task_result *r = t->out;
    const uint64_t n = r->n;
    double sum[DLM_TASK_METRICS] = {0}, squares[DLM_TASK_METRICS] = {0};
    qsort(t->verdict, n, sizeof *t->verdict, by_hash);
    for (size_t m = 0; m < r->metrics; m++) {
        double all = 0;
        for (uint64_t i = 0; i < n; i++)
            all += t->verdict[i].value[m];
        r->metric[m].value = all / (double)n;
    }
    for (uint64_t s = 0; s < RESAMPLES && n > 1; s++) {
        struct dlm_rng rng;
        double all[DLM_TASK_METRICS] = {0};
        dlm_rng_init(&rng, t->plan->seed, s, DLM_RNG_BOOTSTRAP);
        for (uint64_t i = 0; i < n; i++) {
            const struct verdict *v = &t->verdict[dlm_rng_below(&rng, n)];
            for (size_t m = 0; m < r->metrics; m++)
                all[m] += v->value[m];
        }
        for (size_t m = 0; m < r->metrics; m++) {
            const double off = all[m] / (double)n - r->metric[m].value;
            sum[m] += off;
            squares[m] += off * off;
        }
    }
    for (size_t m = 0; m < r->metrics; m++)
        r->metric[m].se = n > 1 ? sqrt(fmax(0, squares[m] - sum[m] * sum[m] / RESAMPLES) / (RESAMPLES - 1)) : NAN;
}

/* --- multiple choice --------------------------------------------------------------------------------------------------------- */

/* Examples and context in one text; malloc'ed. */
static int before_of(struct task *t, struct dlm_span context, struct dlm_span choice, char **out, struct dlm_span *span, struct dlm_error *err)
{
    const size_t n = t->shots_n + context.n + choice.n;
    char *to = *out = malloc(n + 1);
    if (!to)
        return dlm_fail(err, DLM_ENOMEM, "no memory for an item");
    if (t->shots_n)
        to = mempcpy(to, t->shots, t->shots_n);
    if (context.n)
        to = mempcpy(to, context.at, context.n);
    if (choice.n)
        to = mempcpy(to, choice.at, choice.n);
    *to = 0;
    *span = context.at || n ? (struct dlm_span){*out, n} : (struct dlm_span){0};
    return 0;
}

static int score_choice(struct task *t, struct dlm_span context, struct dlm_span choice, struct dlm_span completion, struct dlm_span suffix,
                        struct dlm_score *score, struct dlm_error *err)
{
    struct dlm_error why = {{0}};
    struct dlm_span before;
    char *text;
    const bool behind = completion.at;
    int rc = before_of(t, context, behind ? choice : (struct dlm_span){0}, &text, &before, err);
    if (rc)
        return rc;
    rc = dlm_item_build(&t->reader, &t->item, before, behind ? completion : choice, suffix, &why);
    free(text);
    if (rc)
        return bad_item(t, rc, &why, err);
    const struct dlm_piece piece = dlm_item_piece(&t->item);
    rc = dlm_scorer_run(t->scorer, &piece, score, err);
    if (rc)
        return rc;
    t->out->scored++;
    t->out->draws += score->draws;
    t->out->levels += score->levels;
    t->out->missed += t->plan->score.target_se > 0 && !(score->se <= t->plan->score.target_se);
    return 0;
}

static void note(struct task *t, const char *key, json_t *v)
{
    if (t->details)
        json_object_set_new(t->details, key, v);
    else
        json_decref(v);
}

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static int run_choice(struct task *t, double *value, struct dlm_error *err)
{
    struct dlm_error why = {{0}};
    struct dlm_span context, completion, suffix;
    const json_t *object = t->lines.object, *choices = json_object_get(object, "choices"), *answer = json_object_get(object, "answer");
    const size_t n = json_array_size(choices);
    if (!json_is_array(choices) || n < 1)
        return bad(t, err, "'choices' is not an array of texts");
    if (!json_is_integer(answer))
        return bad(t, err, "'answer' is not the index of a choice");
    if (json_integer_value(answer) < 0 || (uint64_t)json_integer_value(answer) >= n) {
        t->bad = true;
        return dlm_lines_fail(&t->lines, err, "'answer' is %lld, and there are choices 0 to %zu", (long long)json_integer_value(answer), n - 1);
    }
    int rc = dlm_span_of(object, "context", false, &context, &why);
    if (!rc)
        rc = dlm_span_of(object, "completion", false, &completion, &why);
    if (!rc)
        rc = dlm_span_of(object, "suffix", false, &suffix, &why);
    if (rc)
        return bad_item(t, rc, &why, err);
    size_t best[3] = {0};
    double least[3] = {INFINITY, INFINITY, INFINITY};
    json_t *nats = json_array(), *se = json_array(), *tokens = json_array(), *bytes = json_array();
    for (size_t i = 0; i < n && !rc; i++) {
        const json_t *choice = json_array_get(choices, i);
        struct dlm_score score;
        if (!json_is_string(choice)) {
            rc = bad(t, err, "a choice is no string");
            break;
        }
        rc = score_choice(t, context, (struct dlm_span){json_string_value(choice), json_string_length(choice)}, completion, suffix, &score, err);
        if (rc)
            break;
        const double by[3] = {score.nats, score.nats / (double)t->item.tokens, score.nats / (double)(t->item.bytes ? t->item.bytes : 1)};
        for (int k = 0; k < 3; k++)
            if (by[k] < least[k]) {
                least[k] = by[k];
                best[k] = i;
            }
        json_array_append_new(nats, json_real(score.nats));
        json_array_append_new(se, real_or_null(score.se));
        json_array_append_new(tokens, json_integer((json_int_t)t->item.tokens));
        json_array_append_new(bytes, json_integer((json_int_t)t->item.bytes));
    }
    for (int k = 0; k < 3; k++)
        value[k] = best[k] == (size_t)json_integer_value(answer);
    value[3] = 1 / (double)n;
    note(t, "picked", json_integer((json_int_t)best[0]));
    note(t, "answer", json_integer(json_integer_value(answer)));
    note(t, "elbo", nats);
    note(t, "elbo_se", se);
    note(t, "tokens", tokens);
    note(t, "bytes", bytes);
    return rc;
}

/* --- filled and generated texts ---------------------------------------------------------------------------------------------- */

/* A sampler for texts of up to `length`; an autoregressive one writes to its very end, so it is made to measure. */
static int need_sampler(struct task *t, size_t length, struct dlm_error *err)
{
    const struct dlm_task_plan *p = t->plan;
    const size_t wanted = t->model->autoregressive ? length : p->score.length;
    if (t->sampler && t->sampler_length == wanted)
        return 0;
    dlm_sampler_free(t->sampler);
    t->sampler = NULL;
    t->sampler_length = wanted;
    const struct dlm_sample_plan plan = {
        .order = t->model->autoregressive ? DLM_SAMPLE_AUTOREGRESSIVE : DLM_SAMPLE_ADAPTIVE,
        .noise = p->score.noise,
        .length = wanted,
        .block = t->kind == GENERATE && !t->model->autoregressive ? p->block : 0,
        .steps = p->steps,
        .choose = {.temperature = 0, .top_p = 1},
        .seed = p->seed,
    };
    return dlm_sampler_new(&t->sampler, t->b, t->model->network, &plan, err);
}

/* Fill positions [from, to) of the length ids that t->item has the known ones of; the draws of the prior are keyed by the item. */
static int fill(struct task *t, size_t length, size_t from, size_t to, struct dlm_error *err)
{
    struct dlm_sample_stats stats = {0};
    const struct dlm_piece piece = dlm_item_piece(&t->item);
    const uint64_t key = dlm_piece_hash(&piece) & UINT32_MAX;
    const bool causal = t->model->autoregressive;
    const size_t n = causal && to < length ? to : length; /* left to right, what comes after the gap is not seen */
    int rc = need_sampler(t, n, err);
    if (rc)
        return rc;
    for (size_t p = 0; p < n; p++) {
        t->given[p] = p < from || p >= to;
        t->ids[p] = t->given[p] ? t->item.ids.at[p] : DLM_SAMPLE_PRIOR;
    }
    rc = dlm_sampler_run(t->sampler, key, 1, t->ids, t->given, causal ? NULL : &n, &stats, NULL, err);
    t->out->draws += stats.model_calls;
    return rc;
}

static int run_cloze(struct task *t, double *value, struct dlm_error *err)
{
    struct dlm_error why = {{0}};
    struct dlm_span prefix, suffix, answer, before;
    char *text;
    int rc = dlm_span_of(t->lines.object, "prefix", false, &prefix, &why);
    if (!rc)
        rc = dlm_span_of(t->lines.object, "suffix", false, &suffix, &why);
    if (!rc)
        rc = dlm_span_of(t->lines.object, "answer", true, &answer, &why);
    if (rc)
        return bad_item(t, rc, &why, err);
    rc = before_of(t, prefix, (struct dlm_span){0}, &text, &before, err);
    if (rc)
        return rc;
    rc = dlm_item_build(&t->reader, &t->item, before, answer, suffix, &why);
    free(text);
    if (rc)
        return bad_item(t, rc, &why, err);
    const size_t from = t->item.before, to = t->item.ids.n - t->item.after;
    rc = fill(t, t->item.ids.n, from, to, err);
    if (rc)
        return rc;
    size_t right = 0, len;
    for (size_t p = from; p < to; p++)
        right += t->ids[p] == t->item.ids.at[p];
    value[0] = right == to - from;
    value[1] = (double)right / (double)(to - from);
    char *output = t->details ? dlm_item_decode(t->reader.vocab, t->ids + from, to - from, &len) : NULL;
    if (output)
        note(t, "output", dlm_item_string(output, len));
    free(output);
    note(t, "tokens", json_integer((json_int_t)(to - from)));
    return 0;
}

/* The text up to the first of the strings in `stop`: one, or an array of them. */
static int cut_at(const json_t *stop, const char *text, size_t *n)
{
    const size_t many = json_is_array(stop) ? json_array_size(stop) : stop != NULL;
    for (size_t i = 0; i < many; i++) {
        const json_t *one = json_is_array(stop) ? json_array_get(stop, i) : stop;
        if (!json_is_string(one) || !json_string_length(one))
            return DLM_EDATA;
        const char *at = memmem(text, *n, json_string_value(one), json_string_length(one));
        *n = at ? (size_t)(at - text) : *n;
    }
    return 0;
}

/* Against one right answer, or the best against several. */
static int compare(const json_t *answer, struct dlm_span got, double *value)
{
    const size_t many = json_is_array(answer) ? json_array_size(answer) : 1;
    if (!many)
        return DLM_EDATA;
    for (size_t i = 0; i < many; i++) {
        const json_t *one = json_is_array(answer) ? json_array_get(answer, i) : answer;
        if (!json_is_string(one))
            return DLM_EDATA;
        const char *a = json_string_value(one);
        const size_t n = json_string_length(one);
        const double v[] = {dlm_overlap_exact(got.at, got.n, a, n), dlm_overlap_f1(got.at, got.n, a, n), dlm_overlap_rouge_n(got.at, got.n, a, n, 1),
                            dlm_overlap_rouge_n(got.at, got.n, a, n, 2), dlm_overlap_rouge_l(got.at, got.n, a, n)};
        for (int k = 0; k < 5; k++) {
            if (isnan(v[k]))
                return DLM_ENOMEM;
            value[k] = i && value[k] > v[k] ? value[k] : v[k];
        }
    }
    return 0;
}

static int ask_judge(struct task *t, struct dlm_span got, double *value, struct dlm_error *err)
{
    enum dlm_verdict verdict;
    json_t *item = json_copy(t->lines.object);
    char *text = NULL;
    if (item && !json_object_set_new(item, "completion", dlm_item_string(got.at, got.n)))
        text = json_dumps(item, JSON_COMPACT);
    json_decref(item);
    if (!text)
        return dlm_fail(err, DLM_ENOMEM, "no memory for an item");
    int rc = dlm_judge_run(t->plan->judge, text, strlen(text), &verdict, err);
    free(text);
    if (rc)
        return rc;
    *value = verdict == DLM_JUDGE_RIGHT;
    t->out->late += verdict == DLM_JUDGE_LATE;
    note(t, "judge", json_string(dlm_verdict_name(verdict)));
    return 0;
}

static int finish_generated(struct task *t, char *text, size_t n, const json_t *answer, struct dlm_extract *extract, double *value, struct dlm_error *err)
{
    if (cut_at(json_object_get(t->lines.object, "stop"), text, &n))
        return bad(t, err, "'stop' is neither a text nor an array of texts");
    note(t, "output", dlm_item_string(text, n));
    struct dlm_span got = {text, n};
    if (extract) {
        got = dlm_extract_find(extract, got);
        note(t, "found", got.at ? dlm_item_string(got.at, got.n) : json_null());
        got.at = got.at ? got.at : "";
    }
    int rc = 0;
    if (t->answered)
        rc = compare(answer, got, value);
    if (rc)
        return rc == DLM_EDATA ? bad(t, err, "'answer' is neither a text nor an array of texts") : dlm_fail(err, DLM_ENOMEM, "no memory to compare texts");
    return t->judged ? ask_judge(t, (struct dlm_span){text, n}, &value[t->answered ? 5 : 0], err) : 0;
}

static int generate(struct task *t, struct dlm_extract *extract, const json_t *answer, double *value, struct dlm_error *err)
{
    struct dlm_error why = {{0}};
    struct dlm_span prompt, before;
    char *text;
    size_t len;
    int rc = dlm_span_of(t->lines.object, "prompt", true, &prompt, &why);
    if (rc)
        return bad_item(t, rc, &why, err);
    rc = before_of(t, prompt, (struct dlm_span){0}, &text, &before, err);
    if (rc)
        return rc;
    /* One token of the answer's place is wanted at least; the piece is there for its ids alone. */
    rc = dlm_item_build(&t->reader, &t->item, (struct dlm_span){0}, before, (struct dlm_span){0}, &why);
    free(text);
    if (!rc && t->item.ids.n >= t->reader.most)
        rc = dlm_fail(&why, DLM_EDATA, "the prompt has %zu tokens, which leaves no room for an answer in the model's context of %zu", t->item.ids.n, t->reader.most);
    if (rc)
        return bad_item(t, rc, &why, err);
    const size_t from = t->item.ids.n, room = t->reader.most - from, to = from + (t->plan->max_tokens < room ? t->plan->max_tokens : room);
    rc = fill(t, to, from, to, err);
    if (rc)
        return rc;
    const uint32_t end = dlm_vocab_specials(t->reader.vocab).end;
    size_t last = from;
    while (last < to && t->ids[last] != end)
        last++;
    text = dlm_item_decode(t->reader.vocab, t->ids + from, last - from, &len);
    if (!text)
        return dlm_fail(err, DLM_ENOMEM, "no memory for a text");
    rc = finish_generated(t, text, len, answer, extract, value, err);
    free(text);
    return rc;
}

static int run_generate(struct task *t, double *value, struct dlm_error *err)
{
    struct dlm_error why = {{0}};
    struct dlm_span pattern;
    struct dlm_extract *extract = NULL;
    const json_t *answer = json_object_get(t->lines.object, "answer");
    if (!answer && t->answered)
        return bad(t, err, "the object has no field 'answer'");
    int rc = dlm_span_of(t->lines.object, "extract", false, &pattern, &why);
    if (!rc && pattern.at)
        rc = dlm_extract_new(&extract, pattern, &why);
    if (rc)
        return bad_item(t, rc, &why, err);
    rc = generate(t, extract, answer, value, err);
    dlm_extract_free(extract);
    return rc;
}

/* --- the loop ---------------------------------------------------------------------------------------------------------------- */

static enum kind kind_of(const json_t *object)
{
    return json_object_get(object, "choices")  ? CHOICE
           : json_object_get(object, "prefix") || json_object_get(object, "suffix") ? CLOZE
           : json_object_get(object, "prompt") ? GENERATE
                                               : NO_KIND;
}

/* The first item says what kind of task this is. */
static int settle(struct task *t, struct dlm_error *err)
{
    const json_t *object = t->lines.object;
    const enum kind kind = kind_of(object);
    if (kind == NO_KIND)
        return bad(t, err, "the object has none of the fields 'choices', 'prefix', 'suffix' and 'prompt'");
    if (t->kind && kind != t->kind) {
        t->bad = true;
        return dlm_lines_fail(&t->lines, err, "the item is of the kind '%s', and those before it '%s'", kind_names[kind], kind_names[t->kind]);
    }
    if (t->kind)
        return 0;
    const bool judged = kind == GENERATE && t->plan->judge, answered = kind != GENERATE || json_object_get(object, "answer");
    if (!judged && !answered && !t->plan->details)
        return bad(t, err, "the object has no field 'answer', and there is neither a judge nor a file of details");
    t->kind = kind;
    t->reader.end = t->reader.end && kind == CHOICE;
    t->judged = judged;
    t->answered = answered;
    name_figures(t);
    return 0;
}

static int write_details(struct task *t, const double *value, struct dlm_error *err)
{
    if (!t->details)
        return 0;
    for (size_t m = 0; m < t->out->metrics; m++)
        if (strcmp(t->out->metric[m].name, "judge") && strcmp(t->out->metric[m].name, "chance"))
            json_object_set_new(t->details, t->out->metric[m].name, json_real(value[m]));
    if (json_dumpf(t->details, t->plan->details->file, JSON_COMPACT | JSON_REAL_PRECISION(9)))
        return dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dlm_output_name(t->plan->details));
    putc('\n', t->plan->details->file);
    return 0;
}

static int keep(struct task *t, const struct verdict *v, struct dlm_error *err)
{
    if (t->out->n == t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 256;
        struct verdict *at = reallocarray(t->verdict, cap, sizeof *at);
        if (!at)
            return dlm_fail(err, DLM_ENOMEM, "no memory for the items' figures");
        t->verdict = at;
        t->cap = cap;
    }
    t->verdict[t->out->n++] = *v;
    return 0;
}

static int run_item(struct task *t, struct dlm_error *err)
{
    struct verdict v = {.hash = XXH64(t->lines.text, t->lines.len, 0)};
    int rc = settle(t, err);
    if (!rc && t->plan->shots) {
        struct dlm_error why = {{0}};
        rc = dlm_shots_draw(t->plan->shots, t->lines.text, t->lines.len, &t->shots, &t->shots_n, &why);
        if (rc)
            rc = bad_item(t, rc, &why, err);
    }
    if (!rc && t->plan->details) {
        t->details = json_pack("{s:s, s:I}", "task", t->out->name, "line", (json_int_t)t->lines.number);
        rc = t->details ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for an item");
    }
    if (!rc)
        rc = t->kind == CHOICE ? run_choice(t, v.value, err) : t->kind == CLOZE ? run_cloze(t, v.value, err) : run_generate(t, v.value, err);
    if (!rc)
        rc = write_details(t, v.value, err);
    if (!rc)
        rc = keep(t, &v, err);
    json_decref(t->details);
    t->details = NULL;
    free(t->shots);
    t->shots = NULL;
    t->shots_n = 0;
    return rc;
}

static int run_items(struct task *t, struct dlm_error *err)
{
    uint64_t seen = 0;
    while (!t->plan->limit || seen < t->plan->limit) {
        int rc = dlm_lines_next(&t->lines, err);
        if (!rc)
            break;
        seen++;
        t->bad = rc == DLM_EDATA;
        if (rc > 0)
            rc = run_item(t, err);
        if (rc < 0 && t->bad && rc == DLM_EDATA && t->plan->skip_bad) {
            if (!t->out->bad++)
                t->out->first_bad = *err;
            rc = 0;
        }
        if (rc < 0) {
            if (!t->bad && rc != DLM_ESTOPPED)
                dlm_fail_in(err, rc, "%s:%llu", t->lines.name, (unsigned long long)t->lines.number);
            return rc;
        }
        if (t->plan->progress)
            dlm_progress_update(t->plan->progress, seen, NULL);
    }
    if (!t->out->n)
        return t->out->bad ? dlm_fail(err, DLM_EDATA, "'%s' has no item that can be used; the first is bad: %s", t->lines.name, t->out->first_bad.msg)
                           : dlm_fail(err, DLM_EDATA, "'%s' has no items", t->lines.name);
    t->out->levels = t->out->scored ? t->out->levels / (double)t->out->scored : NAN;
    sum_up(t);
    return 0;
}

/* The file's name without directory and ending; no tab or line's end, for it is a field. */
static void name_task(char *to, size_t size, const char *path)
{
    const char *from = !path || !strcmp(path, "-") ? "stdin" : strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t n = strlen(from);
    if (n > 6 && !strcmp(from + n - 6, ".jsonl"))
        n -= 6;
    n = n < size ? n : size - 1;
    memcpy(to, from, n);
    to[n] = 0;
    for (char *c = to; *c; c++)
        if (strchr("\t\r\n", *c))
            *c = ' ';
}

int dlm_task_run(const struct dlm_task_plan *plan, const struct dlm_backend *b, const struct dlm_restored *model, struct dlm_task_result *out,
                 struct dlm_error *err)
{
    const size_t length = plan->score.length;
    struct task t = {.plan = plan, .b = b, .model = model, .out = out};
    *out = (struct dlm_task_result){0};
    name_task(out->name, sizeof out->name, plan->path);
    t.ids = calloc(length, sizeof *t.ids);
    t.given = calloc(length, 1);
    int rc = t.ids && t.given ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for a text of %zu tokens", length);
    if (!rc)
        rc = dlm_item_reader_init(&t.reader, model->vocab, length, plan->score.release, err);
    if (!rc)
        rc = dlm_scorer_new(&t.scorer, b, model->network, &plan->score, err);
    if (!rc)
        rc = dlm_lines_open(&t.lines, plan->path, err);
    if (!rc)
        rc = run_items(&t, err);
    dlm_lines_close(&t.lines);
    dlm_sampler_free(t.sampler);
    dlm_scorer_free(t.scorer);
    dlm_item_reader_release(&t.reader);
    dlm_item_release(&t.item);
    free(t.ids);
    free(t.given);
    free(t.verdict);
    return rc;
}
