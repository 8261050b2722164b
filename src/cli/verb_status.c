/* SPDX-License-Identifier: Apache-2.0 */
/* status: whether the service runs, where, and how much it holds. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/output.h"

struct options {
    bool json;
};

static const struct option_row rows[] = {
    {"json", 0, OPTION_FLAG, offsetof(struct options, json), 0, 0, NULL, "print JSON"},
    {0},
};

static int run(struct cli *c, const void *options, const struct operands *args)
{
    (void)args;
    const struct options *o = options;
    struct err e = {0};
    CLEANUP(cleanup_json)
    json_t *st = NULL;
    if (cli_connect(c, &e) < 0 || client_call(c, "GET", "/tinderbox/v1/status", NULL, &st, &e) < 0)
        return cli_fail(&e);
    if (o->json) {
        json_object_set_new(st, "home", json_string(c->home));
        json_object_set_new(st, "api", json_string(c->api));
        json_object_set_new(st, "s3", json_string(c->s3));
        json_object_set_new(st, "pid", json_integer(c->pid));
        print_json(st);
        return EXIT_OK;
    }
    const char *version = json_get_str(st, "version");
    printf("version    %s%s", version ? version : "?", c->pid ? "" : "\n");
    if (c->pid)
        printf(" (pid %d)\ndata       %s\n", (int)c->pid, c->home);
    printf("API        %s\nS3         %s\n", c->api, c->s3);
    printf("endpoints  https://<id>.%s:%lld\n", json_get_str(st, "endpointDomain"),
           (long long)json_get_int(st, "endpointPort", 443));
    printf("region     %s, account %s\nmicroVMs  ", c->region, json_get_str(st, "account"));
    const char *name;
    json_t *n;
    json_object_foreach (json_object_get(st, "microvms"), name, n) {
        printf(" %lld %s", (long long)json_integer_value(n), name);
    }
    printf("\nmemory     %lld MiB\n", (long long)json_get_int(st, "allocatedMemoryMiB", 0));
    return EXIT_OK;
}

const struct verb verb_status = {
    .name = "status",
    .help = "whether the service runs, where, and what it holds",
    .usage = "[--json]",
    .options = rows,
    .size = sizeof(struct options),
    .run = run,
};
