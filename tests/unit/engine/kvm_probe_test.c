/* SPDX-License-Identifier: Apache-2.0 */
/* The KVM probe: it always comes back, and only a fast micro-guest on a capable CPU counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/kvm_probe.h"

static void it_comes_back_and_is_consistent(void **state)
{
    (void)state;
    struct kvm_probe p;
    int64_t start = clock_mono_ms();
    kvm_probe(&p);
    assert_true(clock_mono_ms() - start < 10 * KVM_PROBE_LIMIT_MS);
    assert_true(strlen(p.text) > 10);
    assert_false(p.opens && !p.present);
    assert_false(p.ran && !p.opens);
    assert_int_equal(p.ran, p.rate > 0);
    assert_int_equal(p.real, p.ran && p.cpu_flag && p.rate >= KVM_PROBE_REAL_RATE);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_comes_back_and_is_consistent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
