/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM engine through engine.h beside QEMU with KVM: the same kernel, agent, disk and memory
 * size in the same run. QEMU thaws as fast as it can (plain.h). Where KVM is itself emulated the
 * milliseconds say nothing, the ratios do; both take turns, so that other load meets both. A table;
 * nothing passes or fails on time.
 *
 *   perf_kvm HELPERS [ROUNDS]     as root, for the network and for /proc/PID/smaps
 *
 * TINDERBOX_GUEST_DIR as in tests/engine/harness.h; the engine is "kvm".
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "footprint.h"
#include "plain.h"
#include "world.h"

enum { BOOTS = 3, SAMPLES_MAX = 64, BOOT_MS = 120000, MEMORY_MIB = 512, DISK_MIB = 48 };

/* ---- the table ---------------------------------------------------------------------------------
 */

enum what {
    NONE,
    BOOT,
    SNAPSHOT,
    ANSWER,
    ANSWER_SET,
    ANSWER_POOL,
    ANSWER_BOTH,
    ITSELF,
    COMMAND,
    SUSPEND,
    RESUME,
    FORK_PAUSE,
    FORK_DONE,
    OWN,
    OWN_PROGRAM,
    OWN_HEAP,
    NET_HELPER,
    GUEST_PAGES,
    DISK_WRITE,
    DISK_REWRITE,
    DISK_READ,
    DISK_SMALL,
    NET_OUT,
    NET_IN,
    N_WHAT
};

static const struct {
    const char *name, *unit;
    enum what against; /* the row with QEMU's numbers; NONE = its own */
} rows[N_WHAT] = {
    [BOOT] = {"power-on to agent", "ms", NONE},
    [SNAPSHOT] = {"snapshot", "ms", NONE},
    [ANSWER] = {"restore to first agent answer", "ms", NONE},
    [ANSWER_SET] = {"  with the working set", "ms", ANSWER},
    [ANSWER_POOL] = {"  from the pool", "ms", ANSWER},
    [ANSWER_BOTH] = {"  from the pool, with the working set", "ms", ANSWER},
    [ITSELF] = {"  and told time, entropy and names", "ms", NONE},
    [COMMAND] = {"  and the first command run", "ms", NONE},
    [SUSPEND] = {"suspend a clone", "ms", NONE},
    [RESUME] = {"resume to first agent answer", "ms", NONE},
    [FORK_PAUSE] = {"fork: the machine stands still", "ms", NONE},
    [FORK_DONE] = {"fork: until the snapshot is complete", "ms", NONE},
    [OWN] = {"idle clone: monitor's own memory (PSS)", "KiB", NONE},
    [OWN_PROGRAM] = {"  of that program and libraries", "KiB", NONE},
    [OWN_HEAP] = {"  of that heap and thread stacks", "KiB", NONE},
    [NET_HELPER] = {"  its network process, not counted above", "KiB", NONE},
    [GUEST_PAGES] = {"idle clone: guest pages of its own", "KiB", NONE},
    [DISK_WRITE] = {"disk: write new blocks, 1 MiB direct", "MB/s", NONE},
    [DISK_REWRITE] = {"disk: write them again", "MB/s", NONE},
    [DISK_READ] = {"disk: read, 1 MiB direct", "MB/s", NONE},
    [DISK_SMALL] = {"disk: read, 4 KiB direct", "MB/s", NONE},
    [NET_OUT] = {"network: guest to outside, TCP", "MB/s", NONE},
    [NET_IN] = {"network: outside to guest, TCP", "MB/s", NONE},
};

enum who { OURS, QEMU };

static struct series {
    double v[SAMPLES_MAX];
    unsigned n;
} table[N_WHAT][2];

static void sample(enum what what, enum who who, double v)
{
    struct series *s = &table[what][who];
    if (s->n < SAMPLES_MAX)
        s->v[s->n++] = v;
    fprintf(stderr, "%s: %s %.2f %s\n", who == OURS ? "kvm" : "QEMU", rows[what].name, v,
            rows[what].unit); /* a run takes minutes */
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

/* Rates: more is better, and the best is the largest. */
static double best(const struct series *s, const char *unit)
{
    return strcmp(unit, "MB/s") == 0 ? s->v[s->n - 1] : s->v[0];
}

/* Other load only ever makes worse, so the ratio of the best is the steadier one. */
static void print_table(void)
{
    printf("%-42s %4s %9s %9s %-5s %9s %9s %7s %7s\n", "KVM engine (q: QEMU with KVM)", "n",
           "median", "best", "", "q median", "q best", "ratio", "of best");
    for (unsigned i = 0; i < N_WHAT; i++) {
        struct series *ours = &table[i][OURS];
        struct series *theirs = &table[rows[i].against ? rows[i].against : i][QEMU];
        const char *unit = rows[i].unit;
        if (!ours->n)
            continue;
        double m = median(ours), t = theirs->n ? median(theirs) : 0;
        printf("%-42s %4u %9.2f %9.2f %-5s", rows[i].name, ours->n, m, best(ours, unit), unit);
        if (theirs->n)
            printf(" %9.2f %9.2f %7.2f %7.2f", t, best(theirs, unit), m / t,
                   best(ours, unit) / best(theirs, unit));
        printf("\n");
    }
}

/* ---- in the guest ------------------------------------------------------------------------------
 */

static struct rig rig;
static bool have_world;

static json_t *container(void)
{
    return json_pack("{s:[s,s], s:[s], s:s, s:s, s:s}", "args", "sleep", "1000000", "env",
                     "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "cwd", "/", "user", "", "capabilities",
                     "default");
}

static void first_command(struct box *b)
{
    char out[64];
    if (box_sh(b, "echo ok", out, sizeof out) != 0)
        fail_msg("exec in %s: %s", b->id, out);
}

/* A command that prints seconds on its last line. */
static double seconds_of(struct box *b, const char *command)
{
    char out[600];
    int r = box_sh(b, command, out, sizeof out);
    const char *last = strrchr(out, '\n');
    double s = strtod(last ? last + 1 : out, NULL);
    if (r || s <= 0)
        fail_msg("%s in %s: %d %s", command, b->id, r, out);
    return s;
}

static void measure_dd(struct box *b, enum what what, enum who who, const char *args, double mb)
{
    char command[300];
    snprintf(command, sizeof command,
             "LANG=C dd %s 2>&1 | sed -n 's/.*copied, \\([0-9.e-]*\\) s.*/\\1/p'", args);
    sample(what, who, mb / seconds_of(b, command));
}

static void measure_disk(struct box *b, enum who who)
{
    const double mb = DISK_MIB * 1.048576;
    for (int i = 0; i < 2; i++)
        measure_dd(b, i ? DISK_REWRITE : DISK_WRITE, who,
                   "if=/dev/zero of=/big bs=1M count=48 oflag=direct conv=notrunc,fsync", mb);
    for (int i = 0; i < 3; i++)
        measure_dd(b, DISK_READ, who, "if=/big of=/dev/null bs=1M iflag=direct", mb);
    for (int i = 0; i < 2; i++)
        measure_dd(b, DISK_SMALL, who, "if=/big of=/dev/null bs=4k count=2048 iflag=direct",
                   2048 * 4096 / 1e6);
}

static void measure_net(struct box *b, enum who who)
{
    static const char program[] =
        "perl -MSocket -e '"
        "sub now { my $b = pack q(q2), 0, 0; syscall 96, $b, 0;" /* gettimeofday */
        "  my ($s, $u) = unpack q(q2), $b; $s + $u / 1e6 }"
        "socket(my $s, PF_INET, SOCK_STREAM, 0);"
        "connect($s, sockaddr_in(%d, inet_aton(q(%s)))) or die $!;"
        "my $d = q(x) x 100000; my $t = now; syswrite $s, q(%c);"
        "if (q(%c) eq q(i)) { for (1 .. %d) { for (my $o = 0; $o < 100000;) {"
        "  $o += syswrite($s, $d, 100000 - $o, $o) // die $! } } shutdown $s, 1 }"
        "my $n; 1 while $n = sysread $s, $d, 262144; print now() - $t' 2>&1";
    char command[1000];
    for (int i = 0; have_world && i < 2; i++) {
        char way = i % 2 ? 'o' : 'i';
        snprintf(command, sizeof command, program, WORLD_PORT, WORLD_ADDRESS, way, way,
                 WORLD_BYTES / 100000);
        sample(i % 2 ? NET_IN : NET_OUT, who, WORLD_BYTES / 1e6 / seconds_of(b, command));
    }
}

/* ---- memory ------------------------------------------------------------------------------------
 */

/* The process with this program that was started last. */
static pid_t newest(const char *program)
{
    pid_t best = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char path[64], exe[512];
        int pid = atoi(ent->d_name);
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        ssize_t n = pid > best ? readlink(path, exe, sizeof exe - 1) : -1;
        exe[n > 0 ? n : 0] = '\0';
        if (strstr(exe, program))
            best = pid;
    }
    if (d)
        closedir(d);
    return best;
}

static void settle(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static void measure_memory(pid_t pid, enum who who)
{
    struct footprint f;
    settle(1000); /* until the clone is idle */
    footprint_read(pid, "/memory", &f);
    sample(OWN, who, f.own);
    sample(OWN_PROGRAM, who, f.code);
    sample(OWN_HEAP, who, f.heap + f.stack);
    sample(GUEST_PAGES, who, f.written);
    if (who == OURS) {
        footprint_read(newest("/tinderbox-net"), NULL, &f);
        sample(NET_HELPER, who, f.own);
    }
}

/* ---- our own -----------------------------------------------------------------------------------
 */

static char snapshot[300], working_set[400], base_disk[600], template_disk[500];

static struct box *fresh(const char *id)
{
    struct err e = {0};
    char dir[400];
    box_end_all(NULL);
    snprintf(dir, sizeof dir, "%s/%s", rig.dir, id);
    CHECK_OK(fs_remove_tree(dir, &e), e);
    return box_prepare(&rig, id, template_disk, ENGINE_DISK_OVERLAY);
}

/* The first is not counted, it finds nothing in the page cache; the last becomes the snapshot. */
static void boot_once(int i)
{
    bool keep = i == BOOTS - 1;
    char id[16];
    struct err e = {0};
    box_end_all(NULL);
    snprintf(id, sizeof id, "booted-%d", i);
    struct box *b = box_prepare(&rig, id, base_disk, ENGINE_DISK_RAW);
    struct engine_spec s = rig_spec(&rig, b);
    int64_t t0 = clock_mono_us();
    CHECK_OK(engine_boot(rig.engine, &s, &b->machine, &e), e);
    box_connect(&rig, b);
    if (i > 0)
        sample(BOOT, OURS, ms_since(t0));
    box_start(b, true, container());
    first_command(b);
    if (!keep) {
        measure_disk(b, OURS);
        measure_net(b, OURS);
        box_end_all(NULL);
        return;
    }
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", rig.dir);
    snprintf(working_set, sizeof working_set, "%s/working-set", snapshot);
    snprintf(template_disk, sizeof template_disk, "%s", b->disk);
    box_freeze(b);
    t0 = clock_mono_us();
    CHECK_OK(engine_snapshot(b->machine, snapshot, &e), e);
    sample(SNAPSHOT, OURS, ms_since(t0));
    box_end_all(NULL);
}

static struct box *thaw(enum what what, struct engine *en)
{
    struct err e = {0};
    struct box *b = fresh("clone");
    struct engine_spec s = rig_spec(&rig, b);
    int64_t t0 = clock_mono_us();
    CHECK_OK(engine_restore(en, &s, snapshot, &b->machine, &e), e);
    box_connect(&rig, b);
    double answer = ms_since(t0);
    box_resumed(b, true);
    double itself = ms_since(t0);
    CHECK_OK(engine_machine_network(b->machine, true, &e), e);
    first_command(b);
    if (what)
        sample(what, OURS, answer);
    if (what == ANSWER_BOTH) {
        sample(ITSELF, OURS, itself);
        sample(COMMAND, OURS, ms_since(t0));
    }
    return b;
}

/* The first clone's: written down after it has run for a moment. */
static void record_set(void)
{
    thaw(NONE, rig.engine);
    for (int i = 0; i < 200 && access(working_set, F_OK) < 0; i++)
        settle(100);
    if (access(working_set, F_OK) < 0)
        fail_msg("no working set was recorded");
    box_end_all(NULL);
}

/* Each way once; without the working set a clone records one, which goes when it comes back. */
static void thaw_each_way(struct engine *pool)
{
    char aside[500];
    snprintf(aside, sizeof aside, "%s/aside", rig.dir);
    thaw(ANSWER_SET, rig.engine);
    box_end_all(NULL);
    settle(1500); /* until the pool is full again */
    thaw(ANSWER_BOTH, pool);
    if (rename(working_set, aside) < 0)
        fail_msg("working set: %s", strerror(errno));
    thaw(ANSWER, rig.engine);
    box_end_all(NULL);
    settle(1500);
    thaw(ANSWER_POOL, pool);
    box_end_all(NULL);
    if (rename(aside, working_set) < 0)
        fail_msg("working set: %s", strerror(errno));
}

static void measure_fork(struct box *b)
{
    struct err e = {0};
    struct engine_fork_info info;
    char dir[400];
    for (int i = 0; i < 3; i++) {
        snprintf(dir, sizeof dir, "%s/fork-%d", rig.dir, i);
        int64_t t0 = clock_mono_us();
        CHECK_OK(engine_fork(b->machine, dir, &info, &e), e);
        sample(FORK_DONE, OURS, ms_since(t0));
        sample(FORK_PAUSE, OURS, (double)info.paused_us / 1000);
    }
}

static void suspend_and_resume(struct box *b)
{
    struct err e = {0};
    char dir[500];
    struct engine_spec s = rig_spec(&rig, b);
    snprintf(dir, sizeof dir, "%s/state", b->dir);
    box_freeze(b);
    int64_t t0 = clock_mono_us();
    CHECK_OK(engine_suspend(b->machine, dir, &e), e);
    sample(SUSPEND, OURS, ms_since(t0));
    box_end(b);
    t0 = clock_mono_us();
    CHECK_OK(engine_resume(rig.engine, &s, dir, &b->machine, &e), e);
    box_connect(&rig, b);
    sample(RESUME, OURS, ms_since(t0));
}

static struct engine *engine_with_pool(void)
{
    struct err e = {0};
    struct engine *ret = NULL;
    char kernel[600], initramfs[600];
    snprintf(kernel, sizeof kernel, "%s/vmlinux", rig.guest);
    snprintf(initramfs, sizeof initramfs, "%s/initramfs.cpio", rig.guest);
    struct engine_config c = {.kind = "kvm",
                              .kernel = kernel,
                              .initramfs = initramfs,
                              .helper_dir = rig.helper_dir,
                              .key_dir = rig.dir,
                              .sandbox = true,
                              .pool = 1};
    CHECK_OK(engine_open(&c, &ret, &e), e);
    return ret;
}

static void measure_clone(void)
{
    struct box *b = thaw(NONE, rig.engine);
    measure_memory(newest_monitor(), OURS);
    measure_fork(b);
    for (int i = 0; i < 3; i++)
        suspend_and_resume(thaw(NONE, rig.engine));
    box_end_all(NULL);
}

/* ---- QEMU --------------------------------------------------------------------------------------
 */

struct other { /* a machine and its agent */
    struct plain plain;
    struct box box; /* only id and agent are used */
    char disk[600];
};

static char ram[500], state[500], frozen_disk[600];

static void other_start(struct other *o, const char *with_ram, const char *from)
{
    struct err e = {0};
    char kernel[600], initramfs[600];
    snprintf(kernel, sizeof kernel, "%s/vmlinux", rig.guest);
    snprintf(initramfs, sizeof initramfs, "%s/initramfs.cpio", rig.guest);
    plain_start(&o->plain, &(struct plain_spec){.kernel = kernel,
                                                .initramfs = initramfs,
                                                .disk = o->disk,
                                                .memory_mib = MEMORY_MIB,
                                                .kvm = true,
                                                .ram = with_ram,
                                                .state = from});
    CHECK_OK(agent_open(rig.loop, o->plain.channel, BOOT_MS, &o->box.agent, &e), e);
    o->plain.channel = -1;
}

static void other_end(struct other *o)
{
    box_disconnect(&o->box);
    plain_end(&o->plain);
}

/* As boot_once(). Memory in a file makes a boot slow, so that one is not counted. */
static void other_boot(struct other *o, int i)
{
    bool keep = i == BOOTS - 1;
    plain_disk(o->disk, base_disk);
    int64_t t0 = clock_mono_us();
    other_start(o, keep ? ram : NULL, NULL);
    if (i > 0 && !keep)
        sample(BOOT, QEMU, ms_since(t0));
    box_start(&o->box, true, container());
    first_command(&o->box);
    if (keep) {
        box_freeze(&o->box);
        t0 = clock_mono_us();
        plain_freeze(&o->plain, state, false);
        sample(SNAPSHOT, QEMU, ms_since(t0));
    }
    if (!keep) {
        measure_disk(&o->box, QEMU);
        measure_net(&o->box, QEMU);
    }
    other_end(o);
}

static void other_thaw(struct other *o, bool count)
{
    plain_copy(frozen_disk, o->disk);
    int64_t t0 = clock_mono_us();
    other_start(o, ram, state);
    double answer = ms_since(t0);
    box_resumed(&o->box, true);
    double itself = ms_since(t0);
    first_command(&o->box);
    if (!count)
        return;
    sample(ANSWER, QEMU, answer);
    sample(ITSELF, QEMU, itself);
    sample(COMMAND, QEMU, ms_since(t0));
}

static void other_suspend_and_resume(struct other *o)
{
    char whole[600];
    snprintf(whole, sizeof whole, "%s/qemu.whole", rig.dir);
    box_freeze(&o->box);
    int64_t t0 = clock_mono_us();
    plain_freeze(&o->plain, whole, true);
    sample(SUSPEND, QEMU, ms_since(t0));
    other_end(o);
    t0 = clock_mono_us();
    other_start(o, NULL, whole);
    sample(RESUME, QEMU, ms_since(t0));
    other_end(o);
}

static void measure(int rounds)
{
    static struct other o = {.box.id = "qemu"};
    snprintf(ram, sizeof ram, "%s/memory", rig.dir);
    snprintf(state, sizeof state, "%s/qemu.state", rig.dir);
    for (int i = 0; i < BOOTS; i++) {
        boot_once(i);
        snprintf(o.disk, sizeof o.disk, "%s/qemu-%d.qcow2", rig.dir, i);
        other_boot(&o, i);
    }
    snprintf(frozen_disk, sizeof frozen_disk, "%s", o.disk);
    snprintf(o.disk, sizeof o.disk, "%s/qemu.qcow2", rig.dir);
    record_set();
    struct engine *pool = engine_with_pool();
    thaw(NONE, pool); /* it learns the shape */
    for (int i = 0; i < rounds; i++) {
        thaw_each_way(pool);
        other_thaw(&o, true);
        other_end(&o);
    }
    engine_close(pool);
    measure_clone();
    other_thaw(&o, false);
    measure_memory(o.plain.proc.pid, QEMU);
    other_suspend_and_resume(&o);
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : 8;
    if (argc < 2 || rounds < 1) {
        fprintf(stderr, "usage: %s HELPERS [ROUNDS]\n", argv[0]);
        return 2;
    }
    if (setenv("TINDERBOX_ENGINE", "kvm", 1) < 0)
        return 1;
    have_world = world_make();
    rig_open(&rig, argc, argv);
    snprintf(base_disk, sizeof base_disk, "%s/debian-12.ext4", rig.guest);
    measure(rounds);
    print_table();
    world_end();
    return rig_close(&rig);
}
