/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COPY and ADD. Sources from the context are resolved here, against the manifest, to single
 * entries and their places; sources from a stage are patterns the guest resolves. One instruction
 * may become several steps: files that ADD may unpack go apart from directories, and each
 * here-document is written by a command of its own.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/config.h"
#include "image/paths.h"
#include "image/pattern.h"
#include "image/plan_internal.h"
#include "proto/wire.h"

#define MAX_PATTERN_WORK \
    ((uint64_t)300 * 1000 * 1000) /* steps of the matcher, for the whole plan */
#define MAX_OWNER 256

static const char *const url_prefixes[] = {"http://", "https://", "ftp://",
                                           "git://",  "ssh://",   "git@"};

/* Writes its input to a file as COPY would: $1 destination, $2 name below a directory, $3 mode,
 * $4 owner. An existing file is replaced, not written through. */
static const char file_writer[] =
    "set -eu; umask 022; d=$1; case $d in */) mkdir -p \"$d\" ;; *) mkdir -p \"${d%/*}/\" ;; esac; "
    "if [ -d \"$d\" ]; then d=${d%/}/$2; fi; "
    "rm -f \"$d\"; cat >\"$d\"; chown \"$4\" \"$d\"; chmod \"$3\" \"$d\"";

struct copy {
    struct stage_state *s;
    const struct dockerfile_instruction *in;
    const char *word;       /* "COPY" or "ADD" */
    struct strlist sources; /* expanded; a here-document's marker as written */
    const char *dest;
    bool slash; /* dest is written as a directory */
    bool is_dir;
    const char *chown, *chmod;
    struct plan_pair *pairs; /* of the step at hand */
    size_t n_pairs, cap_pairs;
    bool extract; /* of the step at hand */
    bool emitted; /* some step was made */
};

#define COPY_ERR(c, code, ...) PLAN_ERR((c)->s->pl, code, (c)->s->line, __VA_ARGS__)

static struct arena *arena_of(struct copy *c)
{
    return c->s->pl->p->arena;
}

/* ---- words ---- */

static int check_owner(struct copy *c)
{
    size_t n = strlen(c->chown);
    const char *colon = strchr(c->chown, ':');
    bool ok = n && n <= MAX_OWNER && c->chown[0] != ':' &&
              (!colon || (colon[1] && !strchr(colon + 1, ':')));
    for (const char *p = c->chown; *p && ok; p++)
        ok = isalnum((unsigned char)*p) || strchr("_.-:@$", *p);
    return ok ? 0
              : COPY_ERR(c, EINVAL, "%s --chown: '%.100s' is not user[:group]", c->word, c->chown);
}

static int check_mode(struct copy *c)
{
    size_t n = strlen(c->chmod);
    const char *digits = c->chmod + (n == 5 && c->chmod[0] == '0');
    size_t k = strlen(digits);
    if (k < 3 || k > 4 || digits[strspn(digits, "01234567")])
        return COPY_ERR(c, EINVAL, "%s --chmod: '%.100s' is not an octal mode such as 0755",
                        c->word, c->chmod);
    c->chmod = arena_printf(arena_of(c), "%s%s", k == 3 ? "0" : "", digits);
    return 0;
}

static int read_flags(struct copy *c)
{
    int r = 0;
    if (c->in->chown)
        r = stage_expand(c->s, c->in->chown, &c->chown);
    if (r == 0 && c->chown)
        r = check_owner(c);
    if (r == 0 && c->in->chmod)
        r = stage_expand(c->s, c->in->chmod, &c->chmod);
    if (r == 0 && c->chmod)
        r = check_mode(c);
    return r;
}

static int check_source(struct copy *c, const char *source)
{
    if (!*source)
        return COPY_ERR(c, EINVAL, "%s: a source is empty", c->word);
    for (size_t i = 0; c->in->word == DOCKERFILE_ADD && i < ARRAY_LEN(url_prefixes); i++)
        if (strncasecmp(source, url_prefixes[i], strlen(url_prefixes[i])) == 0)
            return COPY_ERR(c, EINVAL,
                            "ADD of a URL is not supported: fetch it in a RUN step, or put the "
                            "file into the build context");
    return 0;
}

static int read_sources(struct copy *c)
{
    for (size_t i = 0; i + 1 < c->in->args.n; i++) {
        const char *source = c->in->args.v[i];
        if (!dockerfile_find_heredoc(c->in, source)) {
            int r = stage_expand(c->s, source, &source);
            if (r == 0)
                r = check_source(c, source);
            if (r < 0)
                return r;
        }
        strlist_add(arena_of(c), &c->sources, source);
    }
    return 0;
}

static int read_dest(struct copy *c)
{
    const char *text = "";
    char path[PATHS_MAX + 1];
    int r = stage_expand(c->s, c->in->args.v[c->in->args.n - 1], &text);
    if (r < 0)
        return r;
    if (!*text)
        return COPY_ERR(c, EINVAL, "%s: the destination is empty", c->word);
    if (paths_resolve(c->s->workdir, text, path) < 0)
        return COPY_ERR(c, EMSGSIZE, "%s: the destination is too long", c->word);
    const char *base = paths_base(text);
    c->slash = !*base || strcmp(base, ".") == 0 || strcmp(base, "..") == 0;
    c->dest = arena_strdup(arena_of(c), path);
    if (!c->slash && c->sources.n > 1)
        return COPY_ERR(c, EINVAL,
                        "%s: with several sources the destination must be a directory and end "
                        "with '/'",
                        c->word);
    return 0;
}

/* ---- steps ---- */

static int make_directory(struct copy *c)
{
    struct plan_step step = {.kind = PLAN_MKDIR, .from = -1};
    if (strcmp(c->dest, "/") != 0)
        strlist_add(arena_of(c), &c->s->mkdirs, c->dest);
    return stage_add_step(c->s, c->in, &step);
}

static int pair_order(const void *a, const void *b)
{
    const struct plan_pair *const *x = a, *const *y = b;
    int order = strcmp((*x)->target, (*y)->target);
    return order ? order : *x < *y ? -1 : 1;
}

/* Sources may name the same place; the last one wins, in whatever order the guest unpacks. */
static void drop_overwritten(struct copy *c)
{
    struct plan_pair **sorted = calloc(c->n_pairs, sizeof *sorted);
    size_t kept = 0;
    if (!sorted)
        abort(); /* a few bytes per pair, which are bounded */
    for (size_t i = 0; i < c->n_pairs; i++)
        sorted[i] = &c->pairs[i];
    qsort(sorted, c->n_pairs, sizeof(struct plan_pair *), pair_order);
    for (size_t i = 0; i + 1 < c->n_pairs; i++)
        if (strcmp(sorted[i]->target, sorted[i + 1]->target) == 0)
            sorted[i]->entry = NULL;
    free(sorted);
    for (size_t i = 0; i < c->n_pairs; i++)
        if (c->pairs[i].entry)
            c->pairs[kept++] = c->pairs[i];
    c->n_pairs = kept;
}

/* Ends the step at hand, if it has anything to do. */
static int flush(struct copy *c)
{
    if (!c->n_pairs)
        return 0;
    bool into_dir = c->is_dir || c->slash;
    if (!c->extract)
        drop_overwritten(c);
    if (!into_dir)
        c->pairs[0].target = "";
    struct plan_step step = {
        .kind = PLAN_COPY,
        .from = -1,
        .pairs = c->pairs,
        .n_pairs = c->n_pairs,
        .dest = c->dest,
        .dest_is_dir = into_dir,
        .chown = c->chown,
        .chmod = c->chmod,
        .extract = c->extract,
    };
    c->pairs = NULL;
    c->n_pairs = c->cap_pairs = 0;
    c->emitted = true;
    return stage_add_step(c->s, c->in, &step);
}

static int add_pair(struct copy *c, const struct context_entry *entry, const char *target)
{
    c->pairs = arena_grow(arena_of(c), c->pairs, c->n_pairs, &c->cap_pairs, sizeof *c->pairs);
    c->pairs[c->n_pairs++] = (struct plan_pair){entry, target};
    return plan_check_size(c->s->pl, c->s->line);
}

/* ADD unpacks a file it is given when its first bytes are an archive's; the guest looks. Files that
 * are only found in a directory are never unpacked. */
static int add_file(struct copy *c, const struct context_entry *entry, const char *name)
{
    bool extract = c->in->word == DOCKERFILE_ADD && entry->type == CONTEXT_FILE;
    if (c->n_pairs && extract != c->extract) {
        int r = flush(c);
        if (r < 0)
            return r;
    }
    c->extract = extract;
    return add_pair(c, entry, arena_strdup(arena_of(c), name));
}

/* ---- sources from the context ---- */

/* Everything below real ("" = all) lands below dest under its path from there. */
static int add_tree(struct copy *c, const char *real)
{
    const struct context *ctx = c->s->pl->ctx;
    size_t first, n = context_below(ctx, real, &first), skip = *real ? strlen(real) + 1 : 0;
    int r = c->extract ? flush(c) : 0;
    c->extract = false;
    c->is_dir = true;
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct context_entry *entry = context_at(ctx, first + i);
        if (!entry->excluded && !entry->implied)
            r = add_pair(c, entry, entry->path + skip);
    }
    return r;
}

/* An excluded directory is still there when something in it is not. */
static bool is_visible(const struct context *ctx, const struct context_entry *entry)
{
    if (!entry->excluded || entry->type != CONTEXT_DIR)
        return !entry->excluded;
    size_t first, n = context_below(ctx, entry->path, &first);
    for (size_t i = 0; i < n; i++)
        if (!context_at(ctx, first + i)->excluded)
            return true;
    return false;
}

static int missing(struct copy *c, const char *path)
{
    const struct context_entry *entry = context_find(c->s->pl->ctx, path);
    return COPY_ERR(c, ENOENT, "%s: no such file in the build context: %.400s%s", c->word, path,
                    entry && !is_visible(c->s->pl->ctx, entry) ? " (excluded by .dockerignore)"
                                                               : "");
}

static int add_literal(struct copy *c, const char *path)
{
    const struct context *ctx = c->s->pl->ctx;
    char real[CONTEXT_MAX_PATH + 1];
    if (context_resolve(ctx, path, real) < 0)
        return missing(c, path);
    if (!*real)
        return add_tree(c, real);
    const struct context_entry *entry = context_find(ctx, real);
    if (!entry || !is_visible(ctx, entry))
        return missing(c, path);
    return entry->type == CONTEXT_DIR ? add_tree(c, real) : add_file(c, entry, paths_base(path));
}

/* All matches in tree order; what is in a matched directory is not matched again. */
static int find_matches(struct copy *c, const struct pattern *p, struct strlist *ret)
{
    const struct context *ctx = c->s->pl->ctx;
    size_t below;
    for (size_t i = 0; i < context_count(ctx); i++) {
        const struct context_entry *entry = context_at(ctx, i);
        bool match = pattern_match(p, entry->path, strlen(entry->path), &c->s->pl->work);
        if (c->s->pl->work > MAX_PATTERN_WORK)
            return COPY_ERR(c, E2BIG, "%s: the patterns take too long to match", c->word);
        if (!match || !is_visible(ctx, entry))
            continue;
        strlist_add(arena_of(c), ret, entry->path);
        if (entry->type == CONTEXT_DIR)
            i += context_below(ctx, entry->path, &below);
    }
    return 0;
}

static int add_matches(struct copy *c, const char *text)
{
    struct pattern *p;
    struct err e = {0};
    struct strlist found = {0};
    if (pattern_compile(text, strlen(text), PATTERN_COPY, &p, &e) < 0)
        return COPY_ERR(c, EINVAL, "%s: '%.200s': %s", c->word, text, e.text);
    int r = find_matches(c, p, &found);
    pattern_free(p);
    if (r == 0 && !found.n)
        r = COPY_ERR(c, ENOENT, "%s: nothing in the build context matches: %.400s", c->word, text);
    c->is_dir = c->is_dir || found.n > 1;
    for (size_t i = 0; r == 0 && i < found.n; i++)
        r = add_literal(c, found.v[i]);
    return r;
}

static int add_source(struct copy *c, const char *source)
{
    char path[PATHS_MAX + 1];
    /* From the root: what climbs above the context stays in it, as with Docker. */
    if (paths_resolve("/", source, path) < 0)
        return COPY_ERR(c, EMSGSIZE, "%s: a source is too long", c->word);
    return pattern_has_magic(path) ? add_matches(c, path + 1) : add_literal(c, path + 1);
}

/* ---- here-documents ---- */

static int add_heredoc(struct copy *c, const struct dockerfile_heredoc *h)
{
    struct plan_step step = {.kind = PLAN_RUN, .from = -1, .cwd = "/", .user = "0:0"};
    if (!*h->name || strchr(h->name, '/') || strcmp(h->name, ".") == 0 ||
        strcmp(h->name, "..") == 0)
        return COPY_ERR(c, EINVAL, "%s: '%.100s' cannot be the name of a file", c->word, h->name);
    step.input = h->body;
    step.input_n = h->body_n;
    if (h->expand) {
        int r = plan_expand(c->s->pl, &c->s->visible, c->s->line, h->body, true, &step.input);
        if (r < 0)
            return r;
        step.input_n = strlen(step.input);
    }
    bool root = strcmp(c->dest, "/") == 0;
    const char *dest = arena_printf(arena_of(c), "%s%s", c->dest, c->slash && !root ? "/" : "");
    const char *owner = c->chown ? c->chown : "0:0";
    const char *const argv[] = {
        "/bin/sh", "-c", file_writer, c->word, dest, h->name, c->chmod ? c->chmod : "0644", owner};
    for (size_t i = 0; i < ARRAY_LEN(argv); i++)
        strlist_add(arena_of(c), &step.args, argv[i]);
    strlist_add(arena_of(c), &step.env, "PATH=" CONFIG_DEFAULT_PATH);
    int r = flush(c);
    c->emitted = true;
    return r < 0 ? r : stage_add_step(c->s, c->in, &step);
}

static int copy_context(struct copy *c)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < c->sources.n; i++) {
        const struct dockerfile_heredoc *h = dockerfile_find_heredoc(c->in, c->sources.v[i]);
        r = h ? add_heredoc(c, h) : add_source(c, c->sources.v[i]);
    }
    if (r == 0)
        r = flush(c);
    /* An empty directory was copied: at least its destination has to be there. */
    return r == 0 && !c->emitted ? make_directory(c) : r;
}

/* ---- sources from a stage ---- */

static int copy_stage(struct copy *c)
{
    struct planner *pl = c->s->pl;
    const struct source_stage *from = plan_find_from(pl, c->s->src, c->in->from);
    struct plan_step step = {
        .kind = PLAN_COPY,
        .from = from->index,
        .dest = c->dest,
        .dest_is_dir = c->slash,
        .chown = c->chown,
        .chmod = c->chmod,
    };
    if (c->in->n_heredocs)
        return COPY_ERR(c, EINVAL, "COPY --from does not go with a here-document");
    for (size_t i = 0; i < c->sources.n; i++) {
        char path[PATHS_MAX + 1];
        struct pattern *p;
        struct err e = {0};
        if (paths_resolve("/", c->sources.v[i], path) < 0)
            return COPY_ERR(c, EMSGSIZE, "COPY: a source is too long");
        if (pattern_compile(path, strlen(path), PATTERN_COPY, &p, &e) < 0)
            return COPY_ERR(c, EINVAL, "COPY: '%.200s': %s", c->sources.v[i], e.text);
        pattern_free(p);
        strlist_add(arena_of(c), &step.sources, arena_strdup(arena_of(c), path));
    }
    return stage_add_step(c->s, c->in, &step);
}

int stage_copy(struct stage_state *s, const struct dockerfile_instruction *in)
{
    struct copy c = {.s = s, .in = in, .word = dockerfile_word_name(in->word), .dest = "/"};
    int r = read_flags(&c);
    if (r == 0)
        r = read_sources(&c);
    if (r == 0)
        r = read_dest(&c);
    if (r < 0)
        return r;
    return in->from ? copy_stage(&c) : copy_context(&c);
}
