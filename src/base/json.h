/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jansson with limits and readable errors. All input is treated as hostile: size and depth are
 * bounded, duplicate keys are refused. json_t ownership follows jansson's own rules.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define JSON_MAX_DEPTH 32

/* Parses exactly one JSON text of at most max bytes. -EINVAL with line and column, -EMSGSIZE. */
int json_parse(const char *p, size_t n, size_t max, json_t **ret, struct err *e) MUST_CHECK;

/* Compact text, NUL-terminated, owned by the caller; aborts when memory is exhausted. */
char *json_text(const json_t *v);

/* Member access on an object. A missing member or JSON null gives the default / NULL. */
const char *json_get_str(const json_t *o, const char *key);
int64_t json_get_int(const json_t *o, const char *key, int64_t otherwise);
bool json_get_bool(const json_t *o, const char *key, bool otherwise);

void cleanup_json(json_t **v); /* CLEANUP(cleanup_json) json_t *v = NULL; */

#endif
