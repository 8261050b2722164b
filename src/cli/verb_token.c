/* SPDX-License-Identifier: Apache-2.0 */
/* token: prints an endpoint token, for clients of one's own. */
#include <stdio.h>

#include "cli/resolve.h"
#include "cli/token.h"

struct options {
    struct option_list ports;
    long minutes;
};

static const struct options defaults = {.minutes = 60};

static const struct option_row rows[] = {
    {"port", 'p', OPTION_LIST, offsetof(struct options, ports), 0, 0, "PORT",
     "what it opens: a port or a range like 8000-8010; default: every port"},
    {"minutes", 'm', OPTION_NUMBER, offsetof(struct options, minutes), 1, 60, "M",
     "how long it is good for (60)"},
    {0},
};

static int run(struct cli *c, const void *options, const struct operands *args)
{
    const struct options *o = options;
    struct err e = {0};
    char id[ID_TEXT_MAX], token[TOKEN_MAX];
    if (cli_connect(c, &e) < 0 || resolve_microvm(c, args->items[0], id, &e) < 0 ||
        token_create(c, id, &o->ports, o->minutes, token, &e) < 0)
        return cli_fail(&e);
    puts(token);
    return EXIT_OK;
}

const struct verb verb_token = {
    .name = "token",
    .help = "print a token for a microVM's endpoint (header X-aws-proxy-auth)",
    .usage = "[-p PORT]... [-m MINUTES] ID",
    .options = rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .min = 1,
    .max = 1,
    .run = run,
};
