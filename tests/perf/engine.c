/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one engine costs, through engine.h and the agent client alone, beside a plain QEMU with the
 * same guest in the same run (plain.h). A table; nothing passes or fails on time.
 *
 *   perf_engine HELPERS serve DISK CWD PROGRAM [ARGUMENT...]   an application on PORT
 *   perf_engine HELPERS boots N     N boots while every processor is busy with something else
 *
 * TINDERBOX_GUEST_DIR and TINDERBOX_ENGINE as in tests/engine/harness.h.
 */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "plain.h"
#include "proto/wire.h"
#include "tcp.h"

enum {
    PORT = 5000,
    PUMP_PORT = 7000,
    PUMP_BYTES = 100 * 1000 * 1000,
    BOOTS = 3,
    ROUNDS = 10,
    CLONES = 10,
    PINGS = 200,
    SAMPLES = 256,
    BOOT_MS = 120000,
    SERVE_MS = 180000,
    MEMORY_MIB = 512
};

/* ---- the table ---------------------------------------------------------------------------------
 */

enum what {
    BOOT_AGENT,
    BOOT_SERVING,
    SNAPSHOT,
    RESTORE_EXEC,
    RESTORE_HTTP,
    SUSPEND,
    RESUME_HTTP,
    TEN_HTTP,
    PRIVATE,
    PSS_ALONE,
    PSS_TEN,
    TUNNEL_IN,
    TUNNEL_OUT,
    TUNNEL_PING,
    N_WHAT
};

static const struct {
    const char *name, *unit;
} rows[N_WHAT] = {
    [BOOT_AGENT] = {"power-on to agent", "ms"},
    [BOOT_SERVING] = {"power-on to application serving", "ms"},
    [SNAPSHOT] = {"snapshot (plain: savevm)", "ms"},
    [RESTORE_EXEC] = {"restore to first exec answer", "ms"},
    [RESTORE_HTTP] = {"restore to first HTTP byte", "ms"},
    [SUSPEND] = {"suspend a clone (plain: savevm)", "ms"},
    [RESUME_HTTP] = {"resume to first HTTP byte", "ms"},
    [TEN_HTTP] = {"ten at once: each to first HTTP byte", "ms"},
    [PRIVATE] = {"memory of an idle clone, own pages only", "MiB"},
    [PSS_ALONE] = {"memory of an idle clone, alone (PSS)", "MiB"},
    [PSS_TEN] = {"memory of an idle clone, one of ten (PSS)", "MiB"},
    [TUNNEL_IN] = {"tunnel into the guest", "MB/s"},
    [TUNNEL_OUT] = {"tunnel out of the guest", "MB/s"},
    [TUNNEL_PING] = {"tunnel, one byte there and back", "ms"},
};

struct series {
    double v[SAMPLES];
    unsigned n;
};

enum who { OURS, PLAIN };
static struct series table[N_WHAT][2];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static void sample(enum what what, enum who who, double v)
{
    pthread_mutex_lock(&table_lock);
    struct series *s = &table[what][who];
    if (s->n < SAMPLES)
        s->v[s->n++] = v;
    pthread_mutex_unlock(&table_lock);
}

static double ms_since(int64_t us)
{
    return (double)(clock_mono_us() - us) / 1000;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct series *s)
{
    qsort(s->v, s->n, sizeof *s->v, compare);
    return s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2;
}

static void print_table(void)
{
    printf("%-44s %4s %9s %9s %9s %-5s %9s %6s\n", "engine level", "n", "median", "min", "max",
           "unit", "plain", "ratio");
    for (unsigned i = 0; i < N_WHAT; i++) {
        struct series *ours = &table[i][OURS], *plain = &table[i][PLAIN];
        if (!ours->n)
            continue;
        double m = median(ours);
        printf("%-44s %4u %9.2f %9.2f %9.2f %-5s", rows[i].name, ours->n, m, ours->v[0],
               ours->v[ours->n - 1], rows[i].unit);
        if (plain->n)
            printf(" %9.2f %6.2f", median(plain), m / median(plain));
        printf("\n");
    }
}

/* ---- one machine -------------------------------------------------------------------------------
 */

static struct rig rig;
static const char *base_disk, *cwd;
static char **program;
static char snapshot[300], template_disk[500];

static json_t *container(void)
{
    json_t *args = json_array();
    for (char **p = program; *p; p++)
        json_array_append_new(args, json_string(*p));
    return json_pack("{s:o, s:[s], s:s, s:s, s:s}", "args", args, "env",
                     "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "cwd",
                     cwd, "user", "", "capabilities", "default");
}

static void first_byte(struct box *b)
{
    if (tcp_http_ready(rig.loop, b->agent, PORT, SERVE_MS) < 0)
        fail_msg("the application of %s does not answer on port %d", b->id, PORT);
}

static void first_exec(struct box *b)
{
    char out[64];
    if (box_sh(b, "echo ok", out, sizeof out) != 0)
        fail_msg("exec in %s: %s", b->id, out);
}

static struct box *fresh(const char *id)
{
    struct err e = {0};
    char dir[400];
    box_end_all(NULL);
    snprintf(dir, sizeof dir, "%s/%s", rig.dir, id);
    CHECK_OK(fs_remove_tree(dir, &e), e);
    return box_prepare(&rig, id, template_disk, ENGINE_DISK_OVERLAY);
}

/* ---- tunnels -----------------------------------------------------------------------------------
 */

/* By its first byte a connection says what it wants: i = take everything, o = send PUMP_BYTES,
 * e = echo. */
static const char server[] =
    "use Socket; $| = 1; socket(my $l, PF_INET, SOCK_STREAM, 0);"
    "setsockopt($l, SOL_SOCKET, SO_REUSEADDR, 1);"
    "bind($l, sockaddr_in(7000, INADDR_LOOPBACK)) or die $!; listen($l, 4); print qq(ready\\n);"
    "while (accept(my $c, $l)) { setsockopt($c, 6, 1, 1); my $b; sysread $c, my $k, 1;"
    "  if ($k eq 'i') { 1 while sysread $c, $b, 262144; syswrite $c, 'x' }"
    "  elsif ($k eq 'o') { my $d = 'x' x 100000; for (1 .. 1000) { for (my $o = 0; $o < 100000;) {"
    "    $o += syswrite($c, $d, 100000 - $o, $o) // last } } }"
    "  else { syswrite $c, $b while sysread $c, $b, 4096 } close $c }";

static struct agent_stream *start_server(struct agent *a)
{
    struct err e = {0};
    struct agent_stream *s = NULL;
    CLEANUP(buf_done)
    struct buf frame = BUF_INIT(0);
    json_t *spec = json_pack("{s:[s,s,s]}", "args", "perl", "-e", server);
    char *text = json_dumps(spec, JSON_COMPACT);
    CHECK_OK(agent_stream_open(a, "POST", WIRE_EXEC, &s, &e), e);
    CHECK_OK(agent_stream_send(s, WIRE_FRAME_SPEC, text, strlen(text), &e), e);
    if (agent_stream_next(s, &frame, 30000, &e) != WIRE_FRAME_STDOUT)
        fail_msg("no server in the guest: %s %s", frame.data ? frame.data : "", e.text);
    free(text);
    json_decref(spec);
    return s;
}

static double mb_per_s(double ms)
{
    return (double)PUMP_BYTES / 1e6 / (ms / 1000);
}

static void measure_tunnels(struct agent *a, enum who who)
{
    static char block[250000];
    struct agent_stream *s = start_server(a);
    struct tcp *t = tcp_open(rig.loop, a, PUMP_PORT);
    int64_t t0 = clock_mono_us();
    CHECK_OK(tcp_send(t, "i", 1), (struct err){.text = "tunnel"});
    for (size_t n = 0; n < PUMP_BYTES; n += sizeof block)
        CHECK_OK(tcp_send(t, block, sizeof block), (struct err){.text = "tunnel"});
    tcp_end(t);
    while (tcp_receive(t, block, sizeof block) > 0)
        ;
    sample(TUNNEL_IN, who, mb_per_s(ms_since(t0)));
    tcp_close(t);
    t = tcp_open(rig.loop, a, PUMP_PORT);
    t0 = clock_mono_us();
    CHECK_OK(tcp_send(t, "o", 1), (struct err){.text = "tunnel"});
    while (tcp_receive(t, block, sizeof block) > 0)
        ;
    sample(TUNNEL_OUT, who, mb_per_s(ms_since(t0)));
    tcp_close(t);
    t = tcp_open(rig.loop, a, PUMP_PORT);
    CHECK_OK(tcp_send(t, "e", 1), (struct err){.text = "tunnel"});
    for (int i = 0; i < PINGS; i++) {
        t0 = clock_mono_us();
        CHECK_OK(tcp_send(t, "p", 1), (struct err){.text = "tunnel"});
        if (tcp_receive(t, block, 1) != 1)
            fail_msg("the tunnel broke");
        sample(TUNNEL_PING, who, ms_since(t0));
    }
    tcp_close(t);
    agent_stream_free(s);
}

/* ---- the engine --------------------------------------------------------------------------------
 */

static void boot_once(bool keep)
{
    struct err e = {0};
    box_end_all(NULL);
    struct box *b = box_prepare(&rig, keep ? "template" : "booted", base_disk, ENGINE_DISK_RAW);
    struct engine_spec s = rig_spec(&rig, b);
    int64_t t0 = clock_mono_us();
    CHECK_OK(engine_boot(rig.engine, &s, &b->machine, &e), e);
    box_connect(&rig, b);
    sample(BOOT_AGENT, OURS, ms_since(t0));
    box_start(b, true, container());
    first_byte(b);
    sample(BOOT_SERVING, OURS, ms_since(t0));
    char name[300];
    snprintf(name, sizeof name, "%s/snapshot%s", rig.dir, keep ? "" : "-other");
    box_freeze(b);
    t0 = clock_mono_us();
    CHECK_OK(engine_snapshot(b->machine, name, &e), e);
    sample(SNAPSHOT, OURS, ms_since(t0));
    if (keep) {
        snprintf(snapshot, sizeof snapshot, "%s", name);
        snprintf(template_disk, sizeof template_disk, "%s", b->disk);
        return;
    }
    box_end(b);
    CHECK_OK(fs_remove_tree(name, &e), e);
    CHECK_OK(fs_remove_tree(b->dir, &e), e);
}

static void restore_exec(void)
{
    struct box *b = fresh("exec");
    int64_t t0 = clock_mono_us();
    box_restore(&rig, b, snapshot, true);
    first_exec(b);
    sample(RESTORE_EXEC, OURS, ms_since(t0));
}

/* PSS counts the clean pages of the snapshot's file as the clone's when nobody else maps them now.
 */
static void own_memory(struct box *b, enum what what)
{
    struct engine_stats st;
    struct err e = {0};
    CHECK_OK(engine_machine_stats(b->machine, &st, &e), e);
    sample(what, OURS, (double)st.memory_private_bytes / (1 << 20));
    if (what == PSS_ALONE)
        sample(PRIVATE, OURS, memory_mib(newest_monitor(), "Private_Dirty"));
}

static void restore_suspend_resume(void)
{
    struct err e = {0};
    char dir[500];
    struct box *b = fresh("http");
    int64_t t0 = clock_mono_us();
    box_restore(&rig, b, snapshot, true);
    first_byte(b);
    sample(RESTORE_HTTP, OURS, ms_since(t0));
    own_memory(b, PSS_ALONE);
    box_freeze(b);
    snprintf(dir, sizeof dir, "%s/state", b->dir);
    t0 = clock_mono_us();
    CHECK_OK(engine_suspend(b->machine, dir, &e), e);
    sample(SUSPEND, OURS, ms_since(t0));
    box_end(b);
    t0 = clock_mono_us();
    box_restore(&rig, b, dir, false);
    first_byte(b);
    sample(RESUME_HTTP, OURS, ms_since(t0));
}

static void *clone_main(void *arg)
{
    struct box *b = arg;
    int64_t t0 = clock_mono_us();
    box_restore(&rig, b, snapshot, true);
    first_byte(b);
    sample(TEN_HTTP, OURS, ms_since(t0));
    return NULL;
}

static void ten_at_once(void)
{
    struct box *b[CLONES];
    pthread_t t[CLONES];
    char id[16];
    box_end_all(NULL);
    for (int i = 0; i < CLONES; i++) {
        snprintf(id, sizeof id, "ten-%d", i);
        b[i] = box_prepare(&rig, id, template_disk, ENGINE_DISK_OVERLAY);
    }
    for (int i = 0; i < CLONES; i++)
        if (pthread_create(&t[i], NULL, clone_main, b[i]))
            fail_msg("no thread");
    for (int i = 0; i < CLONES; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < CLONES; i++)
        own_memory(b[i], PSS_TEN);
}

static void measure_ours(void)
{
    for (int i = 0; i < BOOTS; i++)
        boot_once(i == BOOTS - 1);
    for (int i = 0; i < ROUNDS; i++)
        restore_exec();
    for (int i = 0; i < ROUNDS; i++)
        restore_suspend_resume();
    ten_at_once();
    struct box *b = fresh("tunnel");
    box_restore(&rig, b, snapshot, true);
    measure_tunnels(b->agent, OURS);
    box_end_all(NULL);
}

/* ---- plain QEMU --------------------------------------------------------------------------------
 */

struct other { /* a plain machine and its agent */
    struct plain plain;
    struct box box; /* only id and agent are used */
    char disk[600];
};

static void other_start(struct other *o, bool load)
{
    struct err e = {0};
    char kernel[600], initramfs[600];
    snprintf(kernel, sizeof kernel, "%s/vmlinux", rig.guest);
    snprintf(initramfs, sizeof initramfs, "%s/initramfs.cpio", rig.guest);
    plain_start(&o->plain, &(struct plain_spec){.kernel = kernel,
                                                .initramfs = initramfs,
                                                .disk = o->disk,
                                                .memory_mib = MEMORY_MIB,
                                                .load = load});
    CHECK_OK(agent_open(rig.loop, o->plain.channel, BOOT_MS, &o->box.agent, &e), e);
    o->plain.channel = -1;
    if (load)
        box_resumed(&o->box, true);
}

static void other_end(struct other *o)
{
    box_disconnect(&o->box);
    plain_end(&o->plain);
}

static void plain_boots(struct other *o)
{
    for (int i = 0; i < BOOTS; i++) {
        unlink(o->disk);
        plain_disk(o->disk, base_disk);
        int64_t t0 = clock_mono_us();
        other_start(o, false);
        sample(BOOT_AGENT, PLAIN, ms_since(t0));
        box_start(&o->box, false, container());
        first_byte(&o->box);
        sample(BOOT_SERVING, PLAIN, ms_since(t0));
        box_freeze(&o->box);
        t0 = clock_mono_us();
        plain_save(&o->plain);
        sample(SNAPSHOT, PLAIN, ms_since(t0));
        other_end(o);
    }
}

static void plain_rounds(struct other *o)
{
    for (int i = 0; i < ROUNDS; i++) {
        int64_t t0 = clock_mono_us();
        other_start(o, true);
        first_exec(&o->box);
        sample(RESTORE_EXEC, PLAIN, ms_since(t0));
        other_end(o);
        t0 = clock_mono_us();
        other_start(o, true);
        first_byte(&o->box);
        sample(RESTORE_HTTP, PLAIN, ms_since(t0));
        sample(PSS_ALONE, PLAIN, memory_mib(o->plain.proc.pid, "Pss"));
        sample(PRIVATE, PLAIN, memory_mib(o->plain.proc.pid, "Private_Dirty"));
        box_freeze(&o->box);
        t0 = clock_mono_us();
        plain_save(&o->plain);
        sample(SUSPEND, PLAIN, ms_since(t0));
        other_end(o);
        t0 = clock_mono_us();
        other_start(o, true);
        first_byte(&o->box);
        sample(RESUME_HTTP, PLAIN, ms_since(t0));
        other_end(o);
    }
}

static void *other_main(void *arg)
{
    struct other *o = arg;
    int64_t t0 = clock_mono_us();
    other_start(o, true);
    first_byte(&o->box);
    sample(TEN_HTTP, PLAIN, ms_since(t0));
    return NULL;
}

static void plain_ten(const struct other *from)
{
    static struct other o[CLONES];
    pthread_t t[CLONES];
    for (int i = 0; i < CLONES; i++) {
        snprintf(o[i].box.id, sizeof o[i].box.id, "plain-%d", i);
        snprintf(o[i].disk, sizeof o[i].disk, "%s/plain-%d.qcow2", rig.dir, i);
        plain_copy(from->disk, o[i].disk);
    }
    for (int i = 0; i < CLONES; i++)
        if (pthread_create(&t[i], NULL, other_main, &o[i]))
            fail_msg("no thread");
    for (int i = 0; i < CLONES; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < CLONES; i++)
        sample(PSS_TEN, PLAIN, memory_mib(o[i].plain.proc.pid, "Pss"));
    for (int i = 0; i < CLONES; i++) {
        other_end(&o[i]);
        unlink(o[i].disk);
    }
}

static void measure_plain(void)
{
    static struct other o = {.box.id = "plain"};
    snprintf(o.disk, sizeof o.disk, "%s/plain.qcow2", rig.dir);
    plain_boots(&o);
    plain_rounds(&o);
    plain_ten(&o);
    other_start(&o, true);
    measure_tunnels(o.box.agent, PLAIN);
    other_end(&o);
    unlink(o.disk);
}

/* ---- boots under load --------------------------------------------------------------------------
 */

static unsigned make_load(pid_t *pids, unsigned max)
{
    unsigned n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    for (unsigned i = 0; i < n && i < max; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            for (volatile unsigned long x = 0;; x++)
                ;
    }
    return n < max ? n : max;
}

/* Power-on to the agent's answer and to the first command's; how far it came in text. */
static bool boot_under_load(unsigned i, struct err *e)
{
    char id[32], base[600], out[64];
    snprintf(id, sizeof id, "boot-%u", i);
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    struct box *b = box_prepare(&rig, id, base, ENGINE_DISK_RAW);
    struct engine_spec s = rig_spec(&rig, b);
    int64_t t0 = clock_mono_us();
    int r = engine_boot(rig.engine, &s, &b->machine, e), fd = -1;
    if (r == 0)
        r = fd = engine_channel(b->machine, e);
    if (r >= 0)
        r = agent_open(rig.loop, fd, BOOT_MS, &b->agent, e);
    if (r == 0) {
        sample(BOOT_AGENT, OURS, ms_since(t0));
        box_start(b, true,
                  json_pack("{s:[s,s], s:[s], s:s, s:s, s:s}", "args", "sleep", "1000", "env",
                            "PATH=/usr/bin:/bin", "cwd", "/", "user", "", "capabilities",
                            "default"));
        r = box_sh(b, "echo ok", out, sizeof out) == 0 ? 0 : -EIO;
    }
    box_end_all(NULL);
    struct err ignored;
    return fs_remove_tree(b->dir, &ignored) == 0 && r == 0;
}

static int boots(unsigned n)
{
    pid_t load[64];
    unsigned n_load = make_load(load, ARRAY_LEN(load)), good = 0;
    for (unsigned i = 0; i < n; i++) {
        struct err e = {0};
        if (boot_under_load(i, &e))
            good++;
        else
            printf("boot %u failed: %s\n", i, e.text);
    }
    for (unsigned i = 0; i < n_load; i++) {
        kill(load[i], SIGKILL);
        waitpid(load[i], NULL, 0);
    }
    printf("%u of %u boots succeeded with %u busy processes on %ld processors\n", good, n, n_load,
           sysconf(_SC_NPROCESSORS_ONLN));
    print_table();
    return good == n ? 0 : 1;
}

int main(int argc, char **argv)
{
    bool serve = argc > 5 && strcmp(argv[2], "serve") == 0;
    if (!serve && !(argc == 4 && strcmp(argv[2], "boots") == 0)) {
        fprintf(stderr, "usage: %s HELPERS serve DISK CWD PROGRAM [ARGUMENT...] | boots N\n",
                argv[0]);
        return 2;
    }
    rig_open(&rig, argc, argv);
    int status = 0;
    if (serve) {
        base_disk = argv[3];
        cwd = argv[4];
        program = argv + 5;
        measure_ours();
        measure_plain();
        print_table();
    } else {
        status = boots((unsigned)atoi(argv[3]));
    }
    return rig_close(&rig) || status ? 1 : 0;
}
