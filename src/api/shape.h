/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shapes of operation inputs: what a member may be, told as data. The tables are in shapes.c; the
 * walk that checks a JSON value against them is in validate.c. Pure; any thread.
 */
#ifndef API_SHAPE_H
#define API_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

enum shape_kind {
    SHAPE_STRING,
    SHAPE_INTEGER,
    SHAPE_BOOLEAN,
    SHAPE_STRUCT,
    SHAPE_UNION, /* a struct with exactly one member present */
    SHAPE_LIST,
    SHAPE_MAP, /* string keys */
    SHAPE_ANY, /* any JSON value: checked by the handler */
};

#define SHAPE_NO_MAX INT64_MAX

struct pattern {
    const char *text; /* as it stands in error messages */
    bool (*matches)(const char *s);
};

struct member;

struct shape {
    enum shape_kind kind;
    int64_t min, max;              /* characters, value or elements, by kind; both inclusive */
    const struct pattern *pattern; /* strings; NULL = any */
    const char *const *values;     /* enumeration, NULL-ended; NULL = any */
    bool sensitive;                /* the value is never repeated in an error */
    const struct member *members;  /* struct and union, ended by a NULL name */
    const struct shape *element;   /* of a list, or the values of a map */
    const struct shape *key;       /* of a map */
};

enum member_location { IN_BODY, IN_PATH, IN_QUERY };

struct member {
    const char *name; /* on the wire, in error paths, and in the validated object */
    const struct shape *shape;
    bool required;
    enum member_location location;
};

/* Input members of each operation, in the order in which violations are reported. */
extern const struct member IN_CREATE_IMAGE[], IN_UPDATE_IMAGE[], IN_IMAGE[], IN_LIST_IMAGES[],
    IN_LIST_VERSIONS[], IN_VERSION[], IN_UPDATE_VERSION[], IN_LIST_BUILDS[], IN_BUILD[],
    IN_LIST_MANAGED[], IN_RUN[], IN_MICROVM[], IN_LIST_MICROVMS[], IN_AUTH_TOKEN[],
    IN_SHELL_TOKEN[], IN_RESOURCE[], IN_TAG[], IN_UNTAG[], IN_NONE[], IN_LOGS[], IN_EXEC[],
    IN_GET_FILES[], IN_PUT_FILES[];

#define VALIDATE_MAX_ITEMS 20 /* violations told in one answer; the count goes on */

enum validate_result {
    VALIDATE_OK,
    VALIDATE_CONSTRAINT, /* "N validation error(s) detected: ..." */
    VALIDATE_TYPE,       /* a JSON value of the wrong type: the parser's words */
};

/* Where members are looked up: one object (or NULL) per enum member_location. Path and query hold
 * strings, a repeated query parameter a list of strings. */
struct validate_sources {
    const json_t *from[3];
};

/* On VALIDATE_OK *ret is a new object with exactly the known members that are present and not
 * null, numbers of the query turned into integers. Otherwise the text is appended to message. */
enum validate_result validate_input(const struct member *members, const struct validate_sources *in,
                                    json_t **ret, struct buf *message);

#endif
