/* SPDX-License-Identifier: Apache-2.0 */
/* rm: terminates microVMs, deletes images. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/client.h"
#include "cli/resolve.h"
#include "cli/wait.h"

#define DELETE_TIMEOUT_MS 120000

struct options {
    bool image, no_wait;
};

static const struct option_row rows[] = {
    {"image", 0, OPTION_FLAG, offsetof(struct options, image), 0, 0, NULL,
     "the arguments are images, even where a microVM's id begins so"},
    {"no-wait", 0, OPTION_FLAG, offsetof(struct options, no_wait), 0, 0, NULL,
     "return once it is under way"},
    {0},
};

static int wait_deleted(struct cli *c, const char *path, const char *name, struct err *e)
{
    int64_t deadline = clock_mono_ms() + DELETE_TIMEOUT_MS;
    while (clock_mono_ms() < deadline) {
        CLEANUP(cleanup_json)
        json_t *img = NULL;
        int rc = client_call(c, "GET", path, NULL, &img, e);
        if (rc == -ENOENT)
            return 0;
        if (rc < 0)
            return rc;
        const char *state = json_get_str(img, "state");
        if (state && strcmp(state, "DELETE_FAILED") == 0)
            return err_set(e, EIO, "the image %s could not be deleted; try again", name);
        wait_ms(50);
    }
    return err_set(e, ETIMEDOUT, "the image %s is still being deleted", name);
}

static int remove_image(struct cli *c, const char *arn, bool no_wait, struct err *e)
{
    char path[1024];
    int rc = client_path(path, sizeof path, "/2025-09-09/microvm-images/", arn, "", e);
    if (rc == 0)
        rc = client_call(c, "DELETE", path, NULL, NULL, e);
    if (rc == 0 && !no_wait)
        rc = wait_deleted(c, path, arn_name(arn), e);
    return rc;
}

static int remove_microvm(struct cli *c, const char *id, bool no_wait, struct err *e)
{
    char path[1024];
    int rc = client_path(path, sizeof path, "/2025-09-09/microvms/", id, "", e);
    if (rc == 0)
        rc = client_call(c, "DELETE", path, NULL, NULL, e);
    if (rc == 0 && !no_wait)
        rc = microvm_wait(c, id, "TERMINATED", 120, NULL, e);
    return rc;
}

static int remove_one(struct cli *c, const char *text, const struct options *o, struct err *e)
{
    char what[ID_TEXT_MAX];
    enum resolve_kind kind = RESOLVE_IMAGE;
    int rc = o->image ? resolve_image(c, text, what, e) : resolve_any(c, text, what, &kind, e);
    if (rc < 0)
        return rc;
    rc = kind == RESOLVE_IMAGE ? remove_image(c, what, o->no_wait, e)
                               : remove_microvm(c, what, o->no_wait, e);
    if (rc == 0)
        printf("%s\n", kind == RESOLVE_IMAGE ? arn_name(what) : what);
    return rc;
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    struct err e = {0};
    if (cli_connect(c, &e) < 0)
        return cli_fail(&e);
    int code = EXIT_OK;
    for (size_t i = 0; i < args->n; i++) {
        if (remove_one(c, args->items[i], options, &e) < 0)
            code = cli_fail(&e);
    }
    return code;
}

const struct verb verb_rm = {
    .name = "rm",
    .help = "terminate microVMs, delete images",
    .usage = "[--image] [--no-wait] ID|IMAGE...",
    .options = rows,
    .size = sizeof(struct options),
    .min = 1,
    .max = OPERANDS_MAX,
    .run = run,
};
