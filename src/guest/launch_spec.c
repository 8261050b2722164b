/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON spec of a command, and the environment it is given. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest/launch.h"

#define ARGS_MAX 4096
#define ENV_MAX 4096
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CA_FILE "/dev/tinderbox/ca-bundle.crt"

/* What common programs read to find a CA bundle. */
static const char *const CA_VARIABLES[] = {
    "SSL_CERT_FILE=" CA_FILE,       "CURL_CA_BUNDLE=" CA_FILE,
    "REQUESTS_CA_BUNDLE=" CA_FILE,  "PIP_CERT=" CA_FILE,
    "GIT_SSL_CAINFO=" CA_FILE,      "AWS_CA_BUNDLE=" CA_FILE,
    "NODE_EXTRA_CA_CERTS=" CA_FILE,
};

char **launch_copy_list(char *const *list)
{
    size_t n = 0, bytes = sizeof(char *);
    for (; list && list[n]; n++)
        bytes += sizeof(char *) + strlen(list[n]) + 1;
    char **copy = malloc(bytes);
    if (!copy)
        abort(); /* a few KiB */
    char *text = (char *)(copy + n + 1);
    for (size_t i = 0; i < n; i++) {
        copy[i] = text;
        size_t len = strlen(list[i]) + 1;
        memcpy(text, list[i], len);
        text += len;
    }
    copy[n] = NULL;
    return copy;
}

static bool same_key(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n) == 0 && b[n] == '=';
}

/* list has room. Replaces the same variable or appends. */
static void env_set(const char **list, size_t *n, const char *var, bool replace)
{
    for (size_t i = 0; i < *n; i++)
        if (same_key(var, list[i])) {
            if (replace)
                list[i] = var;
            return;
        }
    list[(*n)++] = var;
}

static int parse_env(struct launch *l, const json_t *env, char *const *base, struct err *e)
{
    size_t count = json_array_size(env), n = 0;
    for (size_t i = 0; base && base[i]; i++)
        count++;
    if ((env && !json_is_null(env) && !json_is_array(env)) || count > ENV_MAX)
        return err_set(e, EINVAL, "env must be a list of at most %d strings", ENV_MAX);
    const char **list = calloc(count + ARRAY_LEN(CA_VARIABLES) + 3, sizeof *list);
    if (!list)
        return err_set(e, ENOMEM, "out of memory");
    for (size_t i = 0; base && base[i]; i++)
        env_set(list, &n, base[i], true);
    int r = 0;
    for (size_t i = 0; i < json_array_size(env) && r == 0; i++) {
        const char *var = json_string_value(json_array_get(env, i));
        if (!var || var[0] == '=' || !strchr(var, '='))
            r = err_set(e, EINVAL, "env[%zu] is not of the form NAME=value", i);
        else
            env_set(list, &n, var, true);
    }
    if (r == 0) {
        env_set(list, &n, DEFAULT_PATH, false);
        if (l->tty)
            env_set(list, &n, "TERM=xterm", false);
        for (size_t i = 0; l->have_ca && i < ARRAY_LEN(CA_VARIABLES); i++)
            env_set(list, &n, CA_VARIABLES[i], false);
        l->env = launch_copy_list((char *const *)list);
    }
    free(list);
    return r;
}

static int parse_args(struct launch *l, const json_t *args, struct err *e)
{
    size_t n = json_array_size(args);
    if (n == 0 || n > ARGS_MAX)
        return err_set(e, EINVAL, "args must be a list of 1 to %d strings", ARGS_MAX);
    const char **list = calloc(n + 1, sizeof *list);
    if (!list)
        return err_set(e, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        list[i] = json_string_value(json_array_get(args, i));
        if (!list[i]) {
            free(list);
            return err_set(e, EINVAL, "args[%zu] is not a string", i);
        }
    }
    l->argv = launch_copy_list((char *const *)list);
    free(list);
    return 0;
}

int launch_parse(struct launch *l, const json_t *spec, char *const *base_env, struct err *e)
{
    l->tty = json_get_bool(spec, "tty", false);
    int64_t cols = json_get_int(spec, "cols", 80), rows = json_get_int(spec, "rows", 24);
    if (cols < 0 || cols > 65535 || rows < 0 || rows > 65535)
        return err_set(e, EINVAL, "bad terminal size");
    l->cols = (unsigned short)cols;
    l->rows = (unsigned short)rows;
    const char *cwd = json_get_str(spec, "cwd"), *user = json_get_str(spec, "user");
    if (cwd && cwd[0])
        l->cwd = cwd;
    if (user && user[0])
        l->user = user;
    if (l->cwd && l->cwd[0] != '/')
        return err_set(e, EINVAL, "the working directory '%s' is not an absolute path", l->cwd);
    int r = parse_args(l, json_object_get(spec, "args"), e);
    return r < 0 ? r : parse_env(l, json_object_get(spec, "env"), base_env, e);
}

void launch_done(struct launch *l)
{
    free(l->argv);
    free(l->env);
    l->argv = l->env = NULL;
}
