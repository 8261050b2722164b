/* SPDX-License-Identifier: Apache-2.0 */
#include "api/errors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const struct api_exception_row ROWS[EX_COUNT] = {
    [EX_VALIDATION] = {"ValidationException", 400, "message", {0}, 0},
    [EX_SERIALIZATION] = {"SerializationException", 400, "Message", {0}, 0},
    [EX_NOT_FOUND] =
        {"ResourceNotFoundException", 404, "message", {"resourceId", "resourceType"}, 0},
    [EX_CONFLICT] = {"ConflictException", 409, "message", {"resourceId", "resourceType"}, 0},
    [EX_QUOTA] = {"ServiceQuotaExceededException",
                  402,
                  "message",
                  {"resourceId", "resourceType", "serviceCode", "quotaCode"},
                  0},
    [EX_THROTTLING] = {"ThrottlingException", 429, "message", {"serviceCode", "quotaCode"}, 1},
    [EX_ACCESS_DENIED] = {"AccessDeniedException", 403, "message", {0}, 0},
    [EX_CAPACITY] = {"InsufficientCapacityException", 500, "message", {0}, 0},
    [EX_INTERNAL] = {"InternalServerException", 500, "message", {0}, 1},
    [EX_INVALID_PARAMETER] = {"InvalidParameterValueException", 400, "message", {"Type"}, 0},
    [EX_UNKNOWN_OPERATION] = {"UnknownOperationException", 404, "message", {0}, 0},
    [EX_INVALID_SIGNATURE] = {"InvalidSignatureException", 403, "message", {0}, 0},
    [EX_MISSING_TOKEN] = {"MissingAuthenticationTokenException", 403, "message", {0}, 0},
    [EX_INCOMPLETE_SIGNATURE] = {"IncompleteSignatureException", 403, "message", {0}, 0},
    [EX_UNRECOGNIZED_CLIENT] = {"UnrecognizedClientException", 403, "message", {0}, 0},
};

static const struct {
    int code;
    enum api_exception exception;
} CODES[] = {
    {EINVAL, EX_VALIDATION},    {ENOENT, EX_NOT_FOUND},    {EBUSY, EX_CONFLICT},
    {EEXIST, EX_VALIDATION},    {EDQUOT, EX_QUOTA},        {EAGAIN, EX_THROTTLING},
    {EACCES, EX_ACCESS_DENIED}, {EMSGSIZE, EX_VALIDATION}, {ENOSPC, EX_CAPACITY},
    {ENOMEM, EX_CAPACITY},
};

static const enum api_exception REFUSALS[] = {
    [SIGV4_ACCEPTED] = EX_ACCESS_DENIED,          [SIGV4_NO_SIGNATURE] = EX_MISSING_TOKEN,
    [SIGV4_INCOMPLETE] = EX_INCOMPLETE_SIGNATURE, [SIGV4_UNKNOWN_KEY] = EX_UNRECOGNIZED_CLIENT,
    [SIGV4_EXPIRED] = EX_INVALID_SIGNATURE,       [SIGV4_MISMATCH] = EX_INVALID_SIGNATURE,
    [SIGV4_BODY_MISMATCH] = EX_INVALID_SIGNATURE,
};

const struct api_exception_row *api_exception_row(enum api_exception x)
{
    return &ROWS[x];
}

enum api_exception api_exception_of(int code, bool capacity)
{
    if (code < 0)
        code = -code;
    for (size_t i = 0; i < ARRAY_LEN(CODES); i++)
        if (CODES[i].code == code)
            return CODES[i].exception == EX_CAPACITY && !capacity ? EX_INTERNAL
                                                                  : CODES[i].exception;
    return EX_INTERNAL;
}

enum api_exception api_exception_of_refusal(enum sigv4_refusal r)
{
    return REFUSALS[r];
}

void api_error_reply(struct http_call *c, enum api_exception x, const char *message)
{
    const struct api_exception_row *row = &ROWS[x];
    CLEANUP(cleanup_json)
    json_t *body = json_object();
    /* Text that is no UTF-8 (it may repeat input) is refused by jansson and becomes null. */
    json_t *text = message ? json_string(message) : json_null();
    json_object_set_new(body, row->message_key, text ? text : json_null());
    for (size_t i = 0; row->nulls[i]; i++)
        json_object_set_new(body, row->nulls[i], json_null());
    CLEANUP(cleanup_free)
    char *out = json_text(body);
    buf_clear(&c->reply);
    c->status = buf_adds(&c->reply, out) < 0 ? 500 : row->status;
    http_call_header(c, "content-type", "application/json");
    http_call_header(c, "x-amzn-errortype", "%s", row->name);
    if (row->retry_after_s)
        http_call_header(c, "retry-after", "%d", row->retry_after_s);
}
