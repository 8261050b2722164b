/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a pattern becomes a list of tokens; matching keeps the set of positions in
 * that list reachable after each character, as one bit per position. There is no backtracking, so
 * "*a*a*a*..." costs no more than any other pattern of its length.
 *
 * Characters are code points; a byte that is not valid UTF-8 counts as one character of its own.
 */
#include "image/pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/utf8.h"

enum kind {
    LITERAL,
    ANY,        /* one but '/' */
    CLASS,      /* one in the ranges */
    STAR,       /* any run without '/' */
    ALL,        /* any run */
    DEEP_ENTER, /* nothing, or a run that ends in '/': this token ... */
    DEEP,       /* ... and its second half, inside the run */
};

struct token {
    enum kind kind;
    uint32_t ch;     /* LITERAL */
    size_t first, n; /* CLASS: slice of ranges */
    bool negated;
};

struct range {
    uint32_t lo, hi;
};

struct pattern {
    struct token *tokens; /* owned */
    size_t n;
    struct range *ranges; /* owned */
    size_t n_ranges;
};

#define MAX_TOKENS (PATTERN_MAX + 1)
#define WORDS ((MAX_TOKENS + 1 + 63) / 64)

void pattern_free(struct pattern *p)
{
    if (!p)
        return;
    free(p->tokens);
    free(p->ranges);
    free(p);
}

/* One character of a class, where a bare ']' or '-' has no place. */
static int class_char(struct slice *s, uint32_t *ret)
{
    if (!s->n || *s->p == '-' || *s->p == ']')
        return -EINVAL;
    if (*s->p == '\\') {
        s->p++, s->n--;
        if (!s->n)
            return -EINVAL;
    }
    *ret = utf8_next(s);
    return s->n ? 0 : -EINVAL; /* a class has to be closed */
}

/* *s starts after the '['. */
static int class_parse(struct pattern *p, struct slice *s, struct token *t)
{
    t->kind = CLASS;
    t->first = p->n_ranges;
    if (s->n && *s->p == '^') {
        t->negated = true;
        s->p++, s->n--;
    }
    for (;;) {
        if (s->n && *s->p == ']' && p->n_ranges > t->first) {
            s->p++, s->n--;
            t->n = p->n_ranges - t->first;
            return 0;
        }
        struct range r;
        if (class_char(s, &r.lo) < 0)
            return -EINVAL;
        r.hi = r.lo;
        if (*s->p == '-') {
            s->p++, s->n--;
            if (class_char(s, &r.hi) < 0)
                return -EINVAL;
        }
        p->ranges[p->n_ranges++] = r;
    }
}

/*
 * A double star of the ignore dialect. Before the end it takes everything; elsewhere it stands for
 * any number of directories and takes a '/' after it along. At the very start of an otherwise
 * literal pattern without that '/' ("**.log") it takes any text.
 */
static void double_star(struct pattern *p, struct slice *s, bool at_start)
{
    bool slash = s->n && *s->p == '/';
    if (slash)
        s->p++, s->n--;
    bool literal_rest = true;
    for (size_t i = 0; i < s->n; i++)
        if (strchr("*?[\\", s->p[i]))
            literal_rest = false;
    if (!s->n || (at_start && !slash && literal_rest)) {
        p->tokens[p->n++] = (struct token){.kind = ALL};
        return;
    }
    p->tokens[p->n++] = (struct token){.kind = DEEP_ENTER};
    p->tokens[p->n++] = (struct token){.kind = DEEP};
}

static int token_parse(struct pattern *p, struct slice *s, enum pattern_dialect dialect,
                       struct err *e)
{
    bool at_start = p->n == 0;
    uint32_t c = utf8_next(s);
    struct token t = {.kind = LITERAL, .ch = c};
    if (c == '*' && dialect == PATTERN_IGNORE && s->n && *s->p == '*') {
        s->p++, s->n--;
        double_star(p, s, at_start);
        return 0;
    }
    if (c == '*') {
        t.kind = STAR;
    } else if (c == '?') {
        t.kind = ANY;
    } else if (c == '[') {
        if (class_parse(p, s, &t) < 0)
            return err_set(e, EINVAL, "malformed [class] in the pattern");
    } else if (c == '\\') {
        if (!s->n)
            return err_set(e, EINVAL, "the pattern ends in an escape");
        t.ch = utf8_next(s);
    }
    p->tokens[p->n++] = t;
    return 0;
}

int pattern_compile(const char *text, size_t n, enum pattern_dialect dialect, struct pattern **ret,
                    struct err *e)
{
    if (n > PATTERN_MAX)
        return err_set(e, EMSGSIZE, "the pattern is longer than %d bytes", PATTERN_MAX);
    struct pattern *p = calloc(1, sizeof *p);
    /* A token takes at least one byte of the pattern, a range too; "**" makes two of two. */
    if (!p || !(p->tokens = calloc(n + 1, sizeof *p->tokens)) ||
        !(p->ranges = calloc(n + 1, sizeof *p->ranges))) {
        pattern_free(p);
        return err_set_errno(e, ENOMEM, "pattern");
    }
    int r = 0;
    for (struct slice s = {text, n}; r == 0 && s.n;)
        r = token_parse(p, &s, dialect, e);
    if (r < 0)
        pattern_free(p);
    else
        *ret = p;
    return r;
}

static bool class_has(const struct pattern *p, const struct token *t, uint32_t c)
{
    bool in = false;
    for (size_t i = 0; i < t->n && !in; i++)
        in = p->ranges[t->first + i].lo <= c && c <= p->ranges[t->first + i].hi;
    return in != t->negated;
}

struct states {
    uint64_t w[WORDS];
};

static void states_set(struct states *s, size_t i)
{
    s->w[i / 64] |= (uint64_t)1 << (i % 64);
}

/* Position i and every position reachable from it without a character. */
static void states_add(const struct pattern *p, struct states *s, size_t i)
{
    for (;;) {
        states_set(s, i);
        if (i == p->n)
            return;
        switch (p->tokens[i].kind) {
        case STAR:
        case ALL:
            i++;
            break;
        case DEEP_ENTER:
            states_set(s, i + 1);
            i += 2;
            break;
        default:
            return;
        }
    }
}

static void states_step(const struct pattern *p, struct states *next, size_t i, uint32_t c)
{
    if (i == p->n)
        return;
    const struct token *t = &p->tokens[i];
    bool past = false, stay = false;
    switch (t->kind) {
    case LITERAL:
        past = t->ch == c;
        break;
    case ANY:
        past = c != '/';
        break;
    case CLASS:
        past = class_has(p, t, c);
        break;
    case STAR:
        stay = c != '/';
        break;
    case ALL:
        stay = true;
        break;
    case DEEP:
        states_set(next, i); /* not states_add: leaving needs a '/' */
        past = c == '/';
        break;
    case DEEP_ENTER:
        break;
    }
    if (past)
        states_add(p, next, i + 1);
    if (stay)
        states_add(p, next, i);
}

/* Where nothing but a run of directories is open, only the next '/' can change that: leaves s
 * there, or at its end. Most of the time spent on "**" rules is spent here. */
static void skip_deep(const struct pattern *p, const struct states *now, struct slice *s)
{
    uint64_t bits = now->w[0];
    if (p->n >= 64 || !bits || (bits & (bits - 1)) || bits >> p->n ||
        p->tokens[__builtin_ctzll(bits)].kind != DEEP)
        return;
    const char *slash = memchr(s->p, '/', s->n);
    size_t skip = slash ? (size_t)(slash - s->p) : s->n;
    s->p += skip;
    s->n -= skip;
}

bool pattern_match(const struct pattern *p, const char *text, size_t n, uint64_t *work)
{
    struct states sets[2], *now = &sets[0], *next = &sets[1];
    size_t words = p->n / 64 + 1; /* most patterns need one: the rest is never touched */
    uint64_t steps = 1, alive = 1;
    memset(now->w, 0, words * sizeof now->w[0]);
    states_add(p, now, 0);
    for (struct slice s = {text, n}; s.n && alive;) {
        skip_deep(p, now, &s);
        if (!s.n)
            break; /* inside the run: the accepting state is not among the set */
        uint32_t c = utf8_next(&s);
        memset(next->w, 0, words * sizeof next->w[0]);
        for (size_t w = 0; w < words; w++) {
            for (uint64_t bits = now->w[w]; bits; bits &= bits - 1) {
                states_step(p, next, w * 64 + (size_t)__builtin_ctzll(bits), c);
                steps++;
            }
        }
        alive = 0;
        for (size_t w = 0; w < words; w++)
            alive |= next->w[w];
        struct states *t = now;
        now = next;
        next = t;
    }
    if (work)
        *work += steps;
    return alive && (now->w[p->n / 64] >> (p->n % 64) & 1);
}

bool pattern_has_magic(const char *s)
{
    return strpbrk(s, "*?[\\") != NULL;
}
