/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tinderbox-agent: PID 1 of every guest.
 *
 * Theory of operation. One thread, one event loop (ev). The host talks HTTP/2 over a virtio-console
 * port: channel moves bytes and finds the start of each session (proto/sync.h), session is the
 * HTTP/2 server, routes names the endpoints. Commands run as containers (launch, rootfs,
 * launch_exec); whatever blocks runs in a forked child (job); whatever parses archives is a
 * program of its own. The agent never ends: a broken session is dropped, a fatal error powers the
 * machine off, which the host sees.
 *
 * Trust: the host is trusted with the machine but not with our memory safety (fuzzed); the
 * application is not trusted at all and cannot name the port, the agent's files or its processes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "guest/guest.h"
#include "guest/init.h"

#define PORT_TIMEOUT_MS 20000

int main(void)
{
    struct err e = {0};
    if (getpid() != 1) {
        fprintf(stderr, "tinderbox-agent runs as PID 1 of a guest only\n");
        return 2;
    }
    if (init_machine(&e) < 0)
        init_die(e.text);
    int port = init_open_port(PORT_TIMEOUT_MS, &e);
    if (port < 0)
        init_die(e.text);
    struct guest *g = calloc(1, sizeof *g);
    if (!g || ev_new(&g->ev, &e) < 0)
        init_die(g ? e.text : "out of memory");
    g->started_ms = clock_mono_ms();
    for (int i = 0; i < 2; i++)
        g->app.out[i].io.fd = -1;
    snprintf(g->hostname, sizeof g->hostname, "localhost");
    if (channel_new(g->ev, port, true, guest_route, g, NULL, &g->channel, &e) < 0)
        init_die(e.text);
    log_info("agent", "ready after %lld ms", (long long)g->started_ms);
    ev_run(g->ev);
    init_die("the event loop ended");
}
