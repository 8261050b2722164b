/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of a hook's answer: hostile bytes from the application. Pure. */
#ifndef GUEST_HOOK_H
#define GUEST_HOOK_H

#include <stddef.h>

#include "base/macros.h"

/* 1: *status is the final status; 2: *used bytes were an interim answer, call again with the rest;
 * 0: more bytes are needed; -EPROTO: not an HTTP/1.x answer, or its head is over 64 KiB. */
int hook_parse_status(const char *p, size_t n, int *status, size_t *used) MUST_CHECK;

#endif
