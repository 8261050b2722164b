/* SPDX-License-Identifier: Apache-2.0 */
/* run: a private clone of an image, ready for requests when the verb returns. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/resolve.h"
#include "cli/token.h"
#include "cli/wait.h"

#define PAYLOAD_MAX 4096

struct options {
    long port, idle_s, suspended_s, duration_s, timeout_s;
    const char *version, *payload;
    bool no_auto_resume, quiet, json, no_wait, shell;
};

static const struct options defaults = {.suspended_s = 3600, .timeout_s = 120};

static const struct option_row rows[] = {
    {"port", 'p', OPTION_NUMBER, offsetof(struct options, port), 1, 65535, "PORT",
     "print a curl command with a token for this port"},
    {"version", 0, OPTION_TEXT, offsetof(struct options, version), 0, 0, "N",
     "of the image; default: the latest active one"},
    {"idle", 0, OPTION_NUMBER, offsetof(struct options, idle_s), 60, 28800, "S",
     "suspend after S seconds without traffic"},
    {"suspended", 0, OPTION_NUMBER, offsetof(struct options, suspended_s), 0, 28800, "S",
     "with --idle: terminate after S seconds suspended (3600)"},
    {"no-auto-resume", 0, OPTION_FLAG, offsetof(struct options, no_auto_resume), 0, 0, NULL,
     "with --idle: requests do not resume it"},
    {"duration", 0, OPTION_NUMBER, offsetof(struct options, duration_s), 1, 28800, "S",
     "terminate after S seconds in any case (28800)"},
    {"payload", 0, OPTION_TEXT, offsetof(struct options, payload), 0, 0, "TEXT|@FILE",
     "handed to the application's run hook"},
    {"shell", 0, OPTION_FLAG, offsetof(struct options, shell), 0, 0, NULL,
     "allow shell tokens besides HTTP"},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct options, quiet), 0, 0, NULL, "print only the id"},
    {"json", 0, OPTION_FLAG, offsetof(struct options, json), 0, 0, NULL, "print JSON"},
    {"no-wait", 0, OPTION_FLAG, offsetof(struct options, no_wait), 0, 0, NULL,
     "return while it is PENDING"},
    {"timeout", 0, OPTION_NUMBER, offsetof(struct options, timeout_s), 1, 3600, "S",
     "how long to wait until it is RUNNING (120)"},
    {0},
};

static int add_payload(json_t *body, const char *text, struct err *e)
{
    CLEANUP(buf_done)
    struct buf file = BUF_INIT(PAYLOAD_MAX);
    if (text[0] == '@') {
        int rc = fs_read_file(text + 1, &file, e);
        if (rc < 0)
            return rc;
        text = file.data ? file.data : "";
    }
    if (strlen(text) > PAYLOAD_MAX || strlen(text) < file.len)
        return err_set(e, EINVAL, "the payload must be text of at most %d bytes", PAYLOAD_MAX);
    json_t *s = json_string(text);
    if (!s)
        return err_set(e, EINVAL, "the payload is not UTF-8");
    json_object_set_new(body, "runHookPayload", s);
    return 0;
}

static void add_connectors(const struct cli *c, json_t *body)
{
    static const char *const names[] = {"HTTP_INGRESS", "SHELL_INGRESS"};
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        json_array_append_new(
            list, json_sprintf("arn:aws:lambda:%s:aws:network-connector:aws-network-connector:%s",
                               c->region, names[i]));
    json_object_set_new(body, "ingressNetworkConnectors", list);
}

static int make_body(const struct cli *c, const struct options *o, const char *arn, json_t **ret,
                     struct err *e)
{
    char token[UUID_LEN + 1];
    uuid_new(token);
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:s,s:s}", "imageIdentifier", arn, "clientToken", token);
    if (o->version)
        json_object_set_new(body, "imageVersion", json_string(o->version));
    if (o->idle_s)
        json_object_set_new(body, "idlePolicy",
                            json_pack("{s:I,s:I,s:b}", "maxIdleDurationSeconds",
                                      (json_int_t)o->idle_s, "suspendedDurationSeconds",
                                      (json_int_t)o->suspended_s, "autoResumeEnabled",
                                      !o->no_auto_resume));
    if (o->duration_s)
        json_object_set_new(body, "maximumDurationInSeconds", json_integer(o->duration_s));
    if (o->shell)
        add_connectors(c, body);
    int rc = o->payload ? add_payload(body, o->payload, e) : 0;
    if (rc == 0)
        *ret = TAKE(body);
    return rc;
}

static int print_port(struct cli *c, const char *id, const char *endpoint, long port, struct err *e)
{
    char token[TOKEN_MAX], number[16];
    snprintf(number, sizeof number, "%ld", port);
    const struct option_list ports = {.items = {number}, .n = 1};
    int rc = token_create(c, id, &ports, 60, token, e);
    if (rc < 0)
        return rc;
    printf("\ncurl --cacert %s -H 'X-aws-proxy-port: %ld' \\\n  -H 'X-aws-proxy-auth: %s' \\\n"
           "  https://%s/\n",
           c->ca[0] ? c->ca : "/etc/ssl/certs/ca-certificates.crt", port, token, endpoint);
    return 0;
}

static int print_result(struct cli *c, const struct options *o, const json_t *vm, struct err *e)
{
    const char *id = json_get_str(vm, "microvmId"), *endpoint = json_get_str(vm, "endpoint");
    if (o->json) {
        print_json(vm);
        return 0;
    }
    puts(id);
    if (o->quiet)
        return 0;
    printf("state     %s\nendpoint  https://%s\n", json_get_str(vm, "state"), endpoint);
    return o->port ? print_port(c, id, endpoint, o->port, e) : 0;
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    const struct options *o = options;
    struct err e = {0};
    char arn[ID_TEXT_MAX];
    CLEANUP(cleanup_json)
    json_t *body = NULL;
    CLEANUP(cleanup_json)
    json_t *started = NULL;
    CLEANUP(cleanup_json)
    json_t *vm = NULL;
    if (cli_connect(c, &e) < 0 || resolve_image(c, args->items[0], arn, &e) < 0 ||
        make_body(c, o, arn, &body, &e) < 0 ||
        client_call(c, "POST", "/2025-09-09/microvms", body, &started, &e) < 0)
        return cli_fail(&e);
    const char *id = json_get_str(started, "microvmId");
    if (!id) {
        err_set(&e, EPROTO, "the service's answer has no microvmId");
        return cli_fail(&e);
    }
    if (o->no_wait)
        vm = json_incref(started);
    else if (microvm_wait(c, id, "RUNNING", (int)o->timeout_s, &vm, &e) < 0)
        return cli_fail(&e);
    return print_result(c, o, vm, &e) < 0 ? cli_fail(&e) : EXIT_OK;
}

const struct verb verb_run = {
    .name = "run",
    .help = "start a microVM from an image and wait until it runs",
    .usage = "[-p PORT] [--idle S [--suspended S] [--no-auto-resume]] [--duration S]\n"
             "                     [--payload TEXT|@FILE] [--version N] [-q|--json] IMAGE",
    .options = rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .min = 1,
    .max = 1,
    .run = run,
};
