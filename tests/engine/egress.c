/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet policy tried from inside real guests, in private namespaces:
 *
 *   this process, its machines and their tinderbox-net in namespace A: 198.51.100.1, 10.9.9.1,
 *   "the world" in namespace B: 198.51.100.2, 10.9.9.2, 169.254.169.254.
 *
 * Servers that answer everybody stand on every address, those of the host included: what does not
 * answer was stopped by the policy. Skipped where user namespaces, veth or ip(8) are missing.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "net/policy.h"

#define PORT 8080
#define SILENT_PORT 8081 /* connections are made, nobody ever says anything */
#define DNS_ANSWER "198.51.100.2"

static struct rig rig;
static char snapshot[300];
static const char *template_disk;
static pid_t world, host_server;

static _Noreturn void skip_all(const char *why)
{
    printf("skipped: %s\n", why);
    if (world > 0)
        kill(world, SIGKILL);
    exit(77);
}

/* ---- namespaces --------------------------------------------------------------------------------
 */

static void run_ip(const char *command)
{
    char line[256];
    snprintf(line, sizeof line, "ip %s", command);
    if (system(line) != 0) /* constant text of this file and a pid */
        skip_all(line);
}

static void write_or_skip(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fs_write_all(fd, text, strlen(text)) < 0)
        skip_all(path);
    close(fd);
}

static void enter_namespaces(void)
{
    char uid[64], gid[64], path[] = "/tmp/tb-resolv.XXXXXX";
    snprintf(uid, sizeof uid, "0 %u 1", geteuid());
    snprintf(gid, sizeof gid, "0 %u 1", getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) < 0)
        skip_all("no user or network namespaces here");
    write_or_skip("/proc/self/setgroups", "deny");
    write_or_skip("/proc/self/uid_map", uid);
    write_or_skip("/proc/self/gid_map", gid);
    int fd = mkstemp(path);
    if (fd < 0 || fs_write_all(fd, "nameserver 198.51.100.2\n", 24) < 0 || fchmod(fd, 0644) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0)
        skip_all("/etc/resolv.conf cannot be replaced in a namespace");
    close(fd);
    unlink(path);
}

static int listen_on(int type, const char *ip, uint16_t port)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        (type == SOCK_STREAM && listen(fd, 16) < 0)) {
        perror("listen");
        _exit(1);
    }
    return fd;
}

static void serve_tcp(int fd)
{
    int c = accept(fd, NULL, NULL);
    (void)!send(c, "hello\n", 6, MSG_NOSIGNAL);
    close(c);
}

static void serve_udp(int fd)
{
    char data[1500];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &len);
    if (n >= 0)
        sendto(fd, "hello\n", 6, 0, (struct sockaddr *)&from, len);
}

/* Every name is at DNS_ANSWER. */
static void serve_dns(int fd)
{
    unsigned char q[1500];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(fd, q, sizeof q - 16, 0, (struct sockaddr *)&from, &len);
    if (n < 12)
        return;
    size_t at = 12;
    while (at < (size_t)n && q[at])
        at += q[at] + 1u;
    at += 5;
    static const unsigned char record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4};
    q[2] = 0x81;
    q[3] = 0x80;
    q[7] = 1;
    memset(q + 8, 0, 4); /* no further records */
    memcpy(q + at, record, sizeof record);
    inet_pton(AF_INET, DNS_ANSWER, q + at + sizeof record);
    sendto(fd, q, at + sizeof record + 4, 0, (struct sockaddr *)&from, len);
}

static _Noreturn void serve(struct pollfd p[3])
{
    for (;;) {
        poll(p, 3, -1);
        if (p[0].revents)
            serve_tcp(p[0].fd);
        if (p[1].revents)
            serve_udp(p[1].fd);
        if (p[2].revents)
            serve_dns(p[2].fd);
    }
}

static _Noreturn void be_the_world(int ready, int go)
{
    char c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET) < 0 || write(ready, "r", 1) != 1 || read(go, &c, 1) != 1)
        _exit(1);
    run_ip("addr add 198.51.100.2/24 dev tbw");
    run_ip("addr add 10.9.9.2/24 dev tbw");
    run_ip("addr add 169.254.169.254/16 dev tbw");
    run_ip("link set tbw up");
    run_ip("route add default via 198.51.100.1");
    struct pollfd p[] = {{.fd = listen_on(SOCK_STREAM, "0.0.0.0", PORT), .events = POLLIN},
                         {.fd = listen_on(SOCK_DGRAM, "0.0.0.0", PORT), .events = POLLIN},
                         {.fd = listen_on(SOCK_DGRAM, "198.51.100.2", 53), .events = POLLIN}};
    (void)listen_on(SOCK_STREAM, "0.0.0.0", SILENT_PORT); /* the kernel answers for it */
    if (write(ready, "l", 1) != 1)
        _exit(1);
    serve(p);
}

/* A second child answers on all addresses of the host itself. */
static void serve_on_host(void)
{
    host_server = fork();
    if (host_server != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct pollfd p[] = {{.fd = listen_on(SOCK_STREAM, "0.0.0.0", PORT), .events = POLLIN},
                         {.fd = listen_on(SOCK_DGRAM, "0.0.0.0", PORT), .events = POLLIN},
                         {.fd = -1}};
    serve(p);
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
    run_ip("addr add 169.254.1.1/16 dev tbh");
    run_ip("link set tbh up");
    run_ip("link set lo up");
    run_ip("route add default via 198.51.100.2");
    serve_on_host();
    if (write(go[1], "g", 1) != 1 || read(ready[0], &c, 1) != 1)
        skip_all("the other namespace did not come up");
}

/* ---- from inside -------------------------------------------------------------------------------
 */

static bool tcp_answers(struct box *b, const char *where)
{
    char command[300], out[200];
    snprintf(command, sizeof command, "timeout 4 bash -c 'head -1 </dev/tcp/%s/%d' 2>&1", where,
             PORT);
    box_sh(b, command, out, sizeof out);
    return strcmp(out, "hello") == 0;
}

static bool udp_answers(struct box *b, const char *where)
{
    char command[400], out[200];
    snprintf(command, sizeof command,
             "timeout 2 bash -c 'exec 3<>/dev/udp/%s/%d; echo ask >&3; head -1 <&3' 2>&1", where,
             PORT);
    box_sh(b, command, out, sizeof out);
    return strcmp(out, "hello") == 0;
}

static bool resolves(struct box *b)
{
    char out[200];
    return box_sh(b, "timeout 8 getent ahostsv4 name.test", out, sizeof out) == 0 &&
           strstr(out, DNS_ANSWER) != NULL;
}

static struct box *thaw(const char *id, const char *policy_text)
{
    struct err e = {0};
    static struct net_policy policies[4];
    static unsigned n;
    struct box *b = box_prepare(&rig, id, template_disk, ENGINE_DISK_OVERLAY);
    if (policy_text) {
        CLEANUP(cleanup_json)
        json_t *v = json_loads(policy_text, 0, NULL);
        CHECK_OK(net_policy_from_json(v, &policies[n], &e), e);
        b->policy = &policies[n++];
    }
    box_restore(&rig, b, snapshot, true);
    return b;
}

/* A process of the guest connects and waits for data; /run/NAME has the number of the error that
 * ends the wait. A server in the guest itself is made first. */
static void hold_connection(struct box *b, const char *name, const char *ip, int port)
{
    static const char script[] =
        "use Socket; my ($name, $ip, $port) = @ARGV; my ($f, $l, $data);"
        "sub note { open $f, q(>), qq(/run/$name.tmp); print $f $_[1]; close $f;"
        "  rename qq(/run/$name.tmp), qq(/run/$_[0]) }"
        "if ($ip eq q(127.0.0.1)) { socket($l, PF_INET, SOCK_STREAM, 0);"
        "  bind($l, sockaddr_in($port, INADDR_LOOPBACK)) or die $!; listen($l, 4) }"
        "socket(my $c, PF_INET, SOCK_STREAM, 0);"
        "connect($c, sockaddr_in($port, inet_aton($ip))) or die qq($name: $!);"
        "unlink qq(/run/$name); note(qq($name.up), $$);"
        "my $n = sysread $c, $data, 1; note($name, defined $n ? qq(read $n) : $!+0)";
    char command[1500], out[300];
    snprintf(command, sizeof command,
             "rm -f /run/%s.up; perl -e '%s' %s %s %d >/run/said 2>&1 & for i in $(seq 50); do "
             "[ -e /run/%s.up ] && exit; sleep 0.1; done; cat /run/said; exit 1",
             name, script, name, ip, port, name);
    if (box_sh(b, command, out, sizeof out) != 0)
        fail_msg("no connection: %s", out);
}

static void expect_far_cut(struct box *b)
{
    char out[100];
    box_sh(b, "for i in $(seq 50); do [ -e /run/far ] && break; sleep 0.1; done; cat /run/far", out,
           sizeof out);
    assert_string_equal(out, "103"); /* ECONNABORTED */
    assert_int_not_equal(box_sh(b, "cat /run/near 2>/dev/null", out, sizeof out), 0);
}

static void test_snapshot(void **state)
{
    (void)state;
    struct err e = {0};
    char base[600];
    static char disk[500];
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", rig.dir);
    struct box *b = box_prepare(&rig, "template", base, ENGINE_DISK_RAW);
    box_boot(&rig, b);
    hold_connection(b, "far", "198.51.100.2", SILENT_PORT);
    hold_connection(b, "near", "127.0.0.1", 9000);
    box_freeze(b);
    CHECK_OK(engine_snapshot(b->machine, snapshot, &e), e);
    snprintf(disk, sizeof disk, "%s", b->disk);
    template_disk = disk;
}

/* What a frozen machine was connected to talks to nobody any more, whether clones of it run or it
 * goes on after a sleep: owners are told at once. Connections inside the machine go on. */
static void test_connections_are_cut(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[500];
    struct box *b = thaw("cut", NULL);
    expect_far_cut(b);
    hold_connection(b, "far", "198.51.100.2", SILENT_PORT);
    snprintf(dir, sizeof dir, "%s/state", b->dir);
    box_freeze(b);
    CHECK_OK(engine_suspend(b->machine, dir, &e), e);
    box_end(b);
    box_restore(&rig, b, dir, false);
    expect_far_cut(b);
    assert_true(tcp_answers(b, "198.51.100.2"));
}

/* No policy can open these, and the default does not open UDP and private networks either. */
static void test_default(void **state)
{
    (void)state;
    struct engine_stats st;
    struct err e = {0};
    struct box *b = thaw("default", NULL);
    assert_true(tcp_answers(b, "198.51.100.2"));
    assert_true(resolves(b));
    assert_true(tcp_answers(b, "name.test"));
    static const char *const denied[] = {"10.0.2.2", "198.51.100.1",    "10.9.9.1",
                                         "10.9.9.2", "169.254.169.254", "169.254.1.1",
                                         "0.0.0.0",  "127.0.0.1"};
    for (size_t i = 0; i < ARRAY_LEN(denied); i++)
        if (tcp_answers(b, denied[i]))
            fail_msg("%s answers", denied[i]);
    assert_false(udp_answers(b, "198.51.100.2"));
    assert_false(udp_answers(b, "198.51.100.1"));
    CHECK_OK(engine_machine_stats(b->machine, &st, &e), e);
    assert_true(st.net_rx_bytes > 0 && st.net_tx_bytes > 0);
}

static void test_rules(void **state)
{
    (void)state;
    struct box *b = thaw("rules", "{\"default\":\"deny\",\"dns\":false,\"rules\":["
                                  "{\"action\":\"deny\",\"cidr\":\"10.9.9.2/31\","
                                  "\"protocol\":\"udp\"},"
                                  "{\"action\":\"allow\",\"cidr\":\"10.9.9.0/24\"}]}");
    assert_true(tcp_answers(b, "10.9.9.2"));
    assert_false(udp_answers(b, "10.9.9.2"));
    assert_false(tcp_answers(b, "198.51.100.2"));
    assert_false(resolves(b));
    assert_false(tcp_answers(b, "10.9.9.1")); /* allowed by the rule, but the host's own */
}

static void test_everything_allowed(void **state)
{
    (void)state;
    struct box *b = thaw("open", "{\"default\":\"allow\",\"dns\":true}");
    assert_true(tcp_answers(b, "198.51.100.2"));
    assert_true(tcp_answers(b, "10.9.9.2"));
    assert_true(udp_answers(b, "198.51.100.2"));
    static const char *const denied[] = {"10.0.2.2", "198.51.100.1", "10.9.9.1", "169.254.169.254"};
    for (size_t i = 0; i < ARRAY_LEN(denied); i++)
        if (tcp_answers(b, denied[i]) || udp_answers(b, denied[i]))
            fail_msg("%s answers", denied[i]);
}

static void test_nothing_allowed(void **state)
{
    (void)state;
    struct box *b = thaw("closed", "{\"default\":\"deny\",\"dns\":false}");
    assert_false(tcp_answers(b, "198.51.100.2"));
    assert_false(udp_answers(b, "198.51.100.2"));
    assert_false(resolves(b));
}

int main(int argc, char **argv)
{
    if (!getenv("TINDERBOX_GUEST_DIR"))
        skip_all("TINDERBOX_GUEST_DIR is not set: make the guest kit with guest/assemble");
    enter_namespaces();
    make_world();
    rig_open(&rig, argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_snapshot, box_end_all),
        cmocka_unit_test_teardown(test_connections_are_cut, box_end_all),
        cmocka_unit_test_teardown(test_default, box_end_all),
        cmocka_unit_test_teardown(test_rules, box_end_all),
        cmocka_unit_test_teardown(test_everything_allowed, box_end_all),
        cmocka_unit_test_teardown(test_nothing_allowed, box_end_all),
    };
    int failed = cmocka_run_group_tests_name("engine egress", tests, NULL, NULL);
    kill(world, SIGKILL);
    kill(host_server, SIGKILL);
    waitpid(world, NULL, 0);
    waitpid(host_server, NULL, 0);
    return rig_close(&rig) || failed ? 1 : 0;
}
