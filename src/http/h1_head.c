/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1_head.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define KEEP_CAP ((size_t)8 * 1024) /* per idle connection */

static int fail(struct h1_head_parser *h, int error)
{
    if (!h->error)
        h->error = error;
    return -1;
}

static int on_url(llhttp_t *p, const char *at, size_t n)
{
    struct h1_head_parser *h = p->data;
    h->url = (struct slice){at, n};
    return 0;
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
    struct h1_head_parser *h = p->data;
    if (h->n_headers >= h->max_headers)
        return fail(h, -EMSGSIZE);
    if (!field_name_valid((struct slice){at, n})) /* llhttp 8 lets an empty name pass */
        return fail(h, -EINVAL);
    char *name = h->text.data + (at - h->text.data); /* ours: lower-cased in place */
    for (size_t i = 0; i < n; i++)
        name[i] = (char)tolower((unsigned char)name[i]);
    h->headers[h->n_headers++] = (struct http_header){.name = {name, n}, .value = {at + n, 0}};
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
    struct h1_head_parser *h = p->data;
    if (!h->n_headers)
        return fail(h, -EINVAL);
    struct slice *v = &h->headers[h->n_headers - 1].value;
    if (!v->n)
        v->p = at;
    const char *end = at + n; /* a value may come in pieces; they are neighbours in the text */
    while (end > v->p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    v->n = (size_t)(end - v->p);
    return 0;
}

static int on_headers_complete(llhttp_t *p)
{
    struct h1_head_parser *h = p->data;
    h->complete = true;
    return HPE_PAUSED; /* llhttp's part is done: upgrades and bodies are not its business */
}

int h1_head_init(struct h1_head_parser *h, bool request, size_t max_bytes, unsigned max_headers)
{
    *h = (struct h1_head_parser){
        .max_headers = max_headers, .text.max = max_bytes, .scan.lenient = !request};
    h->headers = calloc(max_headers, sizeof *h->headers);
    if (!h->headers)
        return -ENOMEM;
    llhttp_settings_init(&h->settings);
    h->settings.on_url = on_url;
    h->settings.on_header_field = on_field;
    h->settings.on_header_value = on_value;
    h->settings.on_headers_complete = on_headers_complete;
    llhttp_init(&h->parser, request ? HTTP_REQUEST : HTTP_RESPONSE, &h->settings);
    h->parser.data = h;
    return 0;
}

void h1_head_done(struct h1_head_parser *h)
{
    buf_done(&h->text);
    free(h->headers);
    h->headers = NULL;
}

void h1_head_reset(struct h1_head_parser *h)
{
    h->scan = (struct h1_scan){.lenient = h->scan.lenient};
    h->n_crlf = 0;
    h->complete = false;
    h->error = 0;
    h->n_headers = 0;
    h->url = (struct slice){0};
    if (h->text.cap > KEEP_CAP)
        buf_done(&h->text);
    buf_clear(&h->text);
}

const char *h1_head_method(const struct h1_head_parser *h)
{
    return llhttp_method_name((llhttp_method_t)h->parser.method);
}

int h1_head_status(const struct h1_head_parser *h)
{
    return h->parser.status_code;
}

/* Gives a lenient head the one spelling llhttp knows: bare LF becomes CRLF, and a continuation line
 * part of the line before it. */
static int normalise(struct buf *text)
{
    CLEANUP(buf_done)
    struct buf out = {0};
    for (size_t i = 0; i < text->len; i++) {
        char c = text->data[i];
        bool folded = c == '\n' && i + 1 < text->len &&
                      (text->data[i + 1] == ' ' || text->data[i + 1] == '\t');
        if (c == '\r')
            continue; /* the scanner saw to it that its LF follows */
        int r = c != '\n' ? buf_add(&out, &c, 1) : buf_adds(&out, folded ? " " : "\r\n");
        if (r < 0)
            return r;
    }
    struct buf old = *text;
    *text = out;
    text->max = old.max;
    out = old;
    return 0;
}

static int head_parse(struct h1_head_parser *h)
{
    int r0 = h->scan.lenient && h->scan.odd ? normalise(&h->text) : 0;
    if (r0 < 0)
        return r0;
    llhttp_reset(&h->parser);
    llhttp_errno_t r = llhttp_execute(&h->parser, h->text.data, h->text.len);
    if (h->error)
        return h->error;
    if (!h->complete) /* an error of llhttp's, or an end that only the scanner saw */
        return r == HPE_INVALID_VERSION ? -EPROTONOSUPPORT : -EINVAL;
    if (h->parser.http_major != 1 || h->parser.http_minor > 1)
        return -EPROTONOSUPPORT;
    h->version = 10 + h->parser.http_minor;
    return 1;
}

/* An empty line before the start line is what some old programs send after a body
 * (RFC 9112 §2.2); one is skipped. */
static bool skip_empty_line(struct h1_head_parser *h, char byte)
{
    if (h->text.len || h->n_crlf > 1 || byte != "\r\n"[h->n_crlf])
        return false;
    h->n_crlf++;
    return true;
}

int h1_head_feed(struct h1_head_parser *h, const char *p, size_t n, size_t *used)
{
    size_t skip = 0, took = 0;
    while (skip < n && skip_empty_line(h, p[skip]))
        skip++;
    *used = skip;
    if (skip == n)
        return 0;
    if (h->n_crlf == 1)
        return -EINVAL;
    int r = h1_scan_block(&h->scan, p + skip, n - skip, &took);
    *used += took;
    if (r < 0)
        return r;
    int added = buf_add(&h->text, p + skip, took);
    if (added < 0)
        return added;
    return r ? head_parse(h) : 0;
}
