/* SPDX-License-Identifier: Apache-2.0 */
/* Is it all zero? Pure. */
#ifndef BASE_ZERO_H
#define BASE_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The first byte is zero and each equals the next: memcmp() is the fastest loop there is. */
static inline bool is_zero(const unsigned char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

#endif
