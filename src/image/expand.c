/* SPDX-License-Identifier: Apache-2.0 */
#include "image/expand.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

struct scan {
    const struct expand *x;
    struct slice in; /* what is left */
    struct buf *out;
    unsigned depth;
    struct err *e;
};

static int expand_until(struct scan *s, char stop);

static int put(struct scan *s, const char *p, size_t n)
{
    int r = buf_add(s->out, p, n);
    if (r == -EMSGSIZE)
        return err_set(s->e, EMSGSIZE, "the value expands to more than %zu bytes", s->out->max);
    return r < 0 ? err_set_errno(s->e, -r, "expansion") : 0;
}

static char take(struct scan *s)
{
    s->in.n--;
    return *s->in.p++;
}

static int single_quoted(struct scan *s)
{
    take(s);
    const char *end = s->in.n ? memchr(s->in.p, '\'', s->in.n) : NULL;
    if (!end)
        return err_set(s->e, EINVAL, "a single quote is not closed");
    size_t n = (size_t)(end - s->in.p);
    int r = put(s, s->in.p, n);
    s->in.p += n + 1;
    s->in.n -= n + 1;
    return r;
}

/* The longest name at the front: letters, digits and '_', or digits, or one special parameter. */
static struct slice take_name(struct scan *s)
{
    struct slice name = {s->in.p, 0};
    if (!s->in.n)
        return name;
    unsigned char first = (unsigned char)s->in.p[0];
    if (isdigit(first)) {
        while (name.n < s->in.n && isdigit((unsigned char)s->in.p[name.n]))
            name.n++;
    } else if (strchr("@*#?-$!", first) && first) {
        name.n = 1;
    } else {
        while (name.n < s->in.n &&
               (isalnum((unsigned char)s->in.p[name.n]) || s->in.p[name.n] == '_'))
            name.n++;
    }
    s->in.p += name.n;
    s->in.n -= name.n;
    return name;
}

/* ${NAME<op>word}: word is always scanned, so that its end is found and its errors are told. */
static int modified(struct scan *s, struct slice name, char op, bool empty_is_unset)
{
    struct buf word = BUF_INIT(s->out->max);
    struct scan inner = *s;
    inner.out = &word;
    int r = ++inner.depth > EXPAND_MAX_DEPTH
                ? err_set(s->e, EINVAL, "substitutions are nested deeper than %d", EXPAND_MAX_DEPTH)
                : expand_until(&inner, '}');
    s->in = inner.in;
    const char *value = s->x->get(s->x->arg, name);
    bool set = value && (value[0] || !empty_is_unset);
    if (r == 0 && op == '+')
        r = set ? put(s, word.data, word.len) : 0;
    else if (r == 0 && set)
        r = put(s, value, strlen(value));
    else if (r == 0 && op == '-')
        r = put(s, word.data, word.len);
    else if (r == 0)
        r = err_set(s->e, EINVAL, "%.*s: %s", (int)name.n, name.p,
                    word.len         ? word.data
                    : empty_is_unset ? "must be set and not empty"
                                     : "must be set");
    buf_done(&word);
    return r;
}

static int braced(struct scan *s)
{
    take(s);
    struct slice name = take_name(s);
    if (!s->in.n)
        return err_set(s->e, EINVAL, "'${' is not closed");
    if (!name.n)
        return err_set(s->e, EINVAL, "bad substitution: '${' needs a variable name");
    char op = take(s);
    if (op == '}') {
        const char *value = s->x->get(s->x->arg, name);
        return value ? put(s, value, strlen(value)) : 0;
    }
    bool colon = op == ':';
    if (colon) {
        if (!s->in.n)
            return err_set(s->e, EINVAL, "'${' is not closed");
        op = take(s);
    }
    if (op != '-' && op != '+' && op != '?')
        return err_set(s->e, EINVAL, "unsupported modifier '%s%c' in '${%.*s'", colon ? ":" : "",
                       op, (int)name.n, name.p);
    return modified(s, name, op, colon);
}

static int dollar(struct scan *s)
{
    take(s);
    if (s->in.n && s->in.p[0] == '{')
        return braced(s);
    struct slice name = take_name(s);
    if (!name.n)
        return put(s, "$", 1);
    const char *value = s->x->get(s->x->arg, name);
    return value ? put(s, value, strlen(value)) : 0;
}

/* Inside double quotes and here-documents the escape is text unless it protects something. */
static int soft_escape(struct scan *s, const char *protects)
{
    char c = take(s);
    if (s->in.n && (s->in.p[0] == c || strchr(protects, s->in.p[0])))
        c = take(s);
    else if (!s->in.n && !s->x->heredoc)
        return 0;
    return put(s, &c, 1);
}

static int double_quoted(struct scan *s)
{
    take(s);
    while (s->in.n) {
        char c = s->in.p[0];
        int r;
        if (c == '"') {
            take(s);
            return 0;
        }
        if (c == '$')
            r = dollar(s);
        else if (c == s->x->escape)
            r = soft_escape(s, "\"$");
        else
            r = put(s, &c, 1), take(s);
        if (r < 0)
            return r;
    }
    return err_set(s->e, EINVAL, "a double quote is not closed");
}

static int hard_escape(struct scan *s)
{
    take(s);
    if (!s->in.n)
        return 0; /* at the very end it stands for nothing */
    char c = take(s);
    return put(s, &c, 1);
}

/* One unit of unquoted text. */
static int expand_one(struct scan *s)
{
    char c = s->in.p[0];
    bool quotes = !s->x->heredoc;
    if (c == '$')
        return dollar(s);
    if (c == '\'' && quotes)
        return single_quoted(s);
    if (c == '"' && quotes)
        return double_quoted(s);
    if (c == s->x->escape)
        return quotes ? hard_escape(s) : soft_escape(s, "$`");
    take(s);
    return put(s, &c, 1);
}

static int expand_until(struct scan *s, char stop)
{
    while (s->in.n) {
        if (stop && s->in.p[0] == stop) {
            take(s);
            return 0;
        }
        int r = expand_one(s);
        if (r < 0)
            return r;
    }
    return stop ? err_set(s->e, EINVAL, "'${' is not closed") : 0;
}

int expand_word(const struct expand *x, struct slice word, struct buf *out, struct err *e)
{
    struct scan s = {.x = x, .in = word, .out = out, .e = e};
    return expand_until(&s, '\0');
}
