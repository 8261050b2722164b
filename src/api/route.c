/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"

static json_t *decoded(const char *p, size_t n)
{
    CLEANUP(buf_done)
    struct buf out = BUF_INIT(ROUTE_TARGET_MAX);
    if (percent_decode(&out, p, n) < 0)
        return NULL;
    return json_stringn(out.data ? out.data : "", out.len); /* NULL unless UTF-8 */
}

int route_match(const char *template, const char *target, json_t *params)
{
    const char *t = template, *p = target;
    while (*t) {
        if (*t != '{') {
            if (*t++ != *p++)
                return 0;
            continue;
        }
        const char *close = strchr(t, '}');
        size_t n = strcspn(p, "/?");
        if (!n)
            return 0;
        json_t *value = decoded(p, n);
        if (!value)
            return -EINVAL;
        if (json_object_setn_new(params, t + 1, (size_t)(close - t - 1), value) < 0)
            return -EINVAL;
        t = close + 1;
        p += n;
    }
    return !*p || *p == '?';
}

/* A second value turns the string into a list. */
static void add_value(json_t *params, const char *name, json_t *value)
{
    json_t *old = json_object_get(params, name);
    if (!old) {
        json_object_set_new(params, name, value);
    } else if (json_is_array(old)) {
        json_array_append_new(old, value);
    } else {
        json_object_set_new(params, name, json_pack("[O, o]", old, value));
    }
}

int route_query(const char *target, json_t *params, struct err *e)
{
    const char *q = strchr(target, '?');
    if (!q)
        return 0;
    unsigned count = 0;
    for (const char *p = q + 1; *p;) {
        size_t n = strcspn(p, "&");
        const char *equals = memchr(p, '=', n);
        size_t name_n = equals ? (size_t)(equals - p) : n;
        size_t value_n = equals ? n - name_n - 1 : 0;
        if (n) {
            if (++count > ROUTE_QUERY_MAX)
                return err_set(e, EINVAL, "More than %d query parameters", ROUTE_QUERY_MAX);
            CLEANUP(cleanup_json)
            json_t *name = decoded(p, name_n);
            json_t *value = decoded(equals ? equals + 1 : "", value_n);
            if (!name || !value || !json_string_length(name) ||
                strlen(json_string_value(name)) != json_string_length(name) ||
                (equals && memchr(equals + 1, '=', value_n))) {
                json_decref(value);
                return err_set(e, EINVAL, "Malformed query string");
            }
            add_value(params, json_string_value(name), value);
        }
        p += n + (p[n] == '&');
    }
    return 0;
}
