/* SPDX-License-Identifier: Apache-2.0 */
/* The regular expressions of the API's model as matchers of whole strings. Pure; any thread. */
#ifndef API_PATTERNS_H
#define API_PATTERNS_H

#include "api/shape.h"

extern const struct pattern PATTERN_NO_SPACE, PATTERN_NAME, PATTERN_ROLE_ARN, PATTERN_LOG_GROUP,
    PATTERN_LOG_STREAM, PATTERN_TAG, PATTERN_TAGGABLE;

/* "us-east-1", "us-gov-west-1", "eusc-de-east-1": the region part of the patterns above. */
bool region_valid(const char *s);
/* Valid UTF-8 only; -1 otherwise. */
long utf8_length(const char *s);

#endif
