/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image references as FROM writes them: [registry/]repository[:tag][@digest], normalised as Docker
 * does, and the decision which managed root file system (if any) one stands for. Pure; any thread.
 */
#ifndef IMAGE_REFERENCE_H
#define IMAGE_REFERENCE_H

#include <stddef.h>

#include "base/err.h"

#define REFERENCE_MAX 512 /* bytes of a reference as written */

struct reference {
    char registry[256];   /* "docker.io" when not written */
    char repository[256]; /* "library/debian": "library/" added for docker.io */
    char tag[129];        /* "latest" when neither tag nor digest is written; else "" if none */
    char digest[72];      /* "sha256:<hex>", or "" */
};

/* -EINVAL with a text that names what is wrong. */
int reference_parse(const char *text, struct reference *ret, struct err *e) MUST_CHECK;
/* "docker.io/library/debian:12". -ENAMETOOLONG does not happen for a parsed reference and cap
 * REFERENCE_MAX + 32. */
void reference_text(const struct reference *r, char *out, size_t cap);

/* Configured: from (any spelling) is served by to, which names a managed root file system. */
struct reference_alias {
    const char *from, *to;
};

/*
 * The managed root file system text stands for: ret is a static name such as "debian:12". Aliases
 * are looked at first. Otherwise -ENOENT and a text that says what is available and how to set an
 * alias, or -EINVAL for something that is no reference.
 */
int reference_managed(const char *text, const struct reference_alias *aliases, size_t n,
                      const char **ret, struct err *e) MUST_CHECK;

#endif
