/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host end fed by a hostile guest: hello, then the input, with a call, a frame stream and a
 * tunnel open. Whatever comes, each ends exactly once and nothing leaks.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "proto/agent_client.h"
#include "proto/sync.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct guest {
    int fd;
    const uint8_t *data;
    size_t size;
};

static struct loop *loop;
static int tunnels_open;

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

/* Answers the hello and plays the input once the client has sent its requests. */
static void *play(void *arg)
{
    struct guest *g = arg;
    static const uint8_t settings[9] = {0, 0, 0, 4};
    char hello[SYNC_HELLO_LEN], skip[4096];
    if (recv(g->fd, hello, sizeof hello, MSG_WAITALL) == (ssize_t)sizeof hello &&
        fs_write_all(g->fd, hello, sizeof hello) == 0 && fs_write_all(g->fd, settings, 9) == 0) {
        usleep(2000);
        while (recv(g->fd, skip, sizeof skip, MSG_DONTWAIT) > 0)
            ;
        if (fs_write_all(g->fd, g->data, g->size) == 0)
            shutdown(g->fd, SHUT_WR);
    }
    while (recv(g->fd, skip, sizeof skip, 0) > 0)
        ;
    return NULL;
}

static void on_open(struct agent_tunnel *t, int status, void *ctx)
{
    (void)t, (void)status, (void)ctx;
}

static void on_data(struct agent_tunnel *t, const char *p, size_t n, void *ctx)
{
    (void)p, (void)n, (void)ctx;
    agent_tunnel_write(t, "echo", 4);
}

static void on_close(struct agent_tunnel *t, void *ctx)
{
    (void)t, (void)ctx;
    tunnels_open--;
}

static const struct agent_tunnel_ops OPS = {
    .on_open = on_open, .on_data = on_data, .on_close = on_close};

static void open_tunnel(void *a)
{
    tunnels_open++;
    agent_tunnel_open(a, 80, &OPS, NULL);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void use(struct agent *a)
{
    struct agent_stream *s = NULL;
    struct err e;
    json_t *v = NULL;
    struct buf b = BUF_INIT(0);
    loop_call(loop, open_tunnel, a);
    int r = agent_stream_open(a, "GET", WIRE_LOGS, &s, &e);
    if (agent_call(a, "GET", WIRE_INFO, NULL, 2000, &v, &e) == 0)
        json_decref(v);
    while (r >= 0 && (r = agent_stream_next(s, &b, 2000, &e)) > 0)
        ;
    agent_stream_free(s);
    buf_done(&b);
}

static void start_loop(void)
{
    pthread_t t;
    signal(SIGPIPE, SIG_IGN);
    if (loop_new(&loop, NULL) < 0 || pthread_create(&t, NULL, run_loop, loop) != 0)
        abort();
    pthread_detach(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    pthread_t t;
    struct agent *a = NULL;
    if (!loop)
        start_loop();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    struct guest g = {pair[1], data, size};
    if (pthread_create(&t, NULL, play, &g) != 0)
        abort();
    if (agent_open(loop, pair[0], 2000, &a, NULL) == 0) {
        use(a);
        agent_close(a);
        agent_unref(a);
    }
    pthread_join(t, NULL);
    close(pair[1]);
    loop_call(loop, nothing, NULL);
    loop_call(loop, nothing, NULL);
    if (tunnels_open)
        abort();
    return 0;
}
