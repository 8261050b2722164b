/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the API layer: the operations table and what a handler sees. Worker threads.
 *
 * A handler gets validated input and either puts its reply body into *ret (NULL = empty body) and
 * returns 0, or returns -errno with the text in e; api.c turns that into an exception through
 * errors.c. A handler that needs an exception no errno stands for sets call->exception.
 */
#ifndef API_OP_H
#define API_OP_H

#include "api/api.h"
#include "api/arn.h"
#include "api/errors.h"
#include "api/page.h"
#include "api/shape.h"

struct api {
    struct store *store;              /* borrowed */
    struct microvm_service *microvms; /* borrowed */
    const struct auth_keys *keys;     /* borrowed */
    const char *spool_dir;            /* borrowed */
    char account[ACCOUNT_LEN + 1];
    char domain[256];
    uint16_t endpoint_port;
    int64_t managed_ms; /* creation time of the managed images */
    unsigned char page_key[PAGE_KEY_LEN];
};

struct operation;

struct op_call {
    struct api *api;
    struct http_call *http;
    const struct operation *op;
    const json_t *in; /* validated members */
    char region[REGION_MAX + 1];
    enum api_exception exception; /* EX_COUNT = by the errno value */
};

struct operation {
    const char *name;
    const char *method, *path; /* template, see route.h */
    int status;
    const struct member *input;
    int (*run)(struct op_call *c, json_t **ret, struct err *e);
    bool capacity; /* models InsufficientCapacityException */
};

extern const struct operation OPERATIONS[];
extern const size_t N_OPERATIONS;
/* The operation of a request, path parameters in params; NULL when there is none.
 * *bad: a path matched but a parameter could not be decoded. */
const struct operation *operation_find(const char *method, const char *target, json_t *params,
                                       bool *bad);

/* Handlers, by object. */
int op_create_image(struct op_call *c, json_t **ret, struct err *e);
int op_get_image(struct op_call *c, json_t **ret, struct err *e);
int op_list_images(struct op_call *c, json_t **ret, struct err *e);
int op_update_image(struct op_call *c, json_t **ret, struct err *e);
int op_delete_image(struct op_call *c, json_t **ret, struct err *e);
int op_list_versions(struct op_call *c, json_t **ret, struct err *e);
int op_get_version(struct op_call *c, json_t **ret, struct err *e);
int op_update_version(struct op_call *c, json_t **ret, struct err *e);
int op_delete_version(struct op_call *c, json_t **ret, struct err *e);
int op_list_builds(struct op_call *c, json_t **ret, struct err *e);
int op_get_build(struct op_call *c, json_t **ret, struct err *e);
int op_list_managed(struct op_call *c, json_t **ret, struct err *e);
int op_list_managed_versions(struct op_call *c, json_t **ret, struct err *e);
int op_run_microvm(struct op_call *c, json_t **ret, struct err *e);
int op_get_microvm(struct op_call *c, json_t **ret, struct err *e);
int op_list_microvms(struct op_call *c, json_t **ret, struct err *e);
int op_suspend_microvm(struct op_call *c, json_t **ret, struct err *e);
int op_resume_microvm(struct op_call *c, json_t **ret, struct err *e);
int op_terminate_microvm(struct op_call *c, json_t **ret, struct err *e);
int op_create_token(struct op_call *c, json_t **ret, struct err *e);
int op_create_shell_token(struct op_call *c, json_t **ret, struct err *e);
int op_list_tags(struct op_call *c, json_t **ret, struct err *e);
int op_tag_resource(struct op_call *c, json_t **ret, struct err *e);
int op_untag_resource(struct op_call *c, json_t **ret, struct err *e);
int op_connectors(struct op_call *c, json_t **ret, struct err *e);
int op_status(struct op_call *c, json_t **ret, struct err *e);
int op_logs(struct op_call *c, json_t **ret, struct err *e);
int op_exec(struct op_call *c, json_t **ret, struct err *e);
int op_files_get(struct op_call *c, json_t **ret, struct err *e);
int op_files_put(struct op_call *c, json_t **ret, struct err *e);
int op_stats(struct op_call *c, json_t **ret, struct err *e);

#endif
