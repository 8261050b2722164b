/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors a person reads. A fallible function returns >= 0 on success and -errno on failure; where
 * the text matters its last parameter is a struct err, filled exactly when the result is negative.
 * No allocation, no ownership; any thread. A NULL struct err is allowed everywhere.
 *
 * The code is an errno value. api/errors.c maps it to an AWS exception: EINVAL validation, ENOENT
 * not found, EBUSY conflict, EEXIST duplicate, EDQUOT quota, EAGAIN throttled, EACCES denied,
 * ENOSPC/ENOMEM no capacity, anything else internal.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/macros.h"

#define ERR_TEXT_MAX 1024

struct err {
    int code; /* positive errno value, 0 when unset */
    char text[ERR_TEXT_MAX];
};

/* Sets code and text; returns -code. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
/* As err_set() with ": <strerror(code)>" appended. */
int err_set_errno(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
/* Puts "<context>: " before the text already there; returns -e->code (-EIO when none was set). */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF(2, 3);
/* Copies src into dst (either may be NULL); returns -src->code. */
int err_copy(struct err *dst, const struct err *src);

#endif
