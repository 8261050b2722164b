/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The store an image's code comes from, so that no other server is needed. Rows are in SQLite
 * (store/objects.h), contents in one file each (s3_blob.h). A request is authenticated, its target
 * split into bucket and key, and dispatched by method, level and sub-resource through one table.
 *
 * Goals: what the AWS CLI, boto3 and the AWS SDKs do by default when they upload, download, list
 * and delete. Non-goals: versions, ACLs, policies, copies, browser forms: these answer
 * NotImplemented.
 *
 * Limits: 5 GiB a request, keys of 1024 bytes, 10,000 parts, lists of 1000.
 */
#include "api/s3.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/route.h"
#include "api/s3_blob.h"
#include "api/s3_int.h"
#include "api/s3_xml.h"
#include "base/encode.h"
#include "base/fs.h"
#include "base/log.h"

/* ---- open, close --------------------------------------------------------------------------------
 */

/* Blobs no row names: written, but the crash came before the row. */
static int sweep_orphans(struct s3 *s, struct err *e)
{
    DIR *d = opendir(s->dir);
    if (!d)
        return err_set_errno(e, errno, "open %s", s->dir);
    int r = 0;
    for (struct dirent *ent; r == 0 && (ent = readdir(d));) {
        bool used = true;
        if (strlen(ent->d_name) != UUID_LEN)
            continue;
        r = store_blob_used(s->store, ent->d_name, &used, e);
        if (r == 0 && !used)
            s3_blob_remove(s, ent->d_name);
    }
    closedir(d);
    return r;
}

int s3_open(const struct s3_config *c, struct s3 **ret, struct err *e)
{
    struct s3 *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    s->store = c->store;
    s->keys = c->keys;
    int r = strlen(c->dir) < sizeof s->dir ? fs_mkdir_p(c->dir, 0700, e)
                                           : err_set(e, ENAMETOOLONG, "path too long");
    if (r == 0) {
        memcpy(s->dir, c->dir, strlen(c->dir) + 1);
        r = sweep_orphans(s, e);
    }
    if (r < 0) {
        free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void s3_close(struct s3 *s)
{
    free(s);
}

int s3_open_artifact(void *s3, const char *bucket, const char *key, struct err *e)
{
    struct s3 *s = s3;
    struct store_object o = {0};
    int r = store_object_get(s->store, bucket, key, &o, e);
    if (r == -ENXIO)
        r = err_set(e, ENOENT, "S3_NO_SUCH_BUCKET: there is no bucket '%s'", bucket);
    else if (r == -ENOENT)
        err_set(e, ENOENT, "S3_NO_SUCH_KEY: there is no object '%s' in bucket '%s'", key, bucket);
    if (r == 0)
        r = s3_blob_open(s, o.path, e);
    store_object_done(&o);
    return r;
}

/* ---- helpers of the operations ------------------------------------------------------------------
 */

const char *s3_query(const struct s3_request *q, const char *name)
{
    const json_t *v = json_object_get(q->query, name);
    return json_string_value(json_is_array(v) ? json_array_get(v, 0) : v);
}

int s3_query_int(struct s3_request *q, const char *name, int lo, int hi, int otherwise,
                 struct err *e)
{
    const char *text = s3_query(q, name);
    if (!text)
        return otherwise;
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < lo || v > hi) {
        char message[120];
        snprintf(message, sizeof message, "%s must be a number from %d to %d", name, lo, hi);
        return s3_fail(q, S3_INVALID_ARGUMENT, e, message);
    }
    return (int)v;
}

bool s3_header(const struct s3_request *q, const char *name, char *out, size_t cap)
{
    struct slice v = {"", 0};
    *out = '\0';
    (void)http_header_find(q->http->headers, q->http->n_headers, name, &v);
    if (v.n >= cap)
        return false;
    memcpy(out, v.p, v.n);
    out[v.n] = '\0';
    return true;
}

void s3_reply_xml(struct s3_request *q, struct buf *xml)
{
    struct http_call *h = q->http;
    buf_done(&h->reply);
    h->reply = *xml;
    *xml = BUF_INIT(0);
    h->status = 200;
    http_call_header(h, "content-type", "application/xml");
}

void s3_sweep(const struct s3 *s, struct store_garbage *g)
{
    for (size_t i = 0; i < g->n; i++)
        s3_blob_remove(s, g->paths[i]);
    store_garbage_done(g);
}

void s3_time(char out[32], int64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 32 - n, ".%03dZ", (int)(ms % 1000));
}

/* ---- dispatch -----------------------------------------------------------------------------------
 */

enum level { SERVICE, BUCKET, OBJECT };

static const struct route {
    const char *method;
    enum level level;
    const char *with[2]; /* query parameters that must be present */
    int (*run)(struct s3_request *q, struct err *e);
} ROUTES[] = {
    {"GET", SERVICE, {0}, s3_list_buckets},
    {"PUT", BUCKET, {0}, s3_create_bucket},
    {"HEAD", BUCKET, {0}, s3_head_bucket},
    {"DELETE", BUCKET, {0}, s3_delete_bucket},
    {"GET", BUCKET, {"location"}, s3_bucket_location},
    {"GET", BUCKET, {"uploads"}, s3_list_uploads},
    {"POST", BUCKET, {"delete"}, s3_delete_objects},
    {"GET", BUCKET, {0}, s3_list_objects},
    {"PUT", OBJECT, {"partNumber", "uploadId"}, s3_put_part},
    {"PUT", OBJECT, {0}, s3_put_object},
    {"GET", OBJECT, {"uploadId"}, s3_list_parts},
    {"GET", OBJECT, {0}, s3_get_object},
    {"HEAD", OBJECT, {0}, s3_get_object},
    {"POST", OBJECT, {"uploads"}, s3_create_upload},
    {"POST", OBJECT, {"uploadId"}, s3_complete_upload},
    {"DELETE", OBJECT, {"uploadId"}, s3_abort_upload},
    {"DELETE", OBJECT, {0}, s3_delete_object},
};

/* Sub-resources of S3 that select an operation we do not have. */
static const char *const MISSING[] = {
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "versionId",
    "versioning",
    "versions",
    "website",
};

static bool route_fits(const struct route *r, const struct s3_request *q, enum level level)
{
    if (strcmp(r->method, q->http->method) != 0 || r->level != level)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(r->with); i++)
        if (r->with[i] && !json_object_get(q->query, r->with[i]))
            return false;
    return true;
}

static int dispatch(struct s3_request *q, struct err *e)
{
    enum level level = q->key[0] ? OBJECT : q->bucket[0] ? BUCKET : SERVICE;
    for (size_t i = 0; i < ARRAY_LEN(MISSING); i++)
        if (json_object_get(q->query, MISSING[i]))
            return s3_fail(q, S3_NOT_IMPLEMENTED, e, NULL);
    for (size_t i = 0; i < ARRAY_LEN(ROUTES); i++)
        if (route_fits(&ROUTES[i], q, level))
            return ROUTES[i].run(q, e);
    return s3_fail(q, S3_METHOD, e, NULL);
}

/* ---- one call -----------------------------------------------------------------------------------
 */

static const struct sigv4_credential *find_credential(const char *access_key, void *arg)
{
    const struct auth_keys *keys = arg;
    return strcmp(access_key, keys->credential.access_key) == 0 ? &keys->credential : NULL;
}

/* body_sha256 may be NULL: then everything but the body is checked. */
static int verify(const struct http_call *h, const struct s3 *s3, const char *body_sha256,
                  struct sigv4_result *ret, struct err *e)
{
    const struct sigv4_request r = {
        .method = slice_from(h->method),
        .target = slice_from(h->target),
        .host = slice_from(h->authority),
        .headers = h->headers,
        .n_headers = h->n_headers,
        .body_sha256 = body_sha256,
    };
    return sigv4_verify(&r, SIGV4_S3, find_credential, (void *)(uintptr_t)s3->keys,
                        clock_real_ms() / 1000, ret, e);
}

/* Whoever cannot sign does not get to fill the disk with what he sends. */
bool s3_admit(const struct http_call *h, void *s3)
{
    struct sigv4_result auth;
    struct err e = {0};
    return verify(h, s3, NULL, &auth, &e) == 0;
}

static int authenticate(struct s3_request *q, struct err *e)
{
    int rc = verify(q->http, q->s3, q->http->body_sha256, &q->auth, e);
    if (rc < 0)
        q->error = s3_error_of_refusal(q->auth.refusal);
    return rc;
}

static int take_text(struct s3_request *q, const char *p, size_t n, char *out, size_t cap,
                     enum s3_error too_long, struct err *e)
{
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(0);
    if (percent_decode(&text, p, n) < 0)
        return s3_fail(q, S3_INVALID_ARGUMENT, e, "Couldn't parse the specified URI.");
    if (text.len >= cap)
        return s3_fail(q, too_long, e, NULL);
    CLEANUP(cleanup_json)
    json_t *utf8 = json_stringn(text.data ? text.data : "", text.len);
    if (!utf8)
        return s3_fail(q, S3_INVALID_ARGUMENT, e, "A name is not UTF-8.");
    memcpy(out, text.data ? text.data : "", text.len);
    out[text.len] = '\0';
    return 0;
}

/* "<bucket>.localhost[:port]" names the bucket in the host; it resolves to loopback everywhere. */
static int host_bucket(struct s3_request *q, struct err *e)
{
    static const char SUFFIX[] = ".localhost";
    const char *host = q->http->authority;
    size_t n = strcspn(host, ":"), tail = sizeof SUFFIX - 1;
    if (n <= tail || strncasecmp(host + n - tail, SUFFIX, tail) != 0)
        return 0;
    return take_text(q, host, n - tail, q->bucket, sizeof q->bucket, S3_BUCKET_NAME, e);
}

static int split_target(struct s3_request *q, struct err *e)
{
    const char *p = q->http->target;
    int r = *p == '/' ? host_bucket(q, e) : s3_fail(q, S3_INVALID_ARGUMENT, e, NULL);
    if (r == 0 && !q->bucket[0]) {
        size_t n = strcspn(++p, "/?");
        r = take_text(q, p, n, q->bucket, sizeof q->bucket, S3_BUCKET_NAME, e);
        p += n;
    }
    if (r == 0 && *p == '/') {
        p++;
        r = take_text(q, p, strcspn(p, "?"), q->key, sizeof q->key, S3_KEY_TOO_LONG, e);
    }
    if (r == 0 && route_query(q->http->target, q->query, e) < 0)
        r = s3_fail(q, S3_INVALID_ARGUMENT, e, NULL);
    return r;
}

static int error_xml(const struct s3_request *q, const char *text, struct buf *out)
{
    char path[S3_NAME_MAX + S3_KEY_MAX + 4];
    snprintf(path, sizeof path, "/%s%s%s", q->bucket, q->key[0] ? "/" : "", q->key);
    int r = buf_adds(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
    if (r == 0)
        r = xml_element(out, "Code", s3_error_row(q->error)->code);
    if (r == 0)
        r = xml_element(out, "Message", text);
    if (r == 0)
        r = xml_element(out, "Resource", path);
    if (r == 0)
        r = xml_element(out, "RequestId", q->request_id);
    return r == 0 ? buf_adds(out, "</Error>") : r;
}

static void send_error(struct s3_request *q, const char *text)
{
    struct http_call *h = q->http;
    struct buf xml = BUF_INIT(0);
    const struct s3_error_row *row = s3_error_row(q->error);
    if (q->error == S3_INTERNAL)
        log_error("s3", "%s %s: %s", h->method, q->bucket, text);
    if (error_xml(q, *text ? text : row->text, &xml) < 0)
        buf_clear(&xml);
    s3_reply_xml(q, &xml);
    h->status = row->status;
}

void s3_call(struct http_call *h, void *s3)
{
    struct s3_request q = {.s3 = s3, .http = h, .error = S3_INTERNAL, .query = json_object()};
    struct err e = {0};
    uuid_new(q.request_id);
    http_call_header(h, "x-amz-request-id", "%s", q.request_id);
    h->head_only = strcmp(h->method, "HEAD") == 0;
    int r = authenticate(&q, &e);
    if (r == 0 && h->refused) /* a moment ago it was: a signature of the future has come of age */
        r = s3_fail(&q, S3_SIGNATURE, &e, NULL);
    if (r == 0)
        r = split_target(&q, &e);
    if (r == 0)
        r = dispatch(&q, &e);
    if (r < 0)
        send_error(&q, e.text);
    json_decref(q.query);
}
