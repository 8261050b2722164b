/* SPDX-License-Identifier: Apache-2.0 */
#include "image/ignore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "image/paths.h"
#include "image/pattern.h"

struct rule {
    struct pattern *pattern; /* owned */
    bool negated;            /* "!": takes what matches out again */
};

struct ignore {
    struct rule *rules; /* owned */
    size_t n, cap;
};

void ignore_free(struct ignore *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n; i++)
        pattern_free(g->rules[i].pattern);
    free(g->rules);
    free(g);
}

static struct slice trim(struct slice s)
{
    while (s.n && strchr(" \t\v\f\r", s.p[0]))
        s.p++, s.n--;
    while (s.n && strchr(" \t\v\f\r", s.p[s.n - 1]))
        s.n--;
    return s;
}

static int rule_add(struct ignore *g, struct slice text, bool negated, unsigned line, struct err *e)
{
    if (g->n == IGNORE_MAX_RULES)
        return err_set(e, EMSGSIZE, ".dockerignore:%u: more than %d rules", line, IGNORE_MAX_RULES);
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 16;
        struct rule *v = realloc(g->rules, cap * sizeof *v);
        if (!v)
            return err_set_errno(e, ENOMEM, ".dockerignore");
        g->rules = v;
        g->cap = cap;
    }
    char clean[PATHS_MAX + 1];
    if (paths_clean(text.p, text.n, clean) < 0)
        return err_set(e, EMSGSIZE, ".dockerignore:%u: the pattern is too long", line);
    const char *from = clean[0] == '/' && clean[1] ? clean + 1 : clean;
    struct rule r = {.negated = negated};
    int rc = pattern_compile(from, strlen(from), PATTERN_IGNORE, &r.pattern, e);
    if (rc < 0) {
        (void)err_wrap(e, ".dockerignore:%u", line);
        return rc;
    }
    g->rules[g->n++] = r;
    return 0;
}

static int line_parse(struct ignore *g, struct slice s, unsigned line, struct err *e)
{
    if (s.n && s.p[0] == '#') /* a comment only in the first column */
        return 0;
    s = trim(s);
    if (!s.n)
        return 0;
    bool negated = s.p[0] == '!';
    if (negated) {
        s.p++, s.n--;
        s = trim(s);
    }
    if (!s.n)
        return err_set(e, EINVAL, ".dockerignore:%u: '!' needs a pattern after it", line);
    return rule_add(g, s, negated, line, e);
}

static int parse_lines(struct ignore *g, const char *p, size_t n, struct err *e)
{
    unsigned line = 1;
    int r = 0;
    for (const char *end = p + n; r == 0 && p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *stop = nl ? nl : end;
        r = line_parse(g, (struct slice){p, (size_t)(stop - p)}, line, e);
        p = nl ? nl + 1 : end;
    }
    return r;
}

int ignore_parse(const char *p, size_t n, struct ignore **ret, struct err *e)
{
    if (n > IGNORE_MAX_BYTES)
        return err_set(e, EMSGSIZE, ".dockerignore:1: larger than %d bytes", IGNORE_MAX_BYTES);
    if (n && memchr(p, '\0', n))
        return err_set(e, EINVAL, ".dockerignore:1: the file has a NUL byte in it");
    if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        p += 3, n -= 3;
    struct ignore *g = calloc(1, sizeof *g);
    if (!g)
        return err_set_errno(e, ENOMEM, ".dockerignore");
    int r = n ? parse_lines(g, p, n, e) : 0;
    if (r < 0)
        ignore_free(g);
    else
        *ret = g;
    return r;
}

/* The path itself or one of the directories above it. */
static bool rule_covers(const struct rule *r, const char *path, size_t n, uint64_t *work)
{
    if (pattern_match(r->pattern, path, n, work))
        return true;
    for (size_t i = 1; i < n; i++)
        if (path[i] == '/' && pattern_match(r->pattern, path, i, work))
            return true;
    return false;
}

bool ignore_match(const struct ignore *g, const char *path, uint64_t *work)
{
    bool excluded = false;
    size_t n = strlen(path);
    for (size_t i = 0; i < g->n; i++) {
        /* A rule that could only confirm what already holds need not be tried. */
        if (g->rules[i].negated == excluded && rule_covers(&g->rules[i], path, n, work))
            excluded = !excluded;
    }
    return excluded;
}

size_t ignore_set_words(const struct ignore *g)
{
    return g->n / 64 + 1;
}

bool ignore_match_below(const struct ignore *g, const char *path, const uint64_t *above,
                        uint64_t *own, uint64_t *work)
{
    bool excluded = false;
    size_t n = strlen(path);
    if (own)
        memset(own, 0, ignore_set_words(g) * sizeof *own);
    for (size_t i = 0; i < g->n; i++) {
        bool decides = g->rules[i].negated == excluded;
        if (!decides && !own)
            continue;
        bool covers = (above && above[i / 64] >> (i % 64) & 1) ||
                      pattern_match(g->rules[i].pattern, path, n, work);
        if (covers && own)
            own[i / 64] |= (uint64_t)1 << (i % 64);
        if (covers && decides)
            excluded = !excluded;
    }
    return excluded;
}
