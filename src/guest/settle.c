/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SETTLE: waits until an application without a /ready hook looks ready. Quiet means: something
 * listens and the container used under 10 % of a processor for half a second; or nothing listens
 * and that holds for three seconds. Sampled ten times a second from the container's cgroup, which
 * counts its processes only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/guest.h"
#include "guest/listeners.h"
#include "guest/numbers.h"

#define PERIOD_MS 100
#define SAMPLES 31 /* three seconds and one */
#define QUIET_MS 500
#define QUIET_ALONE_MS 3000

struct sample {
    int64_t at_ms, cpu_us;
};

struct settle {
    struct guest *g;
    struct stream *st;
    struct ev_timer timer;
    int64_t deadline_ms;
    struct sample ring[SAMPLES];
    unsigned n;
    bool done;
};

/* Processor time of the container; 0 where there is no cgroup for it (tests). */
static int64_t cpu_us(void)
{
    struct buf b = BUF_INIT(65536);
    int64_t v = 0;
    if (fs_read_file(GUEST_CGROUP "/app/cpu.stat", &b, NULL) == 0)
        v = (int64_t)number_after(b.data, "usage_usec ", 0);
    buf_done(&b);
    return v;
}

/* Quiet for the last ms milliseconds, as far as the samples reach. */
static bool quiet(const struct settle *s, int64_t ms)
{
    const struct sample *last = &s->ring[(s->n - 1) % SAMPLES];
    unsigned have = s->n < SAMPLES ? s->n : SAMPLES;
    for (unsigned i = 1; i < have; i++) {
        const struct sample *old = &s->ring[(s->n - 1 - i) % SAMPLES];
        int64_t span = last->at_ms - old->at_ms;
        if (span < ms - PERIOD_MS / 2)
            continue;
        return (last->cpu_us - old->cpu_us) * 10 < span * 1000;
    }
    return false;
}

static json_t *ports_json(const uint16_t *ports, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ports[i]));
    return list;
}

static void finish(struct settle *s, bool settled, const uint16_t *ports, size_t n)
{
    s->done = true;
    stream_json(s->st, 200,
                json_pack("{s:b, s:o}", "settled", settled, "listeners", ports_json(ports, n)));
}

static void on_timer(struct ev_timer *t)
{
    struct settle *s = CONTAINER_OF(t, struct settle, timer);
    uint16_t ports[LISTENERS_MAX];
    if (s->g->app.state == APP_ENDED) {
        s->done = true;
        stream_json(s->st, 409,
                    json_pack("{s:s, s:i, s:i}", "message", "the application has ended", "exitCode",
                              s->g->app.exit_code, "signal", s->g->app.exit_signal));
        return;
    }
    int64_t now = clock_mono_ms();
    s->ring[s->n++ % SAMPLES] = (struct sample){now, cpu_us()};
    size_t n = listeners_find(ports);
    if (quiet(s, n ? QUIET_MS : QUIET_ALONE_MS))
        finish(s, true, ports, n);
    else if (now >= s->deadline_ms)
        finish(s, false, ports, n);
    else
        ev_timer_set(s->g->ev, t, PERIOD_MS);
}

static void settle_closed(struct stream *st)
{
    struct settle *s = st->ctx;
    ev_timer_stop(s->g->ev, &s->timer);
    free(s);
}

static const struct stream_ops SETTLE_OPS = {.closed = settle_closed};

void guest_settle(struct guest *g, struct stream *st, const json_t *body)
{
    int64_t timeout = json_get_int(body, "timeoutMs", 30000);
    if (g->app.state == APP_NONE || timeout < 0) {
        stream_error(st, 409, "no application was started");
        return;
    }
    struct settle *s = calloc(1, sizeof *s);
    if (!s) {
        stream_error(st, 500, "out of memory");
        return;
    }
    s->g = g;
    s->st = st;
    s->timer.fn = on_timer;
    s->deadline_ms = clock_mono_ms() + timeout;
    st->ops = &SETTLE_OPS;
    st->ctx = s;
    ev_timer_set(g->ev, &s->timer, 0);
}
