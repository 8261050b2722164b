/* SPDX-License-Identifier: Apache-2.0 */
/* From what a person types (a name, a prefix of an id) to what the API wants. */
#ifndef CLI_RESOLVE_H
#define CLI_RESOLVE_H

#include "base/json.h"
#include "cli/cli.h"

#define ID_TEXT_MAX 257

enum resolve_kind { RESOLVE_MICROVM, RESOLVE_IMAGE };

/* The full id for an id or an unambiguous prefix, with or without "microvm-". -ENOENT, -EINVAL when
 * several begin so. */
int resolve_microvm(struct cli *c, const char *text, char id[ID_TEXT_MAX],
                    struct err *e) MUST_CHECK;
/* ARN of an image given by name or ARN; not checked to exist. */
int resolve_image(const struct cli *c, const char *text, char arn[ID_TEXT_MAX],
                  struct err *e) MUST_CHECK;
/* An image's exact name wins over a VM's prefix; the result is an id or an ARN. */
int resolve_any(struct cli *c, const char *text, char out[ID_TEXT_MAX], enum resolve_kind *kind,
                struct err *e) MUST_CHECK;

/* Picks from ids (pure, for tests): index of the match, -ENOENT, -EINVAL. */
int resolve_prefix(const json_t *vms, const char *text, size_t *ret, struct err *e) MUST_CHECK;

/* The name in an image ARN. */
const char *arn_name(const char *arn);

#endif
