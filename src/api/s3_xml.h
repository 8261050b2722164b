/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The little XML S3 needs. Requests are parsed by expat (event driven, bounded by size, depth and
 * counts here; a document type declaration is refused, so there are no entities to expand).
 */
#ifndef API_S3_XML_H
#define API_S3_XML_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define XML_MAX_BODY (2 * 1024 * 1024) /* 10,000 parts with checksums fit */

/* Text content with markup and control characters escaped. */
int xml_text(struct buf *out, const char *s) MUST_CHECK;
int xml_element(struct buf *out, const char *name, const char *text) MUST_CHECK;

struct xml_part {
    int number;
    char etag[80]; /* without quotes */
};
/* CompleteMultipartUpload: parts in document order, at most max. Their number, or -EINVAL. */
int xml_parse_complete(const char *p, size_t n, struct xml_part *parts, int max,
                       struct err *e) MUST_CHECK;

/* Delete: calls fn for each key (at most max). *quiet as given. -EINVAL, or what fn returned. */
int xml_parse_delete(const char *p, size_t n, int max, bool *quiet,
                     int (*fn)(const char *key, void *arg), void *arg, struct err *e) MUST_CHECK;

#endif
