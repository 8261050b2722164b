/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real tinderbox-vmm through its control channel, natively on any /dev/kvm: start, thaw, kill,
 * one after the other and many at once, each from a process of its own as the requests of a busy
 * daemon are; then the memory of idle ones. The guest writes to its serial port for ever, so the
 * first byte that comes out shows that a thawed one runs. A table; nothing passes or fails on time.
 *
 *   perf_monitors TINDERBOX_VMM
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../monitor/drive.h"
#include "base/clock.h"
#include "base/fs.h"
#include "footprint.h"

enum { CYCLES = 200, SAMPLES_MAX = 4096, IDLE = 10 };

enum step { START, THAW, COLD, KILL, STEPS };

static const char *const step_name[STEPS] = {
    [START] = "start, jail, VM objects (the pool's part)",
    [THAW] = "memory, state, to the guest's first byte",
    [COLD] = "both: a restore without a pool",
    [KILL] = "kill to reaped",
};

struct cycle { /* milliseconds */
    double ms[STEPS];
};

static struct {
    int memory, state;
    char guest[64];
} snapshot;

static double ms_since(int64_t us)
{
    return (double)(clock_mono_us() - us) / 1000;
}

/* mov $0x3f8, %dx; mov $'x', %al; 1: out %al, (%dx); jmp 1b */
static void make_guest(void)
{
    static const unsigned char code[] = {0xba, 0xf8, 0x03, 0xb0, 'x', 0xee, 0xeb, 0xfd};
    int fd = drive_file();
    assert_int_equal(fs_write_all(fd, (const char *)code, sizeof code), 0);
    snprintf(snapshot.guest, sizeof snapshot.guest, "/proc/self/fd/%d", fd);
}

static void make_snapshot(void)
{
    static struct drive d;
    struct monitor_message m = {.save = {.all = 1}};
    make_guest();
    snapshot.memory = drive_file();
    snapshot.state = drive_file();
    int fds[2] = {snapshot.state, snapshot.memory};
    drive_start(&d);
    drive_shape(&d, -1, MONITOR_BALLOON_DEVICE);
    drive_boot(&d, snapshot.guest);
    drive_expect(&d, "x");
    drive_ok(&d, MONITOR_SAVE, &m, fds, 2);
    assert_int_equal(ftruncate(snapshot.memory, DRIVE_RAM), 0);
    drive_end(&d);
}

static void start(struct drive *d)
{
    struct monitor_message m = {
        .create = {.memory_bytes = DRIVE_RAM, .vcpus = 1, .flags = MONITOR_BALLOON_DEVICE}};
    drive_start(d);
    drive_ok(d, MONITOR_CREATE, &m, NULL, 0);
}

static void thaw(struct drive *d)
{
    struct monitor_message m = {.memory = {.kind = MONITOR_MEMORY_FILE}};
    int pair[2];
    drive_ok(d, MONITOR_MEMORY, &m, &snapshot.memory, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    d->serial = pair[0];
    drive_ok(d, MONITOR_CONSOLE, NULL, &pair[1], 1);
    close(pair[1]);
    drive_restore(d, snapshot.state, -1, -1);
    drive_expect(d, "x");
}

static struct cycle run_cycle(void)
{
    static struct drive d;
    struct cycle c;
    int64_t t0 = clock_mono_us();
    start(&d);
    c.ms[START] = ms_since(t0);
    int64_t t1 = clock_mono_us();
    thaw(&d);
    c.ms[THAW] = ms_since(t1);
    c.ms[COLD] = ms_since(t0);
    t1 = clock_mono_us();
    drive_end(&d);
    c.ms[KILL] = ms_since(t1);
    return c;
}

/* ---- many at once -----------------------------------------------------------------------------
 */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_rows(unsigned jobs, const struct cycle *all, unsigned n, double seconds)
{
    static double v[SAMPLES_MAX];
    for (unsigned s = 0; s < STEPS; s++) {
        for (unsigned i = 0; i < n; i++)
            v[i] = all[i].ms[s];
        qsort(v, n, sizeof *v, compare);
        printf("%4u  %-44s %8.2f %8.2f %8.2f\n", jobs, step_name[s], v[n / 2],
               v[(n - 1) * 99 / 100], v[n - 1]);
    }
    printf("%4u  %-44s %8.1f\n", jobs, "restored and killed, per second", n / seconds);
}

static void job(int out, unsigned cycles)
{
    for (unsigned i = 0; i < cycles; i++) {
        struct cycle c = run_cycle();
        if (write(out, &c, sizeof c) != sizeof c)
            _exit(1);
    }
    _exit(0);
}

/* Whether all came back. */
static bool at_once(unsigned jobs)
{
    static struct cycle all[SAMPLES_MAX];
    int fds[2];
    unsigned n = 0;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    fflush(stdout);
    int64_t t0 = clock_mono_us();
    for (unsigned i = 0; i < jobs; i++)
        if (fork() == 0)
            job(fds[1], CYCLES / jobs);
    close(fds[1]);
    while (n < SAMPLES_MAX && read(fds[0], &all[n], sizeof *all) == sizeof *all)
        n++;
    close(fds[0]);
    while (wait(NULL) > 0)
        ;
    if (n < CYCLES / jobs * jobs)
        printf("%4u  only %u of %u restores came back\n", jobs, n, CYCLES / jobs * jobs);
    if (n)
        print_rows(jobs, all, n, ms_since(t0) / 1000);
    return n == CYCLES / jobs * jobs;
}

/* ---- memory ------------------------------------------------------------------------------------
 */

static void print_memory(const char *what, pid_t pid)
{
    struct footprint f;
    footprint_read(pid, "memfd:file", &f);
    printf("%-50s %8.0f %8.0f %8.0f %8.0f %8.0f\n", what, f.own, f.code, f.heap, f.stack, f.other);
}

/* Paused: what writes for ever is not idle. */
static void memory(void)
{
    static struct drive d[IDLE];
    printf("\n%-50s %8s %8s %8s %8s %8s\n", "memory beside guest RAM, KiB (PSS; goal 2048)", "all",
           "program", "heap", "stack", "other");
    for (unsigned i = 0; i < IDLE; i++) {
        start(&d[i]);
        if (i == 0)
            print_memory("in the pool, alone", d[i].pid);
        thaw(&d[i]);
        drive_ok(&d[i], MONITOR_PAUSE, NULL, NULL, 0);
        if (i == 0)
            print_memory("a clone, alone", d[i].pid);
    }
    print_memory("a clone, one of ten", d[0].pid);
    for (unsigned i = 0; i < IDLE; i++)
        drive_end(&d[i]);
}

int main(int argc, char **argv)
{
    static const unsigned jobs[] = {1, 10, 50};
    bool good = true;
    if (argc != 2) {
        fprintf(stderr, "usage: %s TINDERBOX_VMM\n", argv[0]);
        return 2;
    }
    drive_program = argv[1];
    signal(SIGPIPE, SIG_IGN);
    const char *why = drive_why_not();
    if (why) {
        printf("skipped: %s\n", why);
        return 77;
    }
    make_snapshot();
    printf("%4s  %-44s %8s %8s %8s\n", "jobs", "tinderbox-vmm, ms", "p50", "p99", "max");
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        good &= at_once(jobs[i]);
    memory();
    return good ? 0 : 1;
}
