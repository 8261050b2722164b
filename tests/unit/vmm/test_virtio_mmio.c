/* SPDX-License-Identifier: Apache-2.0 */
/* The transport, with a device that only counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "guest_driver.h"
#include "vmm/le.h"

#define SLOT 5u

struct toy {
    struct virtio_dev dev;
    unsigned activated, resets, notified[2];
    uint8_t config[10];
};

static struct toy *toy_of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct toy, dev);
}

static void toy_activate(struct virtio_dev *d)
{
    toy_of(d)->activated++;
}

static void toy_reset(struct virtio_dev *d)
{
    toy_of(d)->resets++;
}

static void toy_notify(struct virtio_dev *d, unsigned q)
{
    struct virtq_chain c;
    int r = virtq_pop(&d->queue[q], d->at.mem, &c);
    toy_of(d)->notified[q]++;
    if (r < 0)
        virtio_needs_reset(d);
    if (r == 1) {
        virtq_push(&d->queue[q], &c, 0);
        virtio_signal(d, q);
        virtio_kick(d, q);
    }
}

static void toy_config_read(struct virtio_dev *d, uint32_t offset, void *p, uint32_t len)
{
    assert_true(offset + len <= sizeof toy_of(d)->config);
    memcpy(p, toy_of(d)->config + offset, len);
}

static void toy_config_write(struct virtio_dev *d, uint32_t offset, const void *p, uint32_t len)
{
    assert_true(offset + len <= sizeof toy_of(d)->config);
    memcpy(toy_of(d)->config + offset, p, len);
}

static const struct virtio_ops OPS = {
    .device_id = 42,
    .name = "toy",
    .n_queues = 2,
    .queue_size_max = 64,
    .activate = toy_activate,
    .reset = toy_reset,
    .notify = toy_notify,
    .config_len = 10,
    .config_read = toy_config_read,
    .config_write = toy_config_write,
};

struct fixture {
    struct guest g;
    struct toy *toy;
};

static void new_toy(struct fixture *f, uint64_t features)
{
    struct err e = {0};
    struct virtio_dev *d;
    assert_int_equal(virtio_new(sizeof(struct toy), &OPS, guest_place(&f->g, SLOT), &d, &e), 0);
    d->device_features = features;
    f->toy = toy_of(d);
    memcpy(f->toy->config, "012345678", sizeof f->toy->config);
    f->g.dev = &f->toy->dev;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    guest_init(&f->g, 16 << 20);
    new_toy(f, 0x25);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_free(&f->toy->dev);
    guest_done(&f->g);
    free(f);
    return 0;
}

static void test_identity(void **state)
{
    struct guest *g = &((struct fixture *)*state)->g;
    assert_int_equal(guest_read(g, R_MAGIC), 0x74726976);
    assert_int_equal(guest_read(g, R_VERSION), 2);
    assert_int_equal(guest_read(g, R_DEVICE_ID), 42);
    assert_int_equal(guest_read(g, R_STATUS), 0);
    guest_write(g, R_QUEUE_SEL, 1);
    assert_int_equal(guest_read(g, R_QUEUE_NUM_MAX), 64);
    for (unsigned sel = 2; sel < 34; sel++) { /* also 32 and 33, and none of ours */
        guest_write(g, R_QUEUE_SEL, sel);
        assert_int_equal(guest_read(g, R_QUEUE_NUM_MAX), 0);
        assert_int_equal(guest_read(g, R_QUEUE_READY), 0);
    }
    guest_write(g, R_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(guest_read(g, R_DEVICE_FEATURES), 0x30000025);
    guest_write(g, R_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(guest_read(g, R_DEVICE_FEATURES), 1);
    guest_write(g, R_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(guest_read(g, R_DEVICE_FEATURES), 0);
    /* No shared memory regions (§4.2.2), write-only and unknown registers. */
    for (unsigned reg = 0xb0; reg <= 0xbc; reg += 4)
        assert_int_equal(guest_read(g, reg), UINT32_MAX);
    assert_int_equal(guest_read(g, R_QUEUE_NUM), UINT32_MAX);
    assert_int_equal(guest_read(g, 0x0f8), UINT32_MAX);
}

static void test_widths(void **state)
{
    struct guest *g = &((struct fixture *)*state)->g;
    uint8_t ones[8], got[8];
    memset(ones, 0xff, sizeof ones);
    for (unsigned len = 1; len <= 8; len *= 2)
        for (unsigned at = 0; at + len <= 0x100; at++) {
            if (len == 4 && at % 4 == 0)
                continue;
            memset(got, 0, sizeof got);
            virtio_mmio_ops.read(g->dev, at, got, len);
            assert_memory_equal(got, ones, len);
            virtio_mmio_ops.write(g->dev, at, ones, len);
        }
    assert_int_equal(guest_read(g, R_STATUS), 0);
    uint8_t one = 1;
    virtio_mmio_ops.write(g->dev, R_STATUS, &one, 1);
    assert_int_equal(guest_read(g, R_STATUS), 0);
}

static void test_config(void **state)
{
    struct fixture *f = *state;
    uint8_t got[8], ones[8];
    memset(ones, 0xff, sizeof ones);
    for (unsigned len = 1; len <= 8; len *= 2)
        for (unsigned at = 0; at + len <= 0x100; at++) {
            memset(got, 0, sizeof got);
            virtio_mmio_ops.read(&f->toy->dev, 0x100 + at, got, len);
            assert_memory_equal(got, at + len <= 10 ? f->toy->config + at : ones, len);
        }
    virtio_mmio_ops.write(&f->toy->dev, 0x107, "xy", 2);
    virtio_mmio_ops.write(&f->toy->dev, 0x107, "abcd", 4); /* over the end: nothing of it */
    virtio_mmio_ops.write(&f->toy->dev, 0x10a, "z", 1);
    assert_string_equal((char *)f->toy->config, "0123456xy");
    uint32_t before = guest_read(&f->g, R_CONFIG_GENERATION);
    virtio_config_changed(&f->toy->dev);
    assert_int_not_equal(guest_read(&f->g, R_CONFIG_GENERATION), before);
    assert_int_equal(guest_read(&f->g, R_INTERRUPT_STATUS), 0); /* no driver yet */
    guest_start(&f->g, &f->toy->dev, 0);
    virtio_config_changed(&f->toy->dev);
    assert_int_equal(guest_read(&f->g, R_INTERRUPT_STATUS), 2);
    assert_int_equal(atomic_load(&f->g.interrupts), 1);
}

static void test_status_steps(void **state)
{
    struct guest *g = &((struct fixture *)*state)->g;
    const struct {
        uint32_t write, read;
    } STEPS[] = {{2, 0},
                 {8, 0},
                 {4, 0},
                 {1, 1},
                 {5, 1},
                 {9, 1},
                 {3, 3},
                 {7, 3},
                 {11, 3} /* VERSION_1 is missing */,
                 {0, 0},
                 {3, 3} /* at once */,
                 {0x40, 3},
                 {0x83, 0x83},
                 {0x8f, 0x83},
                 {0, 0}};
    for (unsigned i = 0; i < ARRAY_LEN(STEPS); i++) {
        guest_write(g, R_STATUS, STEPS[i].write);
        assert_int_equal(guest_read(g, R_STATUS), STEPS[i].read);
    }
}

static void test_features(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    assert_false(guest_negotiate(g, &f->toy->dev, 2));                 /* not offered */
    assert_false(guest_negotiate(g, &f->toy->dev, UINT64_C(1) << 34)); /* packed ring */
    guest_write(g, R_STATUS, 15);
    assert_int_equal(guest_read(g, R_STATUS), 3);
    assert_true(guest_negotiate(g, &f->toy->dev, 5));
    assert_true(virtio_has(&f->toy->dev, 0));
    assert_true(virtio_has(&f->toy->dev, 2));
    assert_false(virtio_has(&f->toy->dev, 5));
    guest_write(g, R_DRIVER_FEATURES_SEL, 0); /* frozen now */
    guest_write(g, R_DRIVER_FEATURES, 0x20);
    assert_false(virtio_has(&f->toy->dev, 5));
    guest_write(g, R_STATUS, 3); /* a bit is not taken back */
    assert_int_equal(guest_read(g, R_STATUS), 11);
    assert_int_equal(f->toy->activated, 0);
}

static void test_queues_before_features(void **state)
{
    struct guest *g = &((struct fixture *)*state)->g;
    guest_write(g, R_STATUS, 3);
    guest_write(g, R_QUEUE_NUM, 16);
    guest_write(g, R_QUEUE_READY, 1);
    assert_int_equal(guest_read(g, R_QUEUE_READY), 0);
}

/* The registers of a queue stay what they were once it is ready, and all of them at DRIVER_OK. */
static void test_queues_freeze(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    assert_true(guest_negotiate(g, &f->toy->dev, 0));
    guest_queue_setup(g, 0, 16);
    struct virtq before = f->toy->dev.queue[0];
    const uint32_t REGS[] = {R_QUEUE_NUM,        R_QUEUE_DESC,   R_QUEUE_DESC + 4,  R_QUEUE_DRIVER,
                             R_QUEUE_DRIVER + 4, R_QUEUE_DEVICE, R_QUEUE_DEVICE + 4};
    for (unsigned i = 0; i < ARRAY_LEN(REGS); i++)
        guest_write(g, REGS[i], 8);
    assert_memory_equal(&before, &f->toy->dev.queue[0], sizeof before);
    guest_write(g, R_QUEUE_READY, 0); /* not yet activated: may be done again */
    assert_int_equal(guest_read(g, R_QUEUE_READY), 0);
    guest_write(g, R_QUEUE_NUM, 8);
    assert_int_equal(f->toy->dev.queue[0].size, 8);
    guest_queue_setup(g, 0, 16);
    guest_write(g, R_STATUS, 15);
    assert_int_equal(f->toy->activated, 1);
    before = f->toy->dev.queue[0];
    for (unsigned q = 0; q < 3; q++) {
        guest_write(g, R_QUEUE_SEL, q);
        for (unsigned i = 0; i < ARRAY_LEN(REGS); i++)
            guest_write(g, REGS[i], 8);
        guest_write(g, R_QUEUE_READY, q != 0);
    }
    assert_memory_equal(&before, &f->toy->dev.queue[0], sizeof before);
    assert_false(f->toy->dev.queue[1].ready);
    guest_write(g, R_STATUS, 15); /* again: nothing */
    assert_int_equal(f->toy->activated, 1);
}

static void expect_impossible(struct fixture *f, uint32_t reg, uint32_t value)
{
    struct guest *g = &f->g;
    unsigned activated = f->toy->activated, interrupts = atomic_load(&g->interrupts);
    assert_true(guest_negotiate(g, &f->toy->dev, 0));
    guest_queue_setup(g, 1, 16);
    guest_write(g, R_QUEUE_READY, 0);
    guest_write(g, reg, value);
    guest_write(g, R_QUEUE_READY, 1);
    guest_write(g, R_STATUS, 15);
    assert_int_equal(guest_read(g, R_STATUS), 15 | GUEST_NEEDS_RESET);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 2);
    assert_int_equal(atomic_load(&g->interrupts), interrupts + 1);
    assert_int_equal(f->toy->activated, activated);
    guest_kick(g, 1);
    guest_run(g);
    assert_int_equal(f->toy->notified[1], 0);
}

static void test_impossible_queues(void **state)
{
    struct fixture *f = *state;
    expect_impossible(f, R_QUEUE_NUM, 128); /* more than this device has */
    expect_impossible(f, R_QUEUE_NUM, 0);
    expect_impossible(f, R_QUEUE_NUM, 65536 + 16);
    expect_impossible(f, R_QUEUE_NUM, 24);
    expect_impossible(f, R_QUEUE_DESC, 0x10008);
    expect_impossible(f, R_QUEUE_DESC + 4, 1);
    expect_impossible(f, R_QUEUE_DRIVER, (16 << 20) - 8);
    expect_impossible(f, R_QUEUE_DEVICE, 0xd0000000);
    expect_impossible(f, R_QUEUE_DEVICE + 4, 0xffffffff);
}

static void test_reset(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, &f->toy->dev, GUEST_F_EVENT_IDX);
    guest_add(g, 0, &(struct guest_buf){0x8000, 8, true}, 1);
    guest_kick(g, 0);
    guest_run(g);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 1);
    unsigned resets = f->toy->resets;
    guest_write(g, R_STATUS, 0);
    assert_int_equal(f->toy->resets, resets + 1);
    assert_int_equal(guest_read(g, R_STATUS), 0);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 0);
    assert_false(f->toy->dev.active);
    guest_write(g, R_QUEUE_SEL, 0);
    assert_int_equal(guest_read(g, R_QUEUE_READY), 0);
    unsigned notified = f->toy->notified[0];
    guest_kick(g, 0);
    guest_run(g);
    assert_int_equal(f->toy->notified[0], notified);
    guest_start(g, &f->toy->dev, 0);
    assert_int_equal(f->toy->activated, 2);
}

static void test_interrupts(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, &f->toy->dev, 0);
    uint64_t buf = guest_alloc(g, 64, 64);
    guest_add(g, 1, &(struct guest_buf){buf, 8, true}, 1);
    guest_kick(g, 1);
    guest_run(g);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 1);
    /* Acknowledging must not need the lock: a request may hold it for long. */
    pthread_mutex_lock(&f->toy->dev.lock);
    virtio_config_changed(&f->toy->dev);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 3);
    guest_write(g, R_INTERRUPT_ACK, 1);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 2);
    guest_kick(g, 0);
    pthread_mutex_unlock(&f->toy->dev.lock);
    guest_write(g, R_INTERRUPT_ACK, 0xfffffffe);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 0);
}

static void test_notifications(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    assert_true(guest_negotiate(g, &f->toy->dev, 0));
    guest_queue_setup(g, 0, 16);
    guest_kick(g, 0);
    guest_run(g);
    assert_int_equal(f->toy->notified[0], 0); /* too early */
    guest_write(g, R_STATUS, 15);
    guest_run(g);
    assert_int_equal(f->toy->notified[0], 1); /* but not forgotten */
    for (uint32_t q = 1; q < 40; q++)
        guest_kick(g, q); /* queue 1 is not ready, the others are none */
    guest_kick(g, UINT32_MAX);
    assert_int_equal(guest_run(g), 1);
    assert_int_equal(f->toy->notified[1], 0);
    for (int i = 0; i < 100000; i++)
        guest_kick(g, 0); /* a storm is one call */
    assert_int_equal(guest_run(g), 1);
    assert_int_equal(f->toy->notified[0], 2);
    uint64_t one = 1; /* as KVM does for an ioeventfd */
    assert_int_equal(write(virtio_notify_fd(&f->toy->dev, 0), &one, 8), 8);
    guest_run(g);
    assert_int_equal(f->toy->notified[0], 3);
}

static unsigned n_broken;

static void count_broken(void *arg, const struct virtio_dev *d)
{
    (void)arg;
    assert_string_equal(d->ops->name, "toy");
    n_broken++;
}

static void test_broken_ring(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, &f->toy->dev, 0);
    n_broken = 0;
    f->toy->dev.on_broken = count_broken;
    guest_offer(g, 0, 999);
    guest_kick(g, 0);
    guest_run(g);
    assert_int_equal(guest_read(g, R_STATUS), 15 | GUEST_NEEDS_RESET);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 2);
    unsigned interrupts = atomic_load(&g->interrupts), notified = f->toy->notified[1];
    virtio_needs_reset(&f->toy->dev); /* once is enough */
    assert_int_equal(n_broken, 1);
    guest_kick(g, 1);
    guest_run(g);
    assert_int_equal(atomic_load(&g->interrupts), interrupts);
    assert_int_equal(f->toy->notified[1], notified); /* the other queue rests, too */
    guest_write(g, R_STATUS, 15);
    assert_int_equal(guest_read(g, R_STATUS), 15 | GUEST_NEEDS_RESET);
    guest_start(g, &f->toy->dev, 0);
    uint64_t buf = guest_alloc(g, 64, 64);
    guest_add(g, 1, &(struct guest_buf){buf, 8, true}, 1);
    guest_kick(g, 1);
    guest_run(g);
    uint16_t head;
    uint32_t len;
    assert_true(guest_used(g, 1, &head, &len));
}

static void *loop_thread(void *loop)
{
    ev_run(loop);
    return NULL;
}

/* Set up, notified and reset while the loop runs, as by a hostile driver on another processor. */
static void test_reset_under_way(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, loop_thread, g->loop), 0);
    for (int i = 0; i < 1000; i++) {
        assert_true(guest_negotiate(g, &f->toy->dev, 0));
        guest_queue_setup(g, 0, 16);
        guest_queue_setup(g, 1, 64);
        guest_write(g, R_STATUS, 15);
        guest_kick(g, 0);
        guest_kick(g, 1);
        if (i % 3 == 0)
            sched_yield();
    }
    ev_stop(g->loop);
    pthread_join(t, NULL);
    assert_int_equal(f->toy->activated, 1000);
    assert_int_equal(guest_read(g, R_STATUS), 15);
}

static uint8_t *save(struct fixture *f, size_t *n)
{
    uint8_t *p;
    guest_save(&f->g, &p, n);
    virtio_free(&f->toy->dev);
    return p;
}

static void test_persist(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, &f->toy->dev, GUEST_F_EVENT_IDX | 4);
    uint64_t buf = guest_alloc(g, 64, 64);
    for (int i = 0; i < 20; i++) { /* past the ring's end */
        uint16_t head;
        uint32_t len;
        guest_add(g, 0, &(struct guest_buf){buf, 8, true}, 1);
        guest_kick(g, 0);
        guest_run(g);
        assert_true(guest_used(g, 0, &head, &len));
    }
    virtio_config_changed(&f->toy->dev);
    guest_write(g, R_QUEUE_SEL, 1);
    guest_write(g, R_DRIVER_FEATURES_SEL, 1);
    uint16_t want = guest_add(g, 1, &(struct guest_buf){buf, 8, true}, 1), head;
    uint32_t len, generation = guest_read(g, R_CONFIG_GENERATION);
    size_t n;
    uint8_t *p = save(f, &n);
    new_toy(f, 0x25);
    struct err e = {0};
    assert_int_equal(guest_restore(g, &f->toy->dev, p, n, &e), 0);
    assert_int_equal(guest_read(g, R_STATUS), 15);
    assert_int_equal(guest_read(g, R_INTERRUPT_STATUS), 3);
    assert_int_equal(guest_read(g, R_CONFIG_GENERATION), generation);
    assert_int_equal(f->toy->dev.regs.queue_sel, 1);
    assert_true(virtio_has(&f->toy->dev, 2));
    assert_true(f->toy->dev.queue[1].event_idx);
    assert_false(f->toy->dev.queue[1].indirect);
    guest_run(g); /* every queue looks again by itself */
    assert_true(guest_used(g, 1, &head, &len));
    assert_int_equal(head, want);
    guest_add(g, 0, &(struct guest_buf){buf, 8, true}, 1);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(guest_used(g, 0, &head, &len));
    free(p);
}

/* A device that was being set up, and one that was broken, go on where they were. */
static void test_persist_other_states(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    struct err e = {0};
    size_t n;
    assert_true(guest_negotiate(g, &f->toy->dev, 0));
    guest_queue_setup(g, 0, 16);
    uint8_t *p = save(f, &n);
    new_toy(f, 0x25);
    assert_int_equal(guest_restore(g, &f->toy->dev, p, n, &e), 0);
    free(p);
    assert_int_equal(guest_read(g, R_STATUS), 11);
    guest_queue_setup(g, 1, 16);
    guest_write(g, R_STATUS, 15);
    assert_true(f->toy->dev.active);
    guest_offer(g, 0, 999);
    guest_kick(g, 0);
    guest_run(g);
    p = save(f, &n);
    new_toy(f, 0x25);
    assert_int_equal(guest_restore(g, &f->toy->dev, p, n, &e), 0);
    free(p);
    assert_int_equal(guest_read(g, R_STATUS), 15 | GUEST_NEEDS_RESET);
    assert_false(f->toy->dev.active);
    guest_start(g, &f->toy->dev, 0);
}

/* What virtio_save() wrote, changed before the reader sees it: refused, and the device is new. */
static void refuse_state(struct fixture *f, const uint8_t *p, size_t n, size_t offset,
                         uint8_t value)
{
    struct state_reader r;
    struct err e = {0};
    assert_int_equal(state_reader_parse(&r, p, n, &e), 0);
    assert_int_equal(r.section[0].type, STATE_VIRTIO);
    assert_true(offset < r.section[0].n);
    r.data[(size_t)(r.section[0].p - r.data) + offset] = value;
    assert_int_equal(virtio_restore(&f->toy->dev, &r, &e), -EBADMSG);
    assert_string_not_equal(e.text, "");
    assert_int_equal(guest_read(&f->g, R_STATUS), 0);
    assert_false(f->toy->dev.active);
    state_reader_done(&r);
}

static void test_hostile_state(void **state)
{
    struct fixture *f = *state;
    size_t n;
    guest_start(&f->g, &f->toy->dev, 0);
    uint8_t *p = save(f, &n);
    new_toy(f, 0x25);
    refuse_state(f, p, n, 0, 43);        /* device id */
    refuse_state(f, p, n, 4, 3);         /* queues */
    refuse_state(f, p, n, 36, 4);        /* DRIVER_OK without the rest */
    refuse_state(f, p, n, 16, 2);        /* a feature */
    refuse_state(f, p, n, 20, 0);        /* VERSION_1 */
    refuse_state(f, p, n, 48, 8);        /* descriptors not aligned */
    refuse_state(f, p, n, 48 + 5, 1);    /* outside */
    refuse_state(f, p, n, 48 + 24, 24);  /* size no power of two */
    refuse_state(f, p, n, 48 + 24, 128); /* too large for this device */
    struct err e = {0};
    assert_int_equal(guest_restore(&f->g, &f->toy->dev, p, n, &e), 0);
    free(p);
}

static void test_features_gone(void **state)
{
    struct fixture *f = *state;
    size_t n;
    struct err e = {0};
    guest_start(&f->g, &f->toy->dev, 0x21);
    uint8_t *p = save(f, &n);
    new_toy(f, 1);
    assert_int_equal(guest_restore(&f->g, &f->toy->dev, p, n, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "0x20"));
    free(p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity),
        TEST(test_widths),
        TEST(test_config),
        TEST(test_status_steps),
        TEST(test_features),
        TEST(test_queues_before_features),
        TEST(test_queues_freeze),
        TEST(test_impossible_queues),
        TEST(test_reset),
        TEST(test_reset_under_way),
        TEST(test_interrupts),
        TEST(test_notifications),
        TEST(test_broken_ring),
        TEST(test_persist),
        TEST(test_persist_other_states),
        TEST(test_hostile_state),
        TEST(test_features_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
