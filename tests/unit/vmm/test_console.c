/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest_driver.h"
#include "vmm/le.h"
#include "vmm/virtio/console.h"

enum { RX0, TX0, CONTROL_RX, CONTROL_TX, RX, TX };
enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, PORT_OPEN = 6, PORT_NAME = 7 };

#define MULTIPORT 2u
#define BUF 4096u

struct fixture {
    struct guest g;
    struct virtio_dev *c;
    int host; /* our end of the link, or -1 */
    uint64_t control, out, in[GUEST_QUEUE_SIZE];
    unsigned added; /* receive buffers */
};

static void new_console(struct fixture *f)
{
    struct err e = {0};
    assert_int_equal(console_new(guest_place(&f->g, 4), &f->c, &e), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    guest_init(&f->g, 16 << 20);
    new_console(f);
    f->host = -1;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_free(f->c);
    if (f->host >= 0)
        close(f->host);
    guest_done(&f->g);
    free(f);
    return 0;
}

static void link_up(struct fixture *f)
{
    int s[2];
    if (f->host >= 0)
        close(f->host);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s), 0);
    f->host = s[0];
    console_link(f->c, s[1]);
}

static void host_says(struct fixture *f, const char *text)
{
    assert_int_equal(send(f->host, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void expect_host_hears(struct fixture *f, const char *text)
{
    char got[256] = "";
    ssize_t n = read(f->host, got, sizeof got - 1);
    if (text)
        assert_string_equal(got, text);
    else
        assert_true(n < 0 && errno == EAGAIN);
}

static void offer_control(struct fixture *f, unsigned n)
{
    while (n--)
        guest_add(&f->g, CONTROL_RX, &(struct guest_buf){guest_alloc(&f->g, 64, 64), 64, true}, 1);
    guest_kick(&f->g, CONTROL_RX);
}

/* The next control message the guest finds: event << 16 | value, or -1. */
static int heard(struct fixture *f)
{
    uint16_t head;
    uint32_t len;
    guest_run(&f->g);
    if (!guest_used(&f->g, CONTROL_RX, &head, &len))
        return -1;
    struct le64 *addr = guest_at(&f->g, f->g.queue[CONTROL_RX].desc + 16u * head, 16);
    uint8_t *m = guest_at(&f->g, le64_get(addr), 64);
    assert_int_equal(le32_get((struct le32 *)m), 1);
    uint16_t event = le16_get((struct le16 *)(m + 4));
    assert_int_equal(len, event == PORT_NAME ? 8 + 15 : 8);
    if (event == PORT_NAME)
        assert_memory_equal(m + 8, "tinderbox.agent\0", 16);
    return event << 16 | le16_get((struct le16 *)(m + 6));
}

#define MESSAGE(event, value) ((event) << 16 | (value))

static void tell(struct fixture *f, uint32_t id, uint16_t event, uint16_t value)
{
    uint16_t head;
    uint32_t len;
    uint8_t *m = guest_at(&f->g, f->control, 8);
    le32_put((struct le32 *)m, id);
    le16_put((struct le16 *)(m + 4), event);
    le16_put((struct le16 *)(m + 6), value);
    guest_add(&f->g, CONTROL_TX, &(struct guest_buf){f->control, 8, false}, 1);
    guest_kick(&f->g, CONTROL_TX);
    guest_run(&f->g);
    assert_true(guest_used(&f->g, CONTROL_TX, &head, &len));
    assert_int_equal(len, 0);
}

static void start(struct fixture *f)
{
    guest_start(&f->g, f->c, MULTIPORT | GUEST_F_EVENT_IDX);
    f->control = guest_alloc(&f->g, 64, 64);
    f->out = guest_alloc(&f->g, 1 << 20, 4096);
    for (unsigned i = 0; i < GUEST_QUEUE_SIZE; i++)
        f->in[i] = guest_alloc(&f->g, BUF, 4096);
    offer_control(f, 8);
}

/* What Linux does from probe to an open port. */
static void open_port(struct fixture *f)
{
    start(f);
    tell(f, UINT32_MAX, DEVICE_READY, 1);
    assert_int_equal(heard(f), MESSAGE(PORT_ADD, 1));
    assert_int_equal(heard(f), -1); /* no port 0 */
    tell(f, 1, PORT_READY, 1);
    assert_int_equal(heard(f), MESSAGE(PORT_NAME, 1));
    if (f->host >= 0)
        assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    assert_int_equal(heard(f), -1);
    tell(f, 1, PORT_OPEN, 1);
}

static void offer_receive(struct fixture *f, unsigned n)
{
    for (; n; n--, f->added++)
        guest_add(&f->g, RX, &(struct guest_buf){f->in[f->added % GUEST_QUEUE_SIZE], BUF, true}, 1);
    guest_kick(&f->g, RX);
    guest_run(&f->g);
}

static void expect_guest_reads(struct fixture *f, const char *text)
{
    uint16_t head;
    uint32_t len;
    guest_run(&f->g);
    bool got = guest_used(&f->g, RX, &head, &len);
    assert_int_equal(got, text != NULL);
    if (!text)
        return;
    struct le64 *addr = guest_at(&f->g, f->g.queue[RX].desc + 16u * head, 16);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(guest_at(&f->g, le64_get(addr), len), text, len);
}

static void guest_writes(struct fixture *f, const char *text)
{
    memcpy(guest_at(&f->g, f->out, strlen(text)), text, strlen(text));
    guest_add(&f->g, TX, &(struct guest_buf){f->out, (uint32_t)strlen(text), false}, 1);
    guest_kick(&f->g, TX);
    guest_run(&f->g);
}

static bool written(struct fixture *f)
{
    uint16_t head;
    uint32_t len;
    return guest_used(&f->g, TX, &head, &len);
}

static void test_negotiate(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    g->dev = f->c;
    assert_int_equal(guest_read(g, R_DEVICE_ID), 3);
    guest_write(g, R_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(guest_read(g, R_DEVICE_FEATURES), 0x30000000 | MULTIPORT);
    assert_false(guest_negotiate(g, g->dev, 1)); /* no size */
    assert_true(guest_negotiate(g, g->dev, MULTIPORT));
    struct le32 ports;
    guest_config(g, 4, &ports, sizeof ports);
    assert_int_equal(le32_get(&ports), 2);
    assert_int_equal(guest_read(g, R_CONFIG + 12), UINT32_MAX);
}

static void test_port(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    offer_receive(f, 2);
    host_says(f, "hello");
    expect_guest_reads(f, "hello");
    guest_writes(f, "hello yourself");
    assert_true(written(f));
    expect_host_hears(f, "hello yourself");
    host_says(f, "more");
    expect_guest_reads(f, "more");
    expect_guest_reads(f, NULL);
}

/* Linked before the guest has even found the device, as at every boot. */
static void test_early_host(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    host_says(f, "early");
    guest_run(&f->g);
    open_port(f);
    expect_guest_reads(f, NULL);
    offer_receive(f, 1);
    expect_guest_reads(f, "early");
}

static void test_buffers_before_open(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    host_says(f, "early");
    start(f);
    offer_receive(f, 2);
    expect_guest_reads(f, NULL); /* the guest has not opened it */
    tell(f, 1, PORT_OPEN, 1);
    expect_guest_reads(f, "early");
    tell(f, 1, PORT_OPEN, 0);
    host_says(f, "late");
    expect_guest_reads(f, NULL);
    tell(f, 1, PORT_OPEN, 1);
    expect_guest_reads(f, "late");
}

/* A host that nobody reads costs no time: the loop comes to rest. */
static void test_no_buffers(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    offer_receive(f, 1);
    host_says(f, "one");
    expect_guest_reads(f, "one");
    host_says(f, "two");
    guest_run(&f->g);
    expect_guest_reads(f, NULL);
    offer_receive(f, 1);
    expect_guest_reads(f, "two");
}

static void test_scattered_and_large(void **state)
{
    struct fixture *f = *state;
    char text[300];
    open_port(f);
    link_up(f);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    uint64_t a = f->in[0];
    guest_add(&f->g, RX, (struct guest_buf[]){{a, 100, true}, {a + 200, 100, true}}, 2);
    guest_add(&f->g, RX, &(struct guest_buf){a + 400, 4, true}, 1);
    guest_kick(&f->g, RX);
    host_says(f, text);
    guest_run(&f->g);
    uint16_t head;
    uint32_t len;
    assert_true(guest_used(&f->g, RX, &head, &len));
    assert_int_equal(len, 200);
    assert_memory_equal(guest_at(&f->g, a + 200, 100), text, 100);
    assert_int_equal(*(char *)guest_at(&f->g, a + 150, 1), 0);
    assert_true(guest_used(&f->g, RX, &head, &len));
    assert_int_equal(len, 4);
    memcpy(guest_at(&f->g, f->out, 6), "abcdef", 6);
    guest_add(&f->g, TX, (struct guest_buf[]){{f->out, 2, false}, {f->out + 3, 3, false}}, 2);
    guest_kick(&f->g, TX);
    guest_run(&f->g);
    expect_host_hears(f, "abdef");
}

static void test_discarded_without_host(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    guest_writes(f, "nobody");
    assert_true(written(f));
    link_up(f);
    expect_host_hears(f, NULL);
    memcpy(guest_at(&f->g, f->out, 6), "port 0", 6);
    guest_add(&f->g, TX0, &(struct guest_buf){f->out, 6, false}, 1);
    guest_kick(&f->g, TX0);
    guest_run(&f->g);
    uint16_t head;
    uint32_t len;
    assert_true(guest_used(&f->g, TX0, &head, &len));
    expect_host_hears(f, NULL);
}

static void test_host_closes(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    offer_receive(f, 2);
    host_says(f, "last words");
    close(f->host);
    f->host = -1;
    expect_guest_reads(f, "last words");
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
    guest_writes(f, "nobody");
    assert_true(written(f));
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    host_says(f, "again");
    expect_guest_reads(f, "again");
}

/* The same while the guest does not read: no buffers, so no end of file to be seen. */
static void test_host_closes_unread(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    host_says(f, "lost");
    guest_run(&f->g);
    close(f->host);
    f->host = -1;
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
    offer_receive(f, 1);
    expect_guest_reads(f, NULL);
}

static void test_half_closed_host(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    offer_receive(f, 1);
    shutdown(f->host, SHUT_WR);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
}

static void test_replaced_link(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    assert_int_equal(heard(f), -1);
    guest_writes(f, "to the new one");
    expect_host_hears(f, "to the new one");
    console_link(f->c, -1);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
    console_link(f->c, -1);
    assert_int_equal(heard(f), -1);
}

/* A descriptor the loop cannot watch counts as a host that hung up. */
static void test_impossible_link(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    console_link(f->c, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
    assert_int_equal(heard(f), -1);
    guest_writes(f, "nobody");
    assert_true(written(f));
}

/* Without buffers for control messages news is merged, not queued: closed, then open. */
static void test_control_without_buffers(void **state)
{
    struct fixture *f = *state;
    open_port(f); /* 2 of 8 buffers used */
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    for (int i = 0; i < 40; i++)
        tell(f, 1, PORT_READY, 1);
    while (heard(f) >= 0)
        ;
    for (int i = 0; i < 5; i++)
        link_up(f);
    assert_int_equal(heard(f), -1);
    offer_control(f, 8);
    assert_int_equal(heard(f), MESSAGE(PORT_NAME, 1)); /* owed to the last PORT_READY */
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    assert_int_equal(heard(f), -1);
}

static void test_strange_control(void **state)
{
    struct fixture *f = *state;
    start(f);
    link_up(f);
    tell(f, UINT32_MAX, DEVICE_READY, 0);
    tell(f, 0, PORT_READY, 1);
    tell(f, 2, PORT_READY, 1);
    tell(f, 0, PORT_OPEN, 1);
    tell(f, 1, PORT_READY, 0);
    tell(f, 1, 0xffff, 1);
    assert_int_equal(heard(f), -1);
    guest_add(&f->g, CONTROL_TX, &(struct guest_buf){f->control, 7, false}, 1); /* too short */
    guest_add(&f->g, CONTROL_TX, &(struct guest_buf){f->control, 64, true}, 1); /* not to be read */
    guest_kick(&f->g, CONTROL_TX);
    assert_int_equal(heard(f), -1);
    assert_int_equal(guest_read(&f->g, R_STATUS), 15);
}

/* More than the socket takes: the rest waits in the queue, in order, while the loop rests. */
static void test_back_pressure(void **state)
{
    struct fixture *f = *state;
    enum { CHUNK = 100000, CHUNKS = 10 };
    open_port(f);
    link_up(f);
    uint8_t *out = guest_at(&f->g, f->out, CHUNK * CHUNKS);
    for (unsigned i = 0; i < CHUNK * CHUNKS; i++)
        out[i] = (uint8_t)(i * 7 + i / 251);
    for (unsigned i = 0; i < CHUNKS; i++)
        guest_add(&f->g, TX, &(struct guest_buf){f->out + i * CHUNK, CHUNK, false}, 1);
    guest_kick(&f->g, TX);
    guest_run(&f->g);
    unsigned done = 0;
    while (written(f))
        done++;
    assert_true(done < CHUNKS);
    guest_kick(&f->g, TX); /* changes nothing */
    guest_run(&f->g);
    assert_false(written(f));
    for (unsigned at = 0; at < CHUNK * CHUNKS;) {
        uint8_t got[4096];
        ssize_t n = read(f->host, got, sizeof got);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_true(guest_run(&f->g) > 0);
            continue;
        }
        assert_memory_equal(got, out + at, (size_t)n);
        at += (unsigned)n;
    }
    guest_run(&f->g);
    while (written(f))
        done++;
    assert_int_equal(done, CHUNKS);
}

/* The host leaves with a chain half sent: the next host must not get its tail. */
static void test_close_under_back_pressure(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    for (int round = 0; round < 2; round++) {
        link_up(f);
        memset(guest_at(&f->g, f->out, 1 << 20), 'x', 1 << 20);
        guest_add(&f->g, TX, &(struct guest_buf){f->out, 1 << 20, false}, 1);
        guest_kick(&f->g, TX);
        guest_run(&f->g);
        assert_false(written(f));
        if (round == 0)
            link_up(f); /* replaced */
        else
            close(f->host); /* gone */
        guest_run(&f->g);
        assert_true(written(f));
        if (round == 0)
            expect_host_hears(f, NULL);
        else
            f->host = -1;
    }
}

static void test_storm(void **state)
{
    struct fixture *f = *state;
    start(f);
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < GUEST_QUEUE_SIZE; k++)
            guest_add(&f->g, CONTROL_TX, &(struct guest_buf){f->control, 8, false}, 1);
        guest_kick(&f->g, CONTROL_TX);
        guest_run(&f->g);
    }
    assert_int_equal(guest_read(&f->g, R_STATUS), 15);
}

static void test_broken(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    link_up(f);
    /* A receive buffer that cannot be written to. */
    guest_add(&f->g, RX, &(struct guest_buf){f->in[0], 16, false}, 1);
    guest_kick(&f->g, RX);
    host_says(f, "x");
    guest_run(&f->g);
    assert_int_equal(guest_read(&f->g, R_STATUS), 15 | GUEST_NEEDS_RESET);
    guest_run(&f->g); /* with data waiting: at rest */
    f->added = 0;
    open_port(f); /* resets first; the link is still there */
    offer_receive(f, 1);
    expect_guest_reads(f, "x");
}

static void test_reset(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    open_port(f);
    guest_write(&f->g, R_STATUS, 0);
    host_says(f, "for the next driver");
    guest_run(&f->g);
    open_port(f);
    offer_receive(f, 1);
    expect_guest_reads(f, "for the next driver");
}

static void renew(struct fixture *f)
{
    uint8_t *p;
    size_t n;
    struct err e = {0};
    guest_save(&f->g, &p, &n);
    virtio_free(f->c);
    new_console(f);
    assert_int_equal(guest_restore(&f->g, f->c, p, n, &e), 0);
    free(p);
}

/* A clone's first moments: linked before it runs. */
static void test_persist(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    open_port(f);
    offer_receive(f, 3);
    host_says(f, "before");
    expect_guest_reads(f, "before");
    guest_add(&f->g, TX, &(struct guest_buf){f->out, 5, false}, 1); /* not sent any more */
    renew(f);
    link_up(f);
    host_says(f, "after");
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0));
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
    assert_int_equal(heard(f), -1);
    expect_guest_reads(f, "after");
    assert_true(written(f));
    expect_host_hears(f, NULL);
    guest_writes(f, "answer");
    expect_host_hears(f, "answer");
}

static void test_persist_unlinked(void **state)
{
    struct fixture *f = *state;
    link_up(f);
    open_port(f);
    renew(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 0)); /* nobody linked it yet */
    assert_int_equal(heard(f), -1);
    renew(f);
    assert_int_equal(heard(f), -1);
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
}

/* Owed but not delivered when it was saved. */
static void test_persist_owed(void **state)
{
    struct fixture *f = *state;
    guest_start(&f->g, f->c, MULTIPORT);
    f->control = guest_alloc(&f->g, 64, 64);
    link_up(f);
    tell(f, UINT32_MAX, DEVICE_READY, 1);
    tell(f, 1, PORT_READY, 1);
    renew(f);
    offer_control(f, 8);
    assert_int_equal(heard(f), MESSAGE(PORT_ADD, 1));
    assert_int_equal(heard(f), MESSAGE(PORT_NAME, 1));
    assert_int_equal(heard(f), -1); /* open was never told, and is no longer true */
    link_up(f);
    assert_int_equal(heard(f), MESSAGE(PORT_OPEN, 1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_negotiate),
        TEST(test_port),
        TEST(test_early_host),
        TEST(test_buffers_before_open),
        TEST(test_no_buffers),
        TEST(test_scattered_and_large),
        TEST(test_discarded_without_host),
        TEST(test_host_closes),
        TEST(test_host_closes_unread),
        TEST(test_half_closed_host),
        TEST(test_replaced_link),
        TEST(test_impossible_link),
        TEST(test_control_without_buffers),
        TEST(test_strange_control),
        TEST(test_back_pressure),
        TEST(test_close_under_back_pressure),
        TEST(test_storm),
        TEST(test_broken),
        TEST(test_reset),
        TEST(test_persist),
        TEST(test_persist_unlinked),
        TEST(test_persist_owed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
