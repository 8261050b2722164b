/* SPDX-License-Identifier: Apache-2.0 */
/* Object operations: put, get, head, delete. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/s3_blob.h"
#include "api/s3_int.h"

#define METADATA_MAX (16 * 1024)

/* Headers kept with an object and given back with it. */
static const char *const KEPT[] = {
    "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
};

static bool is_kept(struct slice name)
{
    if (name.n > 11 && strncasecmp(name.p, "x-amz-meta-", 11) == 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(KEPT); i++)
        if (slice_eq_nocase(name, KEPT[i]))
            return true;
    return false;
}

/* "aws-chunked" is a transfer detail, not the object's coding. */
static struct slice own_encoding(struct slice name, struct slice v)
{
    static const char CHUNKED[] = "aws-chunked";
    size_t n = sizeof CHUNKED - 1;
    if (slice_eq_nocase(name, "content-encoding") && v.n >= n &&
        strncasecmp(v.p, CHUNKED, n) == 0) {
        v.p += n;
        v.n -= n;
        while (v.n && (*v.p == ',' || *v.p == ' ')) {
            v.p++;
            v.n--;
        }
    }
    return v;
}

static json_t *collect_metadata(const struct http_call *h, size_t *size)
{
    json_t *o = json_object();
    for (size_t i = 0; o && i < h->n_headers; i++) {
        struct slice name = h->headers[i].name;
        if (!is_kept(name))
            continue;
        struct slice v = own_encoding(name, h->headers[i].value);
        *size += name.n + v.n;
        if (v.n &&
            json_object_setn_new(o, name.p, name.n, json_stringn(v.p, v.n)) < 0) { /* no UTF-8 */
            json_decref(o);
            o = NULL;
        }
    }
    return o;
}

int s3_metadata(struct s3_request *q, char **ret, struct err *e)
{
    size_t size = 0;
    CLEANUP(cleanup_json)
    json_t *o = collect_metadata(q->http, &size);
    if (!o)
        return s3_fail(q, S3_INVALID_ARGUMENT, e, "Metadata is not UTF-8");
    if (size > METADATA_MAX)
        return s3_fail(q, S3_INVALID_ARGUMENT, e,
                       "Your metadata headers exceed the maximum allowed metadata size");
    *ret = json_object_size(o) ? json_text(o) : NULL;
    return 0;
}

/* The checksum is kept among the metadata under its header's name. */
static int add_checksum(char **metadata, const struct s3_payload *info, struct err *e)
{
    if (!info->algorithm)
        return 0;
    CLEANUP(cleanup_json)
    json_t *o = NULL;
    if (*metadata) {
        int r = json_parse(*metadata, strlen(*metadata), SIZE_MAX, &o, e);
        if (r < 0)
            return r;
    } else {
        o = json_object();
    }
    json_object_set_new(o, info->algorithm->header, json_string(info->checksum));
    free(*metadata);
    *metadata = json_text(o);
    return 0;
}

static int put_row(struct s3_request *q, struct s3_blob *blob, const struct s3_payload *info,
                   char *metadata, struct err *e)
{
    char type[256];
    if (!s3_header(q, "content-type", type, sizeof type))
        return s3_fail(q, S3_INVALID_ARGUMENT, e, "The content type is too long");
    const struct store_object o = {
        .bucket = q->bucket,
        .key = q->key,
        .size = (int64_t)blob->size,
        .etag = (char *)(uintptr_t)info->md5_hex,
        .content_type = *type ? type : NULL,
        .metadata = metadata,
        .path = blob->name,
    };
    struct store_garbage g = {0};
    int r = store_object_put(q->s3->store, &o, &g, e);
    if (r < 0)
        return s3_fail_code(q, r, e);
    blob->kept = true;
    s3_sweep(q->s3, &g);
    return 0;
}

/* A missing bucket is told before the body is copied. */
static int check_put(struct s3_request *q, struct err *e)
{
    struct store_bucket b = {0};
    char copy[8];
    if (!s3_header(q, "x-amz-copy-source", copy, sizeof copy) || *copy)
        return s3_fail(q, S3_NOT_IMPLEMENTED, e, "Copying objects is not implemented");
    int r = store_bucket_get(q->s3->store, q->bucket, &b, e);
    store_bucket_done(&b);
    return r < 0 ? s3_fail_code(q, r == -ENOENT ? -ENXIO : r, e) : 0;
}

int s3_put_object(struct s3_request *q, struct err *e)
{
    CLEANUP(cleanup_free)
    char *metadata = NULL;
    struct s3_blob blob = {.fd = -1};
    struct s3_payload info;
    int r = check_put(q, e);
    if (r == 0)
        r = s3_metadata(q, &metadata, e);
    if (r == 0)
        r = s3_payload_store(q, &blob, &info, e);
    if (r == 0)
        r = add_checksum(&metadata, &info, e);
    if (r == 0)
        r = put_row(q, &blob, &info, metadata, e);
    s3_blob_done(&blob);
    if (r < 0)
        return r;
    q->http->status = 200;
    http_call_header(q->http, "etag", "\"%s\"", info.md5_hex);
    if (info.algorithm)
        http_call_header(q->http, info.algorithm->header, "%s", info.checksum);
    return 0;
}

/* ---- get ----------------------------------------------------------------------------------------
 */

struct range {
    uint64_t first, size;
    bool partial;
};

static bool number(const char **p, uint64_t *ret)
{
    char *end;
    if (**p < '0' || **p > '9')
        return false;
    errno = 0;
    *ret = strtoull(*p, &end, 10);
    *p = end;
    return errno == 0;
}

/* RFC 9110 §14.2: one range is honoured; several, or a malformed field, mean the whole object. */
static int read_range(struct s3_request *q, uint64_t size, struct range *ret, struct err *e)
{
    char text[64];
    uint64_t first = 0, last = 0;
    *ret = (struct range){.size = size};
    if (!s3_header(q, "range", text, sizeof text) || strncmp(text, "bytes=", 6) != 0)
        return 0;
    const char *p = text + 6;
    bool from = number(&p, &first);
    if (*p++ != '-')
        return 0;
    bool to = number(&p, &last);
    if (*p || (!from && !to) || (from && to && last < first))
        return 0;
    if (!from) { /* the last n bytes */
        first = last < size ? size - last : 0;
        last = size ? size - 1 : 0;
    } else if (!to || last >= size) {
        last = size ? size - 1 : 0;
    }
    if (first >= size)
        return s3_fail(q, S3_INVALID_RANGE, e, NULL);
    *ret = (struct range){.first = first, .size = last - first + 1, .partial = true};
    return 0;
}

static void http_date(char out[40], int64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* Metadata back as headers; checksums only when asked for, and for the whole object. */
static void object_headers(struct s3_request *q, const struct store_object *o, bool whole)
{
    char when[40], mode[16];
    http_date(when, o->created_at);
    http_call_header(q->http, "last-modified", "%s", when);
    http_call_header(q->http, "etag", "\"%s\"", o->etag);
    http_call_header(q->http, "accept-ranges", "bytes");
    http_call_header(q->http, "content-type", "%s",
                     o->content_type ? o->content_type : "binary/octet-stream");
    CLEANUP(cleanup_json)
    json_t *meta = NULL;
    if (o->metadata && json_parse(o->metadata, strlen(o->metadata), SIZE_MAX, &meta, NULL) < 0)
        return;
    bool checksums = whole && s3_header(q, "x-amz-checksum-mode", mode, sizeof mode) &&
                     strcasecmp(mode, "ENABLED") == 0;
    const char *name;
    json_t *v;
    json_object_foreach (meta, name, v)
        if (checksums || !s3_algorithm_find(slice_from(name)))
            http_call_header(q->http, name, "%s", json_string_value(v));
}

/* An entity tag list contains this tag, or is "*". */
static bool tag_listed(const char *list, const char *etag)
{
    return strcmp(list, "*") == 0 || strstr(list, etag) != NULL;
}

/* 1 = answer 304; RFC 9110 §13.2.2, entity tags only. */
static int preconditions(struct s3_request *q, const struct store_object *o, struct err *e)
{
    char text[256];
    if (s3_header(q, "if-match", text, sizeof text) && *text && !tag_listed(text, o->etag))
        return s3_fail(q, S3_PRECONDITION, e, NULL);
    return s3_header(q, "if-none-match", text, sizeof text) && *text && tag_listed(text, o->etag);
}

static int send_object(struct s3_request *q, const struct store_object *o, struct err *e)
{
    struct http_call *h = q->http;
    struct range range;
    int r = preconditions(q, o, e);
    if (r < 0)
        return r;
    if (r == 1) {
        h->status = 304;
        http_call_header(h, "etag", "\"%s\"", o->etag);
        return 0;
    }
    r = read_range(q, (uint64_t)o->size, &range, e);
    if (r < 0)
        return r;
    int fd = s3_blob_open(q->s3, o->path, e);
    if (fd < 0)
        return s3_fail_code(q, fd, e);
    h->reply_fd = fd;
    h->reply_offset = range.first;
    h->reply_size = range.size;
    h->status = range.partial ? 206 : 200;
    object_headers(q, o, !range.partial);
    if (range.partial)
        http_call_header(h, "content-range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRId64, range.first,
                         range.first + range.size - 1, o->size);
    return 0;
}

/* HEAD goes the same way; the service sends no body for it. */
int s3_get_object(struct s3_request *q, struct err *e)
{
    struct store_object o = {0};
    int r = store_object_get(q->s3->store, q->bucket, q->key, &o, e);
    r = r < 0 ? s3_fail_code(q, r, e) : send_object(q, &o, e);
    store_object_done(&o);
    return r;
}

int s3_delete_object(struct s3_request *q, struct err *e)
{
    struct store_garbage g = {0};
    int r = store_object_delete(q->s3->store, q->bucket, q->key, &g, e);
    if (r < 0)
        return s3_fail_code(q, r, e);
    s3_sweep(q->s3, &g);
    q->http->status = 204;
    return 0;
}
