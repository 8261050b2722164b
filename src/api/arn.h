/* SPDX-License-Identifier: Apache-2.0 */
/* The ARNs clients name things by, and those we answer with. Pure; any thread. */
#ifndef API_ARN_H
#define API_ARN_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define ARN_MAX 512
#define ACCOUNT_LEN 12
#define REGION_MAX 64
#define IMAGE_NAME_MAX 64

struct arn {
    char region[REGION_MAX + 1];
    char account[ACCOUNT_LEN + 1]; /* 12 digits, or "aws" for managed resources */
    char type[40];                 /* "microvm-image", "microvm", "network-connector" */
    char resource[257];            /* what follows the type's colon */
};

/* "arn:aws[...]:lambda:<region>:<account>:<type>:<resource>"; -EINVAL without a text. */
int arn_parse(const char *text, struct arn *ret) MUST_CHECK;

/* The image name of an image ARN of this account. -EINVAL "Invalid ARN format: ...", -EACCES for
 * another account or a slash form. */
int arn_image(const char *text, const char *account, char name[IMAGE_NAME_MAX + 1],
              struct err *e) MUST_CHECK;
/* "arn:aws:lambda:<region>:aws:microvm-image:<name>" of a managed image. */
int arn_managed_image(const char *text, char name[IMAGE_NAME_MAX + 1], struct err *e) MUST_CHECK;

enum connector {
    CONNECTOR_INTERNET_EGRESS,
    CONNECTOR_HTTP_INGRESS,
    CONNECTOR_SHELL_INGRESS,
    CONNECTOR_ALL_INGRESS,
    CONNECTOR_NO_INGRESS
};
const char *connector_name(enum connector c); /* "INTERNET_EGRESS" */
/* A managed connector of the asked direction. -EINVAL with the API's texts; -ENOENT for a
 * well-formed connector of the customer's own. */
int arn_connector(const char *text, bool ingress, enum connector *ret, struct err *e) MUST_CHECK;

void arn_format_image(char out[ARN_MAX], const char *region, const char *account, const char *name);
void arn_format_connector(char out[ARN_MAX], const char *region, enum connector c);

/* "1" or "1.0" -> 1; -EINVAL for anything else (also 0 and beyond INT_MAX). */
int version_parse(const char *text);
void version_format(char out[16], int number); /* "1.0" */

#endif
