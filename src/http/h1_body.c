/* SPDX-License-Identifier: Apache-2.0 */
/*
 * llhttp parses heads; bodies are decoded here, because llhttp 8 (Debian 12) takes any two bytes
 * for the CRLF after chunk data and any byte after a CR, which lets two parsers of one stream
 * disagree about where a message ends. This decoder knows one spelling of everything.
 */
#include "http/h1_body.h"

#include <errno.h>

#define MAX_EXTENSION_BYTES                                                 \
    ((size_t)16 * 1024)    /* per message; they mean nothing to anyone here \
                            */
#define MAX_SIZE_DIGITS 15 /* keeps a chunk below 2^60 without overflow checks */

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILERS, DONE };

int h1_scan_block(struct h1_scan *s, const char *p, size_t n, size_t *took)
{
    size_t i = 0;
    while (i < n) {
        char c = p[i++];
        *took = i;
        if (c == '\n') {
            if (!s->cr && !s->lenient)
                return -EINVAL;
            s->odd |= !s->cr;
            s->cr = false;
            if (!s->filled)
                return 1;
            s->filled = false;
            s->later = true;
            continue;
        }
        if (s->cr || c == '\0')
            return -EINVAL;
        if (c == '\r') {
            s->cr = true;
            continue;
        }
        bool folded = (c == ' ' || c == '\t') && !s->filled && s->later; /* RFC 9112 §5.2 */
        if (folded && !s->lenient)
            return -EINVAL;
        s->odd |= folded;
        s->filled = true;
    }
    return 0;
}

void h1_body_init(struct h1_body *b, size_t max_trailer_bytes, unsigned max_trailers)
{
    *b = (struct h1_body){.block.max = max_trailer_bytes,
                          .trailers = {.max_bytes = max_trailer_bytes, .max_n = max_trailers}};
}

void h1_body_start(struct h1_body *b, enum h1_body_kind kind, uint64_t length)
{
    b->kind = kind == H1_BODY_LENGTH && !length ? H1_BODY_NONE : kind;
    b->left = kind == H1_BODY_LENGTH ? length : 0;
    b->state = SIZE;
    b->digits = 0;
    b->extension_bytes = 0;
    b->scan = (struct h1_scan){.later = true};
    buf_clear(&b->block);
    fields_clear(&b->trailers);
}

void h1_body_done(struct h1_body *b)
{
    buf_done(&b->block);
    fields_done(&b->trailers);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int trailer_line(struct h1_body *b, struct slice line)
{
    size_t colon = 0;
    while (colon < line.n && line.p[colon] != ':')
        colon++;
    struct slice name = {line.p, colon};
    if (colon == line.n || !field_name_valid(name))
        return -EINVAL;
    struct slice value = {line.p + colon + 1, line.n - colon - 1};
    while (value.n && (*value.p == ' ' || *value.p == '\t'))
        value.p++, value.n--;
    while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    if (!field_value_valid(value))
        return -EINVAL;
    /* A trailer must not be able to change framing or routing (RFC 9110 §6.5.1). */
    if (field_is_framing(name) || slice_eq_nocase(name, "content-length") ||
        slice_eq_nocase(name, "host"))
        return 0;
    return fields_add(&b->trailers, name.p, name.n, value.p, value.n);
}

static int trailers_parse(struct h1_body *b)
{
    const char *p = b->block.data, *end = p + b->block.len;
    while (p < end) {
        const char *q = p;
        while (*q != '\r')
            q++; /* the scanner saw to it that every line ends in CRLF */
        if (q > p) {
            int r = trailer_line(b, (struct slice){p, (size_t)(q - p)});
            if (r < 0)
                return r;
        }
        p = q + 2;
    }
    return 0;
}

static int trailers_feed(struct h1_body *b, const char *p, size_t n, size_t *took)
{
    int r = h1_scan_block(&b->scan, p, n, took);
    if (r < 0)
        return r;
    int added = buf_add(&b->block, p, *took);
    if (added < 0)
        return added;
    if (r == 0)
        return H1_BODY_MORE;
    b->state = DONE;
    r = trailers_parse(b);
    return r < 0 ? r : H1_BODY_DONE;
}

/* One byte of chunk framing. */
static int chunk_byte(struct h1_body *b, char c)
{
    int v;
    switch (b->state) {
    case SIZE:
        v = hex_value(c);
        if (v >= 0) {
            if (++b->digits > MAX_SIZE_DIGITS)
                return -EINVAL;
            b->left = b->left * 16 + (unsigned)v;
            return 0;
        }
        if (!b->digits || (c != ';' && c != '\r'))
            return -EINVAL;
        b->state = c == ';' ? EXTENSION : SIZE_LF;
        return 0;
    case EXTENSION:
        if (c == '\r')
            b->state = SIZE_LF;
        else if ((unsigned char)c < ' ' && c != '\t')
            return -EINVAL;
        return ++b->extension_bytes > MAX_EXTENSION_BYTES ? -EMSGSIZE : 0;
    case SIZE_LF:
        b->digits = 0;
        b->state = b->left ? DATA : TRAILERS;
        return c == '\n' ? 0 : -EINVAL;
    case DATA_CR:
        b->state = DATA_LF;
        return c == '\r' ? 0 : -EINVAL;
    default: /* DATA_LF */
        b->state = SIZE;
        return c == '\n' ? 0 : -EINVAL;
    }
}

static int take_data(struct h1_body *b, const char *p, size_t n, size_t *used, struct slice *data)
{
    size_t take = n < b->left ? n : (size_t)b->left;
    *data = (struct slice){p, take};
    *used += take;
    b->left -= take;
    return H1_BODY_DATA;
}

static int chunked_feed(struct h1_body *b, const char *p, size_t n, size_t *used,
                        struct slice *data)
{
    while (*used < n) {
        if (b->state == DATA) {
            int r = take_data(b, p + *used, n - *used, used, data);
            if (!b->left)
                b->state = DATA_CR;
            return r;
        }
        if (b->state == TRAILERS) {
            size_t took = 0;
            int r = trailers_feed(b, p + *used, n - *used, &took);
            *used += took;
            return r;
        }
        if (b->state == DONE)
            return H1_BODY_DONE;
        int r = chunk_byte(b, p[(*used)++]);
        if (r < 0)
            return r;
    }
    return b->state == DONE ? H1_BODY_DONE : H1_BODY_MORE;
}

int h1_body_feed(struct h1_body *b, const char *p, size_t n, size_t *used, struct slice *data)
{
    *used = 0;
    *data = (struct slice){0};
    switch (b->kind) {
    case H1_BODY_NONE:
        return H1_BODY_DONE;
    case H1_BODY_LENGTH:
        if (!b->left)
            return H1_BODY_DONE;
        return n ? take_data(b, p, n, used, data) : H1_BODY_MORE;
    case H1_BODY_CHUNKED:
        return chunked_feed(b, p, n, used, data);
    default:
        if (!n)
            return H1_BODY_MORE;
        *data = (struct slice){p, n};
        *used = n;
        return H1_BODY_DATA;
    }
}

int h1_body_eof(const struct h1_body *b)
{
    bool complete = b->kind == H1_BODY_NONE || b->kind == H1_BODY_EOF ||
                    (b->kind == H1_BODY_LENGTH && !b->left) ||
                    (b->kind == H1_BODY_CHUNKED && b->state == DONE);
    return complete ? 0 : -EPROTO;
}
