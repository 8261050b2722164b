/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signed requests to the AWS API, our extensions and S3 (libcurl). Blocking; one thread.
 *
 * Errors carry the service's own sentence; codes: -ENOENT 404, -EBUSY 409, -EACCES 403, -EINVAL
 * 400, -EDQUOT 402, -EAGAIN 429, -ECONNREFUSED nobody answers, -EIO anything else.
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/json.h"
#include "cli/cli.h"

#define CLIENT_REPLY_MAX (64u * 1024 * 1024)

struct client_reply {
    long status;
    struct buf body;
    char next_offset[24]; /* x-tinderbox-next-offset */
    bool ended;           /* x-tinderbox-ended: true */
};
void client_reply_done(struct client_reply *r);

/* One request; path is percent-encoded and may have a query; body NULL = none. Any status below 300
 * is success. */
int client_send(struct cli *c, const char *method, const char *path, const json_t *body,
                struct client_reply *ret, struct err *e) MUST_CHECK;
/* As client_send() with the reply parsed; ret may be NULL. */
int client_call(struct cli *c, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *e) MUST_CHECK;
/* Every item of a paginated list; path without maxResults and nextToken. */
int client_list(struct cli *c, const char *path, json_t **ret, struct err *e) MUST_CHECK;

/* The reply's body, any size, into an open file. */
int client_get_file(struct cli *c, const char *path, int fd, struct err *e) MUST_CHECK;
/* PUT of an open file from its start. */
int client_put_file(struct cli *c, const char *path, int fd, struct err *e) MUST_CHECK;

/* Creates the bucket unless it exists. */
int client_make_bucket(struct cli *c, const char *bucket, struct err *e) MUST_CHECK;
/* Uploads an open file from its start. */
int client_put_object(struct cli *c, const char *bucket, const char *key, int fd,
                      struct err *e) MUST_CHECK;

/* "<prefix><encoded id><suffix>". */
int client_path(char *out, size_t cap, const char *prefix, const char *id, const char *suffix,
                struct err *e) MUST_CHECK;

#endif
