/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/forward.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

/* True when a Connection field names this one as belonging to the hop (RFC 9110 §7.6.1). */
static bool named_by_connection(const struct http_header *h, size_t n, struct slice name)
{
    for (size_t i = 0; i < n; i++) {
        struct slice list = h[i].value;
        if (!slice_eq(h[i].name, "connection"))
            continue;
        for (size_t at = 0; at < list.n;) {
            size_t end = at, from = at;
            while (end < list.n && list.p[end] != ',')
                end++;
            at = end + 1;
            while (from < end && (list.p[from] == ' ' || list.p[from] == '\t'))
                from++;
            while (end > from && (list.p[end - 1] == ' ' || list.p[end - 1] == '\t'))
                end--;
            if (end - from == name.n && strncasecmp(list.p + from, name.p, name.n) == 0)
                return true;
        }
    }
    return false;
}

static bool request_drops(const struct http_request *r, const struct http_header *h)
{
    static const char *const names[] = {
        "host",
        "content-length",
        FORWARD_REQUEST_ID,
        "expect",                 /* answered by the server */
        "cookie",                 /* joined */
        "sec-websocket-protocol", /* rewritten */
        "http2-settings",
        "proxy-authorization",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eq(h->name, names[i]))
            return true;
    if (route_is_proxy_field(h->name))
        return true;
    if (slice_eq(h->name, "te"))
        return !field_list_has(h->value, "trailers");
    if (field_is_framing(h->name))
        return false; /* the writer's business: it needs Upgrade, and drops the rest */
    return named_by_connection(r->headers, r->n_headers, h->name);
}

/* HTTP/2 clients may split the Cookie field; an HTTP/1.1 application expects one. */
static int join_cookies(const struct http_request *r, struct buf *out)
{
    for (size_t i = 0; i < r->n_headers; i++) {
        if (!slice_eq(r->headers[i].name, "cookie"))
            continue;
        int error = out->len ? buf_adds(out, "; ") : 0;
        if (error == 0)
            error = buf_add(out, r->headers[i].value.p, r->headers[i].value.n);
        if (error < 0)
            return error;
    }
    return 0;
}

static void choose_framing(const struct http_request *r, struct h1_request_head *head)
{
    struct slice cl;
    if (http_header_find(r->headers, r->n_headers, "content-length", &cl) &&
        field_parse_length(cl, &head->length) == 0)
        head->framing = H1_FRAMING_LENGTH;
    else if (r->expects_body)
        head->framing = H1_FRAMING_CHUNKED;
    else if (slice_eq(r->method, "POST") || slice_eq(r->method, "PUT") ||
             slice_eq(r->method, "PATCH"))
        head->framing = H1_FRAMING_LENGTH; /* of 0: these methods are expected to say so */
    else
        head->framing = H1_FRAMING_NONE;
}

int forward_request(struct queue *out, const struct http_request *r, const struct proxy_route *t,
                    const char *request_id, struct h1_framing *framing)
{
    CLEANUP(buf_done)
    struct buf cookies = {0};
    CLEANUP(cleanup_free)
    struct http_header *h = calloc(r->n_headers + 3, sizeof *h);
    int error = h ? join_cookies(r, &cookies) : -ENOMEM;
    if (error < 0)
        return error;
    size_t n = 0;
    for (size_t i = 0; i < r->n_headers; i++)
        if (!request_drops(r, &r->headers[i]))
            h[n++] = r->headers[i];
    if (cookies.len)
        h[n++] = (struct http_header){SLICE("cookie"), {cookies.data, cookies.len}};
    if (t->protocols.len)
        h[n++] = (struct http_header){SLICE("sec-websocket-protocol"),
                                      {t->protocols.data, t->protocols.len}};
    h[n++] = (struct http_header){SLICE(FORWARD_REQUEST_ID), slice_from(request_id)};
    struct h1_request_head head = {.method = r->method,
                                   .target = r->target,
                                   .host = r->authority,
                                   .headers = h,
                                   .n_headers = n,
                                   .upgrade = r->upgrade};
    choose_framing(r, &head);
    return h1_write_request(out, &head, framing);
}

struct http_header *forward_response(const struct h1_response_info *r, const char *request_id,
                                     bool marker, size_t *ret_n)
{
    struct http_header *h = calloc(r->n_headers + 2, sizeof *h);
    bool selected = false;
    size_t n = 0;
    for (size_t i = 0; h && i < r->n_headers; i++) {
        struct slice name = r->headers[i].name;
        if (route_is_proxy_field(name) || slice_eq(name, FORWARD_REQUEST_ID))
            continue;
        if (!field_is_framing(name) && named_by_connection(r->headers, r->n_headers, name))
            continue;
        selected |= slice_eq(name, "sec-websocket-protocol");
        h[n++] = r->headers[i];
    }
    if (!h)
        return NULL;
    if (marker && r->status == 101 && !selected)
        h[n++] = (struct http_header){SLICE("sec-websocket-protocol"), SLICE("lambda-microvms")};
    h[n++] = (struct http_header){SLICE(FORWARD_REQUEST_ID), slice_from(request_id)};
    *ret_n = n;
    return h;
}
