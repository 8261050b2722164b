/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of objects, both versions of the operation, and deletion of many. Keys are walked in byte
 * order; keys that share a prefix up to the delimiter are told once, as a common prefix. The cursor
 * is the last key or common prefix told: keys below a common prefix that is the cursor are skipped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/s3_int.h"
#include "api/s3_xml.h"
#include "base/encode.h"

#define BATCH 1000
#define CURSOR_MAX (2 * S3_KEY_MAX)

struct listing {
    const char *prefix, *delimiter;
    bool url; /* encoding-type=url */
    int max, count;
    bool truncated;
    struct buf contents, prefixes; /* owned */
    char cursor[S3_KEY_MAX + 1];   /* last entry told, or where the request starts */
    char seen[S3_KEY_MAX + 1];     /* last row */
    int rows;
};

static int add_name(struct buf *out, const char *element, const char *name, bool url)
{
    if (!url)
        return xml_element(out, element, name);
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(0);
    int r = percent_encode(&text, name, strlen(name), "/");
    return r == 0 ? xml_element(out, element, text.data ? text.data : "") : r;
}

static int add_object(struct listing *l, const struct store_object *o)
{
    char when[32];
    s3_time(when, o->created_at);
    int r = buf_adds(&l->contents, "<Contents>");
    if (r == 0)
        r = add_name(&l->contents, "Key", o->key, l->url);
    if (r == 0)
        r = buf_addf(&l->contents,
                     "<LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag><Size>%" PRId64
                     "</Size><StorageClass>STANDARD</StorageClass></Contents>",
                     when, o->etag, o->size);
    return r;
}

static int add_prefix(struct listing *l, const char *prefix)
{
    int r = buf_adds(&l->prefixes, "<CommonPrefixes>");
    if (r == 0)
        r = add_name(&l->prefixes, "Prefix", prefix, l->url);
    return r == 0 ? buf_adds(&l->prefixes, "</CommonPrefixes>") : r;
}

/* The common prefix of a key, or the key itself, into out. True for a common prefix. */
static bool group_of(const struct listing *l, const char *key, char out[S3_KEY_MAX + 1])
{
    const char *at = *l->delimiter ? strstr(key + strlen(l->prefix), l->delimiter) : NULL;
    size_t n = at ? (size_t)(at - key) + strlen(l->delimiter) : strlen(key);
    if (n > S3_KEY_MAX)
        n = S3_KEY_MAX;
    memcpy(out, key, n);
    out[n] = '\0';
    return at != NULL;
}

static int on_object(const struct store_object *o, void *arg)
{
    struct listing *l = arg;
    char name[S3_KEY_MAX + 1];
    l->rows++;
    snprintf(l->seen, sizeof l->seen, "%s", o->key);
    bool common = group_of(l, o->key, name);
    if (common && strcmp(name, l->cursor) == 0)
        return 0;
    if (l->count == l->max) {
        l->truncated = true;
        return 1;
    }
    int r = common ? add_prefix(l, name) : add_object(l, o);
    l->count++;
    memcpy(l->cursor, name, sizeof l->cursor);
    return r;
}

static int walk(struct s3_request *q, struct listing *l, struct err *e)
{
    int r = 0;
    snprintf(l->seen, sizeof l->seen, "%s", l->cursor);
    do {
        char after[S3_KEY_MAX + 1];
        memcpy(after, l->seen, sizeof after);
        l->rows = 0;
        r = store_object_list(q->s3->store, q->bucket, l->prefix, *after ? after : NULL, BATCH,
                              on_object, l, e);
    } while (r == 0 && l->rows == BATCH);
    return r < 0 ? s3_fail_code(q, r, e) : 0;
}

static int token_read(struct s3_request *q, struct listing *l, const char *token, struct err *e)
{
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(S3_KEY_MAX);
    if (strlen(token) > CURSOR_MAX || base64url_decode(&text, token, strlen(token)) < 0 ||
        memchr(text.data ? text.data : "", 0, text.len))
        return s3_fail(q, S3_INVALID_ARGUMENT, e, "The continuation token provided is incorrect");
    snprintf(l->cursor, sizeof l->cursor, "%s", text.data ? text.data : "");
    return 0;
}

static int read_start(struct s3_request *q, struct listing *l, bool v2, struct err *e)
{
    const char *token = v2 ? s3_query(q, "continuation-token") : NULL;
    const char *after = s3_query(q, v2 ? "start-after" : "marker");
    if (token)
        return token_read(q, l, token, e);
    if (after && strlen(after) > S3_KEY_MAX)
        return s3_fail(q, S3_KEY_TOO_LONG, e, NULL);
    snprintf(l->cursor, sizeof l->cursor, "%s", after ? after : "");
    return 0;
}

static int add_optional(struct s3_request *q, struct buf *out, const struct listing *l,
                        const char *element, const char *query)
{
    const char *v = s3_query(q, query);
    return v ? add_name(out, element, v, l->url) : 0;
}

static int add_cursor(struct buf *out, const struct listing *l, bool v2)
{
    if (!l->truncated)
        return 0;
    if (!v2)
        return add_name(out, "NextMarker", l->cursor, l->url);
    CLEANUP(buf_done)
    struct buf token = BUF_INIT(0);
    int r = base64url_encode(&token, l->cursor, strlen(l->cursor));
    return r == 0 ? xml_element(out, "NextContinuationToken", token.data ? token.data : "") : r;
}

static int list_xml(struct s3_request *q, const struct listing *l, bool v2, struct buf *out)
{
    int r = buf_adds(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
                          "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    if (r == 0)
        r = xml_element(out, "Name", q->bucket);
    if (r == 0)
        r = add_name(out, "Prefix", l->prefix, l->url);
    if (r == 0)
        r = add_optional(q, out, l, "Delimiter", "delimiter");
    if (r == 0)
        r = v2 ? add_optional(q, out, l, "StartAfter", "start-after")
               : add_optional(q, out, l, "Marker", "marker");
    if (r == 0 && l->url)
        r = xml_element(out, "EncodingType", "url");
    if (r == 0)
        r = buf_addf(out, "<MaxKeys>%d</MaxKeys><IsTruncated>%s</IsTruncated>", l->max,
                     l->truncated ? "true" : "false");
    if (r == 0 && v2)
        r = buf_addf(out, "<KeyCount>%d</KeyCount>", l->count);
    if (r == 0)
        r = add_cursor(out, l, v2);
    if (r == 0)
        r = buf_add(out, l->contents.data ? l->contents.data : "", l->contents.len);
    if (r == 0)
        r = buf_add(out, l->prefixes.data ? l->prefixes.data : "", l->prefixes.len);
    return r == 0 ? buf_adds(out, "</ListBucketResult>") : r;
}

int s3_list_objects(struct s3_request *q, struct err *e)
{
    const char *type = s3_query(q, "list-type"), *prefix = s3_query(q, "prefix");
    const char *delimiter = s3_query(q, "delimiter"), *encoding = s3_query(q, "encoding-type");
    bool v2 = type && strcmp(type, "2") == 0;
    struct listing *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(e, ENOMEM, "out of memory");
    l->prefix = prefix ? prefix : "";
    l->delimiter = delimiter ? delimiter : "";
    l->url = encoding && strcmp(encoding, "url") == 0;
    int r = s3_query_int(q, "max-keys", 0, INT32_MAX, S3_LIST_MAX, e);
    l->max = r < S3_LIST_MAX ? r : S3_LIST_MAX;
    if (r >= 0)
        r = read_start(q, l, v2, e);
    if (r >= 0)
        r = walk(q, l, e);
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    if (l->max == 0)
        l->truncated = false;
    if (r >= 0)
        r = list_xml(q, l, v2, &xml);
    if (r >= 0)
        s3_reply_xml(q, &xml);
    buf_done(&l->contents);
    buf_done(&l->prefixes);
    free(l);
    return r;
}

/* ---- deletion of many ---------------------------------------------------------------------------
 */

struct deletion {
    struct s3_request *q;
    struct buf done; /* owned */
};

static int delete_one(const char *key, void *arg)
{
    struct deletion *d = arg;
    struct store_garbage g = {0};
    struct err e = {0};
    int r = store_object_delete(d->q->s3->store, d->q->bucket, key, &g, &e);
    s3_sweep(d->q->s3, &g);
    if (r == -ENXIO)
        return r;
    if (buf_adds(&d->done, r < 0 ? "<Error>" : "<Deleted>") < 0 ||
        xml_element(&d->done, "Key", key) < 0)
        return -ENOMEM;
    if (r < 0 && (xml_element(&d->done, "Code", "InternalError") < 0 ||
                  xml_element(&d->done, "Message", e.text) < 0))
        return -ENOMEM;
    return buf_adds(&d->done, r < 0 ? "</Error>" : "</Deleted>");
}

int s3_delete_objects(struct s3_request *q, struct err *e)
{
    struct deletion d = {.q = q};
    bool quiet;
    struct http_call *h = q->http;
    if (call_load_body(h, XML_MAX_BODY) < 0)
        return s3_fail(q, S3_MALFORMED_XML, e, NULL);
    int r = xml_parse_delete(h->body.data ? h->body.data : "", h->body.len, S3_LIST_MAX, &quiet,
                             delete_one, &d, e);
    if (r == -EINVAL)
        r = s3_fail(q, S3_MALFORMED_XML, e, NULL);
    else if (r < 0)
        r = s3_fail_code(q, r, e);
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    if (r == 0)
        r = buf_addf(&xml,
                     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult "
                     "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">%s</DeleteResult>",
                     d.done.data && !quiet ? d.done.data : "");
    buf_done(&d.done);
    if (r == 0)
        s3_reply_xml(q, &xml);
    return r;
}
