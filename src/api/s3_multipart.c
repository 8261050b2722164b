/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multipart uploads. Parts are blobs; completing writes them one after the other into the object's
 * blob, so that a finished object is one file again whatever way it came.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/call.h"
#include "api/s3_blob.h"
#include "api/s3_int.h"
#include "api/s3_xml.h"
#include "base/encode.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define XMLNS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static int key_xml(const struct s3_request *q, struct buf *out, const char *upload)
{
    int r = xml_element(out, "Bucket", q->bucket);
    if (r == 0)
        r = xml_element(out, "Key", q->key);
    return r == 0 && upload ? xml_element(out, "UploadId", upload) : r;
}

int s3_create_upload(struct s3_request *q, struct err *e)
{
    CLEANUP(cleanup_free)
    char *metadata = NULL;
    char id[UUID_LEN + 1], type[256];
    uuid_new(id);
    if (!s3_header(q, "content-type", type, sizeof type))
        return s3_fail(q, S3_INVALID_ARGUMENT, e, "The content type is too long");
    int r = s3_metadata(q, &metadata, e);
    if (r < 0)
        return r;
    const struct store_upload u = {.id = id,
                                   .bucket = q->bucket,
                                   .key = q->key,
                                   .content_type = *type ? type : NULL,
                                   .metadata = metadata};
    r = store_upload_create(q->s3->store, &u, e);
    if (r < 0)
        return s3_fail_code(q, r, e);
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    r = buf_adds(&xml, HEAD "<InitiateMultipartUploadResult" XMLNS ">");
    if (r == 0)
        r = key_xml(q, &xml, id);
    if (r == 0)
        r = buf_adds(&xml, "</InitiateMultipartUploadResult>");
    if (r == 0)
        s3_reply_xml(q, &xml);
    return r;
}

/* The upload a request names; it must be of the request's bucket and key. */
static int find_upload(struct s3_request *q, struct store_upload *ret, struct err *e)
{
    int r = store_upload_get(q->s3->store, s3_query(q, "uploadId"), ret, e);
    if (r == 0 && (strcmp(ret->bucket, q->bucket) != 0 || strcmp(ret->key, q->key) != 0))
        r = -ENOENT;
    if (r == -ENOENT)
        return s3_fail(q, S3_NO_SUCH_UPLOAD, e, NULL);
    return r < 0 ? s3_fail_code(q, r, e) : 0;
}

static int put_part_row(struct s3_request *q, int number, struct s3_blob *blob,
                        const struct s3_payload *info, struct err *e)
{
    const struct store_part p = {.upload = (char *)(uintptr_t)s3_query(q, "uploadId"),
                                 .number = number,
                                 .size = (int64_t)blob->size,
                                 .etag = (char *)(uintptr_t)info->md5_hex,
                                 .path = blob->name};
    struct store_garbage g = {0};
    int r = store_part_put(q->s3->store, &p, &g, e);
    if (r == -ENOENT)
        return s3_fail(q, S3_NO_SUCH_UPLOAD, e, NULL);
    if (r < 0)
        return s3_fail_code(q, r, e);
    blob->kept = true;
    s3_sweep(q->s3, &g);
    return 0;
}

int s3_put_part(struct s3_request *q, struct err *e)
{
    struct store_upload u = {0};
    struct s3_blob blob = {.fd = -1};
    struct s3_payload info;
    char copy[8];
    if (!s3_header(q, "x-amz-copy-source", copy, sizeof copy) || *copy)
        return s3_fail(q, S3_NOT_IMPLEMENTED, e, "Copying objects is not implemented");
    int number = s3_query_int(q, "partNumber", 1, S3_PARTS_MAX, 0, e);
    if (number < 0)
        return number;
    int r = find_upload(q, &u, e);
    store_upload_done(&u);
    if (r == 0)
        r = s3_payload_store(q, &blob, &info, e);
    if (r == 0)
        r = put_part_row(q, number, &blob, &info, e);
    s3_blob_done(&blob);
    if (r < 0)
        return r;
    q->http->status = 200;
    http_call_header(q->http, "etag", "\"%s\"", info.md5_hex);
    if (info.algorithm)
        http_call_header(q->http, info.algorithm->header, "%s", info.checksum);
    return 0;
}

/* ---- lists --------------------------------------------------------------------------------------
 */

struct part_list {
    struct buf xml; /* owned */
    int max, count, last;
    bool truncated;
};

static int on_part(const struct store_part *p, void *arg)
{
    struct part_list *l = arg;
    char when[32];
    if (l->count == l->max) {
        l->truncated = true;
        return 1;
    }
    l->count++;
    l->last = p->number;
    s3_time(when, p->created_at);
    return buf_addf(&l->xml,
                    "<Part><PartNumber>%d</PartNumber><LastModified>%s</LastModified>"
                    "<ETag>&quot;%s&quot;</ETag><Size>%" PRId64 "</Size></Part>",
                    p->number, when, p->etag, p->size);
}

int s3_list_parts(struct s3_request *q, struct err *e)
{
    struct store_upload u = {0};
    struct part_list l = {0};
    int after = s3_query_int(q, "part-number-marker", 0, INT32_MAX, 0, e);
    l.max = after < 0 ? after : s3_query_int(q, "max-parts", 1, S3_LIST_MAX, S3_LIST_MAX, e);
    if (l.max < 0)
        return l.max;
    int r = find_upload(q, &u, e);
    store_upload_done(&u);
    if (r < 0)
        return r;
    const char *id = s3_query(q, "uploadId");
    r = store_part_list(q->s3->store, id, after, l.max + 1, on_part, &l, e);
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    if (r >= 0)
        r = buf_adds(&xml, HEAD "<ListPartsResult" XMLNS ">");
    if (r >= 0)
        r = key_xml(q, &xml, id);
    if (r >= 0)
        r = buf_addf(&xml,
                     "<PartNumberMarker>%d</PartNumberMarker><NextPartNumberMarker>%d"
                     "</NextPartNumberMarker><MaxParts>%d</MaxParts><IsTruncated>%s</IsTruncated>"
                     "%s</ListPartsResult>",
                     after, l.last, l.max, l.truncated ? "true" : "false",
                     l.xml.data ? l.xml.data : "");
    buf_done(&l.xml);
    if (r < 0)
        return s3_fail_code(q, r, e);
    s3_reply_xml(q, &xml);
    return 0;
}

static int on_upload(const struct store_upload *u, void *arg)
{
    struct buf *out = arg;
    char when[32];
    s3_time(when, u->created_at);
    int r = buf_adds(out, "<Upload>");
    if (r == 0)
        r = xml_element(out, "Key", u->key);
    if (r == 0)
        r = xml_element(out, "UploadId", u->id);
    if (r == 0)
        r = xml_element(out, "Initiated", when);
    return r == 0 ? buf_adds(out, "</Upload>") : r;
}

int s3_list_uploads(struct s3_request *q, struct err *e)
{
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    int r = buf_adds(&xml, HEAD "<ListMultipartUploadsResult" XMLNS ">");
    if (r == 0)
        r = xml_element(&xml, "Bucket", q->bucket);
    if (r == 0)
        r = store_upload_list(q->s3->store, q->bucket, s3_query(q, "prefix"),
                              s3_query(q, "key-marker"), s3_query(q, "upload-id-marker"),
                              S3_LIST_MAX, on_upload, &xml, e);
    if (r == 0)
        r = buf_adds(&xml, "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
    if (r < 0)
        return s3_fail_code(q, r, e);
    s3_reply_xml(q, &xml);
    return 0;
}

/* ---- complete -----------------------------------------------------------------------------------
 */

struct assembly {
    struct s3_request *q;
    const struct xml_part *asked; /* ascending */
    int n, at;
    struct s3_blob blob;
    struct s3_checksum md5_of_md5s;
    char *chunk; /* owned, CHUNK bytes */
    struct err *e;
};

#define CHUNK (256 * 1024)

static int append_blob(struct assembly *a, const struct store_part *p)
{
    CLEANUP(cleanup_close)
    int fd = s3_blob_open(a->q->s3, p->path, a->e);
    if (fd < 0)
        return fd;
    for (int64_t left = p->size; left;) {
        ssize_t n = read(fd, a->chunk, left < CHUNK ? (size_t)left : CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(a->e, EIO, "a part's contents are damaged");
        int r = s3_blob_add(&a->blob, a->chunk, (size_t)n, a->e);
        if (r < 0)
            return r;
        left -= n;
    }
    unsigned char md5[16];
    if (hex_decode(md5, sizeof md5, p->etag) < 0)
        return err_set(a->e, EIO, "a part's entity tag is damaged");
    s3_checksum_add(&a->md5_of_md5s, md5, sizeof md5);
    return 0;
}

/* Stored parts come by number; those not asked for are left out. */
static int on_stored_part(const struct store_part *p, void *arg)
{
    struct assembly *a = arg;
    if (a->at == a->n || p->number < a->asked[a->at].number)
        return 0;
    if (p->number > a->asked[a->at].number || strcmp(p->etag, a->asked[a->at].etag) != 0)
        return s3_fail(a->q, S3_INVALID_PART, a->e, NULL);
    if (a->at < a->n - 1 && p->size < S3_PART_MIN)
        return s3_fail(a->q, S3_TOO_SMALL, a->e, NULL);
    a->at++;
    return append_blob(a, p);
}

static int assemble(struct assembly *a, const char *id)
{
    int r = s3_blob_create(a->q->s3, &a->blob, a->e);
    if (r == 0)
        r = store_part_list(a->q->s3->store, id, 0, S3_PARTS_MAX, on_stored_part, a, a->e);
    if (r == 0 && a->at < a->n)
        r = s3_fail(a->q, S3_INVALID_PART, a->e, NULL);
    return r == 0 ? s3_blob_sync(&a->blob, a->e) : r;
}

static int complete_row(struct assembly *a, const struct store_upload *u, const char *etag)
{
    struct store_garbage g = {0};
    const struct store_object o = {.bucket = u->bucket,
                                   .key = u->key,
                                   .size = (int64_t)a->blob.size,
                                   .etag = (char *)(uintptr_t)etag,
                                   .content_type = u->content_type,
                                   .metadata = u->metadata,
                                   .path = a->blob.name};
    int r = store_upload_complete(a->q->s3->store, u->id, &o, &g, a->e);
    if (r == -ENOENT)
        return s3_fail(a->q, S3_NO_SUCH_UPLOAD, a->e, NULL);
    if (r < 0)
        return r;
    a->blob.kept = true;
    s3_sweep(a->q->s3, &g);
    return 0;
}

static int complete_xml(struct s3_request *q, const char *etag)
{
    CLEANUP(buf_done)
    struct buf xml = BUF_INIT(0);
    int r = buf_adds(&xml, HEAD "<CompleteMultipartUploadResult" XMLNS ">");
    if (r == 0)
        r = key_xml(q, &xml, NULL);
    if (r == 0)
        r = buf_addf(&xml, "<ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>", etag);
    if (r == 0)
        s3_reply_xml(q, &xml);
    return r;
}

static int complete(struct assembly *a, const struct store_upload *u)
{
    unsigned char md5[EVP_MAX_MD_SIZE];
    char etag[64];
    a->chunk = malloc(CHUNK);
    if (!a->chunk)
        return err_set(a->e, ENOMEM, "out of memory");
    s3_checksum_begin(&a->md5_of_md5s, &S3_MD5);
    int r = assemble(a, u->id);
    if (r == 0) {
        s3_checksum_end(&a->md5_of_md5s, md5);
        hex_encode(etag, md5, 16);
        snprintf(etag + 32, sizeof etag - 32, "-%d", a->n);
        r = complete_row(a, u, etag);
    }
    s3_checksum_done(&a->md5_of_md5s);
    s3_blob_done(&a->blob);
    free(a->chunk);
    if (r < 0)
        return a->q->error == S3_INTERNAL ? s3_fail_code(a->q, r, a->e) : r;
    return complete_xml(a->q, etag);
}

static int read_parts(struct s3_request *q, struct xml_part *parts, struct err *e)
{
    struct http_call *h = q->http;
    int n = call_load_body(h, XML_MAX_BODY) < 0
                ? -EINVAL
                : xml_parse_complete(h->body.data ? h->body.data : "", h->body.len, parts,
                                     S3_PARTS_MAX, e);
    if (n <= 0)
        return s3_fail(q, S3_MALFORMED_XML, e, NULL);
    for (int i = 1; i < n; i++)
        if (parts[i].number <= parts[i - 1].number)
            return s3_fail(q, S3_PART_ORDER, e, NULL);
    return n;
}

int s3_complete_upload(struct s3_request *q, struct err *e)
{
    struct store_upload u = {0};
    CLEANUP(cleanup_free)
    struct xml_part *parts = malloc(S3_PARTS_MAX * sizeof *parts);
    if (!parts)
        return err_set(e, ENOMEM, "out of memory");
    int n = read_parts(q, parts, e);
    int r = n < 0 ? n : find_upload(q, &u, e);
    if (r == 0) {
        struct assembly a = {.q = q, .asked = parts, .n = n, .blob = {.fd = -1}, .e = e};
        r = complete(&a, &u);
    }
    store_upload_done(&u);
    return r;
}

int s3_abort_upload(struct s3_request *q, struct err *e)
{
    struct store_upload u = {0};
    struct store_garbage g = {0};
    int r = find_upload(q, &u, e);
    if (r == 0) {
        r = store_upload_abort(q->s3->store, u.id, &g, e);
        r = r == -ENOENT ? s3_fail(q, S3_NO_SUCH_UPLOAD, e, NULL)
            : r < 0      ? s3_fail_code(q, r, e)
                         : 0;
    }
    if (r == 0) {
        s3_sweep(q->s3, &g);
        q->http->status = 204;
    }
    store_upload_done(&u);
    return r;
}
