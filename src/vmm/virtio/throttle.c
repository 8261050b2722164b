/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/throttle.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

static uint64_t now_ns(void)
{
    return (uint64_t)clock_mono_us() * 1000;
}

static void on_timer(struct ev_source *s, uint32_t events UNUSED)
{
    struct throttle *t = CONTAINER_OF(s, struct throttle, timer);
    uint64_t n;
    (void)!read(s->fd, &n, sizeof n); /* only to make it unreadable */
    t->again(t);
}

int throttle_init(struct throttle *t, struct ev_loop *loop, struct rate_limit bytes,
                  struct rate_limit requests, void (*again)(struct throttle *t), struct err *e)
{
    *t = (struct throttle){.again = again, .timer = {-1, on_timer}};
    rate_init(&t->bytes, bytes, now_ns());
    rate_init(&t->requests, requests, now_ns());
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0)
        return err_set_errno(e, errno, "timer of a device");
    t->timer.fd = fd;
    int r = ev_add(loop, &t->timer, EPOLLIN);
    return r < 0 ? err_set_errno(e, -r, "timer of a device") : 0;
}

void throttle_done(struct throttle *t, struct ev_loop *loop)
{
    if (!t->again || t->timer.fd < 0)
        return;
    ev_remove(loop, &t->timer);
    close(t->timer.fd);
}

void throttle_wait(struct throttle *t, uint64_t ns)
{
    struct itimerspec at = {.it_value = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)}};
    (void)timerfd_settime(t->timer.fd, 0, &at, NULL); /* of valid times it refuses none */
}

bool throttle_pay(struct throttle *t, uint64_t bytes)
{
    if (!t->bytes.limit.per_second && !t->requests.limit.per_second)
        return true;
    uint64_t now = now_ns(), wait = t->request_paid ? 0 : rate_take(&t->requests, 1, now);
    t->request_paid = wait == 0;
    if (wait == 0 && bytes > t->bytes_paid) {
        wait = rate_take(&t->bytes, bytes - t->bytes_paid, now);
        t->bytes_paid = wait ? t->bytes_paid : bytes;
    }
    if (wait)
        throttle_wait(t, wait);
    return wait == 0;
}

void throttle_next(struct throttle *t)
{
    t->request_paid = false;
    t->bytes_paid = 0;
}
