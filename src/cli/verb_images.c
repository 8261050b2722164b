/* SPDX-License-Identifier: Apache-2.0 */
/* images: what was built. */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/resolve.h"

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
    size_t i;
    CLEANUP(cleanup_json)
    json_t *items = NULL;
    json_t *v;
    if (cli_connect(c, &e) < 0 || client_list(c, "/2025-09-09/microvm-images", &items, &e) < 0)
        return cli_fail(&e);
    if (o->json) {
        print_json(items);
        return EXIT_OK;
    }
    struct table t = {.columns = 5};
    table_add(&t, "NAME", "STATE", "ACTIVE", "FAILED", "CREATED");
    json_array_foreach (items, i, v) {
        char when[24];
        table_add(&t, json_get_str(v, "name"), json_get_str(v, "state"),
                  json_get_str(v, "latestActiveImageVersion"),
                  json_get_str(v, "latestFailedImageVersion"),
                  ago(json_time(v, "createdAt"), when));
    }
    table_print(&t);
    return EXIT_OK;
}

const struct verb verb_images = {
    .name = "images",
    .help = "list images",
    .usage = "[--json]",
    .options = rows,
    .size = sizeof(struct options),
    .run = run,
};
