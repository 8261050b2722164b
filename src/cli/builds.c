/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/builds.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"

/* The first item of a list that is ordered newest first. */
static int first_of(struct cli *c, const char *path, const char *what, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *reply = NULL;
    int rc = client_call(c, "GET", path, NULL, &reply, e);
    if (rc < 0)
        return rc;
    json_t *item = json_array_get(json_object_get(reply, "items"), 0);
    if (!item)
        return err_set(e, ENOENT, "there is no %s", what);
    *ret = json_incref(item);
    return 0;
}

int build_of_version(struct cli *c, const char *arn, const char *version, json_t **ret,
                     struct err *e)
{
    char path[1400], suffix[64];
    snprintf(suffix, sizeof suffix, "/versions/%.20s/builds?maxResults=1", version);
    int rc = client_path(path, sizeof path, "/2025-09-09/microvm-images/", arn, suffix, e);
    return rc < 0 ? rc : first_of(c, path, "build of this version", ret, e);
}

int build_latest(struct cli *c, const char *arn, char id[ID_TEXT_MAX], struct err *e)
{
    char path[1400];
    CLEANUP(cleanup_json)
    json_t *version = NULL;
    CLEANUP(cleanup_json)
    json_t *build = NULL;
    int rc = client_path(path, sizeof path, "/2025-09-09/microvm-images/", arn,
                         "/versions?maxResults=1", e);
    if (rc == 0)
        rc = first_of(c, path, "version of this image", &version, e);
    const char *number = json_get_str(version, "imageVersion");
    if (rc == 0)
        rc = build_of_version(c, arn, number ? number : "", &build, e);
    const char *text = json_get_str(build, "buildId");
    if (rc == 0)
        snprintf(id, ID_TEXT_MAX, "%s", text ? text : "");
    return rc;
}
