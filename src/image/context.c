/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: records are checked one by one and collected; sealing sorts them in tree
 * order ('/' below every other byte, so that a directory is followed by all that is in it), walks
 * them once to add missing parents and to refuse what cannot exist in a file system, and sorts
 * again. After that, look-ups are binary searches.
 */
#include "image/context.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "image/arena.h"
#include "image/ignore.h"
#include "image/paths.h"

/* Steps of the matcher for one context: a second or two of one core for rules made to be slow.
 * 100000 entries and 26 usual rules, 22 of them with "**", take 120 million. */
#define IGNORE_MAX_WORK ((uint64_t)300 * 1000 * 1000)

#define MAX_LINKS 40

struct context {
    struct arena *arena;     /* owned */
    struct context_entry *v; /* owned */
    size_t n, cap;
    size_t path_bytes;
};

static const char *const type_names[] = {"file", "dir", "link"};

struct context *context_new(void)
{
    struct context *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->arena = arena_new();
    return c;
}

void context_free(struct context *c)
{
    if (!c)
        return;
    arena_free(c->arena);
    free(c->v);
    free(c);
}

/* Tree order: as strcmp(), with '/' before any other byte. */
static int path_order(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    int x = *a == '/' ? 1 : *a ? (unsigned char)*a + 1 : 0;
    int y = *b == '/' ? 1 : *b ? (unsigned char)*b + 1 : 0;
    return x - y;
}

static int entry_order(const void *a, const void *b)
{
    return path_order(((const struct context_entry *)a)->path,
                      ((const struct context_entry *)b)->path);
}

static bool path_ok(const char *s, size_t n)
{
    if (n == 0 || n > CONTEXT_MAX_PATH)
        return false;
    for (size_t i = 0; i <= n;) {
        size_t part = strcspn(s + i, "/");
        bool dots = (part == 1 && s[i] == '.') || (part == 2 && s[i] == '.' && s[i + 1] == '.');
        if (part == 0 || part > CONTEXT_MAX_NAME || dots)
            return false;
        i += part + 1;
    }
    return true;
}

static int add(struct context *c, const struct context_entry *entry, struct err *e)
{
    if (c->n == CONTEXT_MAX_ENTRIES)
        return err_set(e, EMSGSIZE, "the build context has more than %d entries",
                       CONTEXT_MAX_ENTRIES);
    c->path_bytes += strlen(entry->path) + (entry->target ? strlen(entry->target) : 0);
    if (c->path_bytes > CONTEXT_MAX_PATH_BYTES)
        return err_set(e, EMSGSIZE, "the paths of the build context are longer than %d bytes",
                       CONTEXT_MAX_PATH_BYTES);
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct context_entry *v = realloc(c->v, cap * sizeof *v);
        if (!v)
            return err_set_errno(e, ENOMEM, "build context");
        c->v = v;
        c->cap = cap;
    }
    c->v[c->n++] = *entry;
    return 0;
}

static int read_type(const json_t *o, enum context_type *ret, struct err *e)
{
    const char *name = json_get_str(o, "type");
    for (size_t i = 0; name && i < ARRAY_LEN(type_names); i++) {
        if (strcmp(name, type_names[i]) == 0) {
            *ret = (enum context_type)i;
            return 0;
        }
    }
    return err_set(e, EINVAL, "record: type is not \"file\", \"dir\" or \"link\"");
}

static int read_path(struct context *c, const json_t *o, bool dir, const char **ret, struct err *e)
{
    const char *path = json_get_str(o, "path");
    size_t n = path ? strlen(path) : 0;
    if (dir && n > 1 && path[n - 1] == '/')
        n--;
    char *copy = path && n <= CONTEXT_MAX_PATH ? arena_strndup(c->arena, path, n) : NULL;
    if (!copy || !path_ok(copy, n))
        return err_set(e, EINVAL, "record: '%.200s' is not a clean relative path",
                       path ? path : "");
    *ret = copy;
    return 0;
}

static int read_number(const json_t *o, const char *key, int64_t max, int64_t *ret, struct err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
        return err_set(e, EINVAL, "record: %s is not a number up to %lld", key, (long long)max);
    *ret = json_integer_value(v);
    return 0;
}

static int read_digest(const json_t *o, char out[SHA256_HEX_LEN + 1], struct err *e)
{
    const char *hex = json_get_str(o, "sha256");
    if (!hex || strlen(hex) != SHA256_HEX_LEN || strspn(hex, "0123456789abcdef") != SHA256_HEX_LEN)
        return err_set(e, EINVAL, "record: sha256 is not 64 hex digits");
    memcpy(out, hex, SHA256_HEX_LEN + 1);
    return 0;
}

static int read_target(struct context *c, const json_t *o, const char **ret, struct err *e)
{
    const char *target = json_get_str(o, "target");
    if (!target || !*target || strlen(target) > CONTEXT_MAX_PATH)
        return err_set(e, EINVAL, "record: a link needs a target of at most %d bytes",
                       CONTEXT_MAX_PATH);
    *ret = arena_strdup(c->arena, target);
    return 0;
}

static int read_record(struct context *c, const json_t *o, struct context_entry *ret, struct err *e)
{
    int64_t mode = 0;
    if (!json_is_object(o))
        return err_set(e, EINVAL, "record: not a JSON object");
    int r = read_type(o, &ret->type, e);
    if (r == 0)
        r = read_path(c, o, ret->type == CONTEXT_DIR, &ret->path, e);
    if (r == 0)
        r = read_number(o, "mode", 07777, &mode, e);
    ret->mode = (unsigned)mode;
    if (r == 0 && ret->type == CONTEXT_FILE)
        r = read_number(o, "size", CONTEXT_MAX_FILE, &ret->size, e);
    if (r == 0 && ret->type == CONTEXT_FILE)
        r = read_digest(o, ret->sha256, e);
    if (r == 0 && ret->type == CONTEXT_LINK)
        r = read_target(c, o, &ret->target, e);
    return r;
}

int context_add_record(struct context *c, const char *json, size_t n, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *o = NULL;
    int r = json_parse(json, n, CONTEXT_MAX_RECORD, &o, e);
    if (r < 0) {
        (void)err_wrap(e, "record");
        return r;
    }
    struct context_entry entry = {0};
    r = read_record(c, o, &entry, e);
    return r < 0 ? r : add(c, &entry, e);
}

static int find_index(const struct context *c, size_t n, const char *path, size_t *ret)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = path_order(c->v[mid].path, path);
        if (order == 0) {
            *ret = mid;
            return 0;
        }
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret = lo;
    return -ENOENT;
}

/*
 * Parents of an entry that the archive does not name. Entries come in tree order, so a parent that
 * the previous entry has too was dealt with there: only what differs is looked up.
 */
static int imply_parents(struct context *c, size_t sorted, const char *path, const char *previous,
                         struct err *e)
{
    size_t shared = 0;
    for (size_t i = 0; path[i] && path[i] == previous[i]; i++)
        if (path[i] == '/')
            shared = i + 1;
    for (size_t i = shared; path[i]; i++) {
        if (path[i] != '/')
            continue;
        struct context_entry parent = {
            .path = arena_strndup(c->arena, path, i),
            .type = CONTEXT_DIR,
            .mode = 0755,
            .implied = true,
        };
        size_t at;
        if (find_index(c, sorted, parent.path, &at) == 0) {
            if (c->v[at].type != CONTEXT_DIR)
                return err_set(e, EINVAL,
                               "'%.200s' is in the archive below '%.200s', which is a %s", path,
                               parent.path, type_names[c->v[at].type]);
            continue;
        }
        int r = add(c, &parent, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int context_seal(struct context *c, struct err *e)
{
    size_t n = c->n;
    if (n)
        qsort(c->v, n, sizeof *c->v, entry_order);
    for (size_t i = 0; i < n; i++) {
        const char *path = c->v[i].path; /* c->v may move below */
        if (i && strcmp(path, c->v[i - 1].path) == 0)
            return err_set(e, EINVAL, "'%.200s' is in the archive twice", path);
        int r = imply_parents(c, n, path, i ? c->v[i - 1].path : "", e);
        if (r < 0)
            return r;
    }
    if (c->n > n)
        qsort(c->v, c->n, sizeof *c->v, entry_order);
    return 0;
}

static size_t depth_of(const char *path)
{
    size_t n = 0;
    for (; *path; path++)
        n += *path == '/';
    return n;
}

/* Tree order: the directory a level up on the current branch is always the one seen last there. */
int context_apply_ignore(struct context *c, const struct ignore *rules, struct err *e)
{
    uint64_t work = 0;
    size_t words = ignore_set_words(rules), depth = 0;
    for (size_t i = 0; i < c->n; i++) {
        size_t d = depth_of(c->v[i].path) + 1;
        depth = d > depth ? d : depth;
    }
    uint64_t *sets = calloc(depth + 1, words * sizeof *sets);
    if (!sets)
        return err_set_errno(e, ENOMEM, ".dockerignore");
    for (size_t i = 0; i < c->n && work <= IGNORE_MAX_WORK; i++) {
        size_t d = depth_of(c->v[i].path);
        c->v[i].excluded =
            ignore_match_below(rules, c->v[i].path, d ? sets + (d - 1) * words : NULL,
                               c->v[i].type == CONTEXT_DIR ? sets + d * words : NULL, &work);
    }
    free(sets);
    if (work > IGNORE_MAX_WORK)
        return err_set(e, E2BIG,
                       ".dockerignore: the patterns take too long to match against "
                       "this build context");
    return 0;
}

size_t context_count(const struct context *c)
{
    return c->n;
}

const struct context_entry *context_at(const struct context *c, size_t i)
{
    return &c->v[i];
}

const struct context_entry *context_find(const struct context *c, const char *path)
{
    size_t i;
    return find_index(c, c->n, path, &i) == 0 ? &c->v[i] : NULL;
}

size_t context_below(const struct context *c, const char *dir, size_t *first)
{
    size_t i = 0, n = strlen(dir), end;
    if (!n) {
        *first = 0;
        return c->n;
    }
    if (find_index(c, c->n, dir, &i) == 0)
        i++;
    for (end = i; end < c->n; end++)
        if (strncmp(c->v[end].path, dir, n) != 0 || c->v[end].path[n] != '/')
            break;
    *first = i;
    return end - i;
}

/* Puts a link's target before what is left of the path. */
static int splice(char *rest, const char *target, const char *tail)
{
    char joined[2 * (CONTEXT_MAX_PATH + 1)]; /* tail points into rest */
    int n = snprintf(joined, sizeof joined, "%s/%s", target, tail);
    if (n < 0 || n > CONTEXT_MAX_PATH)
        return -ELOOP;
    memcpy(rest, joined, (size_t)n + 1);
    return 0;
}

static void go_up(char *out)
{
    char *slash = strrchr(out, '/');
    *(slash ? slash : out) = '\0';
}

/* One component of rest: extends out, or replaces rest when it is a link. */
static int resolve_part(const struct context *c, char *out, const char *part, size_t n, char *rest,
                        const char *tail, unsigned *links)
{
    size_t len = strlen(out);
    if (len + 1 + n > CONTEXT_MAX_PATH)
        return -ENOENT;
    size_t old = len;
    if (len)
        out[len++] = '/';
    memcpy(out + len, part, n);
    out[len + n] = '\0';
    const struct context_entry *entry = context_find(c, out);
    if (!entry || (entry->excluded && entry->type != CONTEXT_DIR))
        return -ENOENT;
    if (entry->type != CONTEXT_LINK)
        return *tail && entry->type != CONTEXT_DIR ? -ENOENT : 0;
    if (++*links > MAX_LINKS)
        return -ELOOP;
    out[entry->target[0] == '/' ? 0 : old] = '\0';
    return splice(rest, entry->target, tail);
}

int context_resolve(const struct context *c, const char *path, char out[CONTEXT_MAX_PATH + 1])
{
    char rest[CONTEXT_MAX_PATH + 1], part[CONTEXT_MAX_NAME + 1];
    unsigned links = 0;
    if (strlen(path) > CONTEXT_MAX_PATH)
        return -ENOENT;
    memcpy(rest, path, strlen(path) + 1);
    out[0] = '\0';
    for (const char *p = rest; *p;) {
        size_t n = strcspn(p, "/");
        const char *tail = p + n + (p[n] == '/');
        if (n > CONTEXT_MAX_NAME)
            return -ENOENT;
        memcpy(part, p, n);
        part[n] = '\0';
        unsigned before = links;
        p = tail;
        if (n == 0 || strcmp(part, ".") == 0)
            continue;
        if (strcmp(part, "..") == 0) {
            go_up(out);
            continue;
        }
        int r = resolve_part(c, out, part, n, rest, tail, &links);
        if (r < 0)
            return r;
        if (links != before)
            p = rest;
    }
    return 0;
}
