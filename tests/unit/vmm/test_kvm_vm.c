/* SPDX-License-Identifier: Apache-2.0 */
/* What a person reads when there is no VM to be had. The rest of the accelerator is tested by
 * micro-guests. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/kvm/kvm.h"

static void refuse(int fd, unsigned vcpus, int code, const char *text)
{
    static const struct bus none;
    struct gmem m = {0};
    struct kvm_vm *v = NULL;
    struct err e = {0};
    struct kvm_vm_config c = {fd, &m, vcpus, &none, &none};
    assert_int_equal(kvm_vm_new(&c, &v, &e), -code);
    assert_null(v);
    assert_non_null(strstr(e.text, text));
}

static void test_refusals(void **state)
{
    (void)state;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    refuse(fd, 1, ENOTTY, "/dev/kvm does not answer");
    refuse(-1, 1, EBADF, "/dev/kvm does not answer");
    refuse(fd, 0, EINVAL, "1 to 16 vCPUs, not 0");
    refuse(fd, 17, EINVAL, "1 to 16 vCPUs, not 17");
    close(fd);
    kvm_vm_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
