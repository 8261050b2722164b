/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* jansson's own parser recurses to JSON_PARSER_MAX_DEPTH (2048); our bound is checked first, on
 * the text, so that a hostile document costs one pass and no allocation. */
static bool too_deep(const char *p, size_t n)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_MAX_DEPTH)
                return true;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return false;
}

int json_parse(const char *p, size_t n, size_t max, json_t **ret, struct err *e)
{
    if (n > max)
        return err_set(e, EMSGSIZE, "JSON text of %zu bytes is larger than %zu", n, max);
    if (too_deep(p, n))
        return err_set(e, EINVAL, "JSON text is nested deeper than %d", JSON_MAX_DEPTH);
    json_error_t je;
    json_t *v = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (!v)
        return err_set(e, EINVAL, "line %d, column %d: %s", je.line, je.column, je.text);
    *ret = v;
    return 0;
}

char *json_text(const json_t *v)
{
    char *s = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!s)
        abort();
    return s;
}

const char *json_get_str(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

int64_t json_get_int(const json_t *o, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

bool json_get_bool(const json_t *o, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

void cleanup_json(json_t **v)
{
    json_decref(*v);
}
