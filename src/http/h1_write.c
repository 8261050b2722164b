/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1_write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *h1_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {103, "Early Hints"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "";
}

static int add_text(struct queue *out, const char *s)
{
    return queue_add(out, s, strlen(s));
}

static int add_status_line(struct queue *out, int status)
{
    char line[96];
    int n = snprintf(line, sizeof line, "HTTP/1.1 %03d %s\r\n", status, h1_reason(status));
    return queue_add(out, line, (size_t)n);
}

static int add_field(struct queue *out, struct slice name, struct slice value)
{
    if (!field_name_valid(name) || !field_value_valid(value))
        return 0;
    if (queue_add(out, name.p, name.n) < 0 || add_text(out, ": ") < 0 ||
        queue_add(out, value.p, value.n) < 0)
        return -ENOMEM;
    return add_text(out, "\r\n");
}

static int add_length(struct queue *out, uint64_t length)
{
    char line[64];
    int n = snprintf(line, sizeof line, "content-length: %llu\r\n", (unsigned long long)length);
    return queue_add(out, line, (size_t)n);
}

/* Fields except framing ones and the names in skip (lower case, NULL-terminated). */
static int add_fields(struct queue *out, const struct http_header *h, size_t n,
                      const char *const *skip)
{
    for (size_t i = 0; i < n; i++) {
        bool drop = field_is_framing(h[i].name);
        for (size_t k = 0; skip[k] && !drop; k++)
            drop = slice_eq_nocase(h[i].name, skip[k]);
        if (!drop && add_field(out, h[i].name, h[i].value) < 0)
            return -ENOMEM;
    }
    return 0;
}

static const struct http_header *find_nocase(const struct http_header *h, size_t n,
                                             const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (slice_eq_nocase(h[i].name, name))
            return &h[i];
    return NULL;
}

int h1_write_interim(struct queue *out, int status, const struct http_header *h, size_t n)
{
    static const char *const skip[] = {"content-length", NULL};
    if (add_status_line(out, status) < 0 || add_fields(out, h, n, skip) < 0)
        return -ENOMEM;
    return add_text(out, "\r\n");
}

static struct h1_framing response_framing(const struct h1_response_head *r, bool *has_length,
                                          uint64_t *length)
{
    const struct http_header *cl = find_nocase(r->headers, r->n_headers, "content-length");
    *has_length = cl && field_parse_length(cl->value, length) == 0 && r->status != 204;
    if (r->status == 204 || r->status == 304)
        return (struct h1_framing){.kind = H1_FRAMING_NONE};
    if (*has_length)
        return (struct h1_framing){.kind = r->head_only ? H1_FRAMING_NONE : H1_FRAMING_LENGTH,
                                   .left = *length};
    if (r->version == 11)
        return (struct h1_framing){.kind = H1_FRAMING_CHUNKED};
    return (struct h1_framing){.kind = r->head_only ? H1_FRAMING_NONE : H1_FRAMING_CLOSE};
}

int h1_write_response(struct queue *out, const struct h1_response_head *r, struct h1_framing *ret,
                      bool *ret_keep_alive)
{
    static const char *const skip[] = {"content-length", NULL};
    bool has_length;
    uint64_t length = 0;
    struct h1_framing f = response_framing(r, &has_length, &length);
    bool keep = r->keep_alive && f.kind != H1_FRAMING_CLOSE;
    if (add_status_line(out, r->status) < 0 || add_fields(out, r->headers, r->n_headers, skip) < 0)
        return -ENOMEM;
    if (has_length && add_length(out, length) < 0)
        return -ENOMEM;
    if (f.kind == H1_FRAMING_CHUNKED && add_text(out, "transfer-encoding: chunked\r\n") < 0)
        return -ENOMEM;
    if (!keep && add_text(out, "connection: close\r\n") < 0)
        return -ENOMEM;
    if (keep && r->version == 10 && add_text(out, "connection: keep-alive\r\n") < 0)
        return -ENOMEM;
    if (r->head_only)
        f.kind = H1_FRAMING_NONE;
    *ret = f;
    *ret_keep_alive = keep;
    return add_text(out, "\r\n");
}

int h1_write_switch(struct queue *out, const struct http_header *h, size_t n)
{
    static const char *const skip[] = {"content-length", NULL};
    const struct http_header *up = find_nocase(h, n, "upgrade");
    if (add_status_line(out, 101) < 0 || add_fields(out, h, n, skip) < 0)
        return -ENOMEM;
    if (up && add_field(out, SLICE("upgrade"), up->value) < 0)
        return -ENOMEM;
    return add_text(out, "connection: Upgrade\r\n\r\n");
}

static int add_request_framing(struct queue *out, const struct h1_request_head *r)
{
    if (r->framing == H1_FRAMING_LENGTH && add_length(out, r->length) < 0)
        return -ENOMEM;
    if (r->framing == H1_FRAMING_CHUNKED && add_text(out, "transfer-encoding: chunked\r\n") < 0)
        return -ENOMEM;
    if (r->upgrade) {
        const struct http_header *up = find_nocase(r->headers, r->n_headers, "upgrade");
        if (up && (add_field(out, SLICE("upgrade"), up->value) < 0 ||
                   add_text(out, "connection: Upgrade\r\n") < 0))
            return -ENOMEM;
    } else if (r->close && add_text(out, "connection: close\r\n") < 0) {
        return -ENOMEM;
    }
    return add_text(out, "\r\n");
}

int h1_write_request(struct queue *out, const struct h1_request_head *r, struct h1_framing *ret)
{
    static const char *const skip[] = {"host", "content-length", NULL};
    if (queue_add(out, r->method.p, r->method.n) < 0 || add_text(out, " ") < 0 ||
        queue_add(out, r->target.p, r->target.n) < 0 || add_text(out, " HTTP/1.1\r\n") < 0 ||
        add_field(out, SLICE("host"), r->host) < 0 ||
        add_fields(out, r->headers, r->n_headers, skip) < 0)
        return -ENOMEM;
    *ret = (struct h1_framing){.kind = r->framing, .left = r->length};
    return add_request_framing(out, r);
}

int h1_write_body(struct queue *out, struct h1_framing *f, const char *p, size_t n)
{
    char size[24];
    if (!n || f->kind == H1_FRAMING_NONE)
        return 0;
    if (f->kind == H1_FRAMING_LENGTH) {
        if (n > f->left)
            return -EPROTO;
        f->left -= n;
    }
    if (f->kind != H1_FRAMING_CHUNKED)
        return queue_add(out, p, n);
    int k = snprintf(size, sizeof size, "%zx\r\n", n);
    if (queue_add(out, size, (size_t)k) < 0 || queue_add(out, p, n) < 0)
        return -ENOMEM;
    return add_text(out, "\r\n");
}

int h1_write_end(struct queue *out, struct h1_framing *f, const struct http_header *trailers,
                 size_t n)
{
    static const char *const skip[] = {"content-length", "host", NULL};
    if (f->kind == H1_FRAMING_LENGTH && f->left)
        return -EPROTO;
    if (f->kind != H1_FRAMING_CHUNKED)
        return 0;
    if (add_text(out, "0\r\n") < 0 || add_fields(out, trailers, n, skip) < 0)
        return -ENOMEM;
    return add_text(out, "\r\n");
}
