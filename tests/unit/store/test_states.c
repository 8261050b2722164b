/* SPDX-License-Identifier: Apache-2.0 */
/* Names there and back, and the transitions written out by name as a second, independent table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "store/states.h"

struct transition_table {
    const char *noun;
    unsigned n;
    int (*parse)(const char *);
    const char *(*name)(unsigned);
    bool (*allows)(unsigned, unsigned);
    const char *legal; /* "FROM>TO ..." */
};

#define ADAPT(noun)                                                             \
    static const char *noun##_name(unsigned s)                                  \
    {                                                                           \
        return noun##_state_name((enum noun##_state)s);                         \
    }                                                                           \
    static bool noun##_allows(unsigned a, unsigned b)                           \
    {                                                                           \
        return noun##_state_allows((enum noun##_state)a, (enum noun##_state)b); \
    }
ADAPT(image)
ADAPT(version)
ADAPT(build)
ADAPT(microvm)

static const struct transition_table tables[] = {
    {"image", IMAGE_DELETED + 1, image_state_parse, image_name, image_allows,
     " CREATING>CREATED CREATING>CREATE_FAILED CREATED>UPDATING CREATED>DELETING "
     "CREATE_FAILED>UPDATING CREATE_FAILED>DELETING UPDATING>UPDATED UPDATING>UPDATE_FAILED "
     "UPDATED>UPDATING UPDATED>DELETING UPDATE_FAILED>UPDATING UPDATE_FAILED>DELETING "
     "DELETING>DELETED DELETING>DELETE_FAILED DELETE_FAILED>DELETING "},
    {"version", VERSION_DELETED + 1, version_state_parse, version_name, version_allows,
     " PENDING>IN_PROGRESS PENDING>FAILED IN_PROGRESS>SUCCESSFUL IN_PROGRESS>FAILED "
     "SUCCESSFUL>DELETING FAILED>DELETING DELETING>DELETED DELETING>DELETE_FAILED "
     "DELETE_FAILED>DELETING "},
    {"build", BUILD_FAILED + 1, build_state_parse, build_name, build_allows,
     " PENDING>IN_PROGRESS PENDING>FAILED IN_PROGRESS>SUCCESSFUL IN_PROGRESS>FAILED "},
    {"microvm", MICROVM_TERMINATED + 1, microvm_state_parse, microvm_name, microvm_allows,
     " PENDING>RUNNING PENDING>SUSPENDED PENDING>TERMINATING PENDING>TERMINATED "
     "RUNNING>SUSPENDING RUNNING>TERMINATING RUNNING>TERMINATED "
     "SUSPENDING>SUSPENDED SUSPENDING>RUNNING SUSPENDING>TERMINATING SUSPENDING>TERMINATED "
     "SUSPENDED>PENDING SUSPENDED>RUNNING SUSPENDED>TERMINATING SUSPENDED>TERMINATED "
     "TERMINATING>TERMINATED "},
};

static void transitions_are_exactly_these(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        const struct transition_table *t = &tables[i];
        for (unsigned a = 0; a < t->n; a++) {
            for (unsigned b = 0; b < t->n; b++) {
                char pair[64];
                snprintf(pair, sizeof pair, " %s>%s ", t->name(a), t->name(b));
                bool want = strstr(t->legal, pair) != NULL;
                if (t->allows(a, b) != want)
                    fail_msg("%s:%sshould be %s", t->noun, pair, want ? "legal" : "refused");
            }
        }
        assert_false(t->allows(0, t->n));
        assert_false(t->allows(t->n, 0));
    }
}

static void names_parse_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        for (unsigned a = 0; a < tables[i].n; a++)
            assert_int_equal(tables[i].parse(tables[i].name(a)), a);
        assert_int_equal(tables[i].parse("running"), -EINVAL);
        assert_int_equal(tables[i].parse(""), -EINVAL);
        assert_int_equal(tables[i].parse(NULL), -EINVAL);
    }
    assert_int_equal(version_status_parse("ACTIVE"), VERSION_ACTIVE);
    assert_string_equal(version_status_name(VERSION_INACTIVE), "INACTIVE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transitions_are_exactly_these),
        cmocka_unit_test(names_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
