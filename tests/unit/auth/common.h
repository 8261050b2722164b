/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_AUTH_COMMON_H
#define TESTS_UNIT_AUTH_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Fails with the text of the error. */
#define assert_ok(call, err)                                \
    do {                                                    \
        int rc_ = (call);                                   \
        if (rc_ < 0)                                        \
            fail_msg("%s: %d: %s", #call, rc_, (err).text); \
    } while (0)

#endif
