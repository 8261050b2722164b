/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * One request is one api_call() on a worker thread, straight through: signature, route, JSON,
 * shape, handler, reply. The order matters: nothing about resources is told to a caller whose
 * signature is wrong, and nothing about resources to a request that breaks its shape.
 *
 * The region is the one of the signature's credential scope. Objects are not bound to regions;
 * ARNs in replies carry the caller's, so that a client finds what it expects whatever it is set to.
 *
 * Limits: request target 32 KiB, body 960 KiB (exec: 8 MiB, files: 1 GiB), JSON depth 32, lists 50
 * rows a page. The API keeps no state of its own: everything is in the store, and pagination tokens
 * carry their cursor.
 */
#include "api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/call.h"
#include "api/op.h"
#include "api/patterns.h"
#include "api/route.h"
#include "base/digest.h"
#include "base/log.h"

/* Fifty environment variables of the longest kind fit; a version's configuration is read back with
 * a limit of 1 MiB. */
#define ORDINARY_BODY (960u * 1024)

int api_open(const struct api_config *c, struct api **ret, struct err *e)
{
    const char *account = c->account ? c->account : "000000000000";
    const char *domain = c->domain ? c->domain : "microvm.localhost";
    if (strlen(account) != ACCOUNT_LEN || strspn(account, "0123456789") != ACCOUNT_LEN)
        return err_set(e, EINVAL, "account '%s' is not 12 digits", account);
    struct api *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(e, ENOMEM, "out of memory");
    if (strlen(domain) >= sizeof a->domain) {
        free(a);
        return err_set(e, EINVAL, "endpoint domain is too long");
    }
    a->store = c->store;
    a->microvms = c->microvms;
    a->keys = c->keys;
    a->spool_dir = c->spool_dir ? c->spool_dir : "/tmp";
    memcpy(a->account, account, ACCOUNT_LEN + 1);
    memcpy(a->domain, domain, strlen(domain) + 1);
    a->endpoint_port = c->endpoint_port;
    struct stat st;
    if (c->guest_dir && stat(c->guest_dir, &st) == 0)
        a->managed_ms = (int64_t)st.st_mtime * 1000;
    static const char LABEL[] = "pagination tokens 1";
    hmac_sha256(c->keys->token.key, sizeof c->keys->token.key, LABEL, sizeof LABEL - 1,
                a->page_key);
    *ret = a;
    return 0;
}

void api_close(struct api *a)
{
    free(a);
}

static const struct sigv4_credential *find_credential(const char *access_key, void *arg)
{
    const struct auth_keys *keys = arg;
    return strcmp(access_key, keys->credential.access_key) == 0 ? &keys->credential : NULL;
}

static int authenticate(struct op_call *c, struct err *e)
{
    struct http_call *h = c->http;
    const struct sigv4_request r = {
        .method = slice_from(h->method),
        .target = slice_from(h->target),
        .host = slice_from(h->authority),
        .headers = h->headers,
        .n_headers = h->n_headers,
        .body_sha256 = h->body_sha256,
    };
    struct sigv4_result ok = {0};
    int rc = sigv4_verify(&r, SIGV4_LAMBDA, find_credential, (void *)(uintptr_t)c->api->keys,
                          clock_real_ms() / 1000, &ok, e);
    if (rc < 0) {
        c->exception = api_exception_of_refusal(ok.refusal);
        return rc;
    }
    if (!region_valid(ok.region)) {
        c->exception = EX_ACCESS_DENIED;
        return err_set(e, EACCES, "'%s' in the credential scope is not a region name", ok.region);
    }
    memcpy(c->region, ok.region, strlen(ok.region) + 1);
    return 0;
}

/* An empty body is an empty object, as SDKs send for operations without body members. */
static int parse_body(struct op_call *c, json_t **ret, struct err *e)
{
    struct http_call *h = c->http;
    if (c->op->run == op_files_put) /* a tar: read where it is */
        return 0;
    c->exception = EX_SERIALIZATION;
    size_t max = c->op->run == op_exec ? API_MAX_BODY : ORDINARY_BODY;
    int r = call_load_body(h, max);
    if (r == -EMSGSIZE)
        return err_set(e, EMSGSIZE, "The request body is larger than %zu bytes", max);
    if (r < 0) {
        c->exception = EX_COUNT;
        return err_set_errno(e, -r, "read the request body");
    }
    if (h->body.len) {
        r = json_parse(h->body.data, h->body.len, API_MAX_BODY, ret, e);
        if (r < 0)
            return err_wrap(e, "The request body is not valid JSON");
    }
    c->exception = EX_COUNT;
    return 0;
}

static int validate(struct op_call *c, const json_t *path, const json_t *query, const json_t *body,
                    json_t **ret, struct buf *message)
{
    const struct validate_sources in = {
        .from = {[IN_BODY] = body, [IN_PATH] = path, [IN_QUERY] = query}};
    switch (validate_input(c->op->input, &in, ret, message)) {
    case VALIDATE_OK:
        return 0;
    case VALIDATE_TYPE:
        c->exception = EX_SERIALIZATION;
        break;
    case VALIDATE_CONSTRAINT:
        c->exception = EX_VALIDATION;
        break;
    }
    return -EINVAL;
}

static int find_operation(struct op_call *c, json_t *path, json_t *query, struct err *e)
{
    const struct http_call *h = c->http;
    bool bad;
    if (strlen(h->target) > ROUTE_TARGET_MAX)
        return err_set(e, EINVAL, "The request target is longer than %d bytes", ROUTE_TARGET_MAX);
    c->op = operation_find(h->method, h->target, path, &bad);
    if (!c->op && bad)
        return err_set(e, EINVAL, "The request path has an invalid escape");
    if (!c->op) {
        c->exception = EX_UNKNOWN_OPERATION;
        size_t n = strcspn(h->target, "?");
        return err_set(e, ENOENT, "No operation %.16s %.*s", h->method, (int)(n < 200 ? n : 200),
                       h->target);
    }
    return route_query(h->target, query, e);
}

/* Everything up to the handler's result. message gets a validation text that may not fit an err. */
static int serve(struct op_call *c, json_t **reply, struct buf *message, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *path = json_object();
    CLEANUP(cleanup_json)
    json_t *query = json_object();
    CLEANUP(cleanup_json)
    json_t *body = NULL;
    CLEANUP(cleanup_json)
    json_t *in = NULL;
    int r = authenticate(c, e);
    if (r == 0)
        r = find_operation(c, path, query, e);
    if (r == 0)
        r = parse_body(c, &body, e);
    if (r == 0)
        r = validate(c, path, query, body, &in, message);
    if (r < 0)
        return r;
    c->in = in;
    r = c->op->run(c, reply, e);
    c->in = NULL;
    return r;
}

/* 13 significant digits are whole milliseconds until the year 2286. */
static void send_reply(struct op_call *c, const json_t *reply)
{
    struct http_call *h = c->http;
    h->status = c->op->status;
    if (!reply)
        return; /* no body, or the handler has filled it */
    CLEANUP(cleanup_free)
    char *text = json_dumps(reply, JSON_COMPACT | JSON_REAL_PRECISION(13));
    buf_clear(&h->reply);
    if (!text || buf_adds(&h->reply, text) < 0) {
        api_error_reply(h, EX_INTERNAL, "The reply could not be encoded");
        return;
    }
    http_call_header(h, "content-type", "application/json");
}

static void send_error(struct op_call *c, int code, const char *text)
{
    enum api_exception x = c->exception;
    if (x == EX_COUNT)
        x = api_exception_of(code, c->op && c->op->capacity);
    if (x == EX_INTERNAL)
        log_error("api", "%s: %s", c->op ? c->op->name : "request", text);
    api_error_reply(c->http, x, text);
}

void api_call(struct http_call *h, void *api)
{
    struct op_call c = {.api = api, .http = h, .exception = EX_COUNT};
    struct err e = {0};
    CLEANUP(cleanup_json)
    json_t *reply = NULL;
    CLEANUP(buf_done)
    struct buf message = BUF_INIT(0);
    char id[UUID_LEN + 1];
    uuid_new(id);
    http_call_header(h, "x-amzn-requestid", "%s", id);
    int r = serve(&c, &reply, &message, &e);
    if (r < 0)
        send_error(&c, r, message.len ? message.data : e.text);
    else
        send_reply(&c, reply);
}
