/* SPDX-License-Identifier: Apache-2.0 */
/* Markers of here-documents: <<WORD, <<-WORD, <<"WORD", 3<<WORD among the words of a line. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "image/dockerfile_internal.h"

struct marker {
    const char *name;
    bool quoted, strip_tabs;
};

/* A word as a shell sees it, quotes kept; false for an unclosed quote: then nothing is a marker. */
static bool shell_word(struct slice *s, struct slice *ret)
{
    while (s->n && dockerfile_is_space(s->p[0]))
        s->p++, s->n--;
    *ret = (struct slice){s->p, 0};
    char quote = '\0';
    while (ret->n < s->n) {
        char c = s->p[ret->n];
        if (!quote && dockerfile_is_space(c))
            break;
        if (c == '\\' && quote != '\'' && ret->n + 1 < s->n)
            ret->n++;
        else if (quote ? c == quote : (c == '"' || c == '\''))
            quote = quote ? '\0' : c;
        ret->n++;
    }
    s->p += ret->n;
    s->n -= ret->n;
    return !quote;
}

/* The terminator without its quotes. */
static const char *unquote(struct arena *a, struct slice s, bool *quoted)
{
    char *out = arena_alloc(a, s.n + 1), quote = '\0';
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool mark = quote ? c == quote : (c == '"' || c == '\'');
        if (mark)
            quote = quote ? '\0' : c;
        else if (c == '\\' && quote != '\'' && i + 1 < s.n)
            out[n++] = s.p[++i], mark = true;
        else
            out[n++] = c;
        *quoted = *quoted || mark;
    }
    out[n] = '\0';
    return out;
}

static bool parse_marker(struct arena *a, struct slice w, struct marker *ret)
{
    while (w.n && isdigit((unsigned char)w.p[0]))
        w.p++, w.n--;
    if (w.n < 3 || memcmp(w.p, "<<", 2) != 0)
        return false;
    w.p += 2, w.n -= 2;
    *ret = (struct marker){0};
    if (w.p[0] == '-') {
        ret->strip_tabs = true;
        w.p++, w.n--;
    }
    if (!w.n || memchr(w.p, '<', w.n))
        return false;
    ret->name = unquote(a, w, &ret->quoted);
    return ret->name[0] != '\0';
}

static int add_marker(struct dockerfile_line *l, struct dockerfile_instruction *in,
                      const struct marker *m, const char *arg, bool *strip_tabs, size_t *cap)
{
    if (in->n_heredocs == DOCKERFILE_MAX_HEREDOCS)
        return dockerfile_err(l->e, EMSGSIZE, l->line, "more than %d here-documents",
                              DOCKERFILE_MAX_HEREDOCS);
    in->heredocs = arena_grow(l->arena, in->heredocs, in->n_heredocs, cap, sizeof *in->heredocs);
    strip_tabs[in->n_heredocs] = m->strip_tabs;
    in->heredocs[in->n_heredocs++] =
        (struct dockerfile_heredoc){.name = m->name, .arg = arg, .expand = !m->quoted};
    return 0;
}

int dockerfile_find_markers(struct dockerfile_line *l, struct dockerfile_instruction *in,
                            bool strip_tabs[DOCKERFILE_MAX_HEREDOCS])
{
    size_t cap = 0;
    struct marker m;
    int r = 0;
    if (in->exec || !strstr(in->text, "<<"))
        return 0;
    if (in->word == DOCKERFILE_COPY || in->word == DOCKERFILE_ADD) {
        for (size_t i = 0; r == 0 && i < in->args.n - 1; i++)
            if (parse_marker(l->arena, slice_from(in->args.v[i]), &m))
                r = add_marker(l, in, &m, in->args.v[i], strip_tabs, &cap);
    } else if (in->word == DOCKERFILE_RUN) {
        struct slice s = slice_from(in->args.v[0]), w;
        size_t n = 0;
        for (; r == 0 && s.n && shell_word(&s, &w); n++)
            if (parse_marker(l->arena, w, &m))
                r = add_marker(l, in, &m, NULL, strip_tabs, &cap);
        in->is_heredoc = n == 1 && in->n_heredocs == 1;
    }
    return r;
}

const struct dockerfile_heredoc *dockerfile_find_heredoc(const struct dockerfile_instruction *in,
                                                         const char *arg)
{
    for (size_t i = 0; i < in->n_heredocs; i++)
        if (in->heredocs[i].arg == arg)
            return &in->heredocs[i];
    return NULL;
}
