/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets: path templates and the query string (RFC 3986). Pure; any thread. */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "base/err.h"
#include "base/json.h"

#define ROUTE_TARGET_MAX 32768
#define ROUTE_QUERY_MAX 128 /* parameters */

/*
 * Does the path of a raw target ("/2025-09-09/microvms/x%3Ay?a=b") match a template such as
 * "/2025-09-09/microvms/{microvmIdentifier}/suspend"? A parameter is one non-empty segment; its
 * percent-decoded text goes into params. 1 match, 0 no match, -EINVAL a bad escape or no UTF-8.
 */
int route_match(const char *template, const char *target, json_t *params) MUST_CHECK;

/* Adds the query parameters of a raw target to params as strings; a repeated name becomes a list of
 * strings. '+' stays '+'. -EINVAL with a text. */
int route_query(const char *target, json_t *params, struct err *e) MUST_CHECK;

#endif
