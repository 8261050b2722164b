/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks a JSON value against a shape. Violations of constraints are collected, in table order, and
 * told together; a value of the wrong JSON type ends the walk, because the service's own parser
 * would not have got further. Recursion follows the shape tables, never the input, so its depth is
 * that of the deepest table. Values are repeated in messages shortened to VALUE_SHOWN bytes, and
 * never for sensitive members.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/patterns.h"
#include "api/shape.h"

#define VALUE_SHOWN 256
#define MESSAGE_MAX (64 * 1024)

/* Texts are best effort: when memory is short they are shorter, the count and status still hold. */
#define SAY(b, ...) ((void)(buf_addf((b), __VA_ARGS__) == 0))

struct check {
    struct buf items; /* "<item>; <item>" */
    unsigned violations;
    const char *type_error; /* the first one, or NULL */
    char path[512];
};

static void check_value(struct check *c, const struct shape *s, const json_t *v);

static void add_violation(struct check *c, const char *value, const char *constraint)
{
    if (c->violations++ >= VALIDATE_MAX_ITEMS)
        return;
    SAY(&c->items, "%sValue%s%s at '%s' failed to satisfy constraint: %s", c->items.len ? "; " : "",
        value ? " " : "", value ? value : "", c->path, constraint);
}

/* Cuts at a character boundary. */
static void add_quoted(struct buf *b, const char *s)
{
    size_t n = strlen(s), shown = n;
    if (shown > VALUE_SHOWN)
        for (shown = VALUE_SHOWN; shown && (s[shown] & 0xc0) == 0x80;)
            shown--;
    SAY(b, "'%.*s%s'", (int)shown, s, shown < n ? "..." : "");
}

static void violate(struct check *c, const struct shape *s, const json_t *v, const char *constraint)
{
    if (s->sensitive) {
        add_violation(c, NULL, constraint);
        return;
    }
    CLEANUP(buf_done)
    struct buf shown = BUF_INIT(MESSAGE_MAX);
    if (json_is_string(v)) {
        add_quoted(&shown, json_string_value(v));
    } else {
        CLEANUP(cleanup_free)
        char *text = json_text(v);
        add_quoted(&shown, text);
    }
    add_violation(c, shown.data, constraint);
}

static void check_range(struct check *c, const struct shape *s, const json_t *v, int64_t have,
                        const char *what)
{
    char text[96];
    if (have < s->min) {
        snprintf(text, sizeof text, "Member must have %s greater than or equal to %lld", what,
                 (long long)s->min);
        violate(c, s, v, text);
    } else if (have > s->max) {
        snprintf(text, sizeof text, "Member must have %s less than or equal to %lld", what,
                 (long long)s->max);
        violate(c, s, v, text);
    }
}

static void check_enum(struct check *c, const struct shape *s, const json_t *v)
{
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(MESSAGE_MAX);
    SAY(&text, "Member must satisfy enum value set: [");
    for (const char *const *p = s->values; *p; p++) {
        if (strcmp(*p, json_string_value(v)) == 0)
            return;
        SAY(&text, "%s%s", p == s->values ? "" : ", ", *p);
    }
    SAY(&text, "]");
    violate(c, s, v, text.data ? text.data : "");
}

static void check_string(struct check *c, const struct shape *s, const json_t *v)
{
    const char *p = json_string_value(v);
    if (strlen(p) != json_string_length(v)) {
        c->type_error = "A string contains a NUL character";
        return;
    }
    check_range(c, s, v, utf8_length(p), "length");
    if (s->pattern && !s->pattern->matches(p)) {
        CLEANUP(buf_done)
        struct buf text = BUF_INIT(MESSAGE_MAX);
        SAY(&text, "Member must satisfy regular expression pattern: %s", s->pattern->text);
        violate(c, s, v, text.data ? text.data : "");
    }
    if (s->values)
        check_enum(c, s, v);
}

/* Extends the path for the duration of one nested check. */
static size_t path_push(struct check *c, const char *before, const char *name, const char *after)
{
    size_t n = strlen(c->path);
    snprintf(c->path + n, sizeof c->path - n, "%s%s%s", before, name, after);
    return n;
}

static void check_member(struct check *c, const struct member *m, const json_t *v)
{
    size_t mark = path_push(c, c->path[0] ? "." : "", m->name, "");
    if (v && !json_is_null(v))
        check_value(c, m->shape, v);
    else if (m->required)
        add_violation(c, "null", "Member must not be null");
    c->path[mark] = '\0';
}

static void check_struct(struct check *c, const struct shape *s, const json_t *v)
{
    unsigned present = 0;
    for (const struct member *m = s->members; m->name && !c->type_error; m++) {
        const json_t *child = json_object_get(v, m->name);
        present += child && !json_is_null(child);
        check_member(c, m, child);
    }
    if (s->kind == SHAPE_UNION && present != 1 && !c->type_error)
        violate(c, s, v, "Member must have exactly one of its members set");
}

static void check_list(struct check *c, const struct shape *s, const json_t *v)
{
    check_range(c, s, v, (int64_t)json_array_size(v), "length");
    for (size_t i = 0; i < json_array_size(v) && !c->type_error; i++) {
        char index[24];
        snprintf(index, sizeof index, "%zu", i + 1);
        size_t mark = path_push(c, ".", index, ".member");
        const json_t *child = json_array_get(v, i);
        if (json_is_null(child))
            add_violation(c, "null", "Member must not be null");
        else
            check_value(c, s->element, child);
        c->path[mark] = '\0';
    }
}

/* Keys and values are told as constraints of the map, which is how the service words it. */
static void check_entry(struct check *c, const struct shape *of, const char *what, const json_t *v,
                        const struct shape *map, const json_t *whole)
{
    struct check inner = {.items = BUF_INIT(MESSAGE_MAX)};
    check_value(&inner, of, v);
    if (inner.type_error)
        c->type_error = inner.type_error;
    if (inner.violations) {
        CLEANUP(buf_done)
        struct buf text = BUF_INIT(MESSAGE_MAX);
        const char *constraint = inner.items.data ? strstr(inner.items.data, "constraint: ") : NULL;
        SAY(&text, "Map %s must satisfy constraint: [%s]", what,
            constraint ? constraint + strlen("constraint: ") : "");
        violate(c, map, whole, text.data ? text.data : "");
    }
    buf_done(&inner.items);
}

static void check_map(struct check *c, const struct shape *s, const json_t *v)
{
    check_range(c, s, v, (int64_t)json_object_size(v), "length");
    const char *key;
    json_t *child;
    json_object_foreach ((json_t *)(uintptr_t)v, key, child) {
        if (c->type_error)
            return;
        CLEANUP(cleanup_json)
        json_t *name = json_string(key);
        check_entry(c, s->key, "keys", name, s, v);
        if (json_is_null(child))
            violate(c, s, v, "Map values must not be null");
        else
            check_entry(c, s->element, "values", child, s, v);
    }
}

/* What the service's parser says to a value of the wrong type. */
static const char *type_mismatch(const struct shape *s, const json_t *v)
{
    switch (s->kind) {
    case SHAPE_STRING:
        return json_is_number(v)    ? "NUMBER_VALUE can not be converted to a String"
               : json_is_boolean(v) ? "TRUE_VALUE can not be converted to a String"
               : json_is_array(v)   ? "Start of list found where not expected"
                                    : "Start of structure or map found where not expected.";
    case SHAPE_INTEGER:
        return json_is_string(v) ? "STRING_VALUE can not be converted to an Integer"
                                 : "Expected an integer";
    case SHAPE_BOOLEAN:
        return json_is_string(v) ? "STRING_VALUE can not be converted to a Boolean"
                                 : "Expected a boolean";
    case SHAPE_LIST:
        return "Expected list or null";
    case SHAPE_STRUCT:
    case SHAPE_UNION:
    case SHAPE_MAP:
        return "Expected null";
    case SHAPE_ANY:
        break;
    }
    return "Unexpected value";
}

static bool type_fits(const struct shape *s, const json_t *v)
{
    switch (s->kind) {
    case SHAPE_STRING:
        return json_is_string(v);
    case SHAPE_INTEGER:
        return json_is_integer(v);
    case SHAPE_BOOLEAN:
        return json_is_boolean(v);
    case SHAPE_LIST:
        return json_is_array(v);
    case SHAPE_STRUCT:
    case SHAPE_UNION:
    case SHAPE_MAP:
        return json_is_object(v);
    case SHAPE_ANY:
        break;
    }
    return true;
}

static void check_value(struct check *c, const struct shape *s, const json_t *v)
{
    if (!type_fits(s, v)) {
        c->type_error = type_mismatch(s, v);
        return;
    }
    switch (s->kind) {
    case SHAPE_STRING:
        check_string(c, s, v);
        break;
    case SHAPE_INTEGER:
        check_range(c, s, v, json_integer_value(v), "value");
        break;
    case SHAPE_STRUCT:
    case SHAPE_UNION:
        check_struct(c, s, v);
        break;
    case SHAPE_LIST:
        check_list(c, s, v);
        break;
    case SHAPE_MAP:
        check_map(c, s, v);
        break;
    case SHAPE_BOOLEAN:
    case SHAPE_ANY:
        break;
    }
}

/* Strings of the query into the member's type; NULL when it is no number. */
static json_t *query_value(const struct shape *s, const json_t *v)
{
    if (s->kind == SHAPE_LIST)
        return json_is_array(v) ? json_deep_copy(v) : json_pack("[O]", v);
    if (json_is_array(v))
        v = json_array_get(v, 0);
    if (s->kind != SHAPE_INTEGER)
        return json_deep_copy(v);
    const char *p = json_string_value(v);
    char *end;
    errno = 0;
    long long n = strtoll(p, &end, 10);
    if (errno || end == p || *end || !(*p == '-' || (*p >= '0' && *p <= '9')))
        return NULL;
    return json_integer(n);
}

/* Empty structures of the input keep only what the tables know. */
static json_t *known_members(const struct shape *s, const json_t *v)
{
    if (s->kind == SHAPE_LIST) {
        json_t *out = json_array();
        for (size_t i = 0; i < json_array_size(v); i++)
            json_array_append_new(out, known_members(s->element, json_array_get(v, i)));
        return out;
    }
    if (s->kind != SHAPE_STRUCT && s->kind != SHAPE_UNION)
        return json_deep_copy(v);
    json_t *out = json_object();
    for (const struct member *m = s->members; m->name; m++) {
        const json_t *child = json_object_get(v, m->name);
        if (child && !json_is_null(child))
            json_object_set_new(out, m->name, known_members(m->shape, child));
    }
    return out;
}

static void finish_message(const struct check *c, struct buf *message)
{
    if (c->type_error)
        SAY(message, "%s", c->type_error);
    else
        SAY(message, "%u validation error%s detected: %s", c->violations,
            c->violations == 1 ? "" : "s", c->items.data ? c->items.data : "");
}

enum validate_result validate_input(const struct member *members, const struct validate_sources *in,
                                    json_t **ret, struct buf *message)
{
    struct check c = {.items = BUF_INIT(MESSAGE_MAX)};
    CLEANUP(cleanup_json)
    json_t *out = json_object();
    if (in->from[IN_BODY] && !json_is_object(in->from[IN_BODY]))
        c.type_error = "Expected null";
    for (const struct member *m = members; m->name && !c.type_error; m++) {
        const json_t *from = json_object_get(in->from[m->location], m->name);
        CLEANUP(cleanup_json)
        json_t *v = NULL;
        if (from && m->location == IN_QUERY) {
            v = query_value(m->shape, from);
            if (!v)
                c.type_error = "A query parameter that must be a number is none";
        } else if (from) {
            v = json_incref((json_t *)(uintptr_t)from);
        }
        if (!c.type_error)
            check_member(&c, m, v);
        if (v && !json_is_null(v) && !c.type_error && !c.violations)
            json_object_set_new(out, m->name, known_members(m->shape, v));
    }
    enum validate_result r = c.type_error   ? VALIDATE_TYPE
                             : c.violations ? VALIDATE_CONSTRAINT
                                            : VALIDATE_OK;
    if (r == VALIDATE_OK)
        *ret = TAKE(out);
    else
        finish_message(&c, message);
    buf_done(&c.items);
    return r;
}
