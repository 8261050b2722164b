/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/ev.h"

struct counter {
    struct ev_source source;
    struct ev_loop *loop;
    struct counter *victim; /* removed by the callback */
    atomic_uint calls;
    uint32_t events;
    bool drains;
};

static void on_ready(struct ev_source *s, uint32_t events)
{
    struct counter *c = CONTAINER_OF(s, struct counter, source);
    uint64_t n;
    c->events = events;
    if (c->drains)
        (void)!read(s->fd, &n, sizeof n);
    atomic_fetch_add(&c->calls, 1);
    if (c->victim)
        ev_remove(c->loop, &c->victim->source);
    c->victim = NULL;
}

static void arm(struct counter *c, struct ev_loop *l, bool drains)
{
    *c = (struct counter){
        .source = {eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), on_ready}, .loop = l, .drains = drains};
    assert_true(c->source.fd >= 0);
    assert_int_equal(ev_add(l, &c->source, EPOLLIN), 0);
}

static void kick(struct counter *c)
{
    uint64_t one = 1;
    assert_int_equal(write(c->source.fd, &one, sizeof one), sizeof one);
}

static struct ev_loop *new_loop(void)
{
    struct ev_loop *l = NULL;
    struct err e = {0};
    assert_int_equal(ev_new(&l, &e), 0);
    return l;
}

static void test_turns(void **state)
{
    (void)state;
    struct ev_loop *l = new_loop();
    struct counter a;
    arm(&a, l, true);
    assert_int_equal(ev_turn(l, 0), 0);
    kick(&a);
    assert_int_equal(ev_turn(l, 0), 1);
    assert_int_equal(a.events, EPOLLIN);
    assert_int_equal(ev_turn(l, 0), 0);
    ev_modify(l, &a.source, 0);
    kick(&a);
    assert_int_equal(ev_turn(l, 0), 0);
    ev_modify(l, &a.source, EPOLLIN | EPOLLOUT);
    assert_int_equal(ev_turn(l, 0), 1);
    assert_int_equal(a.events, EPOLLIN | EPOLLOUT);
    close(a.source.fd);
    ev_free(l);
    ev_free(NULL);
}

/* Either is called first and removes the other; both are in one batch. */
static void test_remove_of_a_fetched_event(void **state)
{
    (void)state;
    struct ev_loop *l = new_loop();
    struct counter a, b, other;
    arm(&a, l, true);
    arm(&b, l, true);
    arm(&other, l, true);
    a.victim = &b;
    b.victim = &a;
    kick(&a);
    kick(&b);
    kick(&other);
    for (int i = 0; i < 5; i++)
        ev_turn(l, 0);
    assert_int_equal(atomic_load(&a.calls) + atomic_load(&b.calls), 1);
    assert_int_equal(atomic_load(&other.calls), 1); /* dropped with the batch, but not lost */
    close(a.source.fd);
    close(b.source.fd);
    close(other.source.fd);
    ev_free(l);
}

static void test_remove_itself(void **state)
{
    (void)state;
    struct ev_loop *l = new_loop();
    struct counter a;
    arm(&a, l, false);
    a.victim = &a;
    kick(&a);
    assert_int_equal(ev_turn(l, 0), 1);
    assert_int_equal(ev_turn(l, 0), 0);
    close(a.source.fd);
    ev_free(l);
}

static void test_refused_sources(void **state)
{
    (void)state;
    struct ev_loop *l = new_loop();
    struct ev_source s = {open("/proc/self/exe", O_RDONLY | O_CLOEXEC), on_ready};
    assert_int_equal(ev_add(l, &s, EPOLLIN), -EPERM);
    close(s.fd);
    s.fd = -1;
    assert_int_equal(ev_add(l, &s, EPOLLIN), -EBADF);
    ev_free(l);
}

static void *loop_thread(void *arg)
{
    ev_run(arg);
    return NULL;
}

static void on_signal(int sig)
{
    (void)sig;
}

/* A source that is always ready keeps the loop busy; parking stops it between two callbacks, also
 * with signals coming in. */
static void test_park(void **state)
{
    (void)state;
    struct ev_loop *l = new_loop();
    struct counter busy;
    struct sigaction sa = {.sa_handler = on_signal};
    pthread_t t;
    sigaction(SIGUSR1, &sa, NULL);
    arm(&busy, l, false);
    kick(&busy);
    assert_int_equal(pthread_create(&t, NULL, loop_thread, l), 0);
    for (int i = 0; i < 200; i++) {
        pthread_kill(t, SIGUSR1);
        ev_park(l);
        unsigned before = atomic_load(&busy.calls);
        sched_yield();
        assert_int_equal(atomic_load(&busy.calls), before);
        if (i % 2)
            ev_remove(l, &busy.source);
        else if (i)
            assert_int_equal(ev_add(l, &busy.source, EPOLLIN), 0);
        ev_unpark(l);
    }
    ev_stop(l);
    pthread_join(t, NULL);
    assert_int_equal(ev_turn(l, 0), -ECANCELED);
    close(busy.source.fd);
    ev_free(l);
}

static void test_park_asleep_and_before(void **state)
{
    (void)state;
    struct ev_loop *l = new_loop();
    struct counter a;
    pthread_t t;
    arm(&a, l, true);
    kick(&a);
    ev_park(l); /* the loop does not run yet: it starts parked */
    assert_int_equal(pthread_create(&t, NULL, loop_thread, l), 0);
    usleep(20000);
    assert_int_equal(atomic_load(&a.calls), 0);
    ev_unpark(l);
    while (atomic_load(&a.calls) == 0)
        sched_yield();
    usleep(20000); /* asleep in the kernel now, most likely */
    ev_park(l);
    kick(&a); /* fetched while parked, and removed before it could be called */
    usleep(20000);
    ev_remove(l, &a.source);
    close(a.source.fd);
    ev_unpark(l);
    usleep(20000);
    assert_int_equal(atomic_load(&a.calls), 1);
    ev_park(l);
    ev_stop(l); /* ends a parked loop, too */
    pthread_join(t, NULL);
    ev_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),         cmocka_unit_test(test_remove_of_a_fetched_event),
        cmocka_unit_test(test_remove_itself), cmocka_unit_test(test_refused_sources),
        cmocka_unit_test(test_park),          cmocka_unit_test(test_park_asleep_and_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
