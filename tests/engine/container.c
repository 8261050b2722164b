/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent gives a container, seen from inside: user, limits, devices, namespaces, network;
 * with every capability: cgroups, mounts. And what PREPARE and RESUMED do to a running machine.
 * Two machines: an ordinary container, then one with all capabilities on the disk the first left.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "net/policy.h"
#include "proto/wire.h"

enum { WAIT_MS = 60000, DAY_S = 86400 };

static struct rig rig;
static struct box *box;
static char first_disk[500];

struct output {
    char text[8192];
    size_t n;
};

static void keep(int fd, const char *p, size_t n, void *arg)
{
    struct output *o = arg;
    (void)fd;
    if (n > sizeof o->text - 1 - o->n)
        n = sizeof o->text - 1 - o->n;
    memcpy(o->text + o->n, p, n);
    o->n += n;
    o->text[o->n] = '\0';
}

/* A shell command as user (NULL = the application's) with the lines it must print. */
static void expect_as(const char *user, bool tty, const char *command, const char *want)
{
    struct err e = {0};
    struct output o = {0};
    struct agent_exec_result x = {0};
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s,s,s], s:b}", "args", "/bin/sh", "-c", command, "tty", tty);
    if (user)
        json_object_set_new(spec, "user", json_string(user));
    CHECK_OK(agent_exec(box->agent, WIRE_EXEC, spec, WAIT_MS, keep, &o, &x, &e), e);
    while (o.n && strchr("\r\n", o.text[o.n - 1]))
        o.text[--o.n] = '\0';
    if (x.exit_code || strcmp(o.text, want) != 0)
        fail_msg("%s: exit code %d and '%s' instead of '%s'", command, x.exit_code, o.text, want);
}

static void expect(const char *command, const char *want)
{
    expect_as("root", false, command, want);
}

static long long number(const char *command)
{
    char out[100];
    assert_int_equal(box_sh(box, command, out, sizeof out), 0);
    return atoll(out);
}

static void boot(const char *id, const char *base, enum engine_disk_format format, json_t *start)
{
    struct err e = {0};
    box = box_prepare(&rig, id, base, format);
    struct engine_spec s = rig_spec(&rig, box);
    CHECK_OK(engine_boot(rig.engine, &s, &box->machine, &e), e);
    box_connect(&rig, box);
    box_start(box, true, start);
}

/* The application's output so far, until it has said text. */
static void read_logs(const char *text, struct buf *out, struct buf *errors)
{
    struct err e = {0};
    struct agent_stream *s = NULL;
    CLEANUP(buf_done)
    struct buf frame = BUF_INIT(0);
    CHECK_OK(agent_stream_open(box->agent, "GET", WIRE_LOGS, &s, &e), e);
    while (!out->data || !strstr(out->data, text)) {
        int type = agent_stream_next(s, &frame, WAIT_MS, &e);
        if (type != WIRE_FRAME_STDOUT && type != WIRE_FRAME_STDERR)
            fail_msg("no '%s' in the output: %d %s", text, type, e.text);
        assert_int_equal(buf_add(type == WIRE_FRAME_STDOUT ? out : errors, frame.data, frame.len),
                         0);
    }
    agent_stream_free(s);
}

/* ---- an ordinary container ---------------------------------------------------------------------
 */

static const char application[] =
    "echo wrong >&2; echo $$ $(id -u) $(id -g) $(pwd) $GREETING $HOME $(umask); echo ready; "
    "while :; do sleep 1000 & wait $!; done";

/* "games" has uid 5 and gid 60 in Debian; the working directory is made. */
static void test_start(void **state)
{
    (void)state;
    char base[600];
    CLEANUP(buf_done)
    struct buf out = BUF_INIT(0);
    CLEANUP(buf_done)
    struct buf errors = BUF_INIT(0);
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    boot("ordinary", base, ENGINE_DISK_RAW,
         json_pack("{s:[s,s,s], s:[s], s:s, s:s, s:s}", "args", "/bin/sh", "-c", application, "env",
                   "GREETING=hello", "cwd", "/srv/made", "user", "games", "capabilities",
                   "default"));
    snprintf(first_disk, sizeof first_disk, "%s", box->disk);
    read_logs("ready", &out, &errors);
    assert_string_equal(out.data, "1 5 60 /srv/made hello /usr/games 0022\nready\n");
    assert_string_equal(errors.data, "wrong\n");
}

static void test_users(void **state)
{
    (void)state;
    expect_as(NULL, false, "echo $(id -u) $(id -G) $(pwd) $GREETING", "5 60 /srv/made hello");
    expect("echo $(id -u) $(id -G) $HOME", "0 0 /root");
    expect("sed -i '/^audio:/s/$/games/; /^video:/s/$/man,games/' /etc/group", "");
    expect_as(NULL, false, "id -G", "60 29 44");
    expect_as("games:audio", false, "id -G", "29");
    expect_as("5:7777", false, "echo $(id -u) $(id -G)", "5 7777");
    expect_as("4321", false, "echo $(id -u) $(id -G)", "4321 0");
}

static void test_capabilities(void **state)
{
    (void)state;
    static const char status[] = "sed -n '/^Cap\\|^NoNew/s/.*\t//p' /proc/self/status | xargs";
    /* Inherited, permitted, effective, bounding, ambient; setuid programs work. */
    expect(status, "0000000000000000 00000000a80425fb 00000000a80425fb 00000000a80425fb "
                   "0000000000000000 0");
    expect_as(NULL, false, status,
              "0000000000000000 0000000000000000 0000000000000000 00000000a80425fb "
              "0000000000000000 0");
    expect("cat /proc/1/status | sed -n 's/^CapEff:\t//p'", "0000000000000000");
}

static void test_limits(void **state)
{
    (void)state;
    static const char limits[] = "echo $(ulimit -Sn) $(ulimit -Hn) $(umask) "
                                 "$(cat /proc/self/oom_score_adj) $(ulimit -s)";
    expect(limits, "1024 65536 0022 0 8192");
    expect_as(NULL, false, limits, "1024 65536 0022 0 8192");
    expect("sed -n 's/^Max open files *//p' /proc/1/limits | xargs", "1024 65536 files");
}

static void test_devices(void **state)
{
    (void)state;
    expect("cd /dev; stat -c '%n %A %t %T' console full null random tty urandom zero",
           "console crw--w---- 1 3\nfull crw-rw-rw- 1 7\nnull crw-rw-rw- 1 3\n"
           "random crw-rw-rw- 1 8\ntty crw-rw-rw- 5 0\nurandom crw-rw-rw- 1 9\n"
           "zero crw-rw-rw- 1 5");
    expect("ls -x -w 200 /dev | xargs",
           "console fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    expect("readlink /dev/fd /dev/stdin /dev/ptmx | xargs", "/proc/self/fd /proc/self/fd/0 "
                                                            "pts/ptmx");
    expect("findmnt -nro FSTYPE,OPTIONS /dev/pts",
           "devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666");
    expect("df -k --output=fstype,size /dev/shm | tail -n 1 | xargs; stat -c %a /dev/shm",
           "tmpfs 65536\n1777");
    expect_as(NULL, false, "head -c 60M /dev/zero > /dev/shm/x && rm /dev/shm/x && echo fits",
              "fits");
}

/* The terminal belongs to the user, who may reopen it by name. */
static void test_terminal_of_a_user(void **state)
{
    (void)state;
    expect_as(NULL, true, "stat -c '%u %g %a' $(tty); echo again > $(tty); echo tty > /dev/tty",
              "5 5 620\r\nagain\r\ntty");
}

/* The numbers are those of the machine's first uts, ipc, pid and cgroup namespace. */
static void test_namespaces(void **state)
{
    (void)state;
    expect("cd /proc/self/ns; stat -Lc %i uts ipc pid cgroup | "
           "grep -c '^402653183[5-9]$' || true",
           "0");
    expect_as(NULL, false,
              "for n in mnt uts ipc pid cgroup net; do "
              "[ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done",
              "");
    expect("hostname; cat /etc/hostname /proc/self/cgroup; cat /proc/1/comm", "template\ntemplate\n"
                                                                              "0::/\nsh");
    expect("findmnt -nro TARGET,OPTIONS -T /sys | cut -d, -f1; ls /sys/fs/cgroup | wc -l;"
           "findmnt -nro OPTIONS /proc/sys | cut -d, -f1",
           "/sys ro\n0\nro");
}

/* Only what the host said: there is no DHCP client, and nobody answers one. */
static void test_network(void **state)
{
    (void)state;
    expect("cat /etc/resolv.conf", "nameserver " NET_DNS);
    expect("awk '$1 == \"eth0\" { print $2, $3, $8 }' /proc/net/route | sort",
           "00000000 0202000A 00000000\n0002000A 00000000 00FFFFFF");
    expect("grep -B1 'host LOCAL' /proc/net/fib_trie | grep -o '10\\.[0-9.]*' | sort -u",
           NET_GUEST_ADDRESS);
    expect("cat /etc/hosts | head -n 1 | xargs", "127.0.0.1 localhost template");
}

static void test_modules(void **state)
{
    (void)state;
    char path[600], command[300];
    snprintf(path, sizeof path, "%s/manifest.json", rig.guest);
    CLEANUP(cleanup_json)
    json_t *v = json_load_file(path, 0, NULL);
    const json_t *names = json_object_get(
        json_object_get(json_object_get(v, "artefacts"), "modules.cpio"), "modules");
    assert_true(json_array_size(names) > 5);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        snprintf(command, sizeof command, "grep -c '^%.*s ' /proc/modules", (int)strcspn(name, "."),
                 name);
        expect(command, "1");
    }
}

/* The managed root file system. */
static void test_image(void **state)
{
    (void)state;
    expect("sed -n 's/^\\(ID\\|VERSION_ID\\)=//p' /etc/os-release | sort | xargs", "12 debian");
    expect("cat /etc/dpkg/dpkg.cfg.d/* | grep -c '^force-unsafe-io'", "1");
    expect("dpkg-query -Wf '${db:Status-Abbrev}' ca-certificates; "
           "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt | sed 's/^[1-9][0-9]*$/many/'",
           "ii many");
    expect("dpkg --audit; stat -c '%u %g %a' / /tmp /root", "0 0 755\n0 0 1777\n0 0 700");
}

/* Threads of the whole machine, zombies included: nothing stays of a command, or of a child it
 * left behind that has ended. */
static void test_reaped(void **state)
{
    (void)state;
    char out[100];
    static const char threads[] = "cut -d/ -f2 /proc/loadavg";
    long long before = number(threads);
    for (int i = 0; i < 25; i++)
        assert_int_equal(box_sh(box, "true & (true &) ; true", out, sizeof out), 0);
    long long after = number(threads);
    printf("threads: %lld, after 25 commands %lld\n", before, after);
    assert_true(after < before + 12);
}

/* ---- RESUMED and PREPARE -----------------------------------------------------------------------
 */

static int resumed(json_t *body, struct err *e)
{
    int r = agent_call(box->agent, "POST", WIRE_RESUMED, body, WAIT_MS, NULL, e);
    json_decref(body);
    return r;
}

/* Calendar time steps, for programs and for files; time since the start does not. */
static void test_clock(void **state)
{
    (void)state;
    struct err e = {0};
    long long want = clock_real_ms() / 1000 + 30 * DAY_S, up = number("cut -d. -f1 /proc/uptime");
    CHECK_OK(resumed(json_pack("{s:I}", "timeNs", (json_int_t)want * 1000000000), &e), e);
    long long now = number("date +%s"), file = number("touch /dev/shm/t; stat -c %Y /dev/shm/t");
    long long btime = number("sed -n 's/^btime //p' /proc/stat");
    long long later = number("cut -d. -f1 /proc/uptime");
    assert_in_range(now, want, want + 60);
    assert_in_range(file, want, want + 60);
    assert_in_range(btime, want - later - 60, want + 60);
    assert_in_range(later, up, up + 60);
    want = clock_real_ms() / 1000;
    CHECK_OK(resumed(json_pack("{s:I}", "timeNs", (json_int_t)want * 1000000000), &e), e);
    assert_in_range(number("date +%s"), want, want + 60);
}

static void test_resumed_refuses(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"{\"entropy\":\"c2hvcnQ=\"}", "entropy"},
        {"{\"entropy\":\"not base64 at all, is it?\"}", "entropy"},
        {"{\"hostname\":\"two words\"}", "host name"},
        {"{\"hostname\":\"\"}", "host name"},
        {"{\"machineId\":\"0123\"}", "machineId"},
        {"{\"machineId\":\"0123456789ABCDEF0123456789abcdef\"}", "machineId"},
    };
    char before[100], after[100];
    static const char names[] = "cat /etc/hostname /etc/machine-id";
    box_sh(box, names, before, sizeof before);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        assert_int_equal(resumed(json_loads(bad[i][0], 0, NULL), &e), -EINVAL);
        assert_non_null(strstr(e.text, bad[i][1]));
    }
    box_sh(box, names, after, sizeof after);
    assert_string_equal(before, after);
}

static uint64_t cpu_us(void)
{
    struct err e = {0};
    struct engine_stats st;
    CHECK_OK(engine_machine_stats(box->machine, &st, &e), e);
    return st.cpu_us;
}

/* A machine nobody talks to does nothing, and hears the next host at once. */
static void test_closed_channel_is_quiet(void **state)
{
    (void)state;
    struct timespec two = {2, 0};
    box_disconnect(box);
    nanosleep(&two, NULL); /* the end of the session itself */
    uint64_t before = cpu_us();
    nanosleep(&two, NULL);
    uint64_t spent = cpu_us() - before;
    int64_t t0 = clock_mono_us();
    box_connect(&rig, box);
    printf("2 s without a host: %llu ms of a processor; a session after %lld us\n",
           (unsigned long long)spent / 1000, (long long)(clock_mono_us() - t0));
    assert_true(spent < 1000000);
    expect("echo here", "here");
}

/* The page cache goes, what was written does not: the machine is killed right after. */
static void test_prepare(void **state)
{
    (void)state;
    struct err e = {0};
    static const char cached[] = "sed -n 's/^Cached: *\\([0-9]*\\).*/\\1/p' /proc/meminfo";
    expect("head -c 64M /dev/zero > /zeros; sync; echo unsynced > /note", "");
    long long before = number(cached);
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:b}", "dropCaches", 1);
    CHECK_OK(agent_call(box->agent, "POST", WIRE_PREPARE, body, WAIT_MS, NULL, &e), e);
    long long after = number(cached);
    printf("page cache: %lld KiB, then %lld KiB\n", before, after);
    assert_true(after < before - 32 * 1024);
    box_disconnect(box);
    engine_machine_kill(box->machine);
    box_end(box);
}

/* ---- all capabilities --------------------------------------------------------------------------
 */

static void test_start_all(void **state)
{
    (void)state;
    boot("all", first_disk, ENGINE_DISK_OVERLAY,
         json_pack("{s:[s,s,s], s:[], s:s, s:s, s:s}", "args", "/bin/sh", "-c",
                   "until [ -e /run/end ]; do sleep 0.2; done; exit 41", "env", "cwd", "/", "user",
                   "", "capabilities", "all"));
    expect("cat /note; stat -c %s /zeros", "unsynced\n67108864");
}

static void test_every_capability(void **state)
{
    (void)state;
    expect("all=$(printf %016x $(((2 << $(cat /proc/sys/kernel/cap_last_cap)) - 1)));"
           "for p in 1 self; do sed -n 's/^Cap\\(Prm\\|Eff\\|Bnd\\):\t//p' /proc/$p/status; done |"
           "grep -vx $all | wc -l",
           "0");
    expect("mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b /mnt/c /mnt/d && "
           "mount -t overlay -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c none /mnt/d && "
           "echo over > /mnt/d/file && cat /mnt/b/file && umount /mnt/d /mnt && "
           "sysctl -qw kernel.domainname=every 2>/dev/null || "
           "echo every > /proc/sys/kernel/domainname; cat /proc/sys/kernel/domainname",
           "over\nevery");
    /* No capability opens memory or the agent's port. */
    expect("mknod /dev/some-mem c 1 1; head -c 1 /dev/some-mem 2>&1 | grep -c 'not permitted';"
           "p=$(cat /sys/class/virtio-ports/*/dev | head -n 1);"
           "mknod /dev/some-port c ${p%:*} ${p#*:}; head -c 1 /dev/some-port 2>&1 | grep -c 'not "
           "permitted'",
           "1\n1");
}

/* The container's part of the hierarchy is its own to divide. */
static void test_cgroups(void **state)
{
    (void)state;
    expect("cd /sys/fs/cgroup; findmnt -nro FSTYPE,OPTIONS . | cut -d, -f1; mkdir leaf limited && "
           "for p in $(cat cgroup.procs); do echo $p > leaf/cgroup.procs; done 2>/dev/null;"
           "echo '+memory +pids +cpu' > cgroup.subtree_control && cat cgroup.subtree_control;"
           "echo 16M > limited/memory.max; cat limited/memory.max limited/pids.max;"
           "sh -c 'echo 0 > limited/cgroup.procs; cat /proc/self/cgroup;"
           "  head -c 64M /dev/zero | tail' 2>/dev/null || true; "
           "sed -n 's/^oom_kill //p' limited/memory.events",
           "cgroup2 rw\ncpu memory pids\n16777216\nmax\n0::/limited\n1");
}

static void test_end_is_reported(void **state)
{
    (void)state;
    struct err e = {0};
    struct agent_exec_result x;
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s]}", "args", "true");
    expect("touch /run/end", "");
    CHECK_OK(agent_call(box->agent, "GET", WIRE_WAIT, NULL, WAIT_MS, &v, &e), e);
    assert_int_equal(json_get_int(v, "exitCode", -1), 41);
    assert_int_equal(json_get_int(v, "signal", -1), 0);
    assert_true(agent_exec(box->agent, WIRE_EXEC, spec, WAIT_MS, keep, NULL, &x, &e) < 0);
    assert_non_null(strstr(e.text, "not running"));
}

int main(int argc, char **argv)
{
    rig_open(&rig, argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_terminal_of_a_user),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_network),
        cmocka_unit_test(test_modules),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_reaped),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_resumed_refuses),
        cmocka_unit_test(test_closed_channel_is_quiet),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_start_all),
        cmocka_unit_test(test_every_capability),
        cmocka_unit_test(test_cgroups),
        cmocka_unit_test(test_end_is_reported),
    };
    int failed = cmocka_run_group_tests_name("engine container", tests, NULL, box_end_all);
    return rig_close(&rig) || failed ? 1 : 0;
}
