/* SPDX-License-Identifier: Apache-2.0 */
#include "http/fields.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool http_header_find(const struct http_header *h, size_t n, const char *name, struct slice *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (!slice_eq(h[i].name, name))
            continue;
        *ret = h[i].value;
        return true;
    }
    return false;
}

static int fields_reserve_span(struct fields *f)
{
    if (f->n < f->cap)
        return 0;
    unsigned cap = f->cap ? f->cap * 2 : 16;
    struct field_span *p = reallocarray(f->spans, cap, sizeof *p);
    if (!p)
        return -ENOMEM;
    f->spans = p;
    f->cap = cap;
    return 0;
}

int fields_add(struct fields *f, const char *name, size_t name_n, const char *value, size_t value_n)
{
    size_t bytes;
    if (ckd_add(&bytes, name_n, value_n) || ckd_add(&bytes, bytes, f->bytes + 4))
        return -EMSGSIZE;
    if ((f->max_bytes && bytes > f->max_bytes) || (f->max_n && f->n >= f->max_n) ||
        bytes > UINT32_MAX)
        return -EMSGSIZE;
    if (fields_reserve_span(f) < 0 || buf_reserve(&f->text, name_n + value_n) < 0)
        return -ENOMEM;
    struct field_span *s = &f->spans[f->n];
    *s = (struct field_span){.name = (uint32_t)f->text.len,
                             .name_n = (uint32_t)name_n,
                             .value = (uint32_t)(f->text.len + name_n),
                             .value_n = (uint32_t)value_n};
    if (buf_add(&f->text, name, name_n) < 0 || buf_add(&f->text, value, value_n) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < name_n; i++)
        f->text.data[s->name + i] = (char)tolower((unsigned char)f->text.data[s->name + i]);
    f->bytes = bytes;
    f->n++;
    return 0;
}

const struct http_header *fields_view(struct fields *f)
{
    if (f->view_cap < f->n) {
        struct http_header *v = reallocarray(f->view, f->cap, sizeof *v);
        if (!v)
            return NULL;
        f->view = v;
        f->view_cap = f->cap;
    }
    for (unsigned i = 0; i < f->n; i++) {
        const struct field_span *s = &f->spans[i];
        f->view[i].name = (struct slice){f->text.data + s->name, s->name_n};
        f->view[i].value = (struct slice){f->text.data + s->value, s->value_n};
    }
    return f->view;
}

void fields_clear(struct fields *f)
{
    buf_clear(&f->text);
    f->n = 0;
    f->bytes = 0;
}

void fields_done(struct fields *f)
{
    buf_done(&f->text);
    free(f->spans);
    free(f->view);
    *f = (struct fields){.max_n = f->max_n, .max_bytes = f->max_bytes};
}

static bool token_char(unsigned char c)
{
    return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool field_name_valid(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!token_char((unsigned char)s.p[i]))
            return false;
    return s.n > 0;
}

bool field_value_valid(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0')
            return false;
    return true;
}

bool field_is_framing(struct slice name)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
                                        "transfer-encoding", "upgrade"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eq_nocase(name, names[i]))
            return true;
    return false;
}

bool field_list_has(struct slice list, const char *token)
{
    size_t i = 0;
    while (i < list.n) {
        size_t end = i;
        while (end < list.n && list.p[end] != ',')
            end++;
        struct slice item = {list.p + i, end - i};
        while (item.n && (*item.p == ' ' || *item.p == '\t'))
            item.p++, item.n--;
        while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
            item.n--;
        if (slice_eq_nocase(item, token))
            return true;
        i = end + 1;
    }
    return false;
}

int field_parse_length(struct slice s, uint64_t *ret)
{
    uint64_t v = 0;
    if (!s.n)
        return -EINVAL;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -EINVAL;
        if (ckd_mul(&v, v, (uint64_t)10) || ckd_add(&v, v, (uint64_t)(s.p[i] - '0')))
            return -ERANGE;
    }
    *ret = v;
    return 0;
}

bool field_authority_valid(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        /* userinfo ('@') is refused: it only ever serves to mislead a reader about the host */
        if (!isalnum(c) && !(c && strchr("-._~!$&'()*+,;=:[]%", c)))
            return false;
    }
    return s.n > 0 && s.n <= 512;
}
