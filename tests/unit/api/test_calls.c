/* SPDX-License-Identifier: Apache-2.0 */
/*
 * API calls from signed request to reply body, over a real store. State changes go to a stand-in
 * for microvm/: it records rows as the real one does, and fails where a test asks for it, which a
 * real machine cannot be made to do.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/api.h"
#include "api/op.h"
#include "base/digest.h"
#include "base/fs.h"

#define IMAGE "arn:aws:lambda:eu-west-1:000000000000:microvm-image:app"
#define MANAGED "arn:aws:lambda:eu-west-1:aws:network-connector:aws-network-connector:"

struct microvm_service {
    struct store *store;
    int fail; /* errno of the next state change */
    unsigned runs, images, changes;
};

struct world {
    char dir[64];
    struct store *store;
    struct auth_keys keys;
    struct microvm_service service;
    struct api *api;
    const char *secret; /* to sign with */
    const char *region;
    char *errortype; /* of the last answer, owned */
    json_t *reply;   /* owned */
};

/* ---- the stand-in ------------------------------------------------------------------------------
 */

static int fails(struct microvm_service *s, struct err *e)
{
    int code = s->fail;
    s->fail = 0;
    return code ? err_set(e, code, "made to fail") : 0;
}

static char *without(const json_t *input, const char *a, const char *b)
{
    CLEANUP(cleanup_json)
    json_t *copy = json_copy((json_t *)(uintptr_t)input);
    json_object_del(copy, a);
    json_object_del(copy, b);
    return json_text(copy);
}

int image_create(struct microvm_service *s, const json_t *input, struct store_image *img,
                 struct store_version *ver, struct err *e)
{
    struct store_build build = {0};
    CLEANUP(cleanup_free)
    char *config = without(input, "name", "tags");
    CLEANUP(cleanup_json)
    json_t *none = json_object();
    const json_t *tags = json_object_get(input, "tags");
    CLEANUP(cleanup_free)
    char *tag_text = json_text(tags ? tags : none);
    int r = fails(s, e);
    if (r == 0)
        r = store_image_create(s->store, json_get_str(input, "name"), tag_text, config, 2048, img,
                               ver, &build, e);
    if (r == 0)
        r = store_build_start(s->store, build.id, e);
    store_build_done(&build);
    s->images++;
    return r;
}

int image_update(struct microvm_service *s, const char *name, const json_t *input,
                 struct store_image *img, struct store_version *ver, struct err *e)
{
    struct store_build build = {0};
    CLEANUP(cleanup_free)
    char *config = without(input, "name", "tags");
    int r = fails(s, e);
    if (r == 0)
        r = store_version_create(s->store, name, config, 2048, img, ver, &build, e);
    store_build_done(&build);
    return r;
}

int image_delete(struct microvm_service *s, const char *name, struct err *e)
{
    int r = fails(s, e);
    return r == 0 ? store_image_delete(s->store, name, e) : r;
}

int image_version_delete(struct microvm_service *s, const char *name, int number, struct err *e)
{
    int r = fails(s, e);
    return r == 0 ? store_version_delete(s->store, name, number, e) : r;
}

int microvm_run(struct microvm_service *s, const struct microvm_run_request *q,
                struct store_microvm *ret, struct err *e)
{
    char id[64], label[UUID_LEN + 1];
    uuid_new(label);
    snprintf(id, sizeof id, "microvm-%s", label);
    const struct store_microvm row = {.id = id,
                                      .endpoint = label,
                                      .image = (char *)(uintptr_t)q->image,
                                      .version = q->version,
                                      .state = MICROVM_PENDING,
                                      .config = (char *)(uintptr_t)q->config,
                                      .max_duration_s = q->max_duration_s,
                                      .started_at = clock_real_ms(),
                                      .memory_mib = 2048};
    int r = fails(s, e);
    s->runs++;
    if (r == 0)
        r = store_microvm_create(s->store, &row, 1 << 20, e);
    return r == 0 ? store_microvm_get(s->store, id, ret, e) : r;
}

static int change(struct microvm_service *s, struct err *e)
{
    s->changes++;
    return fails(s, e);
}

int microvm_suspend(struct microvm_service *s, const char *id, struct err *e)
{
    (void)id;
    return change(s, e);
}

int microvm_resume(struct microvm_service *s, const char *id, struct err *e)
{
    (void)id;
    return change(s, e);
}

int microvm_terminate(struct microvm_service *s, const char *id, struct err *e)
{
    (void)id;
    return change(s, e);
}

int microvm_agent(struct microvm_service *s, const char *id, int timeout_ms, struct agent **ret,
                  struct err *e)
{
    (void)s, (void)id, (void)timeout_ms, (void)ret;
    return err_set(e, EBUSY, "no machine");
}

int microvm_stats(struct microvm_service *s, const char *id, json_t **ret, struct err *e)
{
    (void)id, (void)e;
    (void)s;
    *ret = json_pack("{s:i}", "cpuUs", 5);
    return 0;
}

int microvm_log_read(struct microvm_service *s, const char *kind, const char *key, uint64_t offset,
                     size_t max, struct buf *out, bool *ended, struct err *e)
{
    (void)s, (void)kind, (void)offset, (void)max;
    if (strcmp(key, "known") != 0)
        return err_set(e, ENOENT, "no log");
    *ended = true;
    return buf_adds(out, "2026-01-01T00:00:00Z o hello\n");
}

/* ---- calls -------------------------------------------------------------------------------------
 */

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    char path[128];
    struct err e = {0};
    snprintf(w->dir, sizeof w->dir, "/tmp/tinderbox-api-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(path, sizeof path, "%s/db", w->dir);
    if (store_open(path, &w->store, &e) < 0)
        fail_msg("%s", e.text);
    snprintf(w->keys.credential.access_key, sizeof w->keys.credential.access_key, "AKIATEST");
    snprintf(w->keys.credential.secret_key, sizeof w->keys.credential.secret_key, "secret");
    uuid_new(w->keys.token.kid);
    w->service.store = w->store;
    w->secret = "secret";
    w->region = "eu-west-1";
    const struct api_config c = {.store = w->store,
                                 .microvms = &w->service,
                                 .keys = &w->keys,
                                 .endpoint_port = 8443,
                                 .guest_dir = w->dir};
    assert_int_equal(api_open(&c, &w->api, &e), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    json_decref(w->reply);
    free(w->errortype);
    api_close(w->api);
    store_close(w->store);
    assert_int_equal(fs_remove_tree(w->dir, NULL), 0);
    free(w);
    return 0;
}

static void take_answer(struct world *w, struct http_call *c)
{
    json_decref(w->reply);
    w->reply = NULL;
    free(w->errortype);
    w->errortype = NULL;
    if (c->reply.len)
        (void)!json_parse(c->reply.data, c->reply.len, 1 << 20, &w->reply, NULL);
    const char *headers = c->reply_headers.data ? c->reply_headers.data : "";
    assert_non_null(strstr(headers, "x-amzn-requestid: "));
    const char *at = strstr(headers, "x-amzn-errortype: ");
    if (at)
        w->errortype = strndup(at + 18, strcspn(at + 18, "\r"));
    buf_done(&c->reply);
    buf_done(&c->reply_headers);
}

static int call(struct world *w, const char *method, const char *target, const char *body)
{
    static const char HOST[] = "127.0.0.1:8080";
    struct http_call c = {
        .method = method, .target = target, .authority = HOST, .body_fd = -1, .reply_fd = -1};
    struct sigv4_credential key = w->keys.credential;
    struct sigv4_signature sig;
    struct err e = {0};
    snprintf(key.secret_key, sizeof key.secret_key, "%s", w->secret);
    assert_int_equal(buf_adds(&c.body, body ? body : ""), 0);
    c.body_size = c.body.len;
    sha256_hex_of(c.body.data, c.body.len, c.body_sha256);
    const struct sigv4_sign_request s = {.method = slice_from(method),
                                         .target = slice_from(target),
                                         .host = slice_from(HOST),
                                         .body_sha256 = c.body_sha256,
                                         .region = w->region,
                                         .service = SIGV4_LAMBDA,
                                         .now_s = clock_real_ms() / 1000};
    if (sigv4_sign(&key, &s, &sig, &e) < 0)
        fail_msg("%s", e.text);
    const struct http_header headers[] = {
        {SLICE("host"), slice_from(HOST)},
        {SLICE("x-amz-date"), slice_from(sig.date)},
        {SLICE("x-amz-content-sha256"), slice_from(c.body_sha256)},
        {SLICE("authorization"), slice_from(sig.authorization)},
    };
    c.headers = headers;
    c.n_headers = ARRAY_LEN(headers);
    api_call(&c, w->api);
    take_answer(w, &c);
    buf_done(&c.body);
    return c.status;
}

static void expect_error(struct world *w, const char *method, const char *target, const char *body,
                         int status, const char *type, const char *message)
{
    int got = call(w, method, target, body);
    const char *text = json_get_str(w->reply, "message");
    if (!text)
        text = json_get_str(w->reply, "Message");
    if (got != status || !w->errortype || strcmp(w->errortype, type) != 0 ||
        (message && (!text || strcmp(text, message) != 0)))
        fail_msg("%s %s: %d %s \"%s\"", method, target, got, w->errortype ? w->errortype : "-",
                 text ? text : "");
}

static const char *text_of(const struct world *w, const char *key)
{
    const char *s = json_get_str(w->reply, key);
    return s ? s : "";
}

#define CREATE(name, more)                                                                        \
    "{\"name\":\"" name "\",\"baseImageArn\":\"arn:aws:lambda:eu-west-1:aws:microvm-image:"       \
    "al2023-1\",\"buildRoleArn\":\"arn:aws:iam::000000000000:role/b\",\"codeArtifact\":{\"uri\":" \
    "\"s3://bucket/code.zip\"}" more "}"
#define IMAGES "/2025-09-09/microvm-images"
#define ONE IMAGES "/" IMAGE
#define VMS "/2025-09-09/microvms"
#define UUID_A "11111111-2222-4333-8444-555555555555"

/* Ends the newest build of app. */
static int on_build(const struct store_build *r, void *arg)
{
    struct world *w = arg;
    struct store_build end = *r;
    end.state = BUILD_SUCCESSFUL;
    end.memory_bytes = 1000;
    end.code_bytes = 2000;
    end.disk_bytes = 3000;
    struct err e = {0};
    if (store_build_start(w->store, r->id, &e) < 0 || store_build_end(w->store, &end, &e) < 0)
        fail_msg("%s", e.text);
    return 0;
}

static void finish_build(struct world *w, int version)
{
    const struct store_page page = {.limit = 10};
    assert_int_equal(store_build_list(w->store, "app", version, &page, on_build, w, NULL), 0);
}

static void make_image(struct world *w, const char *more)
{
    char body[1024];
    snprintf(body, sizeof body, CREATE("app", "%s"), more);
    assert_int_equal(call(w, "POST", IMAGES, body), 201);
    finish_build(w, 1);
}

static void test_authentication(void **state)
{
    struct world *w = *state;
    w->secret = "wrong";
    expect_error(w, "GET", IMAGES, NULL, 403, "InvalidSignatureException", NULL);
    w->secret = "secret";
    w->region = "nowhere";
    expect_error(w, "GET", IMAGES, NULL, 403, "AccessDeniedException", NULL);
    w->region = "eu-west-1";
    assert_int_equal(call(w, "GET", IMAGES, NULL), 200);
    struct http_call c = {
        .method = "GET", .target = IMAGES, .authority = "h", .body_fd = -1, .reply_fd = -1};
    sha256_hex_of("", 0, c.body_sha256);
    api_call(&c, w->api);
    assert_int_equal(c.status, 403);
    take_answer(w, &c);
    assert_string_equal(w->errortype, "MissingAuthenticationTokenException");
}

static void test_requests(void **state)
{
    struct world *w = *state;
    expect_error(w, "GET", "/", NULL, 404, "UnknownOperationException", NULL);
    expect_error(w, "PATCH", IMAGES, NULL, 404, "UnknownOperationException", NULL);
    expect_error(w, "POST", IMAGES, "{", 400, "SerializationException", NULL);
    expect_error(w, "POST", IMAGES, "[]", 400, "SerializationException", "Expected null");
    expect_error(w, "POST", IMAGES, "{\"a\":1,\"a\":2}", 400, "SerializationException", NULL);
    expect_error(w, "GET", IMAGES "?maxResults=51", NULL, 400, "ValidationException",
                 "1 validation error detected: Value '51' at 'maxResults' failed to satisfy "
                 "constraint: Member must have value less than or equal to 50");
    expect_error(w, "GET", IMAGES "?nextToken=a=b", NULL, 400, "ValidationException",
                 "Malformed query string");
    expect_error(w, "GET", IMAGES "?nextToken=bm8", NULL, 400, "ValidationException",
                 "The nextToken is not valid for this request");
    expect_error(w, "GET", IMAGES "/app", NULL, 400, "ValidationException",
                 "Invalid ARN format: app");
    expect_error(w, "GET", ONE, NULL, 404, "ResourceNotFoundException",
                 "MicroVMImage not found for MicroVMImageID: " IMAGE);
    expect_error(w, "GET", ONE "/versions/1.0", NULL, 404, "ResourceNotFoundException",
                 "MicroVMImage not found for MicroVMImage: " IMAGE ", Version: 1.0");
    expect_error(w, "GET", VMS "/microvm-" UUID_A, NULL, 404, "ResourceNotFoundException",
                 "MicroVM not found: microvm-" UUID_A);
    assert_true(json_is_null(json_object_get(w->reply, "resourceId")));
    expect_error(w, "POST", VMS "/microvm-" UUID_A "/suspend", NULL, 404,
                 "ResourceNotFoundException", "MicroVM not found: microvm-" UUID_A);
}

static void test_image_life(void **state)
{
    struct world *w = *state;
    assert_int_equal(call(w, "POST", IMAGES, CREATE("app", ",\"tags\":{\"a\":\"b\"}")), 201);
    assert_string_equal(text_of(w, "imageArn"), IMAGE);
    assert_string_equal(text_of(w, "state"), "CREATING");
    assert_string_equal(text_of(w, "imageVersion"), "1.0");
    assert_string_equal(text_of(w, "baseImageVersion"), "1.0");
    assert_true(json_is_null(json_object_get(w->reply, "latestActiveImageVersion")));
    assert_true(json_is_null(json_object_get(w->reply, "hooks")));
    assert_true(json_is_null(json_object_get(w->reply, "description")));
    assert_true(json_is_real(json_object_get(w->reply, "createdAt")));
    expect_error(w, "POST", IMAGES, CREATE("app", ""), 400, "ValidationException",
                 "A MicroVM image with the name 'app' already exists in this account");
    expect_error(w, "PUT", ONE, CREATE("app", ""), 409, "ConflictException",
                 "MicroVM Image is already in state: CREATING");
    expect_error(w, "PATCH", ONE "/versions/1.0", "{\"status\":\"INACTIVE\"}", 409,
                 "ConflictException", "MicroVM Image is already in state: CREATING");
    finish_build(w, 1);
    assert_int_equal(call(w, "GET", ONE, NULL), 200);
    assert_string_equal(text_of(w, "state"), "CREATED");
    assert_string_equal(text_of(w, "latestActiveImageVersion"), "1.0");
    assert_string_equal(json_get_str(json_object_get(w->reply, "tags"), "a"), "b");
    assert_int_equal(call(w, "PUT", ONE, CREATE("app", ",\"description\":\"second\"")), 200);
    assert_string_equal(text_of(w, "imageVersion"), "2.0");
    assert_string_equal(text_of(w, "state"), "UPDATING");
    assert_null(json_object_get(w->reply, "tags"));
    finish_build(w, 2);
    assert_int_equal(call(w, "GET", ONE "/versions/2", NULL), 200);
    assert_string_equal(text_of(w, "description"), "second");
    assert_string_equal(text_of(w, "status"), "ACTIVE");
    assert_int_equal(call(w, "PATCH", ONE "/versions/2.0", "{\"status\":\"INACTIVE\"}"), 200);
    assert_string_equal(text_of(w, "status"), "INACTIVE");
    assert_int_equal(call(w, "DELETE", ONE "/versions/2.0", NULL), 200);
    assert_string_equal(text_of(w, "state"), "DELETING");
    assert_int_equal(call(w, "DELETE", ONE, NULL), 200);
    assert_string_equal(text_of(w, "imageIdentifier"), IMAGE);
    assert_int_equal(call(w, "GET", ONE, NULL), 404);
}

static void test_encoded_arn(void **state)
{
    struct world *w = *state;
    make_image(w, "");
    assert_int_equal(call(w, "GET",
                          IMAGES "/arn%3Aaws%3Alambda%3Aeu-west-1%3A000000000000%3A"
                                 "microvm-image%3Aapp",
                          NULL),
                     200);
    w->region = "us-east-1"; /* ARNs follow the caller's region */
    assert_int_equal(call(w, "GET", ONE, NULL), 200);
    assert_string_equal(text_of(w, "imageArn"),
                        "arn:aws:lambda:us-east-1:000000000000:microvm-image:app");
}

static void test_replay_create(void **state)
{
    struct world *w = *state;
    static const char BODY[] = CREATE("app", ",\"clientToken\":\"t1\"");
    assert_int_equal(call(w, "POST", IMAGES, BODY), 201);
    CLEANUP(cleanup_json)
    json_t *first = json_incref(w->reply);
    assert_int_equal(call(w, "POST", IMAGES, BODY), 201);
    assert_true(json_equal(first, w->reply));
    assert_int_equal(w->service.images, 1);
    expect_error(w, "POST", IMAGES, CREATE("other", ",\"clientToken\":\"t1\""), 409,
                 "ConflictException", NULL);
    finish_build(w, 1);
    assert_int_equal(call(w, "DELETE", ONE, NULL), 200);
    assert_int_equal(call(w, "POST", IMAGES, BODY), 201); /* a new image, no phantom */
    assert_int_equal(w->service.images, 2);
    w->service.fail = ENOSPC; /* a failure does not burn the token */
    expect_error(w, "POST", IMAGES, CREATE("late", ",\"clientToken\":\"t2\""), 500,
                 "InternalServerException", "made to fail");
    assert_int_equal(call(w, "POST", IMAGES, CREATE("late", ",\"clientToken\":\"t2\"")), 201);
}

static void test_builds(void **state)
{
    struct world *w = *state;
    make_image(w, "");
    assert_int_equal(call(w, "GET", ONE "/versions/1.0/builds", NULL), 200);
    const json_t *item = json_array_get(json_object_get(w->reply, "items"), 0);
    char target[400];
    snprintf(target, sizeof target, ONE "/versions/1.0/builds/%s", json_get_str(item, "buildId"));
    assert_string_equal(json_get_str(item, "architecture"), "X86_64");
    assert_null(json_object_get(item, "snapshotBuild"));
    assert_int_equal(call(w, "GET", ONE "/versions/1.0/builds?architecture=ARM_64", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(w->reply, "items")), 0);
    assert_int_equal(call(w, "GET", target, NULL), 200);
    assert_string_equal(text_of(w, "buildState"), "SUCCESSFUL");
    const json_t *sizes = json_object_get(w->reply, "snapshotBuild");
    assert_int_equal(json_get_int(sizes, "diskSnapshotSizeInBytes", 0), 3000);
    expect_error(w, "GET", ONE "/versions/1.0/builds/" UUID_A, NULL, 404,
                 "ResourceNotFoundException", NULL);
}

static void test_managed(void **state)
{
    struct world *w = *state;
    assert_int_equal(call(w, "GET", "/2025-09-09/managed-microvm-images", NULL), 200);
    const json_t *item = json_array_get(json_object_get(w->reply, "items"), 0);
    assert_string_equal(json_get_str(item, "imageArn"),
                        "arn:aws:lambda:eu-west-1:aws:microvm-image:debian-12");
    assert_true(json_is_null(json_object_get(w->reply, "nextToken")));
    assert_int_equal(call(w, "GET",
                          "/2025-09-09/managed-microvm-images/arn:aws:lambda:eu-west-1:"
                          "aws:microvm-image:al2023-1/versions",
                          NULL),
                     200);
    item = json_array_get(json_object_get(w->reply, "items"), 0);
    assert_string_equal(json_get_str(item, "imageVersion"), "1");
    assert_string_equal(json_get_str(item, "status"), "AVAILABLE");
}

static void test_pages(void **state)
{
    struct world *w = *state;
    char body[600], target[600];
    for (int i = 0; i < 7; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s%d", i % 2 ? "odd" : "even", i);
        snprintf(body, sizeof body, CREATE("%s", ""), name);
        assert_int_equal(call(w, "POST", IMAGES, body), 201);
    }
    int seen = 0, pages = 0;
    snprintf(target, sizeof target, IMAGES "?maxResults=3");
    for (;;) {
        assert_int_equal(call(w, "GET", target, NULL), 200);
        seen += (int)json_array_size(json_object_get(w->reply, "items"));
        pages++;
        if (!json_get_str(w->reply, "nextToken"))
            break;
        snprintf(target, sizeof target, IMAGES "?maxResults=3&nextToken=%s",
                 text_of(w, "nextToken"));
    }
    assert_int_equal(seen, 7);
    assert_int_equal(pages, 3);
    assert_int_equal(call(w, "GET", IMAGES "?maxResults=2&nameFilter=odd", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(w->reply, "items")), 2);
    snprintf(target, sizeof target, IMAGES "?maxResults=2&nameFilter=odd&nextToken=%s",
             text_of(w, "nextToken"));
    assert_int_equal(call(w, "GET", target, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(w->reply, "items")), 1);
    assert_true(json_is_null(json_object_get(w->reply, "nextToken")));
    /* a token fits its own list only */
    assert_int_equal(call(w, "GET", IMAGES "?maxResults=2", NULL), 200);
    snprintf(target, sizeof target, VMS "?nextToken=%s", text_of(w, "nextToken"));
    assert_int_equal(call(w, "GET", target, NULL), 400);
}

#define RUN(more) "{\"imageIdentifier\":\"" IMAGE "\"" more "}"

static void test_run(void **state)
{
    struct world *w = *state;
    expect_error(w, "POST", VMS, "{\"imageIdentifier\":\"app\"}", 400, "ValidationException",
                 "Malformed ARN - doesn't start with 'arn:'");
    expect_error(w, "POST", VMS, RUN(""), 404, "ResourceNotFoundException",
                 "No active version found for MicroVM image " IMAGE);
    make_image(w, "");
    expect_error(w, "POST", VMS, RUN(",\"imageVersion\":\"2.0\""), 404, "ResourceNotFoundException",
                 "No active version found for MicroVM image " IMAGE " and version 2.0");
    expect_error(w, "POST", VMS, RUN(",\"runHookPayload\":\"x\""), 400, "ValidationException",
                 "The run hook must be enabled in the MicroVM image to pass the run hook payload");
    expect_error(w, "POST", VMS, RUN(",\"ingressNetworkConnectors\":[\"ALL_INGRESS\"]"), 400,
                 "ValidationException", "Malformed network connector ARN: ALL_INGRESS");
    expect_error(w, "POST", VMS, RUN(",\"egressPolicy\":{\"default\":\"maybe\"}"), 400,
                 "ValidationException", NULL);
    w->service.fail = EDQUOT;
    expect_error(w, "POST", VMS, RUN(""), 402, "ServiceQuotaExceededException",
                 "The base maximum allocated memory limit has been reached for this account.");
    w->service.fail = ENOMEM;
    expect_error(w, "POST", VMS, RUN(""), 500, "InsufficientCapacityException", NULL);
    w->service.fail = EAGAIN;
    expect_error(w, "POST", VMS, RUN(""), 429, "ThrottlingException", NULL);
    assert_int_equal(call(w, "POST", VMS, RUN(",\"clientToken\":\"r\"")), 200);
    assert_string_equal(text_of(w, "state"), "PENDING");
    assert_string_equal(text_of(w, "imageVersion"), "1.0");
    assert_int_equal(json_get_int(w->reply, "maximumDurationInSeconds", 0), 28800);
    assert_non_null(strstr(text_of(w, "endpoint"), ".microvm.localhost:8443"));
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(w->reply, "ingressNetworkConnectors"), 0)),
        MANAGED "HTTP_INGRESS");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(w->reply, "egressNetworkConnectors"), 0)),
        MANAGED "INTERNET_EGRESS");
    assert_true(json_is_null(json_object_get(w->reply, "idlePolicy")));
    assert_true(json_is_null(json_object_get(w->reply, "terminationReasonCode")));
    unsigned runs = w->service.runs;
    CLEANUP(cleanup_json)
    json_t *first = json_incref(w->reply);
    assert_int_equal(call(w, "POST", VMS, RUN(",\"clientToken\":\"r\"")), 200);
    assert_true(json_equal(first, w->reply));
    assert_int_equal(w->service.runs, runs);
    assert_int_equal(call(w, "GET", VMS, NULL), 200);
    const json_t *item = json_array_get(json_object_get(w->reply, "items"), 0);
    assert_int_equal(json_object_size(item), 5);
}

/* A VM row of this state, made without a machine. */
static void make_vm(struct world *w, const char *more, char target[200])
{
    char body[1024];
    snprintf(body, sizeof body, RUN("%s"), more);
    assert_int_equal(call(w, "POST", VMS, body), 200);
    snprintf(target, 200, VMS "/%s", text_of(w, "microvmId"));
}

static void test_tokens(void **state)
{
    struct world *w = *state;
    char vm[200], target[240], message[200];
    make_image(w, "");
    make_vm(w, "", vm);
    snprintf(target, sizeof target, "%s/auth-token", vm);
#define PORTS(list) "{\"expirationInMinutes\":60,\"allowedPorts\":[" list "]}"
    assert_int_equal(call(w, "POST", target,
                          PORTS("{\"port\":80},{\"range\":{\"startPort\":1,"
                                "\"endPort\":9}}")),
                     200);
    const char *jwe = json_get_str(json_object_get(w->reply, "authToken"), "X-aws-proxy-auth");
    struct token_claims claims;
    assert_int_equal(token_open(&w->keys.token, slice_from(jwe), &claims), 0);
    assert_int_equal(claims.n_ports, 2);
    assert_int_equal(claims.ports[1].last, 9);
    assert_false(claims.all_ports || claims.shell);
    assert_int_equal(call(w, "POST", target, PORTS("{\"allPorts\":{}}")), 200);
    jwe = json_get_str(json_object_get(w->reply, "authToken"), "X-aws-proxy-auth");
    assert_int_equal(token_open(&w->keys.token, slice_from(jwe), &claims), 0);
    assert_true(claims.all_ports);
    expect_error(w, "POST", target, "{\"expirationInMinutes\":61,\"allowedPorts\":[{\"port\":1}]}",
                 400, "ValidationException", "ExpirationMinutes 61 exceeded max allowed of 60.");
    expect_error(w, "POST", target, PORTS("{\"range\":{\"startPort\":9,\"endPort\":1}}"), 400,
                 "ValidationException", "startPort 9 is larger than endPort 1");
    expect_error(w, "POST", target, PORTS("{\"allPorts\":true}"), 400, "SerializationException",
                 "Expected null");
    snprintf(target, sizeof target, "%s/shell-auth-token", vm);
    expect_error(w, "POST", target, "{\"expirationInMinutes\":5}", 400, "ValidationException",
                 "Shell access requires SHELL_INGRESS network connector to be configured on the "
                 "MicroVM.");
    make_vm(w, ",\"ingressNetworkConnectors\":[\"" MANAGED "SHELL_INGRESS\"]", vm);
    snprintf(target, sizeof target, "%s/shell-auth-token", vm);
    assert_int_equal(call(w, "POST", target, "{\"expirationInMinutes\":5}"), 200);
    jwe = json_get_str(json_object_get(w->reply, "authToken"), "X-aws-proxy-auth");
    assert_int_equal(token_open(&w->keys.token, slice_from(jwe), &claims), 0);
    assert_true(claims.shell && !claims.all_ports && !claims.n_ports);
    const char *id = strrchr(vm, '/') + 1;
    assert_int_equal(store_microvm_set_state(w->store, id, MICROVM_TERMINATING, NULL, NULL), 0);
    snprintf(message, sizeof message, "The MicroVM %s is in state TERMINATING", id);
    expect_error(w, "POST", target, "{\"expirationInMinutes\":5}", 409, "ConflictException",
                 message);
}

static void test_transitions(void **state)
{
    struct world *w = *state;
    char vm[200], target[240], message[200];
    make_image(w, "");
    make_vm(w, "", vm);
    const char *id = strrchr(vm, '/') + 1;
    snprintf(target, sizeof target, "%s/suspend", vm);
    assert_int_equal(call(w, "POST", target, NULL), 200);
    assert_int_equal(json_object_size(w->reply), 0);
    w->service.fail = EBUSY;
    expect_error(w, "POST", target, NULL, 409, "ConflictException", "made to fail");
    assert_int_equal(store_microvm_set_state(w->store, id, MICROVM_TERMINATING, NULL, NULL), 0);
    assert_int_equal(store_microvm_set_state(w->store, id, MICROVM_TERMINATED, "Success.", NULL),
                     0);
    snprintf(message, sizeof message,
             "The MicroVM %s has been terminated and its state cannot be changed.", id);
    expect_error(w, "POST", target, NULL, 400, "ValidationException", message);
    unsigned changes = w->service.changes;
    assert_int_equal(call(w, "DELETE", vm, NULL), 200); /* again is success */
    assert_int_equal(w->service.changes, changes);
    assert_int_equal(call(w, "GET", vm, NULL), 200);
    assert_string_equal(text_of(w, "stateReason"), "Success.");
    assert_true(json_is_real(json_object_get(w->reply, "terminatedAt")));
}

static void test_tags(void **state)
{
    struct world *w = *state;
    make_image(w, ",\"tags\":{\"a\":\"1\"}");
#define TAGS "/2017-03-31/tags/" IMAGE
    assert_int_equal(call(w, "GET", TAGS, NULL), 200);
    assert_string_equal(json_get_str(json_object_get(w->reply, "Tags"), "a"), "1");
    assert_int_equal(call(w, "POST", TAGS, "{\"Tags\":{\"b\":\"2\",\"a\":\"3\"}}"), 204);
    assert_null(w->reply);
    assert_int_equal(call(w, "DELETE", TAGS "?tagKeys=a&tagKeys=none", NULL), 204);
    assert_int_equal(call(w, "GET", TAGS, NULL), 200);
    const json_t *tags = json_object_get(w->reply, "Tags");
    assert_int_equal(json_object_size(tags), 1);
    assert_string_equal(json_get_str(tags, "b"), "2");
    assert_int_equal(call(w, "DELETE", TAGS "?tagKeys=b", NULL), 204); /* a single one */
    expect_error(w, "DELETE", TAGS, NULL, 400, "ValidationException", NULL);
    expect_error(w, "GET",
                 "/2017-03-31/tags/arn:aws:lambda:eu-west-1:000000000000:microvm-image:no", NULL,
                 404, "ResourceNotFoundException", NULL);
    expect_error(w, "GET", "/2017-03-31/tags/arn:aws:lambda:eu-west-1:000000000000:microvm:x", NULL,
                 400, "ValidationException", NULL);
}

static void test_extensions(void **state)
{
    struct world *w = *state;
    char vm[200], target[240];
    make_image(w, "");
    make_vm(w, "", vm);
    assert_int_equal(call(w, "GET", "/tinderbox/v1/status", NULL), 200);
    assert_string_equal(text_of(w, "version"), TINDERBOX_VERSION);
    assert_int_equal(json_get_int(json_object_get(w->reply, "microvms"), "PENDING", 0), 1);
    snprintf(target, sizeof target, "/tinderbox/v1/microvms/%s/stats", strrchr(vm, '/') + 1);
    assert_int_equal(call(w, "GET", target, NULL), 200);
    assert_int_equal(call(w, "GET", "/tinderbox/v1/logs/build/known?offset=0", NULL), 200);
    expect_error(w, "GET", "/tinderbox/v1/logs/build/unknown", NULL, 404,
                 "ResourceNotFoundException", "No log of build unknown");
    expect_error(w, "GET", "/tinderbox/v1/logs/other/known", NULL, 400, "ValidationException",
                 NULL);
    snprintf(target, sizeof target, "/tinderbox/v1/microvms/%s/exec", strrchr(vm, '/') + 1);
    expect_error(w, "POST", target, "{\"args\":[\"true\"],\"stdin\":\"!\"}", 400,
                 "ValidationException", NULL);
    expect_error(w, "POST", target, "{\"args\":[\"true\"]}", 409, "ConflictException",
                 "no machine");
    expect_error(w, "POST", "/2026-04-04/network-connectors", "{}", 400,
                 "InvalidParameterValueException", NULL);
    assert_int_equal(call(w, "GET", "/2026-04-04/network-connectors", NULL), 200);
}

/* Every row: a name of its own, a method and path no other row has, a sane status. */
static void test_table(void **state)
{
    (void)state;
    unsigned microvm_operations = 0;
    for (size_t i = 0; i < N_OPERATIONS; i++) {
        const struct operation *o = &OPERATIONS[i];
        assert_non_null(o->run);
        assert_non_null(o->input);
        assert_true(o->status >= 200 && o->status < 300 && o->path[0] == '/');
        microvm_operations +=
            strncmp(o->path, "/2025-09-09/", 12) == 0 || strncmp(o->path, "/2017-03-31/", 12) == 0;
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(o->name, OPERATIONS[j].name);
            assert_true(strcmp(o->method, OPERATIONS[j].method) != 0 ||
                        strcmp(o->path, OPERATIONS[j].path) != 0);
        }
        for (const struct member *m = o->input; m->name; m++)
            if (m->location == IN_PATH) {
                char part[80];
                snprintf(part, sizeof part, "{%s}", m->name);
                assert_non_null(strstr(o->path, part));
            }
    }
    assert_int_equal(microvm_operations, 24);
    for (int x = 0; x < EX_COUNT; x++) {
        const struct api_exception_row *row = api_exception_row((enum api_exception)x);
        assert_non_null(row->name);
        assert_true(row->status >= 400 && row->status < 600);
    }
    assert_int_equal(api_exception_of(-ENOSPC, true), EX_CAPACITY);
    assert_int_equal(api_exception_of(ENOSPC, false), EX_INTERNAL);
    assert_int_equal(api_exception_of(-EPIPE, false), EX_INTERNAL);
}

int main(void)
{
#define WORLD(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        WORLD(test_authentication),
        WORLD(test_requests),
        WORLD(test_image_life),
        WORLD(test_encoded_arn),
        WORLD(test_replay_create),
        WORLD(test_builds),
        WORLD(test_managed),
        WORLD(test_pages),
        WORLD(test_run),
        WORLD(test_tokens),
        WORLD(test_transitions),
        WORLD(test_tags),
        WORLD(test_extensions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
