/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the instructions are cut into stages at each FROM; FROM and --from link
 * stages to earlier ones; what the target reaches is marked; the marked stages are then carried
 * out symbolically in file order (plan_stage.c), which yields their steps and configurations. An
 * image named by --from becomes a stage without instructions in front of the others, so that the
 * executor knows only stages.
 *
 * Nothing here depends on time, order of hash tables or addresses: same inputs, same plan.
 */
#include "image/plan.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "image/config.h"
#include "image/expand.h"
#include "image/plan_internal.h"

/* Known to every Dockerfile without a declaration before the first FROM. */
static const struct {
    const char *name, *before_arch;
    bool arch;
} platform_args[] = {
    {"TARGETPLATFORM", "linux/", true},
    {"TARGETOS", "linux", false},
    {"TARGETARCH", "", true},
    {"TARGETVARIANT", "", false},
    {"BUILDPLATFORM", "linux/", true},
    {"BUILDOS", "linux", false},
    {"BUILDARCH", "", true},
    {"BUILDVARIANT", "", false},
};

static const struct {
    const char *platform, *arch;
} platforms[] = {
    {"linux/amd64", "amd64"},   {"linux/x86_64", "amd64"},   {"linux/arm64", "arm64"},
    {"linux/aarch64", "arm64"}, {"linux/arm64/v8", "arm64"},
};

void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_stages; i++)
        json_decref(p->stages[i].config);
    arena_free(p->arena);
    free(p);
}

const struct plan_stage *plan_target(const struct plan *p)
{
    return &p->stages[p->n_stages - 1];
}

const char *plan_stage_key(const struct plan_stage *s)
{
    return s->n_steps ? s->steps[s->n_steps - 1].key : s->key;
}

/* ---- variables ---- */

static size_t envlist_index(const struct envlist *l, struct slice name)
{
    for (size_t i = 0; i < l->list.n; i++)
        if (strncmp(l->list.v[i], name.p, name.n) == 0 && l->list.v[i][name.n] == '=')
            return i;
    return l->list.n;
}

const char *envlist_get(const struct envlist *l, struct slice name)
{
    size_t i = envlist_index(l, name);
    return i < l->list.n ? l->list.v[i] + name.n + 1 : NULL;
}

int envlist_set(struct arena *a, struct envlist *l, const char *name, const char *value)
{
    size_t i = envlist_index(l, slice_from(name)), n = strlen(name) + strlen(value) + 1;
    size_t old = i < l->list.n ? strlen(l->list.v[i]) : 0;
    if (i == PLAN_MAX_ENV || l->bytes - old + n > PLAN_MAX_ENV_BYTES)
        return -EMSGSIZE;
    l->bytes += n - old;
    if (i == l->list.n)
        strlist_add(a, &l->list, NULL);
    l->list.v[i] = arena_printf(a, "%s=%s", name, value);
    return 0;
}

void envlist_copy(struct arena *a, struct envlist *to, const struct envlist *from)
{
    *to = (struct envlist){.bytes = from->bytes};
    for (size_t i = 0; i < from->list.n; i++)
        strlist_add(a, &to->list, from->list.v[i]);
}

static const char *expand_get(const void *arg, struct slice name)
{
    return envlist_get(arg, name);
}

int plan_expand(struct planner *pl, const struct envlist *vars, unsigned line, const char *word,
                bool heredoc, const char **ret)
{
    struct expand x = {.get = expand_get, .arg = vars, .escape = pl->d->escape, .heredoc = heredoc};
    struct buf out = BUF_INIT(heredoc ? DOCKERFILE_MAX_BYTES : PLAN_MAX_ENV_BYTES);
    struct err e = {0};
    int r = expand_word(&x, slice_from(word), &out, &e);
    if (r == 0)
        *ret = arena_strndup(pl->p->arena, out.data ? out.data : "", out.len);
    buf_done(&out);
    return r < 0 ? PLAN_ERR(pl, -r, line, "%s", e.text) : plan_check_size(pl, line);
}

static const char *option_arg(struct planner *pl, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < pl->o->n_args; i++) {
        if (strcmp(pl->o->args[i].name, name) != 0)
            continue;
        pl->arg_used[i] = true;
        value = pl->o->args[i].value;
    }
    return value;
}

int plan_arg_value(struct planner *pl, const struct envlist *vars, unsigned line,
                   const struct dockerfile_pair *arg, const char **ret)
{
    *ret = option_arg(pl, arg->name);
    if (!*ret && arg->value)
        return plan_expand(pl, vars, line, arg->value, false, ret);
    if (!*ret)
        *ret = envlist_get(&pl->globals, slice_from(arg->name));
    return 0;
}

/* ---- small things ---- */

int plan_check_size(struct planner *pl, unsigned line)
{
    if (arena_used(pl->p->arena) > PLAN_MAX_BYTES)
        return PLAN_ERR(pl, EMSGSIZE, line, "the build plan is larger than %d bytes",
                        PLAN_MAX_BYTES);
    return 0;
}

void plan_note(struct planner *pl, unsigned line, const char *text)
{
    struct plan *p = pl->p;
    p->notes = arena_grow(p->arena, p->notes, p->n_notes, &pl->notes_cap, sizeof *p->notes);
    p->notes[p->n_notes++] = (struct plan_note){line, text};
}

/* ---- stages of the Dockerfile ---- */

static int set_global(struct planner *pl, const char *name, const char *value, unsigned line)
{
    if (envlist_set(pl->p->arena, &pl->globals, name, value) < 0)
        return PLAN_ERR(pl, EMSGSIZE, line, "ARG: too many or too large values");
    return 0;
}

static int platform_globals(struct planner *pl)
{
    for (size_t i = 0; i < ARRAY_LEN(platform_args); i++) {
        const char *value = arena_printf(pl->p->arena, "%s%s", platform_args[i].before_arch,
                                         platform_args[i].arch ? pl->o->arch : "");
        int r = set_global(pl, platform_args[i].name, value, 1);
        if (r < 0)
            return r;
    }
    return 0;
}

static int global_arg(struct planner *pl, const struct dockerfile_instruction *in)
{
    for (size_t i = 0; i < in->n_pairs; i++) {
        const char *value;
        int r = plan_arg_value(pl, &pl->globals, in->line, &in->pairs[i], &value);
        if (r == 0 && value)
            r = set_global(pl, in->pairs[i].name, value, in->line);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_platform(struct planner *pl, const struct dockerfile_instruction *in)
{
    const char *text;
    if (!in->platform)
        return 0;
    int r = plan_expand(pl, &pl->globals, in->line, in->platform, false, &text);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(platforms); i++) {
        if (strcmp(text, platforms[i].platform) != 0)
            continue;
        if (strcmp(platforms[i].arch, pl->o->arch) != 0)
            plan_note(pl, in->line,
                      arena_printf(pl->p->arena,
                                   "--platform=%s: this machine builds and runs linux/%s, which "
                                   "is used instead",
                                   text, pl->o->arch));
        return 0;
    }
    return PLAN_ERR(pl, EINVAL, in->line,
                    "FROM --platform=%.100s is not supported: linux/amd64 and linux/arm64 are",
                    text);
}

/* An earlier stage of that name, or -1. */
static int stage_by_name(const struct planner *pl, size_t before, const char *name)
{
    for (size_t i = 0; i < before; i++)
        if (pl->stages[i].name && strcasecmp(pl->stages[i].name, name) == 0)
            return (int)i;
    return -1;
}

static struct source_stage *new_stage(struct planner *pl)
{
    pl->stages =
        arena_grow(pl->p->arena, pl->stages, pl->n_stages, &pl->cap_stages, sizeof *pl->stages);
    struct source_stage *s = &pl->stages[pl->n_stages++];
    *s = (struct source_stage){.base_stage = -1, .index = -1};
    return s;
}

static int begin_stage(struct planner *pl, size_t at)
{
    const struct dockerfile_instruction *in = &pl->d->v[at];
    const char *base = "";
    int r = check_platform(pl, in);
    if (r == 0)
        r = plan_expand(pl, &pl->globals, in->line, in->args.v[0], false, &base);
    if (r < 0)
        return r;
    if (!*base)
        return PLAN_ERR(pl, EINVAL, in->line, "FROM: '%.100s' expands to nothing", in->args.v[0]);
    if (pl->n_stages == PLAN_MAX_STAGES)
        return PLAN_ERR(pl, EMSGSIZE, in->line, "more than %d stages", PLAN_MAX_STAGES);
    if (in->as && stage_by_name(pl, pl->n_stages, in->as) >= 0)
        return PLAN_ERR(pl, EINVAL, in->line, "there are two stages named '%s'", in->as);
    unsigned number = (unsigned)pl->n_stages;
    struct source_stage *s = new_stage(pl);
    s->from = in;
    s->first = at + 1;
    s->name = in->as;
    s->base = base;
    s->base_stage = stage_by_name(pl, number, base);
    s->number = number;
    return 0;
}

static int split_stages(struct planner *pl)
{
    int r = platform_globals(pl);
    for (size_t i = 0; r == 0 && i < pl->d->n; i++) {
        const struct dockerfile_instruction *in = &pl->d->v[i];
        if (in->word == DOCKERFILE_FROM)
            r = begin_stage(pl, i);
        else if (pl->n_stages)
            pl->stages[pl->n_stages - 1].n++;
        else if (in->word == DOCKERFILE_ARG)
            r = global_arg(pl, in);
        else
            r = PLAN_ERR(pl, EINVAL, in->line, "%s before the first FROM",
                         dockerfile_word_name(in->word));
    }
    if (r == 0 && !pl->n_stages)
        r = PLAN_ERR(pl, EINVAL, pl->d->v[0].line, "there is no FROM");
    pl->n_named = pl->n_stages;
    return r;
}

/* ---- --from and the target ---- */

static bool parse_number(const char *s, size_t limit, size_t *ret)
{
    size_t n = 0;
    if (!*s || strlen(s) > 9 || s[strspn(s, "0123456789")])
        return false;
    for (; *s; s++)
        n = n * 10 + (size_t)(*s - '0');
    *ret = n;
    return n < limit;
}

struct source_stage *plan_find_from(struct planner *pl, const struct source_stage *user,
                                    const char *from)
{
    size_t n;
    int i = stage_by_name(pl, user->number, from);
    if (i < 0 && parse_number(from, user->number, &n))
        i = (int)n;
    for (size_t k = pl->n_named; i < 0 && k < pl->n_stages; k++)
        if (strcmp(pl->stages[k].base, from) == 0)
            i = (int)k;
    return i < 0 ? NULL : &pl->stages[i];
}

static int check_forward(struct planner *pl, const struct source_stage *user,
                         const struct dockerfile_instruction *in, const char *from)
{
    size_t n;
    int later = stage_by_name(pl, pl->n_named, from);
    if (later >= 0)
        return PLAN_ERR(pl, EINVAL, in->line,
                        "--from=%s: the stage of that name is not finished before this line", from);
    if (from[strspn(from, "0123456789")] == '\0' && !parse_number(from, user->number, &n))
        return PLAN_ERR(pl, EINVAL, in->line,
                        "--from=%.40s: only stages 0 to %d are finished before this line", from,
                        (int)user->number - 1);
    if (strchr(from, '$'))
        return PLAN_ERR(pl, EINVAL, in->line,
                        "--from takes no variables: name a stage 'FROM ... AS name' instead");
    return 0;
}

/* Marks what a --from names; an image is added behind the stages of the Dockerfile. */
static int need_from(struct planner *pl, size_t user, const struct dockerfile_instruction *in)
{
    struct source_stage *found = plan_find_from(pl, &pl->stages[user], in->from);
    if (!found) {
        int r = check_forward(pl, &pl->stages[user], in, in->from);
        if (r < 0)
            return r;
        if (pl->n_stages - pl->n_named == PLAN_MAX_STAGES)
            return PLAN_ERR(pl, EMSGSIZE, in->line, "more than %d images", PLAN_MAX_STAGES);
        found = new_stage(pl);
        found->from = in;
        found->base = in->from;
    }
    found->needed = true;
    return 0;
}

/* Stages refer backwards only, so one pass from the target to the front finds everything. */
static int mark_needed(struct planner *pl, size_t target)
{
    pl->stages[target].needed = true;
    for (size_t i = target + 1; i-- > 0;) {
        if (!pl->stages[i].needed)
            continue;
        if (pl->stages[i].base_stage >= 0)
            pl->stages[pl->stages[i].base_stage].needed = true;
        for (size_t k = 0; k < pl->stages[i].n; k++) {
            const struct dockerfile_instruction *in = &pl->d->v[pl->stages[i].first + k];
            int r = in->from ? need_from(pl, i, in) : 0;
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int find_target(struct planner *pl, size_t *ret)
{
    *ret = pl->n_named - 1;
    if (!pl->o->target)
        return 0;
    int i = stage_by_name(pl, pl->n_named, pl->o->target);
    if (i >= 0) {
        *ret = (size_t)i;
        return 0;
    }
    if (parse_number(pl->o->target, pl->n_named, ret))
        return 0;
    return PLAN_ERR(pl, EINVAL, pl->d->lines, "there is no target stage '%.100s'", pl->o->target);
}

static int run_stages(struct planner *pl, size_t target)
{
    size_t n = 0;
    for (size_t i = 0; i < pl->n_stages; i++)
        n += pl->stages[i].needed;
    pl->p->stages = arena_alloc(pl->p->arena, n * sizeof *pl->p->stages);
    int r = 0;
    for (size_t i = pl->n_named; r == 0 && i < pl->n_stages; i++)
        r = plan_stage_run(pl, &pl->stages[i]);
    for (size_t i = 0; r == 0 && i <= target; i++)
        if (pl->stages[i].needed)
            r = plan_stage_run(pl, &pl->stages[i]);
    return r;
}

static int check_startable(struct planner *pl, size_t target)
{
    const struct source_stage *s = &pl->stages[target];
    unsigned line = s->n ? pl->d->v[s->first + s->n - 1].line : s->from->line;
    struct err e = {0};
    json_t *argv;
    if (config_argv(plan_target(pl->p)->config, &argv, &e) < 0)
        return PLAN_ERR(pl, EINVAL, line, "%s", e.text);
    json_decref(argv);
    return 0;
}

static void note_unused_args(struct planner *pl)
{
    for (size_t i = 0; i < pl->o->n_args; i++)
        if (!pl->arg_used[i])
            plan_note(pl, 1,
                      arena_printf(pl->p->arena, "the build argument '%s' is not used",
                                   pl->o->args[i].name));
}

static int plan_all(struct planner *pl)
{
    size_t target;
    int r = split_stages(pl);
    if (r == 0)
        r = find_target(pl, &target);
    if (r == 0)
        r = mark_needed(pl, target);
    if (r == 0)
        r = run_stages(pl, target);
    if (r == 0)
        r = check_startable(pl, target);
    if (r == 0)
        note_unused_args(pl);
    return r;
}

/* Build arguments come from the caller's caller: they must fit JSON and an environment. */
static int check_args(struct planner *pl)
{
    for (size_t i = 0; i < pl->o->n_args; i++) {
        json_t *name = json_string(pl->o->args[i].name), *value = json_string(pl->o->args[i].value);
        bool ok = name && value && pl->o->args[i].name[0] && !strchr(pl->o->args[i].name, '=');
        json_decref(name);
        json_decref(value);
        if (!ok)
            return PLAN_ERR(pl, EINVAL, 1,
                            "build argument %zu: the name is empty, has a '=', or the text is not "
                            "valid UTF-8",
                            i + 1);
    }
    return 0;
}

int plan_make(const struct dockerfile *d, const struct context *ctx, const struct plan_options *o,
              struct plan **ret, struct err *e)
{
    struct plan *p = calloc(1, sizeof *p);
    if (!p)
        return dockerfile_err(e, ENOMEM, 1, "out of memory");
    p->arena = arena_new();
    struct planner pl = {.d = d, .ctx = ctx, .o = o, .p = p, .e = e};
    pl.arg_used = arena_alloc(p->arena, o->n_args * sizeof *pl.arg_used);
    int r = check_args(&pl);
    if (r == 0)
        r = plan_all(&pl);
    if (r < 0) {
        plan_free(p);
        return r;
    }
    *ret = p;
    return 0;
}
