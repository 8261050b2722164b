/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of the channel against each other: the host's client in this process, the agent's
 * session, tunnel and exec code in a child, a socket pair in place of the virtio port.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fs.h"
#include "guest/guest.h"
#include "proto/agent_client.h"
#include "proto/sync.h"
#include "proto/wire.h"

#define TUNNEL_BYTES (100u << 20)

static struct loop *loop;
static pthread_t loop_thread;
static struct agent *agent;
static pid_t guest_pid;

static void host_gone(void *g)
{
    ev_stop(((struct guest *)g)->ev);
}

/* The guest end; never returns. */
static void serve(int fd)
{
    struct err e;
    static struct guest g;
    g.no_container = true;
    for (int i = 0; i < 2; i++)
        g.app.out[i].io.fd = -1;
    if (ev_new(&g.ev, &e) < 0 ||
        channel_new(g.ev, fd, false, guest_route, &g, host_gone, &g.channel, &e) < 0)
        _exit(1);
    ev_run(g.ev);
    channel_free(g.channel);
    ev_free(g.ev);
    _exit(0);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void nothing(void *arg)
{
    (void)arg;
}

static int start_guest(int *host_fd)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    guest_pid = fork();
    if (guest_pid == 0) {
        close(pair[0]);
        serve(pair[1]);
    }
    close(pair[1]);
    *host_fd = pair[0];
    return 0;
}

static int setup(void **state)
{
    (void)state;
    struct err e;
    int fd;
    signal(SIGPIPE, SIG_IGN);
    if (start_guest(&fd) < 0 || loop_new(&loop, &e) < 0 ||
        pthread_create(&loop_thread, NULL, run_loop, loop) != 0)
        return -1;
    return agent_open(loop, fd, 5000, &agent, &e);
}

static int teardown(void **state)
{
    (void)state;
    agent_close(agent);
    agent_unref(agent);
    loop_call(loop, nothing, NULL);
    loop_call(loop, nothing, NULL);
    loop_stop(loop);
    pthread_join(loop_thread, NULL);
    loop_free(loop);
    int status = 0;
    waitpid(guest_pid, &status, 0);
    /* Its own end after the channel closed, or the SIGKILL of a test. */
    return WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) == SIGKILL ? 0 : -1;
}

static void info_and_errors(void **state)
{
    (void)state;
    struct err e;
    json_t *v = NULL;
    assert_int_equal(agent_call(agent, "GET", WIRE_INFO, NULL, 5000, &v, &e), 0);
    assert_int_equal(json_get_int(v, "version", 0), WIRE_VERSION);
    json_decref(v);
    assert_int_equal(agent_call(agent, "GET", WIRE_STATS, NULL, 5000, &v, &e), 0);
    assert_true(json_get_int(v, "memTotalKiB", 0) > 1000);
    json_decref(v);
    assert_int_equal(agent_call(agent, "GET", "/v1/nothing", NULL, 5000, &v, &e), -ENOENT);
    assert_int_equal(agent_call(agent, "POST", WIRE_INFO, NULL, 5000, &v, &e), -EIO);
    assert_int_equal(agent_call(agent, "GET", WIRE_WAIT, NULL, 5000, &v, &e), -EBUSY);
    CLEANUP(cleanup_json)
    json_t *list = json_array();
    assert_int_equal(agent_call(agent, "POST", WIRE_HOOK, list, 5000, &v, &e), -EINVAL);
}

struct output {
    struct buf text[2];
};

static void keep(int fd, const char *p, size_t n, void *arg)
{
    struct output *o = arg;
    assert_int_equal(buf_add(&o->text[fd - 1], p, n), 0);
}

static int run(const char *script, struct output *o, struct agent_exec_result *x, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *spec =
        json_pack("{s:[s,s,s], s:[s]}", "args", "/bin/sh", "-c", script, "env", "MARK=here");
    *o = (struct output){0};
    return agent_exec(agent, WIRE_EXEC, spec, 30000, keep, o, x, e);
}

static void output_done(struct output *o)
{
    buf_done(&o->text[0]);
    buf_done(&o->text[1]);
}

static void exec_basics(void **state)
{
    (void)state;
    struct output o;
    struct agent_exec_result x;
    struct err e;
    assert_int_equal(run("echo out $MARK; echo err >&2; exit 7", &o, &x, &e), 0);
    assert_string_equal(o.text[0].data, "out here\n");
    assert_string_equal(o.text[1].data, "err\n");
    assert_int_equal(x.exit_code, 7);
    assert_int_equal(x.signal, 0);
    output_done(&o);
    assert_int_equal(run("kill -TERM $$", &o, &x, &e), 0);
    assert_int_equal(x.exit_code, 128 + SIGTERM);
    assert_int_equal(x.signal, SIGTERM);
    output_done(&o);
    assert_int_equal(run("cat; echo done", &o, &x, &e), 0); /* stdin ends at once */
    assert_string_equal(o.text[0].data, "done\n");
    output_done(&o);
    /* A child left behind holds the pipes open: not our business. */
    assert_int_equal(run("sleep 30 & echo first", &o, &x, &e), 0);
    assert_string_equal(o.text[0].data, "first\n");
    output_done(&o);
}

static void exec_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *says;
    } rows[] = {
        {"{\"args\":[\"no-such-program\"]}", "executable file not found in $PATH"},
        {"{\"args\":[\"/etc/passwd\"]}", "permission denied"},
        {"{\"args\":[\"/no/such\"]}", "no such file"},
        {"{\"args\":[]}", "args"},
        {"{\"args\":[\"sh\"],\"cwd\":\"/no/dir\"}", "working directory '/no/dir'"},
        {"{\"args\":[\"sh\"],\"user\":\"no-such-user\"}", "unable to find user"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(cleanup_json)
        json_t *spec = json_loads(rows[i].spec, 0, NULL);
        struct agent_exec_result x;
        struct err e = {0};
        assert_true(agent_exec(agent, WIRE_EXEC, spec, 10000, NULL, NULL, &x, &e) < 0);
        if (!strstr(e.text, rows[i].says))
            fail_msg("row %zu: %s", i, e.text);
    }
}

static void exec_much_output(void **state)
{
    (void)state;
    struct output o;
    struct agent_exec_result x;
    struct err e;
    assert_int_equal(run("head -c 20000000 /dev/zero; head -c 1000000 /dev/zero >&2", &o, &x, &e),
                     0);
    assert_int_equal(o.text[0].len, 20000000);
    assert_int_equal(o.text[1].len, 1000000);
    output_done(&o);
}

static void exec_timeout_kills(void **state)
{
    (void)state;
    struct agent_exec_result x;
    struct err e;
    char name[64], script[256];
    snprintf(name, sizeof name, "/tmp/tb-exec-%d", getpid());
    snprintf(script, sizeof script, "touch %s; sleep 2; rm %s", name, name);
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s,s,s]}", "args", "/bin/sh", "-c", script);
    assert_int_equal(agent_exec(agent, WIRE_EXEC, spec, 300, NULL, NULL, &x, &e), -ETIMEDOUT);
    usleep(2500000);
    assert_true(fs_exists(name)); /* the shell did not live to remove it */
    unlink(name);
}

static struct agent_stream *open_exec(const char *spec)
{
    struct agent_stream *s;
    struct err e;
    assert_int_equal(agent_stream_open(agent, "POST", WIRE_EXEC, &s, &e), 0);
    assert_int_equal(agent_stream_send(s, WIRE_FRAME_SPEC, spec, strlen(spec), &e), 0);
    return s;
}

/* Reads to the end: bytes of stdout into out, the EXIT payload into last. */
static int read_all(struct agent_stream *s, struct buf *out, struct buf *last)
{
    struct buf b = BUF_INIT(0);
    struct err e = {0};
    int r;
    while ((r = agent_stream_next(s, &b, 20000, &e)) > 0) {
        if (r == WIRE_FRAME_STDOUT)
            assert_int_equal(buf_add(out, b.data, b.len), 0);
        else if (r == WIRE_FRAME_EXIT)
            assert_int_equal(buf_add(last, b.data, b.len), 0);
    }
    buf_done(&b);
    return r;
}

static void *write_much(void *arg)
{
    static char block[100000];
    struct err e;
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 100; i++)
        if (agent_stream_send(arg, WIRE_FRAME_STDIN, block, sizeof block, &e) < 0)
            return &loop; /* any non-NULL pointer */
    if (agent_stream_send(arg, WIRE_FRAME_STDIN_END, NULL, 0, &e) < 0 ||
        agent_stream_send_end(arg, &e) < 0)
        return &loop;
    return NULL;
}

static void stdin_through_cat(void **state)
{
    (void)state;
    struct agent_stream *s = open_exec("{\"args\":[\"cat\"]}");
    struct buf out = BUF_INIT(0), last = BUF_INIT(0);
    pthread_t t;
    void *failed;
    assert_int_equal(pthread_create(&t, NULL, write_much, s), 0);
    assert_int_equal(read_all(s, &out, &last), 0);
    pthread_join(t, &failed);
    assert_null(failed);
    assert_int_equal(out.len, 10000000);
    assert_string_equal(last.data, "{\"exitCode\":0,\"signal\":0}");
    buf_done(&out);
    buf_done(&last);
    agent_stream_free(s);
}

static void stdin_of_a_program_that_leaves(void **state)
{
    (void)state;
    struct agent_stream *s = open_exec("{\"args\":[\"sh\",\"-c\",\"head -c 10; exit 4\"]}");
    struct buf out = BUF_INIT(0), last = BUF_INIT(0);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, write_much, s), 0);
    assert_int_equal(read_all(s, &out, &last), 0);
    pthread_join(t, NULL);
    assert_int_equal(out.len, 10);
    assert_string_equal(last.data, "{\"exitCode\":4,\"signal\":0}");
    buf_done(&out);
    buf_done(&last);
    agent_stream_free(s);
}

static void terminal(void **state)
{
    (void)state;
    struct agent_stream *s = open_exec(
        "{\"args\":[\"sh\",\"-c\",\"stty size; trap 'stty size; exit 9' WINCH; echo r; while :; do "
        "sleep 0.05; done\"],\"tty\":true,\"cols\":100,\"rows\":30}");
    struct buf out = BUF_INIT(0), last = BUF_INIT(0), b = BUF_INIT(0);
    struct err e;
    while (!out.data || !strstr(out.data, "r\r\n")) {
        assert_int_equal(agent_stream_next(s, &b, 10000, &e), WIRE_FRAME_STDOUT);
        assert_int_equal(buf_add(&out, b.data, b.len), 0);
    }
    assert_non_null(strstr(out.data, "30 100\r\n"));
    static const char size[] = "{\"cols\":120,\"rows\":50}";
    assert_int_equal(agent_stream_send(s, WIRE_FRAME_RESIZE, size, sizeof size - 1, &e), 0);
    assert_int_equal(read_all(s, &out, &last), 0);
    assert_non_null(strstr(out.data, "50 120\r\n"));
    assert_string_equal(last.data, "{\"exitCode\":9,\"signal\":0}");
    buf_done(&out);
    buf_done(&last);
    buf_done(&b);
    agent_stream_free(s);
}

static void signals(void **state)
{
    (void)state;
    struct agent_stream *s = open_exec("{\"args\":[\"sleep\",\"30\"]}");
    struct buf out = BUF_INIT(0), last = BUF_INIT(0);
    struct err e;
    usleep(200000);
    assert_int_equal(agent_stream_send(s, WIRE_FRAME_SIGNAL, "{\"signal\":2}", 12, &e), 0);
    assert_int_equal(read_all(s, &out, &last), 0);
    assert_string_equal(last.data, "{\"exitCode\":130,\"signal\":2}");
    buf_done(&last);
    agent_stream_free(s);
}

static void bad_frames(void **state)
{
    (void)state;
    struct agent_stream *s;
    struct err e;
    struct buf b = BUF_INIT(0);
    assert_int_equal(agent_stream_open(agent, "POST", WIRE_EXEC, &s, &e), 0);
    assert_int_equal(agent_stream_send(s, WIRE_FRAME_STDIN, "x", 1, &e), 0); /* before the spec */
    assert_int_equal(agent_stream_next(s, &b, 5000, &e), WIRE_FRAME_ERROR);
    agent_stream_free(s);
    s = open_exec("{\"args\":");
    assert_int_equal(agent_stream_next(s, &b, 5000, &e), WIRE_FRAME_ERROR);
    agent_stream_free(s);
    buf_done(&b);
}

static void application_life(void **state)
{
    (void)state;
    struct err e;
    json_t *v = NULL;
    struct agent_stream *logs;
    struct buf b = BUF_INIT(0), all = BUF_INIT(0);
    CLEANUP(cleanup_json)
    json_t *bad = json_pack("{s:[s]}", "args", "nope-nope");
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s,s,s]}", "args", "/bin/sh", "-c",
                             "echo early; sleep 0.5; echo late; exit 5");
    assert_int_equal(agent_call(agent, "POST", WIRE_START, bad, 5000, &v, &e), -EINVAL);
    assert_non_null(strstr(e.text, "cannot start the application"));
    assert_int_equal(agent_call(agent, "POST", WIRE_START, spec, 5000, &v, &e), 0);
    json_decref(v);
    assert_int_equal(agent_call(agent, "POST", WIRE_START, spec, 5000, &v, &e), -EBUSY);
    usleep(100000); /* "early" is in the ring by now */
    assert_int_equal(agent_stream_open(agent, "GET", WIRE_LOGS, &logs, &e), 0);
    int r;
    while ((r = agent_stream_next(logs, &b, 5000, &e)) > 0)
        assert_int_equal(buf_add(&all, b.data, b.len), 0);
    assert_int_equal(r, 0);
    assert_string_equal(all.data, "early\nlate\n");
    assert_int_equal(agent_call(agent, "GET", WIRE_WAIT, NULL, 5000, &v, &e), 0);
    assert_int_equal(json_get_int(v, "exitCode", -1), 5);
    json_decref(v);
    buf_done(&b);
    buf_done(&all);
    agent_stream_free(logs);
}

/* -- tunnels -- */

static int listen_on(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

struct tunnel_test {
    uint16_t port;
    int listener;
    struct agent_tunnel *t;
    struct sha256 *sent, *expect, *received;
    uint64_t to_send;
    _Atomic uint64_t got;
    bool paused, full;
    int status;
    atomic_int closes, ends;
    atomic_bool closed;
};

static void send_some(struct tunnel_test *x)
{
    static char block[65536];
    while (x->to_send) {
        size_t n = x->to_send < sizeof block ? (size_t)x->to_send : sizeof block;
        random_bytes(block, 64); /* enough to tell a shuffled stream */
        if (x->sent)
            sha256_add(x->sent, block, n);
        if (x->expect)
            sha256_add(x->expect, block, n);
        x->to_send -= n;
        if (!agent_tunnel_write(x->t, block, n)) {
            x->full = true;
            return;
        }
    }
    agent_tunnel_end(x->t);
}

static void t_open(struct agent_tunnel *t, int status, void *ctx)
{
    struct tunnel_test *x = ctx;
    assert_ptr_equal(t, x->t);
    x->status = status;
    if (status == 200 && !x->paused)
        send_some(x);
}

static void t_data(struct agent_tunnel *t, const char *p, size_t n, void *ctx)
{
    struct tunnel_test *x = ctx;
    (void)t;
    x->got += n;
    if (x->received)
        sha256_add(x->received, p, n);
}

static void t_end(struct agent_tunnel *t, void *ctx)
{
    (void)t;
    ((struct tunnel_test *)ctx)->ends++;
}

static void t_writable(struct agent_tunnel *t, void *ctx)
{
    struct tunnel_test *x = ctx;
    (void)t;
    assert_true(x->full);
    x->full = false;
    send_some(x);
}

static void t_close(struct agent_tunnel *t, void *ctx)
{
    struct tunnel_test *x = ctx;
    (void)t;
    x->closes++;
    atomic_store(&x->closed, true);
}

static const struct agent_tunnel_ops TUNNEL_OPS = {t_open, t_data, t_end, t_writable, t_close};

static void open_tunnel(void *arg)
{
    struct tunnel_test *x = arg;
    x->t = agent_tunnel_open(agent, x->port, &TUNNEL_OPS, x);
    if (x->paused)
        agent_tunnel_pause(x->t);
}

static void wait_closed(struct tunnel_test *x, int ms)
{
    for (int i = 0; i < ms && !atomic_load(&x->closed); i++)
        usleep(1000);
    assert_true(atomic_load(&x->closed));
    loop_call(loop, nothing, NULL);
    assert_int_equal(x->closes, 1);
}

/* Sends TUNNEL_BYTES while it takes in as many; gives the digest of what came as the last bytes. */
static void *digest_peer(void *arg)
{
    struct tunnel_test *x = arg;
    int fd = accept(x->listener, NULL, NULL);
    static char block[65536];
    unsigned char digest[SHA256_LEN];
    struct sha256 *h = sha256_new();
    ssize_t n;
    while ((n = read(fd, block, sizeof block)) > 0) {
        sha256_add(h, block, (size_t)n);
        if (fs_write_all(fd, block, (size_t)n) < 0)
            break;
    }
    sha256_end(h, digest);
    assert_int_equal(fs_write_all(fd, digest, sizeof digest), 0);
    close(fd);
    return NULL;
}

static void tunnel_much_both_ways(void **state)
{
    (void)state;
    struct tunnel_test x = {.to_send = TUNNEL_BYTES,
                            .sent = sha256_new(),
                            .expect = sha256_new(),
                            .received = sha256_new()};
    unsigned char sent[SHA256_LEN], expect[SHA256_LEN], received[SHA256_LEN];
    pthread_t t;
    x.listener = listen_on(&x.port);
    assert_int_equal(pthread_create(&t, NULL, digest_peer, &x), 0);
    int64_t t0 = clock_mono_ms();
    loop_call(loop, open_tunnel, &x);
    wait_closed(&x, 60000);
    pthread_join(t, NULL);
    int64_t took = clock_mono_ms() - t0;
    print_message("    %u MiB each way in %lld ms\n", TUNNEL_BYTES >> 20, (long long)took);
    assert_int_equal(x.status, 200);
    assert_int_equal(x.ends, 1);
    assert_int_equal(x.got, TUNNEL_BYTES + SHA256_LEN);
    /* What came back is what was sent, followed by the peer's digest of what it got. */
    sha256_end(x.sent, sent);
    sha256_add(x.expect, sent, sizeof sent);
    sha256_end(x.expect, expect);
    sha256_end(x.received, received);
    close(x.listener);
    assert_memory_equal(expect, received, SHA256_LEN);
}

static void *flood_peer(void *arg)
{
    struct tunnel_test *x = arg;
    int fd = accept(x->listener, NULL, NULL);
    static char block[65536];
    ssize_t n;
    uint64_t sent = 0;
    while ((n = send(fd, block, sizeof block, MSG_NOSIGNAL)) > 0) {
        sent += (uint64_t)n;
        atomic_store((_Atomic uint64_t *)&x->to_send, sent);
    }
    close(fd);
    return NULL;
}

static void call_send(void *arg)
{
    send_some(arg);
}

static void call_abort(void *arg)
{
    agent_tunnel_abort(((struct tunnel_test *)arg)->t);
}

static void call_resume(void *arg)
{
    struct tunnel_test *x = arg;
    x->paused = false;
    agent_tunnel_resume(x->t);
}

/* A paused reader stops the sender after a bounded amount, others go on; resume lets it flow. */
static void tunnel_flow_control(void **state)
{
    (void)state;
    struct tunnel_test x = {.paused = true};
    pthread_t t;
    struct output o;
    struct agent_exec_result r;
    struct err e;
    x.listener = listen_on(&x.port);
    assert_int_equal(pthread_create(&t, NULL, flood_peer, &x), 0);
    loop_call(loop, open_tunnel, &x);
    uint64_t before = 0, now = 1;
    for (int i = 0; i < 50 && before != now; i++) {
        before = now;
        usleep(300000);
        now = atomic_load((_Atomic uint64_t *)&x.to_send);
    }
    assert_int_equal(before, now);
    assert_int_equal(x.got, 0);
    assert_in_range(now, WIRE_STREAM_WINDOW, 32u << 20); /* the rest is in kernel buffers */
    assert_int_equal(run("head -c 3000000 /dev/zero", &o, &r, &e), 0);
    assert_int_equal(o.text[0].len, 3000000);
    output_done(&o);
    loop_call(loop, call_resume, &x);
    usleep(300000);
    assert_true(atomic_load((_Atomic uint64_t *)&x.to_send) > now);
    assert_true(x.got > WIRE_STREAM_WINDOW);
    loop_call(loop, call_abort, &x);
    wait_closed(&x, 5000);
    pthread_join(t, NULL); /* the guest closed its end */
    close(x.listener);
}

static void tunnel_refused(void **state)
{
    (void)state;
    struct tunnel_test x = {0};
    close(listen_on(&x.port));
    loop_call(loop, open_tunnel, &x);
    wait_closed(&x, 5000);
    assert_int_equal(x.status, 503);
    assert_int_equal(x.ends, 0);
}

static void open_and_abort(void *arg)
{
    open_tunnel(arg);
    call_abort(arg);
    assert_int_equal(((struct tunnel_test *)arg)->closes, 0); /* later, not inside */
}

static void tunnel_aborted_at_once(void **state)
{
    (void)state;
    struct tunnel_test x = {.status = -1};
    x.listener = listen_on(&x.port);
    loop_call(loop, open_and_abort, &x);
    wait_closed(&x, 5000);
    assert_int_equal(x.status, -1);
    close(x.listener);
}

static void tunnel_app_half_closes(void **state)
{
    (void)state;
    struct tunnel_test x = {.paused = true};
    x.listener = listen_on(&x.port);
    loop_call(loop, open_tunnel, &x);
    int fd = accept(x.listener, NULL, NULL);
    assert_int_equal(fs_write_all(fd, "last words", 10), 0);
    shutdown(fd, SHUT_WR);
    usleep(200000);
    assert_int_equal(x.got, 0);
    loop_call(loop, call_resume, &x);
    for (int i = 0; i < 2000 && !x.ends; i++)
        usleep(1000);
    assert_int_equal(x.got, 10);
    assert_int_equal(x.ends, 1);
    assert_false(atomic_load(&x.closed)); /* our direction is still open */
    x.to_send = 5;
    loop_call(loop, call_send, &x);
    char five[5];
    assert_int_equal(recv(fd, five, 5, MSG_WAITALL), 5);
    close(fd);
    wait_closed(&x, 5000);
    close(x.listener);
}

/* -- hooks -- */

struct http_peer {
    int listener;
    const char *answer;
    char request[2048];
};

static void *http_once(void *arg)
{
    struct http_peer *p = arg;
    int fd = accept(p->listener, NULL, NULL);
    size_t n = 0;
    do {
        ssize_t r = read(fd, p->request + n, sizeof p->request - 1 - n);
        if (r <= 0)
            break;
        n += (size_t)r;
        p->request[n] = '\0';
    } while (!strstr(p->request, "\r\n\r\n"));
    if (p->answer)
        (void)send(fd, p->answer, strlen(p->answer), MSG_NOSIGNAL);
    else
        usleep(300000);
    close(fd);
    return NULL;
}

static json_t *call_hook(const char *answer, struct http_peer *p, json_t *body, int timeout_ms)
{
    struct err e;
    json_t *v = NULL;
    pthread_t t;
    uint16_t port;
    *p = (struct http_peer){.answer = answer};
    p->listener = listen_on(&port);
    assert_int_equal(pthread_create(&t, NULL, http_once, p), 0);
    CLEANUP(cleanup_json)
    json_t *req = json_pack("{s:i, s:s, s:o, s:i}", "port", port, "path", "/hook", "body", body,
                            "timeoutMs", timeout_ms);
    assert_int_equal(agent_call(agent, "POST", WIRE_HOOK, req, 5000, &v, &e), 0);
    pthread_join(t, NULL);
    close(p->listener);
    char host[40];
    snprintf(host, sizeof host, "\r\nHost: localhost:%u\r\n", port);
    assert_non_null(strstr(p->request, host));
    return v;
}

static void hooks(void **state)
{
    (void)state;
    struct http_peer p;
    struct err e;
    json_t *v = call_hook("HTTP/1.1 204 No Content\r\n\r\n", &p, json_null(), 2000);
    assert_int_equal(json_get_int(v, "status", 0), 204);
    assert_non_null(strstr(p.request, "POST /hook HTTP/1.1\r\n"));
    assert_null(strcasestr(p.request, "content-type"));
    assert_null(strcasestr(p.request, "user-agent"));
    json_decref(v);
    v = call_hook("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 x\r\n", &p, json_pack("{s:i}", "a", 1),
                  2000);
    assert_int_equal(json_get_int(v, "status", 0), 500);
    assert_non_null(strcasestr(p.request, "content-type: application/json\r\n"));
    json_decref(v);
    v = call_hook("nonsense\r\n", &p, json_null(), 2000);
    assert_non_null(json_get_str(v, "error"));
    assert_false(json_get_bool(v, "refused", true));
    json_decref(v);
    v = call_hook(NULL, &p, json_null(), 100);
    assert_true(json_get_bool(v, "timeout", false));
    json_decref(v);
    uint16_t port;
    close(listen_on(&port));
    CLEANUP(cleanup_json)
    json_t *req = json_pack("{s:i, s:s, s:i}", "port", port, "path", "/x", "timeoutMs", 1000);
    assert_int_equal(agent_call(agent, "POST", WIRE_HOOK, req, 5000, &v, &e), 0);
    assert_true(json_get_bool(v, "refused", false));
    json_decref(v);
}

/* -- death -- */

struct blocked {
    pthread_t t;
    int r;
    struct agent_stream *s;
};

static void *blocked_call(void *arg)
{
    struct blocked *b = arg;
    struct err e;
    json_t *v = NULL;
    CLEANUP(cleanup_json)
    json_t *req = json_pack("{s:i}", "timeoutMs", 60000);
    b->r = agent_call(agent, "GET", WIRE_WAIT, req, -1, &v, &e);
    return NULL;
}

static void *blocked_next(void *arg)
{
    struct blocked *b = arg;
    struct err e;
    struct buf out = BUF_INIT(0);
    b->r = agent_stream_next(b->s, &out, -1, &e);
    buf_done(&out);
    return NULL;
}

static void *blocked_send(void *arg)
{
    struct blocked *b = arg;
    struct err e;
    static char block[60000];
    do
        b->r = agent_stream_send(b->s, WIRE_FRAME_STDIN, block, sizeof block, &e);
    while (b->r == 0);
    return NULL;
}

/* Every kind of waiter at once; the guest dies; each comes back once with -EPIPE. */
static void death_wakes_everyone(void **state)
{
    (void)state;
    struct blocked call = {0}, next = {0}, send = {0};
    struct tunnel_test x = {.paused = true};
    struct err e;
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s,s]}", "args", "sleep", "60");
    json_t *v = NULL;
    assert_int_equal(agent_call(agent, "POST", WIRE_START, spec, 5000, &v, &e), 0);
    json_decref(v);
    next.s = open_exec("{\"args\":[\"sleep\",\"60\"]}");
    send.s = open_exec("{\"args\":[\"sleep\",\"60\"]}");
    x.listener = listen_on(&x.port);
    loop_call(loop, open_tunnel, &x);
    assert_int_equal(pthread_create(&call.t, NULL, blocked_call, &call), 0);
    assert_int_equal(pthread_create(&next.t, NULL, blocked_next, &next), 0);
    assert_int_equal(pthread_create(&send.t, NULL, blocked_send, &send), 0);
    usleep(500000);
    kill(guest_pid, SIGKILL);
    pthread_join(call.t, NULL);
    pthread_join(next.t, NULL);
    pthread_join(send.t, NULL);
    assert_int_equal(call.r, -EPIPE);
    assert_int_equal(next.r, -EPIPE);
    assert_int_equal(send.r, -EPIPE);
    wait_closed(&x, 5000);
    assert_true(agent_is_dead(agent));
    agent_stream_free(next.s);
    agent_stream_free(send.s);
    close(x.listener);
}

/* -- one pipe, several sessions -- */

static int reopen(int fd, struct err *e)
{
    struct agent *a = NULL;
    int r = agent_open(loop, dup(fd), 5000, &a, e);
    if (r == 0) {
        json_t *v = NULL;
        r = agent_call(a, "GET", WIRE_INFO, NULL, 2000, &v, e);
        json_decref(v);
        agent_close(a);
        agent_unref(a);
    }
    return r;
}

/* The guest never sees a close: as after a snapshot, sessions follow each other in one stream. */
static void sessions_follow_each_other(void **state)
{
    (void)state;
    int fd;
    struct err e = {0};
    pid_t other = guest_pid;
    assert_int_equal(start_guest(&fd), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(reopen(fd, &e), 0);
    /* A frame cut short by the end of its session: the hello after it looks like payload. */
    static const char cut[] = "\0\x40\0\0\0\0\0\0\1partial";
    assert_int_equal(fs_write_all(fd, cut, sizeof cut - 1), 0);
    assert_int_equal(reopen(fd, &e), 0);
    /* Bytes that are no frames at all. */
    assert_int_equal(fs_write_all(fd, "\xff\xff\xff garbage, garbage", 19), 0);
    assert_int_equal(reopen(fd, &e), 0);
    close(fd);
    int status;
    assert_int_equal(waitpid(guest_pid, &status, 0), guest_pid);
    assert_int_equal(status, 0);
    guest_pid = other;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(info_and_errors),
        T(exec_basics),
        T(exec_refusals),
        T(exec_much_output),
        T(exec_timeout_kills),
        T(stdin_through_cat),
        T(stdin_of_a_program_that_leaves),
        T(terminal),
        T(signals),
        T(bad_frames),
        T(application_life),
        T(tunnel_much_both_ways),
        T(tunnel_flow_control),
        T(tunnel_refused),
        T(tunnel_aborted_at_once),
        T(tunnel_app_half_closes),
        T(hooks),
        T(death_wakes_everyone),
        T(sessions_follow_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
