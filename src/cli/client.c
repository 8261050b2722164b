/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/encode.h"
#include "base/fs.h"

struct request {
    const char *base, *method, *path;
    enum sigv4_service service;
    const char *text; /* body, or NULL */
    int fd;           /* body when >= 0 */
    int64_t size;
    const char *sha256;
    int to_fd; /* where the body of a success goes when > 0 */
};

void client_reply_done(struct client_reply *r)
{
    buf_done(&r->body);
    *r = (struct client_reply){0};
}

struct sink {
    CURL *h;
    struct client_reply *reply;
    int fd;
};

/* An error's body is a text for us in any case. */
static size_t on_sink(char *p, size_t size, size_t n, void *arg)
{
    const struct sink *s = arg;
    long status = 0;
    curl_easy_getinfo(s->h, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 300)
        return buf_add(&s->reply->body, p, size * n) < 0 ? 0 : size * n;
    return fs_write_all(s->fd, p, size * n) < 0 ? 0 : size * n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct client_reply *r = arg;
    return buf_add(&r->body, p, size * n) < 0 ? 0 : size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct client_reply *r = arg;
    struct slice value = {0}, line = {p, size * n};
    const char *colon = memchr(p, ':', line.n);
    if (!colon)
        return line.n;
    struct slice name = {p, (size_t)(colon - p)};
    value = (struct slice){colon + 1, line.n - name.n - 1};
    while (value.n && isspace((unsigned char)value.p[0]))
        value = (struct slice){value.p + 1, value.n - 1};
    while (value.n && isspace((unsigned char)value.p[value.n - 1]))
        value.n--;
    if (slice_eq_nocase(name, "x-tinderbox-next-offset"))
        snprintf(r->next_offset, sizeof r->next_offset, "%.*s", (int)value.n, value.p);
    else if (slice_eq_nocase(name, "x-tinderbox-ended"))
        r->ended = slice_eq(value, "true");
    return line.n;
}

static size_t on_read(char *p, size_t size, size_t n, void *arg)
{
    ssize_t got = read(*(int *)arg, p, size * n);
    return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

/* "host[:port]" of a base URL, as the HTTP library puts it into the Host field. */
static bool host_of(const char *base, char *out, size_t cap)
{
    char *host = NULL, *port = NULL, *scheme = NULL;
    CURLU *u = curl_url();
    bool ok = u && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    if (ok && curl_url_get(u, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT) != CURLUE_OK)
        port = NULL;
    int n = ok ? snprintf(out, cap, "%s%s%s", host, port ? ":" : "", port ? port : "") : -1;
    curl_free(host);
    curl_free(port);
    curl_free(scheme);
    curl_url_cleanup(u);
    return n > 0 && (size_t)n < cap;
}

static struct curl_slist *add(struct curl_slist *list, const char *name, const char *value)
{
    char line[1400];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *more = curl_slist_append(list, line);
    if (!more)
        abort();
    return more;
}

static int sign(const struct cli *c, const struct request *q, struct curl_slist **ret,
                struct err *e)
{
    char host[300];
    struct sigv4_signature s;
    const char *type = q->service == SIGV4_S3 ? "application/zip" : "application/json";
    const struct http_header headers[] = {{SLICE("content-type"), slice_from(type)}};
    if (!host_of(q->base, host, sizeof host))
        return err_set(e, EINVAL, "'%s' is not the URL of a service", q->base);
    struct sigv4_sign_request r = {.method = slice_from(q->method),
                                   .target = slice_from(q->path),
                                   .host = slice_from(host),
                                   .headers = headers,
                                   .n_headers = 1,
                                   .body_sha256 = q->sha256,
                                   .region = c->region,
                                   .service = q->service,
                                   .now_s = time(NULL)};
    int rc = sigv4_sign(&c->credential, &r, &s, e);
    if (rc < 0)
        return rc;
    struct curl_slist *list = add(NULL, "content-type", type);
    list = add(list, "x-amz-date", s.date);
    list = add(list, "x-amz-content-sha256", q->sha256);
    list = add(list, "authorization", s.authorization);
    *ret = add(list, "expect", ""); /* no 100-continue round trip */
    return 0;
}

static void set_body(CURL *h, struct request *q)
{
    if (q->fd >= 0) {
        curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(h, CURLOPT_READDATA, &q->fd);
        curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->size);
    } else if (q->text || strcmp(q->method, "POST") == 0 || strcmp(q->method, "PUT") == 0) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->size);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, q->text ? q->text : "");
    }
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
}

static int perform(const struct cli *c, CURL *h, struct request *q, struct client_reply *ret,
                   struct err *e)
{
    static char url[20000];
    struct sink sink = {.h = h, .reply = ret, .fd = q->to_fd};
    char text[CURL_ERROR_SIZE] = "";
    int n = snprintf(url, sizeof url, "%s%s", q->base, q->path);
    if (n < 0 || (size_t)n >= sizeof url)
        return err_set(e, EINVAL, "the request's URL is too long");
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, text);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, ret);
    if (q->to_fd > 0) {
        curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_sink);
        curl_easy_setopt(h, CURLOPT_WRITEDATA, &sink);
    }
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, ret);
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (!c->remote) /* the daemon is on this machine: no proxy can reach it */
        curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
    if (c->ca[0] && strncmp(q->base, "https:", 6) == 0)
        curl_easy_setopt(h, CURLOPT_CAINFO, c->ca);
    set_body(h, q);
    CURLcode code = curl_easy_perform(h);
    if (code == CURLE_OK) {
        curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &ret->status);
        return 0;
    }
    return err_set(e, code == CURLE_COULDNT_CONNECT ? ECONNREFUSED : EIO, "%s: %s", q->base,
                   *text ? text : curl_easy_strerror(code));
}

/* "<Message>...</Message>" of an S3 error. */
static bool xml_message(const struct buf *b, char *out, size_t cap)
{
    const char *from = b->data ? strstr(b->data, "<Message>") : NULL;
    const char *to = from ? strstr(from, "</Message>") : NULL;
    if (!to)
        return false;
    snprintf(out, cap, "%.*s", (int)(to - from - 9), from + 9);
    return true;
}

static int reply_error(const struct client_reply *r, struct err *e)
{
    static const struct {
        long status;
        int code;
    } codes[] = {{400, EINVAL}, {402, EDQUOT}, {403, EACCES},
                 {404, ENOENT}, {409, EBUSY},  {429, EAGAIN}};
    int code = EIO;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i].status == r->status)
            code = codes[i].code;
    }
    char text[512];
    CLEANUP(cleanup_json)
    json_t *o = NULL;
    if (r->body.len && json_parse(r->body.data, r->body.len, CLIENT_REPLY_MAX, &o, NULL) == 0) {
        const char *m = json_get_str(o, "message");
        m = m ? m : json_get_str(o, "Message");
        if (m)
            return err_set(e, code, "%s", m);
    }
    if (xml_message(&r->body, text, sizeof text))
        return err_set(e, code, "%s", text);
    return err_set(e, code, "the service answered with status %ld", r->status);
}

static int request(struct cli *c, struct request *q, struct client_reply *ret, struct err *e)
{
    struct curl_slist *headers = NULL;
    *ret = (struct client_reply){.body = BUF_INIT(CLIENT_REPLY_MAX)};
    int rc = sign(c, q, &headers, e);
    if (rc < 0)
        return rc;
    CURL *h = curl_easy_init();
    if (!h)
        abort();
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    rc = perform(c, h, q, ret, e);
    curl_easy_cleanup(h);
    curl_slist_free_all(headers);
    if (rc == 0 && ret->status >= 300)
        rc = reply_error(ret, e);
    if (rc < 0)
        client_reply_done(ret);
    return rc;
}

int client_send(struct cli *c, const char *method, const char *path, const json_t *body,
                struct client_reply *ret, struct err *e)
{
    CLEANUP(cleanup_free)
    char *text = body ? json_text(body) : NULL;
    char sha256[SHA256_HEX_LEN + 1];
    size_t n = text ? strlen(text) : 0;
    sha256_hex_of(text ? text : "", n, sha256);
    struct request q = {.base = c->api,
                        .method = method,
                        .path = path,
                        .service = SIGV4_LAMBDA,
                        .text = text,
                        .fd = -1,
                        .size = (int64_t)n,
                        .sha256 = sha256};
    return request(c, &q, ret, e);
}

int client_call(struct cli *c, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *e)
{
    struct client_reply r;
    int rc = client_send(c, method, path, body, &r, e);
    if (rc < 0)
        return rc;
    if (ret)
        rc = json_parse(r.body.data ? r.body.data : "", r.body.len, CLIENT_REPLY_MAX, ret, e);
    client_reply_done(&r);
    return rc < 0 ? err_wrap(e, "the service's answer is not JSON") : 0;
}

int client_list(struct cli *c, const char *path, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *all = json_array();
    CLEANUP(buf_done)
    struct buf token = BUF_INIT(4096);
    for (;;) {
        CLEANUP(cleanup_json)
        json_t *page = NULL;
        CLEANUP(buf_done)
        struct buf target = BUF_INIT(8192);
        int rc = buf_addf(&target, "%s%cmaxResults=50", path, strchr(path, '?') ? '&' : '?');
        if (rc == 0 && token.len)
            rc = buf_addf(&target, "&nextToken=%s", token.data);
        if (rc < 0)
            return err_set(e, EIO, "the service's page token is too long");
        rc = client_call(c, "GET", target.data, NULL, &page, e);
        if (rc < 0)
            return rc;
        json_array_extend(all, json_object_get(page, "items"));
        const char *next = json_get_str(page, "nextToken");
        if (!next || !*next)
            break;
        buf_clear(&token);
        if (percent_encode(&token, next, strlen(next), "") < 0)
            return err_set(e, EIO, "the service's page token is too long");
    }
    *ret = TAKE(all);
    return 0;
}

int client_path(char *out, size_t cap, const char *prefix, const char *id, const char *suffix,
                struct err *e)
{
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(cap - 1);
    if (buf_adds(&b, prefix) < 0 || percent_encode(&b, id, strlen(id), "") < 0 ||
        buf_adds(&b, suffix) < 0)
        return err_set(e, EINVAL, "'%.64s...' is too long", id);
    memcpy(out, b.data, b.len + 1);
    return 0;
}

int client_make_bucket(struct cli *c, const char *bucket, struct err *e)
{
    char path[300];
    struct client_reply r;
    int rc = client_path(path, sizeof path, "/", bucket, "", e);
    if (rc < 0)
        return rc;
    struct request q = {.base = c->s3,
                        .method = "PUT",
                        .path = path,
                        .service = SIGV4_S3,
                        .fd = -1,
                        .sha256 =
                            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"};
    rc = request(c, &q, &r, e);
    if (rc == -EBUSY) /* it is ours already */
        return 0;
    if (rc == 0)
        client_reply_done(&r);
    return rc;
}

int client_get_file(struct cli *c, const char *path, int fd, struct err *e)
{
    char sha256[SHA256_HEX_LEN + 1];
    struct client_reply r;
    sha256_hex_of("", 0, sha256);
    struct request q = {.base = c->api,
                        .method = "GET",
                        .path = path,
                        .service = SIGV4_LAMBDA,
                        .fd = -1,
                        .sha256 = sha256,
                        .to_fd = fd};
    int rc = request(c, &q, &r, e);
    if (rc == 0)
        client_reply_done(&r);
    return rc;
}

/* Uploads fd from its start to a path of one of the services. */
static int put_file(struct cli *c, struct request *q, int fd, struct err *e)
{
    char sha256[SHA256_HEX_LEN + 1];
    struct stat st;
    struct client_reply r;
    if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_set_errno(e, errno, "cannot read the upload");
    int rc = sha256_hex_fd(fd, sha256, e);
    if (rc < 0)
        return rc;
    q->method = "PUT";
    q->fd = fd;
    q->size = st.st_size;
    q->sha256 = sha256;
    rc = request(c, q, &r, e);
    if (rc == 0)
        client_reply_done(&r);
    return rc;
}

int client_put_file(struct cli *c, const char *path, int fd, struct err *e)
{
    struct request q = {.base = c->api, .path = path, .service = SIGV4_LAMBDA};
    return put_file(c, &q, fd, e);
}

int client_put_object(struct cli *c, const char *bucket, const char *key, int fd, struct err *e)
{
    char path[1400];
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(sizeof path - 1);
    if (buf_addf(&b, "/%s/", bucket) < 0 || percent_encode(&b, key, strlen(key), "/") < 0)
        return err_set(e, EINVAL, "the object's name is too long");
    memcpy(path, b.data, b.len + 1);
    struct request q = {.base = c->s3, .path = path, .service = SIGV4_S3};
    return put_file(c, &q, fd, e);
}
