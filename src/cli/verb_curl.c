/* SPDX-License-Identifier: Apache-2.0 */
/* curl: becomes the curl program, aimed at a microVM's endpoint with a fresh token. The token goes
 * through a private file descriptor, so that it is in nobody's process list; the name is resolved
 * here, so that *.localhost works where the system's resolver does not know it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/client.h"
#include "cli/resolve.h"
#include "cli/token.h"
#include "cli/wait.h"

struct options {
    long port;
};

static const struct options defaults = {.port = DEFAULT_PORT};

static const struct option_row rows[] = {
    {"port", 'p', OPTION_NUMBER, offsetof(struct options, port), 1, 65535, "PORT",
     "the application's port (8080)"},
    {0},
};

/* "host[:port]" into its parts. */
static long split_endpoint(const char *endpoint, char host[300])
{
    const char *colon = strrchr(endpoint, ':');
    snprintf(host, 300, "%.*s", (int)(colon ? (size_t)(colon - endpoint) : strlen(endpoint)),
             endpoint);
    return colon ? strtol(colon + 1, NULL, 10) : 443;
}

/* A curl configuration file that only this process and its successor can read. */
static int secret_config(const char *token, long port, struct err *e)
{
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(TOKEN_MAX + 256);
    int fd = memfd_create("curl-config", 0); /* survives exec */
    int rc =
        buf_addf(&text, "header = \"X-aws-proxy-auth: %s\"\nheader = \"X-aws-proxy-port: %ld\"\n",
                 token, port);
    if (fd >= 0 && rc == 0)
        rc = fs_write_all(fd, text.data, text.len);
    if (fd < 0 || rc < 0)
        return err_set_errno(e, fd < 0 ? errno : -rc, "cannot pass the token on");
    return fd;
}

static void exec_curl(const struct cli *c, const char *endpoint, int config, const char *path,
                      const struct operands *args)
{
    const char *argv[OPERANDS_MAX + 16];
    char host[300], resolve[500], url[4096], file[64];
    size_t n = 0;
    long port = split_endpoint(endpoint, host);
    snprintf(url, sizeof url, "https://%s%s%s", endpoint, *path == '/' ? "" : "/", path);
    snprintf(file, sizeof file, "/dev/fd/%d", config);
    argv[n++] = "curl";
    argv[n++] = "--config";
    argv[n++] = file;
    if (c->ca[0]) {
        argv[n++] = "--cacert";
        argv[n++] = c->ca;
    }
    if (!c->remote) {
        snprintf(resolve, sizeof resolve, "%s:%ld:%s", host, port, c->endpoint_address);
        argv[n++] = "--resolve";
        argv[n++] = resolve;
        argv[n++] = "--noproxy";
        argv[n++] = "*";
    }
    for (size_t i = 2; i < args->n; i++)
        argv[n++] = args->items[i];
    argv[n++] = url;
    argv[n] = NULL;
    execvp("curl", (char *const *)argv);
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    const struct options *o = options;
    struct err e = {0};
    char id[ID_TEXT_MAX], token[TOKEN_MAX], number[16];
    CLEANUP(cleanup_json)
    json_t *vm = NULL;
    snprintf(number, sizeof number, "%ld", o->port);
    const struct option_list ports = {.items = {number}, .n = 1};
    if (cli_connect(c, &e) < 0 || resolve_microvm(c, args->items[0], id, &e) < 0 ||
        microvm_describe(c, id, &vm, &e) < 0 || token_create(c, id, &ports, 60, token, &e) < 0)
        return cli_fail(&e);
    const char *endpoint = json_get_str(vm, "endpoint");
    if (!endpoint) {
        err_set(&e, EPROTO, "%s has no endpoint", id);
        return cli_fail(&e);
    }
    int config = secret_config(token, o->port, &e);
    if (config < 0)
        return cli_fail(&e);
    exec_curl(c, endpoint, config, args->n > 1 ? args->items[1] : "/", args);
    err_set_errno(&e, errno, "cannot run curl (apt-get install curl)");
    return cli_fail(&e);
}

const struct verb verb_curl = {
    .name = "curl",
    .help = "call a microVM's endpoint with curl and a fresh token",
    .usage = "ID [-p PORT] [PATH [CURL-ARGUMENT]...]",
    .options = rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .stop_after = 2,
    .min = 1,
    .max = OPERANDS_MAX,
    .run = run,
};
