/* SPDX-License-Identifier: Apache-2.0 */
/* Compiler attributes and tiny macros every layer uses. */
#ifndef BASE_MACROS_H
#define BASE_MACROS_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))

/* Runs fn(&variable) when the variable leaves its scope: CLEANUP(close_fd) int fd = -1; */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hands an owned pointer over and forgets it here: *ret = TAKE(p); */
#define TAKE(p)                    \
    __extension__({                \
        __typeof__(p) take_ = (p); \
        (p) = NULL;                \
        take_;                     \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

#define ckd_add(r, a, b) __builtin_add_overflow(a, b, r)
#define ckd_sub(r, a, b) __builtin_sub_overflow(a, b, r)
#define ckd_mul(r, a, b) __builtin_mul_overflow(a, b, r)

/* Cleanup helpers for CLEANUP(). */
void cleanup_free(void *p);  /* char *s: free(s) */
void cleanup_close(int *fd); /* closes if >= 0, errno kept */

#endif
