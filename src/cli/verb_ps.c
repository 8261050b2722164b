/* SPDX-License-Identifier: Apache-2.0 */
/* ps: microVMs, by default those that are not TERMINATED. */
#include <string.h>

#include "cli/client.h"
#include "cli/output.h"
#include "cli/resolve.h"

struct options {
    bool all, json, quiet;
};

static const struct option_row rows[] = {
    {"all", 'a', OPTION_FLAG, offsetof(struct options, all), 0, 0, NULL, "also TERMINATED ones"},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct options, quiet), 0, 0, NULL, "only the ids"},
    {"json", 0, OPTION_FLAG, offsetof(struct options, json), 0, 0, NULL, "print JSON"},
    {0},
};

static void drop_terminated(json_t *items)
{
    for (size_t i = json_array_size(items); i-- > 0;) {
        const char *state = json_get_str(json_array_get(items, i), "state");
        if (state && strcmp(state, "TERMINATED") == 0)
            json_array_remove(items, i);
    }
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    (void)args;
    const struct options *o = options;
    struct err e = {0};
    size_t i;
    CLEANUP(cleanup_json)
    json_t *items = NULL;
    json_t *v;
    if (cli_connect(c, &e) < 0 || client_list(c, "/2025-09-09/microvms", &items, &e) < 0)
        return cli_fail(&e);
    if (!o->all)
        drop_terminated(items);
    if (o->json) {
        print_json(items);
        return EXIT_OK;
    }
    struct table t = {.columns = o->quiet ? 1 : 5};
    if (!o->quiet)
        table_add(&t, "ID", "IMAGE", "VERSION", "STATE", "STARTED");
    json_array_foreach (items, i, v) {
        char when[24];
        table_add(&t, json_get_str(v, "microvmId"), arn_name(json_get_str(v, "imageArn")),
                  json_get_str(v, "imageVersion"), json_get_str(v, "state"),
                  ago(json_time(v, "startedAt"), when));
    }
    table_print(&t);
    return EXIT_OK;
}

const struct verb verb_ps = {
    .name = "ps",
    .help = "list microVMs",
    .usage = "[-a] [-q] [--json]",
    .options = rows,
    .size = sizeof(struct options),
    .run = run,
};
