/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real program against a real network, all in private namespaces:
 *
 *   this process (the guest's side of the stream)
 *   tinderbox-net in namespace A: 198.51.100.1, 10.9.9.1, with listeners that must stay unreachable
 *   "the world" in namespace B:   198.51.100.2, 10.9.9.2, with a web server and a name server
 *
 * Skipped where user namespaces, veth or ip(8) are missing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/json.h"
#include "guest.h"
#include "net/be.h"
#include "net/dns.h"
#include "net/policy.h"
#include "net/stats.h"

#define SKIP 77
#define HOST_IP IP(198, 51, 100, 1)
#define WORLD_IP IP(198, 51, 100, 2)
#define PRIVATE_IP IP(10, 9, 9, 2)
#define WEB_PORT 8080
#define PUMP_PORT 8081 /* sends PUMP_BYTES to whoever connects */
#define SINK_PORT 8082 /* counts what it gets, and says so at the end */
#define PUMP_BYTES (1 << 20)
#define PATTERN(i) ((char)((i)*7 + ((i) >> 10)))
#define WAIT_MS 5000

static const char *program, *no_sandbox;
static char resolv_conf[] = "/tmp/tbnet-resolv-XXXXXX";
static pid_t world, net_pid;
static int stream = -1, stats_fd = -1;

static _Noreturn void skip_all(const char *why)
{
    fprintf(stderr, "skipped: %s\n", why);
    if (world > 0)
        kill(world, SIGKILL);
    exit(SKIP);
}

/* ---- namespaces ------------------------------------------------------------------------------ */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static void enter_namespaces(void)
{
    char uid[64], gid[64];
    snprintf(uid, sizeof uid, "0 %u 1", geteuid());
    snprintf(gid, sizeof gid, "0 %u 1", getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        skip_all("no user or network namespaces here");
    if (!write_text("/proc/self/setgroups", "deny") || !write_text("/proc/self/uid_map", uid) ||
        !write_text("/proc/self/gid_map", gid))
        skip_all("cannot map this user into a namespace");
}

static void run_ip(const char *command)
{
    char line[256];
    snprintf(line, sizeof line, "ip %s", command);
    if (system(line) != 0) /* constant text of this file and a pid */
        skip_all(line);
}

/* ---- the world ------------------------------------------------------------------------------- */

static int listen_on(int type, uint32_t ip, uint16_t port)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(ip);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        (type == SOCK_STREAM && listen(fd, 16) < 0)) {
        perror("listen");
        exit(1);
    }
    return fd;
}

/* Any name exists and is at WORLD_IP; "mute.test" is never answered, "forged.test" first gets an
 * answer with a wrong id, "large.test" one that only TCP can carry. */
static size_t world_answer(const uint8_t *q, size_t n, uint8_t *out, bool tcp)
{
    struct dns_query parsed;
    char name[DNS_NAME_MAX + 1];
    if (dns_parse_query(q, n, &parsed) != 0)
        return 0;
    dns_name_text(&parsed, name);
    if (strcmp(name, "mute.test.") == 0)
        return 0;
    bool large = strcmp(name, "large.test.") == 0;
    memcpy(out, q, 12 + parsed.name_len + 4);
    be16_put(out + 2, large && !tcp ? 0x8380 : 0x8180);
    be16_put(out + 10, 0);
    size_t at = 12 + parsed.name_len + 4;
    unsigned records = large ? (tcp ? 200 : 0) : 1;
    for (unsigned i = 0; i < records; i++, at += 16) {
        static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 2};
        memcpy(out + at, record, sizeof record);
    }
    be16_put(out + 6, records);
    return at;
}

static void serve_dns_udp(int fd)
{
    uint8_t q[1500], a[8192];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(fd, q, sizeof q, 0, (struct sockaddr *)&from, &len);
    size_t m = n > 0 ? world_answer(q, (size_t)n, a, false) : 0;
    if (m && memmem(q, (size_t)n, "forged", 6)) {
        a[0] ^= 0xff;
        sendto(fd, a, m, 0, (struct sockaddr *)&from, len);
        a[0] ^= 0xff;
    }
    if (m)
        sendto(fd, a, m, 0, (struct sockaddr *)&from, len);
}

static void serve_dns_tcp(int fd)
{
    uint8_t q[1500], a[8192];
    int c = accept(fd, NULL, NULL);
    ssize_t n = recv(c, q, 2, MSG_WAITALL);
    if (n == 2)
        n = recv(c, q, be16_get(q), MSG_WAITALL);
    size_t m = n > 0 ? world_answer(q, (size_t)n, a + 2, true) : 0;
    be16_put(a, (unsigned)m);
    if (m && send(c, a, m + 2, MSG_NOSIGNAL) < 0)
        perror("send");
    close(c);
}

static void serve_web(int fd)
{
    char request[1024];
    int c = accept(fd, NULL, NULL);
    ssize_t n = recv(c, request, sizeof request, 0);
    if (n > 0 && send(c, "hello, ", 7, MSG_NOSIGNAL | MSG_MORE) == 7)
        (void)!send(c, request, (size_t)n, MSG_NOSIGNAL);
    close(c);
}

/* One child for each connection: several run at once. */
static void serve_in_child(int fd, void (*serve)(int c))
{
    int c = accept(fd, NULL, NULL);
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(c);
        close(c);
        _exit(0);
    }
    close(c);
}

static void pump(int c)
{
    static char data[PUMP_BYTES];
    for (unsigned i = 0; i < PUMP_BYTES; i++)
        data[i] = PATTERN(i);
    for (size_t at = 0; at < PUMP_BYTES;) {
        ssize_t n = send(c, data + at, PUMP_BYTES - at, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        at += (size_t)n;
    }
}

static void sink(int c)
{
    char data[65536], text[64];
    unsigned at = 0, wrong = 0;
    for (ssize_t n; (n = recv(c, data, sizeof data, 0)) > 0;)
        for (ssize_t i = 0; i < n; i++, at++)
            wrong += data[i] != PATTERN(at);
    int len = snprintf(text, sizeof text, "%u bytes, %u wrong", at, wrong);
    (void)!send(c, text, (size_t)len, MSG_NOSIGNAL);
}

static void serve_pump(int fd)
{
    serve_in_child(fd, pump);
}

static void serve_sink(int fd)
{
    serve_in_child(fd, sink);
}

static _Noreturn void be_the_world(int ready, int go)
{
    char c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET) < 0)
        _exit(SKIP);
    if (write(ready, "r", 1) != 1 || read(go, &c, 1) != 1)
        _exit(1);
    run_ip("addr add 198.51.100.2/24 dev tbw");
    run_ip("addr add 10.9.9.2/24 dev tbw");
    run_ip("link set tbw up");
    run_ip("route add default via 198.51.100.1");
    struct pollfd p[] = {{.fd = listen_on(SOCK_STREAM, 0, WEB_PORT), .events = POLLIN},
                         {.fd = listen_on(SOCK_DGRAM, WORLD_IP, 53), .events = POLLIN},
                         {.fd = listen_on(SOCK_STREAM, WORLD_IP, 53), .events = POLLIN},
                         {.fd = listen_on(SOCK_STREAM, 0, PUMP_PORT), .events = POLLIN},
                         {.fd = listen_on(SOCK_STREAM, 0, SINK_PORT), .events = POLLIN}};
    signal(SIGCHLD, SIG_IGN);
    if (write(ready, "l", 1) != 1)
        _exit(1);
    void (*serve[])(int) = {serve_web, serve_dns_udp, serve_dns_tcp, serve_pump, serve_sink};
    for (;;) {
        poll(p, ARRAY_LEN(p), -1);
        for (size_t i = 0; i < ARRAY_LEN(p); i++)
            if (p[i].revents)
                serve[i](p[i].fd);
    }
}

static void make_world(void)
{
    int ready[2], go[2];
    char c, command[128];
    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
        skip_all("pipe");
    world = fork();
    if (world == 0)
        be_the_world(ready[1], go[0]);
    close(ready[1]);
    if (read(ready[0], &c, 1) != 1)
        skip_all("no second network namespace");
    snprintf(command, sizeof command, "link add tbh type veth peer name tbw netns %d", world);
    run_ip(command);
    run_ip("addr add 198.51.100.1/24 dev tbh");
    run_ip("addr add 10.9.9.1/24 dev tbh");
    run_ip("link set tbh up");
    run_ip("link set lo up");
    run_ip("route add default via 198.51.100.2");
    /* Not an address of any interface, yet delivered here. */
    run_ip("route add local 198.51.100.128/25 dev lo");
    if (write(go[1], "g", 1) != 1 || read(ready[0], &c, 1) != 1)
        skip_all("the other namespace did not come up");
    /* Would answer anybody who gets through. */
    listen_on(SOCK_STREAM, 0, WEB_PORT);
}

/* ---- tinderbox-net --------------------------------------------------------------------------- */

static int memory_file(const char *text)
{
    int fd = memfd_create("policy", 0);
    assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
    return fd;
}

static void start_net(const char *policy)
{
    char fd[16], policy_fd[16], stats[16];
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(fcntl(pair[0], F_SETFD, FD_CLOEXEC), 0);
    int p = memory_file(policy);
    stats_fd = memfd_create("stats", 0);
    snprintf(fd, sizeof fd, "%d", pair[1]);
    snprintf(policy_fd, sizeof policy_fd, "%d", p);
    snprintf(stats, sizeof stats, "%d", stats_fd);
    net_pid = fork();
    if (net_pid == 0) {
        execl(program, program, "--fd", fd, "--policy-fd", policy_fd, "--stats-fd", stats,
              "--resolv-conf", resolv_conf, no_sandbox, NULL);
        perror(program);
        _exit(1);
    }
    close(pair[1]);
    close(p);
    stream = pair[0];
}

/* Closing the stream must end the program, cleanly. */
static struct net_stats stop_net(void)
{
    struct net_stats s;
    int status;
    close(stream);
    assert_int_equal(waitpid(net_pid, &status, 0), net_pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(net_stats_read(stats_fd, &s), 0);
    close(stats_fd);
    return s;
}

static void start_default(void)
{
    struct net_policy p;
    net_policy_default(&p);
    CLEANUP(cleanup_json)
    json_t *v = net_policy_to_json(&p);
    char *text = json_text(v);
    start_net(text);
    free(text);
}

static void transmit(const uint8_t *frame, size_t n)
{
    uint8_t head[4];
    be32_put(head, (uint32_t)n);
    assert_int_equal(fs_write_all(stream, head, 4), 0);
    assert_int_equal(fs_write_all(stream, frame, n), 0);
}

static bool read_exactly(uint8_t *p, size_t n, int timeout_ms)
{
    while (n) {
        struct pollfd w = {.fd = stream, .events = POLLIN};
        if (poll(&w, 1, timeout_ms) <= 0)
            return false;
        ssize_t got = read(stream, p, n);
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

static bool receive(uint8_t *frame, struct net_frame *f, int timeout_ms)
{
    uint8_t head[4];
    if (!read_exactly(head, 4, timeout_ms))
        return false;
    size_t n = be32_get(head);
    assert_in_range(n, 14, NET_FRAME_MAX);
    assert_true(read_exactly(frame, n, timeout_ms));
    enum net_reason r = net_frame_parse(frame, n, f);
    assert_int_equal(r, NET_OK);
    return true;
}

/* ---- a small TCP client ---------------------------------------------------------------------- */

struct conn {
    uint32_t ip, seq, ack;
    uint16_t sport, dport;
};

static void conn_send(struct conn *c, uint8_t flags, const void *data, size_t n)
{
    uint8_t frame[NET_FRAME_MAX];
    transmit(frame, guest_tcp(frame, c->ip, c->sport, c->dport, flags, c->seq, c->ack, data, n));
    c->seq += (uint32_t)n + ((flags & (NET_TCP_SYN | NET_TCP_FIN)) ? 1 : 0);
}

/* 'o' open, 'r' reset, 't' nothing came */
static char conn_open(struct conn *c, uint32_t ip, uint16_t dport, int timeout_ms)
{
    static uint16_t next_port = 40000;
    uint8_t frame[NET_FRAME_MAX];
    struct net_frame f;
    *c = (struct conn){.ip = ip, .seq = 1000, .sport = next_port++, .dport = dport};
    conn_send(c, NET_TCP_SYN, NULL, 0);
    while (receive(frame, &f, timeout_ms)) {
        if (f.kind != NET_TCP || f.dst_port != c->sport)
            continue;
        assert_int_equal(f.src, ip);
        assert_int_equal(f.tcp_ack, c->seq);
        if (f.tcp_flags & NET_TCP_RST)
            return 'r';
        c->ack = f.tcp_seq + 1;
        conn_send(c, NET_TCP_ACK, NULL, 0);
        return 'o';
    }
    return 't';
}

/* Reads until the peer's FIN; the text is NUL-terminated. */
static size_t conn_read_all(struct conn *c, char *out, size_t cap)
{
    uint8_t frame[NET_FRAME_MAX];
    struct net_frame f;
    size_t have = 0;
    while (receive(frame, &f, WAIT_MS)) {
        if (f.kind != NET_TCP || f.dst_port != c->sport || f.tcp_seq != c->ack)
            continue;
        assert_true(have + f.payload_len < cap);
        memcpy(out + have, f.payload, f.payload_len);
        have += f.payload_len;
        c->ack += (uint32_t)f.payload_len + ((f.tcp_flags & NET_TCP_FIN) ? 1 : 0);
        conn_send(c, NET_TCP_ACK, NULL, 0);
        if (f.tcp_flags & NET_TCP_FIN)
            break;
    }
    out[have] = '\0';
    return have;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void answers_arp(void **state)
{
    static const uint32_t stations[] = {GATEWAY_IP, DNS_IP};
    uint8_t frame[NET_FRAME_MAX];
    struct net_frame f;
    (void)state;
    start_default();
    for (size_t i = 0; i < ARRAY_LEN(stations); i++) {
        transmit(frame, guest_arp(frame, stations[i]));
        assert_true(receive(frame, &f, WAIT_MS));
        assert_int_equal(f.kind, NET_ARP);
        assert_int_equal(f.src, stations[i]);
    }
    stop_net();
}

static void carries_tcp(void **state)
{
    struct conn c;
    char text[64];
    (void)state;
    start_default();
    assert_int_equal(conn_open(&c, WORLD_IP, WEB_PORT, WAIT_MS), 'o');
    conn_send(&c, NET_TCP_ACK, "guest", 5);
    conn_read_all(&c, text, sizeof text);
    assert_string_equal(text, "hello, guest");
    conn_send(&c, NET_TCP_FIN | NET_TCP_ACK, NULL, 0);
    struct net_stats s = stop_net();
    assert_int_equal(s.sockets_total, 1);
    assert_true(s.tx_bytes > 0 && s.rx_bytes > 0);
    assert_int_equal(s.refused, 0);
}

/* More downloads at once than the output queue holds, from a guest that does not read for a while:
 * everything arrives, and what waits in between stays bounded. */
static void downloads_survive_a_stall(void **state)
{
    struct conn c[12];
    size_t have[12] = {0}, done = 0;
    uint8_t frame[NET_FRAME_MAX];
    struct net_frame f;
    (void)state;
    start_default();
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        assert_int_equal(conn_open(&c[i], WORLD_IP, PUMP_PORT, WAIT_MS), 'o');
    usleep(700 * 1000);
    while (done < ARRAY_LEN(c) && receive(frame, &f, 20000)) {
        size_t i = 0;
        while (i < ARRAY_LEN(c) && c[i].sport != f.dst_port)
            i++;
        if (f.kind != NET_TCP || i == ARRAY_LEN(c))
            continue;
        if (f.tcp_seq == c[i].ack) {
            for (size_t k = 0; k < f.payload_len; k++)
                if ((char)f.payload[k] != PATTERN(have[i] + k))
                    fail_msg("connection %zu differs at %zu", i, have[i] + k);
            have[i] += f.payload_len;
            c[i].ack += (uint32_t)f.payload_len + ((f.tcp_flags & NET_TCP_FIN) ? 1 : 0);
            done += (f.tcp_flags & NET_TCP_FIN) ? 1 : 0;
        }
        conn_send(&c[i], NET_TCP_ACK, NULL, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        assert_int_equal(have[i], PUMP_BYTES);
    struct net_stats s = stop_net();
    assert_true(s.rx_bytes >= ARRAY_LEN(c) * PUMP_BYTES);
}

static void uploads(void **state)
{
    enum { TOTAL = 3 << 20, SEGMENT = 1400, WINDOW = 16 * SEGMENT };
    uint8_t frame[NET_FRAME_MAX];
    char data[SEGMENT], text[64];
    struct net_frame f;
    struct conn c;
    (void)state;
    start_default();
    assert_int_equal(conn_open(&c, WORLD_IP, SINK_PORT, WAIT_MS), 'o');
    uint32_t first = c.seq, acked = c.seq, window = WINDOW;
    for (int silent = 0; acked - first < TOTAL && silent < 50;) {
        while (c.seq - acked + SEGMENT <= window && c.seq - first < TOTAL) {
            unsigned at = c.seq - first, n = TOTAL - at < SEGMENT ? TOTAL - at : SEGMENT;
            for (unsigned i = 0; i < n; i++)
                data[i] = PATTERN(at + i);
            conn_send(&c, NET_TCP_ACK, data, n);
        }
        if (!receive(frame, &f, 200)) { /* lost, or the window was closed: once more from there */
            c.seq = acked;
            window = SEGMENT;
            silent++;
        } else if (f.kind == NET_TCP && f.dst_port == c.sport && f.tcp_ack - acked <= WINDOW) {
            uint32_t offered = be16_get(f.ip + 20 + 14);
            acked = f.tcp_ack;
            window = offered < WINDOW ? offered : WINDOW;
            silent = 0;
        }
    }
    assert_int_equal(acked - first, TOTAL);
    conn_send(&c, NET_TCP_FIN | NET_TCP_ACK, NULL, 0);
    conn_read_all(&c, text, sizeof text);
    assert_string_equal(text, "3145728 bytes, 0 wrong");
    stop_net();
}

/* What only other policies allow, under the same sandbox: the stack makes other system calls. */
static void carries_udp_and_ping(void **state)
{
    uint8_t frame[NET_FRAME_MAX], q[DNS_QUERY_MAX];
    struct net_frame f;
    (void)state;
    start_net("{\"default\":\"allow\",\"dns\":false}");
    size_t n = guest_dns_query(q, 9, "example.test", DNS_TYPE_A);
    transmit(frame, guest_udp(frame, WORLD_IP, 5000, 53, q, n));
    assert_true(receive(frame, &f, WAIT_MS));
    assert_int_equal(f.kind, NET_UDP);
    assert_int_equal(f.src, WORLD_IP);
    assert_int_equal(be16_get(f.payload), 9);
    transmit(frame, guest_udp(frame, WORLD_IP, 5000, 9, "nobody there", 12));
    assert_true(receive(frame, &f, WAIT_MS));
    assert_int_equal(f.kind, NET_ICMP);
    assert_int_equal(f.icmp_type, 3);
    /* A reply, or "unreachable" where the kernel lets this user send no pings. */
    transmit(frame, guest_ping(frame, WORLD_IP));
    assert_true(receive(frame, &f, WAIT_MS));
    assert_int_equal(f.kind, NET_ICMP);
    assert_true(f.icmp_type == 0 || f.icmp_type == 3);
    stop_net();
}

static void limits_flows(void **state)
{
    uint8_t frame[NET_FRAME_MAX];
    struct net_stats s;
    (void)state;
    start_net("{\"default\":\"allow\",\"dns\":false}");
    for (uint16_t i = 0; i < 1100; i++)
        transmit(frame, guest_udp(frame, WORLD_IP, (uint16_t)(10000 + i), 4000, "x", 1));
    do /* the counters are live */
        assert_int_equal(net_stats_read(stats_fd, &s), 0);
    while (s.tx_frames < 1100);
    assert_in_range(s.sockets_now, 1000, 1024);
    s = stop_net();
    assert_true(s.frames[NET_LIMIT] >= 1100 - 1024);
    assert_int_equal(s.frames[NET_OK] + s.frames[NET_LIMIT], 1100);
}

/* The host's listeners are on all its addresses: whatever got through would be answered. */
static void denies_with_reset(void **state)
{
    static const struct {
        uint32_t ip;
        const char *what;
    } rows[] = {
        {GATEWAY_IP, "the gateway, which is the host"},
        {HOST_IP, "an address of the host"},
        {IP(198, 51, 100, 200), "a prefix delivered to the host"},
        {IP(127, 0, 0, 1), "loopback"},
        {IP(169, 254, 169, 254), "metadata"},
        {IP(169, 254, 1, 1), "link-local"},
        {PRIVATE_IP, "a private address"},
        {IP(10, 9, 9, 1), "a private address of the host"},
        {IP(192, 168, 1, 1), "a private address"},
        {IP(172, 31, 0, 1), "a private address"},
        {DNS_IP, "the resolver, on another port"},
    };
    struct conn c;
    (void)state;
    start_default();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char got = conn_open(&c, rows[i].ip, WEB_PORT, WAIT_MS);
        if (got != 'r')
            fail_msg("%s: '%c' instead of a reset", rows[i].what, got);
    }
    struct net_stats s = stop_net();
    assert_int_equal(s.refused, ARRAY_LEN(rows));
    assert_int_equal(s.frames[NET_DENIED_HOST], 2);
    assert_int_equal(s.frames[NET_DENIED_POLICY], ARRAY_LEN(rows) - 2);
    assert_int_equal(s.sockets_total, 0);
}

static void rules_cannot_open_the_host(void **state)
{
    static const uint32_t closed[] = {HOST_IP, GATEWAY_IP, IP(127, 0, 0, 1), IP(169, 254, 169, 254),
                                      IP(10, 9, 9, 1)};
    struct conn c;
    (void)state;
    start_net("{\"default\":\"allow\",\"dns\":false,\"rules\":[{\"action\":\"allow\",\"cidr\":"
              "\"0.0.0.0/0\"},{\"action\":\"allow\",\"cidr\":\"198.51.100.1\"}]}");
    for (size_t i = 0; i < ARRAY_LEN(closed); i++)
        assert_int_equal(conn_open(&c, closed[i], WEB_PORT, WAIT_MS), 'r');
    /* The rules do open the rest. */
    assert_int_equal(conn_open(&c, PRIVATE_IP, WEB_PORT, WAIT_MS), 'o');
    stop_net();
}

static void rules_are_tried_in_order(void **state)
{
    struct conn c;
    (void)state;
    start_net("{\"default\":\"deny\",\"dns\":false,\"rules\":["
              "{\"action\":\"deny\",\"cidr\":\"198.51.100.2\",\"ports\":\"53\"},"
              "{\"action\":\"allow\",\"cidr\":\"198.51.100.0/24\",\"protocol\":\"tcp\"}]}");
    assert_int_equal(conn_open(&c, WORLD_IP, 53, WAIT_MS), 'r');
    assert_int_equal(conn_open(&c, WORLD_IP, WEB_PORT, WAIT_MS), 'o');
    assert_int_equal(conn_open(&c, PRIVATE_IP, WEB_PORT, WAIT_MS), 'r');
    stop_net();
}

static void denies_udp_and_ping(void **state)
{
    uint8_t frame[NET_FRAME_MAX];
    struct net_frame f;
    (void)state;
    start_default();
    for (int i = 0; i < 2; i++) {
        transmit(frame,
                 i ? guest_ping(frame, WORLD_IP) : guest_udp(frame, WORLD_IP, 5000, 53, "ping", 4));
        assert_true(receive(frame, &f, WAIT_MS));
        assert_int_equal(f.kind, NET_ICMP);
        assert_int_equal(f.icmp_type, 3);
        assert_int_equal(f.src, GATEWAY_IP);
        assert_int_equal(be32_get(f.payload + 16), WORLD_IP); /* quotes what was refused */
    }
    /* Broadcast is dropped without a word. */
    transmit(frame, guest_udp(frame, IP(255, 255, 255, 255), 68, 67, "dhcp", 4));
    assert_false(receive(frame, &f, 200));
    stop_net();
}

/* Asks and returns the answer in *f (pointing into frame). */
static void ask(uint8_t *frame, struct net_frame *f, uint16_t id, const char *name, uint16_t type)
{
    uint8_t q[DNS_QUERY_MAX];
    size_t n = guest_dns_query(q, id, name, type);
    transmit(frame, guest_udp(frame, DNS_IP, (uint16_t)(20000 + id), 53, q, n));
    assert_true(receive(frame, f, 10000));
    assert_int_equal(f->kind, NET_UDP);
    assert_int_equal(f->src, DNS_IP);
    assert_int_equal(f->src_port, 53);
    assert_int_equal(f->dst_port, 20000 + id);
    assert_true(f->payload_len >= 12);
    assert_int_equal(be16_get(f->payload), id);
}

static void resolves(void **state)
{
    uint8_t frame[NET_FRAME_MAX];
    struct net_frame f;
    (void)state;
    start_default();
    ask(frame, &f, 1, "example.test", DNS_TYPE_A);
    assert_int_equal(be16_get(f.payload + 2), 0x8180);
    assert_int_equal(be16_get(f.payload + 6), 1);
    assert_int_equal(be32_get(f.payload + f.payload_len - 4), WORLD_IP);
    ask(frame, &f, 2, "example.test", DNS_TYPE_AAAA); /* no IPv6: empty, and at once */
    assert_int_equal(be16_get(f.payload + 2), 0x8180);
    assert_int_equal(be16_get(f.payload + 6), 0);
    ask(frame, &f, 3, "forged.test", DNS_TYPE_A);
    assert_int_equal(be16_get(f.payload + 6), 1);
    ask(frame, &f, 4, "example.test", 252); /* zone transfer */
    assert_int_equal(be16_get(f.payload + 2) & 15, DNS_REFUSED);
    ask(frame, &f, 5, "mute.test", DNS_TYPE_A);
    assert_int_equal(be16_get(f.payload + 2) & 15, DNS_SERVFAIL);
    struct net_stats s = stop_net();
    assert_int_equal(s.dns_queries, 5);
    assert_int_equal(s.dns_forwarded, 3);
    assert_int_equal(s.dns_answered, 2);
    assert_int_equal(s.dns_failed, 1);
    assert_int_equal(s.dns_rejected, 1); /* the forged one */
}

/* An answer too large for a datagram: truncated over UDP, whole over TCP. */
static void resolves_over_tcp(void **state)
{
    uint8_t frame[NET_FRAME_MAX], q[2 + DNS_QUERY_MAX];
    char answer[8192];
    struct net_frame f;
    struct conn c;
    (void)state;
    start_default();
    ask(frame, &f, 1, "large.test", DNS_TYPE_A);
    assert_true(be16_get(f.payload + 2) & 0x0200);
    for (int i = 0; i < 20; i++) { /* more, one after the other, than may be open at once */
        assert_int_equal(conn_open(&c, DNS_IP, 53, WAIT_MS), 'o');
        size_t n = guest_dns_query(q + 2, 0x5151, "large.test", DNS_TYPE_A);
        be16_put(q, (unsigned)n);
        conn_send(&c, NET_TCP_ACK, q, 1); /* cut where it hurts */
        conn_send(&c, NET_TCP_ACK, q + 1, n + 1);
        size_t want = 2 + n + 200 * 16, have = 0;
        while (have < want && receive(frame, &f, WAIT_MS)) {
            if (f.kind != NET_TCP || f.dst_port != c.sport || f.tcp_seq != c.ack)
                continue;
            assert_int_equal(f.src, DNS_IP);
            assert_int_equal(f.src_port, 53);
            memcpy(answer + have, f.payload, f.payload_len);
            have += f.payload_len;
            c.ack += (uint32_t)f.payload_len;
            conn_send(&c, NET_TCP_ACK, NULL, 0);
        }
        assert_int_equal(have, want);
        assert_int_equal(be16_get((uint8_t *)answer), want - 2);
        assert_int_equal(be16_get((uint8_t *)answer + 2), 0x5151);
        assert_int_equal(be16_get((uint8_t *)answer + 8), 200);
        conn_send(&c, NET_TCP_FIN | NET_TCP_ACK, NULL, 0);
        assert_int_equal(conn_read_all(&c, answer, sizeof answer), 0); /* closed in turn */
    }
    struct net_stats s = stop_net();
    assert_int_equal(s.dns_answered, 21);
    assert_int_equal(s.sockets_total, 20);
}

static void resolver_can_be_closed(void **state)
{
    uint8_t frame[NET_FRAME_MAX], q[DNS_QUERY_MAX];
    struct net_frame f;
    (void)state;
    start_net("{\"default\":\"allow\",\"dns\":false}");
    size_t n = guest_dns_query(q, 7, "example.test", DNS_TYPE_A);
    transmit(frame, guest_udp(frame, DNS_IP, 5000, 53, q, n));
    assert_true(receive(frame, &f, WAIT_MS));
    assert_int_equal(f.kind, NET_ICMP);
    stop_net();
}

/* The resolver's list is read again while the sandbox is closed. */
static void follows_resolv_conf(void **state)
{
    uint8_t frame[NET_FRAME_MAX];
    struct net_frame f;
    struct err e;
    (void)state;
    assert_int_equal(fs_write_file(resolv_conf, "nameserver 198.51.100.77\n", 25, 0644, &e), 0);
    start_default();
    ask(frame, &f, 1, "example.test", DNS_TYPE_A); /* ARP fails: takes a while */
    assert_int_equal(be16_get(f.payload + 2) & 15, DNS_SERVFAIL);
    assert_int_equal(fs_write_file(resolv_conf, "nameserver 198.51.100.2\n", 24, 0644, &e), 0);
    usleep(1500 * 1000);
    ask(frame, &f, 2, "example.test", DNS_TYPE_A);
    assert_int_equal(be16_get(f.payload + 2) & 15, DNS_NOERROR);
    stop_net();
}

static void drops_what_it_cannot_judge(void **state)
{
    uint8_t frame[NET_FRAME_MAX + 100] = {0};
    struct net_frame f;
    (void)state;
    start_default();
    size_t n = guest_tcp(frame, WORLD_IP, 1, WEB_PORT, NET_TCP_SYN, 1, 0, NULL, 0);
    frame[20] = 0x20; /* more fragments */
    guest_fix_ip(frame);
    transmit(frame, n);
    n = guest_tcp(frame, WORLD_IP, 1, WEB_PORT, NET_TCP_SYN, 1, 0, NULL, 0);
    frame[11] ^= 1; /* another MAC */
    transmit(frame, n);
    guest_ip(frame, IP(10, 0, 2, 16), WORLD_IP, 6, frame + 34, 20); /* another address */
    transmit(frame, 54);
    transmit(frame, NET_FRAME_MAX + 50);
    transmit(frame, 5);
    frame[12] = 0x86, frame[13] = 0xdd;
    transmit(frame, 100);
    assert_false(receive(frame, &f, 200));
    struct net_stats s = stop_net();
    assert_int_equal(s.frames[NET_FRAGMENT], 1);
    assert_int_equal(s.frames[NET_SPOOFED], 1);
    assert_int_equal(s.frames[NET_OVERSIZE], 1);
    assert_int_equal(s.frames[NET_ETHERTYPE], 1);
    assert_int_equal(s.frames[NET_MALFORMED], 2); /* the short one; the stale TCP checksum */
}

static void ends_on_lost_framing(void **state)
{
    static const uint8_t absurd[] = {0x7f, 0xff, 0xff, 0xff};
    int status;
    (void)state;
    start_default();
    assert_int_equal(fs_write_all(stream, absurd, sizeof absurd), 0);
    assert_int_equal(waitpid(net_pid, &status, 0), net_pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    close(stream);
    close(stats_fd);
}

static void refuses_a_bad_policy(void **state)
{
    static const char *const bad[] = {"", "{}", "{\"default\":\"maybe\",\"dns\":true}", "[1,2"};
    int status;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        start_net(bad[i]);
        assert_int_equal(waitpid(net_pid, &status, 0), net_pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        close(stream);
        close(stats_fd);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_arp),
        cmocka_unit_test(carries_tcp),
        cmocka_unit_test(downloads_survive_a_stall),
        cmocka_unit_test(uploads),
        cmocka_unit_test(carries_udp_and_ping),
        cmocka_unit_test(limits_flows),
        cmocka_unit_test(denies_with_reset),
        cmocka_unit_test(rules_cannot_open_the_host),
        cmocka_unit_test(rules_are_tried_in_order),
        cmocka_unit_test(denies_udp_and_ping),
        cmocka_unit_test(resolves),
        cmocka_unit_test(resolves_over_tcp),
        cmocka_unit_test(resolver_can_be_closed),
        cmocka_unit_test(follows_resolv_conf),
        cmocka_unit_test(drops_what_it_cannot_judge),
        cmocka_unit_test(ends_on_lost_framing),
        cmocka_unit_test(refuses_a_bad_policy),
    };
    struct err e;
    if (argc < 2) {
        fprintf(stderr, "usage: %s TINDERBOX_NET [--no-sandbox]\n", argv[0]);
        return 2;
    }
    program = argv[1];
    no_sandbox = argv[2];
    enter_namespaces();
    make_world();
    int fd = mkstemp(resolv_conf);
    if (fd < 0 || fs_write_file(resolv_conf, "nameserver 198.51.100.2\n", 24, 0644, &e) < 0)
        return 1;
    close(fd);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(resolv_conf);
    kill(world, SIGKILL);
    return rc;
}
