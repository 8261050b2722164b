/* SPDX-License-Identifier: Apache-2.0 */
/* exec: runs a command in a microVM; its output and exit status become ours. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/encode.h"
#include "cli/client.h"
#include "cli/resolve.h"

#define STDIN_MAX (192 * 1024) /* what the service takes */

struct options {
    bool input;
    const char *user, *dir;
    struct option_list env;
    long timeout_s;
};

static const struct options defaults = {.timeout_s = 60};

static const struct option_row rows[] = {
    {"interactive", 'i', OPTION_FLAG, offsetof(struct options, input), 0, 0, NULL,
     "pass standard input on (up to 192 KiB)"},
    {"user", 'u', OPTION_TEXT, offsetof(struct options, user), 0, 0, "USER",
     "as this user; default: the image's"},
    {"workdir", 'w', OPTION_TEXT, offsetof(struct options, dir), 0, 0, "DIR",
     "in this directory; default: the image's"},
    {"env", 'e', OPTION_LIST, offsetof(struct options, env), 0, 0, "KEY=VALUE",
     "an environment variable"},
    {"timeout", 0, OPTION_NUMBER, offsetof(struct options, timeout_s), 1, 3600, "S",
     "end it after S seconds (60)"},
    {0},
};

static int add_env(json_t *body, const struct option_list *list, struct err *e)
{
    json_t *env = json_object();
    json_object_set_new(body, "env", env);
    for (size_t i = 0; i < list->n; i++) {
        const char *eq = strchr(list->items[i], '=');
        if (!eq || eq == list->items[i])
            return err_set(e, EINVAL, "--env '%s' is not KEY=VALUE", list->items[i]);
        char key[257];
        snprintf(key, sizeof key, "%.*s", (int)(eq - list->items[i]), list->items[i]);
        json_object_set_new(env, key, json_string(eq + 1));
    }
    return 0;
}

static int add_stdin(json_t *body, struct err *e)
{
    CLEANUP(buf_done)
    struct buf in = BUF_INIT(STDIN_MAX);
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(0);
    char chunk[16384];
    ssize_t n;
    while ((n = read(STDIN_FILENO, chunk, sizeof chunk)) > 0) {
        if (buf_add(&in, chunk, (size_t)n) < 0)
            return err_set(e, EINVAL, "standard input is longer than %d bytes", STDIN_MAX);
    }
    if (n < 0)
        return err_set_errno(e, errno, "cannot read standard input");
    if (in.len == 0)
        return 0;
    if (base64_encode(&text, in.data, in.len) < 0)
        return err_set(e, ENOMEM, "out of memory");
    json_object_set_new(body, "stdin", json_string(text.data));
    return 0;
}

static int make_body(const struct options *o, const struct operands *args, json_t **ret,
                     struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *body = json_object();
    json_t *argv = json_array();
    json_object_set_new(body, "args", argv);
    for (size_t i = 1; i < args->n; i++) {
        if (json_array_append_new(argv, json_string(args->items[i])) < 0)
            return err_set(e, EINVAL, "the command's argument %zu is not UTF-8", i - 1);
    }
    json_object_set_new(body, "timeoutSeconds", json_integer(o->timeout_s));
    if (o->user)
        json_object_set_new(body, "user", json_string(o->user));
    if (o->dir)
        json_object_set_new(body, "cwd", json_string(o->dir));
    int rc = o->env.n ? add_env(body, &o->env, e) : 0;
    if (rc == 0 && o->input)
        rc = add_stdin(body, e);
    if (rc == 0)
        *ret = TAKE(body);
    return rc;
}

static int print_stream(const json_t *reply, const char *name, FILE *out, struct err *e)
{
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(CLIENT_REPLY_MAX);
    const char *text = json_get_str(reply, name);
    if (!text)
        return 0;
    if (base64_decode(&b, text, strlen(text)) < 0)
        return err_set(e, EPROTO, "the service's answer is damaged");
    fwrite(b.data ? b.data : "", 1, b.len, out);
    fflush(out);
    return 0;
}

static int finish(const json_t *reply, struct err *e)
{
    if (print_stream(reply, "stdout", stdout, e) < 0 ||
        print_stream(reply, "stderr", stderr, e) < 0)
        return cli_fail(e);
    if (json_get_bool(reply, "truncated", false))
        fputs("tinderbox: the output was longer than the service keeps and was cut\n", stderr);
    int64_t sig = json_get_int(reply, "signal", 0);
    return (int)(sig > 0 ? 128 + sig : json_get_int(reply, "exitCode", EXIT_FAIL));
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    struct err e = {0};
    char id[ID_TEXT_MAX], path[1024];
    CLEANUP(cleanup_json)
    json_t *body = NULL;
    CLEANUP(cleanup_json)
    json_t *reply = NULL;
    if (cli_connect(c, &e) < 0 || resolve_microvm(c, args->items[0], id, &e) < 0 ||
        make_body(options, args, &body, &e) < 0 ||
        client_path(path, sizeof path, "/tinderbox/v1/microvms/", id, "/exec", &e) < 0 ||
        client_call(c, "POST", path, body, &reply, &e) < 0)
        return cli_fail(&e);
    return finish(reply, &e);
}

const struct verb verb_exec = {
    .name = "exec",
    .help = "run a command in a microVM; its exit status passes through",
    .usage = "[-i] [-u USER] [-w DIR] [-e KEY=VALUE]... ID [--] COMMAND [ARGUMENT]...",
    .options = rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .stop_after = 2,
    .min = 2,
    .max = OPERANDS_MAX,
    .run = run,
};
