/* SPDX-License-Identifier: Apache-2.0 */
/* Builds of an image, for the verbs build and logs. */
#ifndef CLI_BUILDS_H
#define CLI_BUILDS_H

#include "base/json.h"
#include "cli/cli.h"
#include "cli/resolve.h"

/* The newest build of the newest version. */
int build_latest(struct cli *c, const char *arn, char id[ID_TEXT_MAX], struct err *e) MUST_CHECK;
/* The newest build of a version ("2.0"): its description. */
int build_of_version(struct cli *c, const char *arn, const char *version, json_t **ret,
                     struct err *e) MUST_CHECK;

#endif
