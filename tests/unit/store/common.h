/* SPDX-License-Identifier: Apache-2.0 */
/* What every store test needs: cmocka, a scratch directory, an open database in it. */
#ifndef TESTS_UNIT_STORE_COMMON_H
#define TESTS_UNIT_STORE_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "store/store.h"

struct scratch {
    char dir[64], db[96];
    struct store *s;
};

static inline int scratch_setup(void **state)
{
    struct scratch *t = calloc(1, sizeof *t);
    struct err e;
    snprintf(t->dir, sizeof t->dir, "/tmp/tinderbox-store-XXXXXX");
    if (!mkdtemp(t->dir))
        return -1;
    snprintf(t->db, sizeof t->db, "%s/state.db", t->dir);
    if (store_open(t->db, &t->s, &e) < 0) {
        print_error("%s\n", e.text);
        return -1;
    }
    *state = t;
    return 0;
}

static inline int scratch_teardown(void **state)
{
    struct scratch *t = *state;
    struct err e;
    store_close(t->s);
    int rc = fs_remove_tree(t->dir, &e);
    free(t);
    return rc;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup, scratch_teardown)

/* Fails with the text of the error. */
#define assert_ok(call, err)                                \
    do {                                                    \
        int rc_ = (call);                                   \
        if (rc_ < 0)                                        \
            fail_msg("%s: %d: %s", #call, rc_, (err).text); \
    } while (0)

#endif
