/* SPDX-License-Identifier: Apache-2.0 */
/* From our errors to AWS exceptions on the wire: one table. Pure but for api_error_reply(). */
#ifndef API_ERRORS_H
#define API_ERRORS_H

#include <stdbool.h>

#include "auth/sigv4.h"
#include "http/service.h"

enum api_exception {
    EX_VALIDATION,
    EX_SERIALIZATION,
    EX_NOT_FOUND,
    EX_CONFLICT,
    EX_QUOTA,
    EX_THROTTLING,
    EX_ACCESS_DENIED,
    EX_CAPACITY,
    EX_INTERNAL,
    EX_INVALID_PARAMETER,
    EX_UNKNOWN_OPERATION,
    EX_INVALID_SIGNATURE,
    EX_MISSING_TOKEN,
    EX_INCOMPLETE_SIGNATURE,
    EX_UNRECOGNIZED_CLIENT,
    EX_COUNT,
};

struct api_exception_row {
    const char *name; /* x-amzn-errortype */
    int status;
    const char *message_key; /* "message" or "Message" */
    const char *nulls[5];    /* modelled members besides the message: sent as null */
    int retry_after_s;       /* Retry-After header; 0 = none */
};

const struct api_exception_row *api_exception_row(enum api_exception x);
/* The exception of an errno value (positive or negative). capacity: the operation models
 * InsufficientCapacityException. */
enum api_exception api_exception_of(int code, bool capacity);
enum api_exception api_exception_of_refusal(enum sigv4_refusal r);
/* Fills status, headers and body of the answer; message NULL becomes JSON null. */
void api_error_reply(struct http_call *c, enum api_exception x, const char *message);

#endif
