/* SPDX-License-Identifier: Apache-2.0 */
/* The service's own rules on input that has the right shape. Pure; any thread. */
#ifndef API_RULES_H
#define API_RULES_H

#include "api/op.h"

#define MANAGED_IMAGE "debian-12"
#define MANAGED_IMAGE_ALIAS "al2023-1" /* what AWS clients send; the same guest */

/* Checks create/update input and returns the version's configuration: a copy with defaults filled,
 * without clientToken and imageIdentifier (name and tags stay for image_create()). */
int rules_image_input(const json_t *in, const char *region, json_t **ret, struct err *e) MUST_CHECK;

/* "s3://<bucket>/<key>" */
int rules_artifact(const char *uri, struct err *e) MUST_CHECK;
int rules_hooks(const json_t *hooks, struct err *e) MUST_CHECK;
/* A list of connector ARNs for one direction; NULL or empty is fine. */
int rules_connectors(const json_t *list, bool ingress, struct err *e) MUST_CHECK;
/* ["<arn of c>"] */
json_t *rules_default_connectors(const char *region, enum connector c);
bool rules_has_connector(const json_t *list, enum connector c);

#endif
