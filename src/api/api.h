/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AWS API listener: every request is authenticated, validated against its operation's shape and
 * answered from the store; state changes go through microvm/microvm.h. Extensions live below
 * /tinderbox/v1/ with the same authentication and error form.
 *
 * api_call() is an http_call_fn: it runs on worker threads, several at a time, and may block.
 */
#ifndef API_API_H
#define API_API_H

#include "auth/keys.h"
#include "http/service.h"
#include "microvm/microvm.h"
#include "store/store.h"

struct api_config {
    struct store *store; /* borrowed, as the next two, until api_close() */
    struct microvm_service *microvms;
    const struct auth_keys *keys;
    const char *account;    /* 12 digits; NULL = "000000000000" */
    const char *domain;     /* endpoints are "<label>.<domain>"; NULL = "microvm.localhost" */
    uint16_t endpoint_port; /* of the endpoint listener; named in endpoints unless 443 or 0 */
    const char *spool_dir;  /* for files on their way; borrowed until api_close() */
    const char *guest_dir;  /* its time stamp dates the managed images */
};

struct api;
int api_open(const struct api_config *c, struct api **ret, struct err *e) MUST_CHECK;
void api_close(struct api *a); /* after the last api_call(); NULL is fine */
void api_call(struct http_call *c, void *api);

#define API_MAX_BODY (8u * 1024 * 1024) /* request body: an exec's stdin fits */
#define API_MAX_FILES (1ull << 30)      /* a tar of files, either way */
/* Whether a request's body may have API_MAX_FILES bytes (http/service.h). */
bool api_takes_large_body(struct slice method, struct slice target);

#endif
