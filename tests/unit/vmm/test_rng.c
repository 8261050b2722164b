/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest_driver.h"
#include "vmm/virtio/rng.h"

struct fixture {
    struct guest g;
    struct virtio_dev *rng;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err e = {0};
    guest_init(&f->g, 16 << 20);
    assert_int_equal(rng_new(guest_place(&f->g, 3), &f->rng, &e), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_free(f->rng);
    guest_done(&f->g);
    free(f);
    return 0;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static void test_negotiate(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    g->dev = f->rng;
    assert_int_equal(guest_read(g, R_DEVICE_ID), 4);
    assert_false(guest_negotiate(g, g->dev, 1)); /* it has no features of its own */
    assert_true(guest_negotiate(g, g->dev, GUEST_F_EVENT_IDX | GUEST_F_INDIRECT));
    assert_int_equal(guest_read(g, R_CONFIG), UINT32_MAX); /* nor a configuration */
}

static void test_fill(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, f->rng, 0);
    unsigned interrupts = atomic_load(&g->interrupts);
    uint64_t a = guest_alloc(g, 4096, 4096), b = guest_alloc(g, 200, 1);
    guest_alloc(g, 64, 1);
    uint16_t want = guest_add(g, 0, (struct guest_buf[]){{a, 64, true}, {b, 200, true}}, 2);
    guest_kick(g, 0);
    guest_run(g);
    uint16_t head;
    uint32_t len;
    assert_true(guest_used(g, 0, &head, &len));
    assert_int_equal(head, want);
    assert_int_equal(len, 264);
    assert_false(is_zero(guest_at(g, a, 64), 64));
    assert_true(is_zero(guest_at(g, a + 64, 4096 - 64), 4096 - 64));
    assert_false(is_zero(guest_at(g, b, 200), 200));
    assert_true(is_zero(guest_at(g, b + 200, 64), 64));
    assert_int_equal(atomic_load(&g->interrupts), interrupts + 1);
    assert_false(guest_used(g, 0, &head, &len));
}

static void test_limit(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, f->rng, GUEST_F_EVENT_IDX);
    uint64_t a = guest_alloc(g, 1 << 20, 4096);
    guest_add(g, 0, (struct guest_buf[]){{a, 65000, true}, {a + (1 << 19), 1 << 19, true}}, 2);
    guest_kick(g, 0);
    guest_run(g);
    uint16_t head;
    uint32_t len;
    assert_true(guest_used(g, 0, &head, &len));
    assert_int_equal(len, 65536);
    assert_true(is_zero(guest_at(g, a + (1 << 19) + 536, 4096), 4096));
}

/* A full queue is worked off in several calls, each bounded, from one notification. */
static void test_storm(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, f->rng, 0);
    uint64_t a = guest_alloc(g, 4096, 4096);
    for (int i = 0; i < 8; i++)
        guest_add(g, 0, &(struct guest_buf){a, 16, true}, 1);
    guest_kick(g, 0);
    assert_int_equal(guest_run_at_most(g, 1), 1);
    uint16_t head;
    uint32_t len;
    int n = 0;
    while (guest_used(g, 0, &head, &len))
        n++;
    assert_int_equal(n, 4);
    guest_run(g);
    while (guest_used(g, 0, &head, &len))
        n++;
    assert_int_equal(n, 8);
}

static void test_broken(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, f->rng, 0);
    guest_add(g, 0, &(struct guest_buf){UINT64_C(0x100000000), 16, true}, 1);
    guest_kick(g, 0);
    guest_run(g);
    assert_int_equal(guest_read(g, R_STATUS), 15 | GUEST_NEEDS_RESET);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 2);
    /* After a reset it is as new. */
    guest_start(g, f->rng, 0);
    test_fill(state);
}

static void test_persist(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, f->rng, GUEST_F_EVENT_IDX | GUEST_F_INDIRECT);
    uint64_t a = guest_alloc(g, 4096, 4096);
    guest_add(g, 0, &(struct guest_buf){a, 16, true}, 1);
    guest_kick(g, 0);
    guest_run(g);
    uint16_t head, want = guest_add_indirect(g, 0, &(struct guest_buf){a, 32, true}, 1);
    uint32_t len;
    assert_true(guest_used(g, 0, &head, &len));
    guest_kick(g, 0); /* the request is there, the device has not looked */
    uint8_t *p;
    size_t n;
    guest_save(g, &p, &n);
    virtio_free(f->rng);
    struct err e = {0};
    assert_int_equal(rng_new(guest_place(g, 3), &f->rng, &e), 0);
    assert_int_equal(guest_restore(g, f->rng, p, n, &e), 0);
    guest_run(g);
    assert_true(guest_used(g, 0, &head, &len));
    assert_int_equal(head, want);
    assert_int_equal(len, 32);
    assert_false(guest_used(g, 0, &head, &len));
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_negotiate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_storm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_persist, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
