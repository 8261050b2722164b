/* SPDX-License-Identifier: Apache-2.0 */
#include "image/config.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/json.h"

enum shape { TEXT, LIST, ENV_LIST, OBJECT_OF_TEXT, OBJECT_OF_OBJECTS };

static const struct {
    const char *name;
    enum shape shape;
    const char *says;
} members[] = {
    {"Entrypoint", LIST, "a list of strings"},
    {"Cmd", LIST, "a list of strings"},
    {"Env", ENV_LIST, "a list of NAME=value strings"},
    {"WorkingDir", TEXT, "a string"},
    {"User", TEXT, "a string"},
    {"ExposedPorts", OBJECT_OF_OBJECTS, "an object of empty objects"},
    {"Labels", OBJECT_OF_TEXT, "an object of strings"},
    {"StopSignal", TEXT, "a string"},
    {"Shell", LIST, "a list of strings"},
};

static bool list_ok(const json_t *v, bool env)
{
    size_t i;
    json_t *item;
    json_array_foreach (v, i, item) {
        const char *s = json_string_value(item);
        if (!s || (env && (s[0] == '=' || !strchr(s, '='))))
            return false;
    }
    return json_is_array(v);
}

static bool object_ok(const json_t *v, bool of_text)
{
    for (void *it = json_object_iter((json_t *)v); it;
         it = json_object_iter_next((json_t *)v, it)) {
        const json_t *m = json_object_iter_value(it);
        if (of_text ? !json_is_string(m) : !json_is_object(m) || json_object_size(m) != 0)
            return false;
    }
    return json_is_object(v);
}

static bool member_ok(const json_t *v, enum shape shape)
{
    switch (shape) {
    case TEXT:
        return json_is_string(v);
    case LIST:
    case ENV_LIST:
        return list_ok(v, shape == ENV_LIST);
    case OBJECT_OF_TEXT:
    case OBJECT_OF_OBJECTS:
        return object_ok(v, shape == OBJECT_OF_TEXT);
    }
    return false;
}

int config_check(const json_t *config, struct err *e)
{
    if (!json_is_object(config))
        return err_set(e, EINVAL, "the image configuration is not a JSON object");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const json_t *v = json_object_get(config, members[i].name);
        if (v && !json_is_null(v) && !member_ok(v, members[i].shape))
            return err_set(e, EINVAL, "%s of the image configuration is not %s", members[i].name,
                           members[i].says);
    }
    return 0;
}

int config_argv(const json_t *config, json_t **ret, struct err *e)
{
    static const char *const parts[] = {"Entrypoint", "Cmd"};
    json_t *argv = json_array();
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        json_t *list = json_object_get(config, parts[i]);
        if (json_is_array(list) && json_array_extend(argv, list) < 0)
            return json_decref(argv), err_set_errno(e, ENOMEM, "image configuration");
    }
    const char *first = json_string_value(json_array_get(argv, 0));
    if (!first || !*first) {
        json_decref(argv);
        return err_set(e, EINVAL, "the image has neither ENTRYPOINT nor CMD: nothing to start");
    }
    *ret = argv;
    return 0;
}

const char *config_workdir(const json_t *config)
{
    const char *s = json_get_str(config, "WorkingDir");
    return s && *s ? s : "/";
}

const char *config_user(const json_t *config)
{
    const char *s = json_get_str(config, "User");
    return s ? s : "";
}

const char *config_env(const json_t *config, const char *name)
{
    size_t i, n = strlen(name);
    json_t *item;
    const char *found = NULL;
    json_array_foreach (json_object_get(config, "Env"), i, item) {
        const char *s = json_string_value(item);
        if (s && strncmp(s, name, n) == 0 && s[n] == '=')
            found = s + n + 1;
    }
    return found;
}
