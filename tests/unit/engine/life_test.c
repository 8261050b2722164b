/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/life.h"

/* The reaper drains a machine that still runs before it ends it. One that never stops printing must
 * not keep it: every other machine waits for the same thread. */
static void test_drain_ends(void **state)
{
    (void)state;
    struct life l = {.on_console.fd = open("/dev/zero", O_RDONLY | O_CLOEXEC),
                     .on_stderr.fd = open("/dev/zero", O_RDONLY | O_CLOEXEC),
                     .console.file = -1};
    assert_true(l.on_console.fd >= 0 && l.on_stderr.fd >= 0);
    alarm(10);
    life_drain(&l);
    alarm(0);
    assert_int_equal(l.console.tail.text[0], '?');
    assert_int_equal(l.stderr_tail.text[0], '?');
    close(l.on_console.fd);
    close(l.on_stderr.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drain_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
