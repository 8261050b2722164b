/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the text is cut into physical lines, physical lines are joined to one
 * logical line per instruction (escape at the end of a line; comments and blank lines in between
 * vanish), the logical line is parsed by its instruction's row in dockerfile_words.c, and the
 * here-documents its arguments announce are then read from the lines that follow.
 *
 * What cannot happen: a NUL byte in any string, more instructions, words or bytes than the limits
 * of dockerfile.h, memory beyond a small multiple of the input.
 */
#include "image/dockerfile.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/dockerfile_internal.h"
#include "image/utf8.h"

struct reader {
    const char *p, *end;
    unsigned line; /* number of the line read last */
    struct dockerfile *d;
    size_t cap;      /* of d->v */
    struct buf join; /* the logical line */
    struct err *e;
};

int dockerfile_err(struct err *e, int code, unsigned line, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    /* Words of the file are quoted in here: keep them on one line and free of terminal codes. */
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    return err_set(e, code, "Dockerfile:%u: %s", line, text);
}

void dockerfile_free(struct dockerfile *d)
{
    if (!d)
        return;
    arena_free(d->arena);
    free(d);
}

static void cleanup_dockerfile(struct dockerfile **d)
{
    dockerfile_free(*d);
}

bool dockerfile_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r';
}

struct slice dockerfile_trim(struct slice s)
{
    while (s.n && dockerfile_is_space(s.p[0]))
        s.p++, s.n--;
    while (s.n && dockerfile_is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct slice dockerfile_take_word(struct slice *s)
{
    while (s->n && dockerfile_is_space(s->p[0]))
        s->p++, s->n--;
    struct slice word = {s->p, 0};
    while (word.n < s->n && !dockerfile_is_space(s->p[word.n]))
        word.n++;
    s->p += word.n;
    s->n -= word.n;
    return word;
}

/* The next physical line without its end (LF or CR LF). */
static bool read_line(struct reader *r, struct slice *ret)
{
    if (r->p == r->end)
        return false;
    const char *nl = memchr(r->p, '\n', (size_t)(r->end - r->p));
    const char *stop = nl ? nl : r->end;
    *ret = (struct slice){r->p, (size_t)(stop - r->p)};
    if (ret->n && ret->p[ret->n - 1] == '\r')
        ret->n--;
    r->p = nl ? nl + 1 : r->end;
    r->line++;
    return true;
}

static struct slice skip_spaces(struct slice s)
{
    while (s.n && dockerfile_is_space(s.p[0]))
        s.p++, s.n--;
    return s;
}

/* "# name = value" at the top of the file. */
static bool directive_split(struct slice s, struct slice *name, struct slice *value)
{
    s = dockerfile_trim(s);
    if (!s.n || s.p[0] != '#')
        return false;
    s.p++, s.n--;
    const char *eq = memchr(s.p, '=', s.n);
    if (!eq)
        return false;
    *name = dockerfile_trim((struct slice){s.p, (size_t)(eq - s.p)});
    *value = dockerfile_trim((struct slice){eq + 1, s.n - (size_t)(eq - s.p) - 1});
    if (!name->n || !value->n || !isalpha((unsigned char)name->p[0]))
        return false;
    for (size_t i = 0; i < name->n; i++)
        if (!isalnum((unsigned char)name->p[i]))
            return false;
    return true;
}

/* 1 when the line was a directive, 0 when it is not one (then none follows), or an error. */
static int directive(struct reader *r, struct slice line, unsigned *seen)
{
    static const char *const names[] = {"escape", "syntax", "check"};
    struct slice name, value;
    if (!directive_split(line, &name, &value))
        return 0;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (!slice_eq_nocase(name, names[i]))
            continue;
        if (*seen & 1u << i)
            return dockerfile_err(r->e, EINVAL, r->line, "directive '%s' is given twice", names[i]);
        *seen |= 1u << i;
        if (i == 0 && !slice_eq(value, "\\") && !slice_eq(value, "`"))
            return dockerfile_err(r->e, EINVAL, r->line,
                                  "the escape character must be \\ or `, not '%.*s'",
                                  (int)(value.n > 40 ? 40 : value.n), value.p);
        if (i == 0)
            r->d->escape = value.p[0];
        return 1;
    }
    return 0;
}

/* Cuts the escape (and the spaces after it) off a line that goes on; two escapes are text. */
static bool continues(const struct reader *r, struct slice *line)
{
    struct slice s = *line;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    if (!s.n || s.p[s.n - 1] != r->d->escape)
        return false;
    if (s.n > 1 && s.p[s.n - 2] == r->d->escape)
        return false;
    line->n = s.n - 1;
    return true;
}

static int join_add(struct reader *r, struct slice s, unsigned start)
{
    int rc = buf_add(&r->join, s.p, s.n);
    if (rc == -EMSGSIZE)
        return dockerfile_err(r->e, EMSGSIZE, start, "the instruction is longer than %d bytes",
                              DOCKERFILE_MAX_LINE);
    return rc < 0 ? dockerfile_err(r->e, -rc, start, "out of memory") : 0;
}

/* Collects one logical line that begins with *line; it may turn out empty. */
static int join_lines(struct reader *r, struct slice line)
{
    unsigned start = r->line;
    buf_clear(&r->join);
    bool more = continues(r, &line);
    int rc = join_add(r, line, start);
    while (rc == 0 && more && read_line(r, &line)) {
        struct slice text = skip_spaces(line);
        if (!text.n || text.p[0] == '#')
            continue;
        more = continues(r, &line);
        rc = join_add(r, line, start);
    }
    return rc;
}

static struct slice strip(struct slice line, bool strip_tabs)
{
    while (strip_tabs && line.n && line.p[0] == '\t')
        line.p++, line.n--;
    return line;
}

/*
 * Reads lines up to the terminator. The body loses CR before LF, and for <<- leading tabs. The
 * end is found before anything is allocated: all bodies together cost no more than the file.
 */
static int read_heredoc(struct reader *r, struct dockerfile_heredoc *h, bool strip_tabs,
                        unsigned start)
{
    struct reader ahead = *r;
    struct slice line;
    bool ended = false;
    while (!ended && read_line(&ahead, &line))
        ended = slice_eq(strip(line, strip_tabs), h->name);
    if (!ended)
        return dockerfile_err(r->e, EINVAL, start, "here-document '%s' has no end", h->name);
    size_t room = (size_t)(ahead.p - r->p) + 1;
    char *body = arena_alloc(r->d->arena, room), *raw = arena_alloc(r->d->arena, room);
    size_t n = 0, raw_n = 0;
    while (read_line(r, &line) && r->line < ahead.line) {
        struct slice text = strip(line, strip_tabs);
        memcpy(body + n, text.p, text.n);
        n += text.n;
        body[n++] = '\n';
        memcpy(raw + raw_n, line.p, line.n);
        raw_n += line.n;
        raw[raw_n++] = '\n';
    }
    h->body = body;
    h->body_n = n;
    h->raw = raw;
    return 0;
}

static int read_heredocs(struct reader *r, struct dockerfile_line *l,
                         struct dockerfile_instruction *in)
{
    bool strip_tabs[DOCKERFILE_MAX_HEREDOCS] = {false};
    int rc = dockerfile_find_markers(l, in, strip_tabs);
    for (size_t i = 0; rc == 0 && i < in->n_heredocs; i++)
        rc = read_heredoc(r, &in->heredocs[i], strip_tabs[i], in->line);
    return rc;
}

static int add_instruction(struct reader *r, unsigned start)
{
    struct dockerfile *d = r->d;
    struct slice text = dockerfile_trim((struct slice){r->join.data, r->join.len});
    if (!text.n)
        return 0;
    if (d->n == DOCKERFILE_MAX_INSTRUCTIONS)
        return dockerfile_err(r->e, EMSGSIZE, start, "more than %d instructions",
                              DOCKERFILE_MAX_INSTRUCTIONS);
    struct dockerfile_instruction in = {.line = start};
    in.text = arena_strndup(d->arena, text.p, text.n);
    struct dockerfile_line l = {d->arena, d->escape, start, {in.text, text.n}, r->e};
    int rc = dockerfile_parse_line(&l, &in);
    if (rc == 0)
        rc = read_heredocs(r, &l, &in);
    if (rc < 0)
        return rc;
    d->v = arena_grow(d->arena, d->v, d->n, &r->cap, sizeof *d->v);
    d->v[d->n++] = in;
    return 0;
}

static int read_all(struct reader *r)
{
    struct slice line;
    bool directives = true;
    unsigned seen = 0;
    while (read_line(r, &line)) {
        int rc = directives ? directive(r, line, &seen) : 0;
        if (rc < 0)
            return rc;
        if (rc > 0)
            continue;
        directives = false;
        unsigned start = r->line;
        line = skip_spaces(line);
        if (!line.n || line.p[0] == '#')
            continue;
        rc = join_lines(r, line);
        if (rc == 0)
            rc = add_instruction(r, start);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_bytes(const char *p, size_t n, struct err *e)
{
    if (n > DOCKERFILE_MAX_BYTES)
        return dockerfile_err(e, EMSGSIZE, 1, "the file is larger than %d bytes",
                              DOCKERFILE_MAX_BYTES);
    const char *nul = n ? memchr(p, '\0', n) : NULL;
    unsigned line = 1;
    for (const char *c = p; nul && c < nul; c++)
        line += *c == '\n';
    if (nul)
        return dockerfile_err(e, EINVAL, line, "the file has a NUL byte in it");
    /* Its words end up in JSON, which has no other bytes. */
    line = 1;
    for (struct slice s = {p, n}; s.n;) {
        uint32_t c = utf8_next(&s);
        line += c == '\n';
        if (c >= UTF8_INVALID)
            return dockerfile_err(e, EINVAL, line, "the file is not valid UTF-8");
    }
    return 0;
}

int dockerfile_parse(const char *p, size_t n, struct dockerfile **ret, struct err *e)
{
    int rc = check_bytes(p, n, e);
    if (rc < 0)
        return rc;
    if (!n)
        p = "";
    CLEANUP(cleanup_dockerfile)
    struct dockerfile *d = calloc(1, sizeof *d);
    if (!d)
        return dockerfile_err(e, ENOMEM, 1, "out of memory");
    d->arena = arena_new();
    d->escape = '\\';
    if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        p += 3, n -= 3;
    struct reader r = {.p = p, .end = p + n, .d = d, .e = e};
    r.join = BUF_INIT(DOCKERFILE_MAX_LINE);
    rc = read_all(&r);
    buf_done(&r.join);
    if (rc < 0)
        return rc;
    d->lines = r.line;
    if (!d->n)
        return dockerfile_err(e, EINVAL, r.line ? r.line : 1, "the file has no instructions");
    *ret = TAKE(d);
    return 0;
}
