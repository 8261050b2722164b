/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "http/tls.h"

static void *loop_main(void *arg)
{
    struct rig *r = arg;
    loop_run(r->loop);
    return NULL;
}

void rig_init(struct rig *r, bool tls)
{
    struct err e = {0};
    struct buf out = {0};
    *r = (struct rig){.dir = "/tmp/tinderbox-http-XXXXXX"};
    assert_non_null(mkdtemp(r->dir));
    if (tls) {
        char cert[128], key[128];
        snprintf(cert, sizeof cert, "%s/cert.pem", r->dir);
        snprintf(key, sizeof key, "%s/key.pem", r->dir);
        assert_int_equal(
            rig_sh(r, &out,
                   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                   "-keyout DIR/key.pem -out DIR/cert.pem -days 2 -subj /CN=localhost "
                   "-addext subjectAltName=DNS:localhost,DNS:*.microvm.localhost,IP:127.0.0.1 "
                   "2>&1"),
            0);
        assert_int_equal(tls_context_new(cert, key, &r->tls, &e), 0);
    }
    assert_int_equal(loop_new(&r->loop, &e), 0);
    buf_done(&out);
}

void rig_run(struct rig *r, struct http_handler h, const struct http_limits *l, bool h2)
{
    struct err e = {0};
    struct http_server_config c = {
        .loop = r->loop, .address = "127.0.0.1", .tls = r->tls, .h2 = h2, .handler = h};
    if (l)
        c.limits = *l;
    if (http_server_start(&c, &r->server, &e) < 0)
        fail_msg("%s", e.text);
    r->port = http_server_port(r->server);
    assert_int_equal(pthread_create(&r->thread, NULL, loop_main, r), 0);
}

void rig_start(struct rig *r, struct http_handler h, const struct http_limits *l, bool tls, bool h2)
{
    rig_init(r, tls);
    rig_run(r, h, l, h2);
}

static void on_stopped(void *arg)
{
    struct rig *r = arg;
    if (r->stopped)
        r->stopped(r->arg);
    else
        loop_stop(r->loop);
}

static void stop_server(void *arg)
{
    struct rig *r = arg;
    http_server_stop(r->server, on_stopped, r);
}

void rig_stop(struct rig *r)
{
    loop_post(r->loop, stop_server, r);
    pthread_join(r->thread, NULL);
    loop_free(r->loop);
    SSL_CTX_free(r->tls);
    assert_int_equal(fs_remove_tree(r->dir, NULL), 0);
}

static void replace(struct buf *b, const char *from, const char *to)
{
    struct buf out = {0};
    const char *p = b->data, *q;
    while ((q = strstr(p, from))) {
        assert_int_equal(buf_add(&out, p, (size_t)(q - p)), 0);
        assert_int_equal(buf_adds(&out, to), 0);
        p = q + strlen(from);
    }
    assert_int_equal(buf_adds(&out, p), 0);
    buf_done(b);
    *b = out;
}

int rig_sh(const struct rig *r, struct buf *out, const char *command)
{
    struct buf cmd = {0};
    char port[8], chunk[4096];
    size_t n;
    snprintf(port, sizeof port, "%u", r->port);
    assert_int_equal(buf_adds(&cmd, command), 0);
    replace(&cmd, "PORT", port);
    replace(&cmd, "DIR", r->dir);
    buf_clear(out);
    FILE *f = popen(cmd.data, "r");
    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        assert_int_equal(buf_add(out, chunk, n), 0);
    assert_int_equal(buf_adds(out, ""), 0);
    buf_done(&cmd);
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int rig_connect(const struct rig *r)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons(r->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

void rig_send(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

void rig_read(int fd, struct buf *out, const char *until)
{
    char p[4096];
    ssize_t n;
    buf_clear(out);
    assert_int_equal(buf_adds(out, ""), 0);
    while (!until || !strstr(out->data, until)) {
        n = recv(fd, p, sizeof p, 0);
        if (n < 0 && errno == EINTR) /* a receive with a timeout is never restarted */
            continue;
        if (n <= 0)
            break;
        assert_int_equal(buf_add(out, p, (size_t)n), 0);
    }
}
