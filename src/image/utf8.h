/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, decoded leniently (RFC 3629). Pure; any thread. */
#ifndef IMAGE_UTF8_H
#define IMAGE_UTF8_H

#include <stdint.h>

#include "base/buf.h"

#define UTF8_INVALID \
    0x110000u /* plus the byte: what utf8_next() gives for a byte of no character */

/* Takes one character off the front of s, which is not empty. */
uint32_t utf8_next(struct slice *s);

#endif
