/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/resolve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/client.h"

#define PREFIX "microvm-"

static const char *bare(const char *id)
{
    return strncmp(id, PREFIX, strlen(PREFIX)) == 0 ? id + strlen(PREFIX) : id;
}

int resolve_prefix(const json_t *vms, const char *text, size_t *ret, struct err *e)
{
    const char *want = bare(text);
    size_t n = strlen(want), found = 0;
    for (size_t i = 0; i < json_array_size(vms); i++) {
        const char *id = json_get_str(json_array_get(vms, i), "microvmId");
        if (!id || strncmp(bare(id), want, n) != 0)
            continue;
        *ret = i;
        if (strlen(bare(id)) == n)
            return 0;
        found++;
    }
    if (found == 1 && n)
        return 0;
    if (found == 0)
        return err_set(e, ENOENT, "no microVM's id begins with '%s'; 'tinderbox ps -a' lists them",
                       text);
    return err_set(e, EINVAL, "%zu microVMs' ids begin with '%s': give more of the id", found,
                   text);
}

int resolve_microvm(struct cli *c, const char *text, char id[ID_TEXT_MAX], struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *vms = NULL;
    size_t i = 0;
    if (strlen(text) >= ID_TEXT_MAX)
        return err_set(e, EINVAL, "'%.40s...' is not the id of a microVM", text);
    if (strlen(bare(text)) == UUID_LEN) {
        snprintf(id, ID_TEXT_MAX, PREFIX "%.*s", UUID_LEN, bare(text));
        return 0;
    }
    int rc = client_list(c, "/2025-09-09/microvms", &vms, e);
    if (rc == 0)
        rc = resolve_prefix(vms, text, &i, e);
    if (rc == 0)
        snprintf(id, ID_TEXT_MAX, "%s", json_get_str(json_array_get(vms, i), "microvmId"));
    return rc;
}

int resolve_image(const struct cli *c, const char *text, char arn[ID_TEXT_MAX], struct err *e)
{
    int n = strncmp(text, "arn:", 4) == 0
                ? snprintf(arn, ID_TEXT_MAX, "%s", text)
                : snprintf(arn, ID_TEXT_MAX, "arn:aws:lambda:%s:%s:microvm-image:%s", c->region,
                           c->account, text);
    return n < 0 || n >= ID_TEXT_MAX ? err_set(e, EINVAL, "the image's name is too long") : 0;
}

static int image_exists(struct cli *c, const char *arn, struct err *e)
{
    char path[1024];
    int rc = client_path(path, sizeof path, "/2025-09-09/microvm-images/", arn, "", e);
    return rc < 0 ? rc : client_call(c, "GET", path, NULL, NULL, e);
}

int resolve_any(struct cli *c, const char *text, char out[ID_TEXT_MAX], enum resolve_kind *kind,
                struct err *e)
{
    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0 || strlen(bare(text)) != UUID_LEN) {
        int rc = resolve_image(c, text, out, e);
        if (rc == 0)
            rc = image_exists(c, out, e);
        *kind = RESOLVE_IMAGE;
        if (rc != -ENOENT && rc != -EINVAL)
            return rc;
    }
    *kind = RESOLVE_MICROVM;
    int rc = resolve_microvm(c, text, out, e);
    return rc == -ENOENT
               ? err_set(e, ENOENT, "neither an image is named '%s' nor a microVM's id begins so",
                         text)
               : rc;
}

const char *arn_name(const char *arn)
{
    const char *colon = arn ? strrchr(arn, ':') : NULL;
    return colon ? colon + 1 : arn;
}
