/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM and the accelerator cost a restore, without devices, jail and control channel: the
 * machine is a micro-guest that writes to a port for ever, saved after its first write. "prepared"
 * is what is left for a monitor that waits with its VM, vCPUs and irqchip made.
 *
 *   perf_vmm_objects [MiB [vCPUs [RUNS]]]
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/kvm/kvm.h"

#define CODE 0x1000u
#define PORT 0xf4u
#define RUNS_MAX 10000u
#define JOBS_MAX 50u
#define MACHINES_PER_JOB 20u

enum step { OBJECTS, MAP, READ, REGISTERS, ENTRY, TEARDOWN, PREPARED, WHOLE, STEPS };

static const char *const step_name[STEPS] = {
    [OBJECTS] = "VM objects: VM, slots, irqchip, vCPUs, CPUID",
    [MAP] = "map the memory file",
    [READ] = "read and check the state file",
    [REGISTERS] = "set registers",
    [ENTRY] = "to the first instruction's exit",
    [TEARDOWN] = "teardown",
    [PREPARED] = "prepared: map, read, set registers",
    [WHOLE] = "not prepared: with VM objects",
};
static const double goal_ms[STEPS] = {[PREPARED] = 0.6, [WHOLE] = 2.5};

static struct {
    int kvm, memory, state;
    uint64_t bytes;
    unsigned vcpus;
    struct kvm_vcpu *kick; /* by the next port write */
} rig;

static double sample[STEPS][RUNS_MAX];

static _Noreturn void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e ? e->text : strerror(errno));
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- the machine ------------------------------------------------------------------------------
 */

static void port_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    memset(data, 0, len);
}

static void port_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    (void)data;
    (void)len;
    vcpu_kick(rig.kick);
}

static const struct bus_ops port_ops = {port_read, port_write};
static struct bus ports, mmio;

static void make(struct gmem *m, struct kvm_vm **v)
{
    struct err e = {0};
    if (gmem_reserve(m, rig.bytes, &e) < 0)
        die("memory", &e);
    struct kvm_vm_config c = {rig.kvm, m, rig.vcpus, &ports, &mmio};
    if (kvm_vm_new(&c, v, &e) < 0)
        die("VM", &e);
}

static void run(struct kvm_vm *v)
{
    char text[200];
    rig.kick = kvm_vm_vcpu(v, 0);
    if (vcpu_run(rig.kick, text) != VCPU_KICKED)
        die(text, NULL);
}

static void save(const struct gmem *m, struct kvm_vm *v)
{
    struct state_writer w;
    struct err e = {0};
    state_writer_init(&w);
    rig.memory = memfd_create("memory", MFD_CLOEXEC);
    rig.state = memfd_create("state", MFD_CLOEXEC);
    if (rig.memory < 0 || rig.state < 0 || ftruncate(rig.memory, (off_t)rig.bytes) < 0 ||
        pwrite(rig.memory, m->host, 1 << 20, 0) != 1 << 20)
        die("files", NULL);
    if (kvm_vm_save(v, &w, &e) < 0 || state_writer_finish(&w, rig.state, &e) < 0)
        die("save", &e);
    state_writer_done(&w);
}

static void make_snapshot(void)
{
    static const uint8_t code[] = {0xe6, PORT, 0xeb, 0xfc}; /* 1: out %al, $PORT; jmp 1b */
    struct boot_entry entry = {.mode = BOOT_MODE_FLAT16, .rip = CODE};
    struct gmem m;
    struct kvm_vm *v;
    struct err e = {0};
    make(&m, &v);
    if (gmem_map_zero(&m, false, &e) < 0)
        die("memory", &e);
    memcpy(gmem_ptr(&m, CODE, sizeof code), code, sizeof code);
    if (kvm_vm_power_on(v, &entry, &e) < 0)
        die("power on", &e);
    run(v);
    save(&m, v);
    kvm_vm_free(v);
    gmem_done(&m);
}

static void read_state(struct state_reader *r)
{
    struct err e = {0};
    if (lseek(rig.state, 0, SEEK_SET) < 0 || state_reader_load(r, rig.state, &e) < 0)
        die("state", &e);
}

/* ---- one restore, in steps --------------------------------------------------------------------
 */

static void restore_once(double ms[STEPS])
{
    static struct state_reader r;
    struct gmem m;
    struct kvm_vm *v;
    struct err e = {0};
    double t[TEARDOWN + 2];
    t[OBJECTS] = now_ms();
    make(&m, &v);
    t[MAP] = now_ms();
    if (gmem_map_file(&m, rig.memory, &e) < 0)
        die("map", &e);
    t[READ] = now_ms();
    read_state(&r);
    t[REGISTERS] = now_ms();
    if (kvm_vm_restore(v, &r, &e) < 0)
        die("restore", &e);
    t[ENTRY] = now_ms();
    run(v);
    t[TEARDOWN] = now_ms();
    kvm_vm_free(v);
    gmem_done(&m);
    t[TEARDOWN + 1] = now_ms();
    state_reader_done(&r);
    for (unsigned i = 0; i <= TEARDOWN; i++)
        ms[i] = t[i + 1] - t[i];
    ms[PREPARED] = ms[MAP] + ms[READ] + ms[REGISTERS];
    ms[WHOLE] = ms[OBJECTS] + ms[PREPARED];
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_row(const char *name, double *v, unsigned n, double goal)
{
    qsort(v, n, sizeof *v, compare);
    printf("%-46s %8.3f %8.3f %8.3f", name, v[n / 2], v[(n - 1) * 99 / 100], v[n - 1]);
    if (goal > 0)
        printf(" %8.1f", goal);
    printf("\n");
}

static void steps(unsigned runs)
{
    for (unsigned i = 0; i < runs; i++) {
        double ms[STEPS];
        restore_once(ms);
        for (unsigned s = 0; s < STEPS; s++)
            sample[s][i] = ms[s];
    }
    printf("%-46s %8s %8s %8s %8s\n", "restore, ms", "p50", "p99", "max", "goal");
    for (unsigned s = 0; s < STEPS; s++)
        print_row(step_name[s], sample[s], runs, goal_ms[s]);
}

/* ---- many at once -----------------------------------------------------------------------------
 */

struct report {
    double create, teardown;
};

/* A process of its own, as each monitor is: threads of one would wait for each other's mappings. */
static void job(int out)
{
    for (unsigned i = 0; i < MACHINES_PER_JOB; i++) {
        struct gmem m;
        struct kvm_vm *v;
        double start = now_ms();
        make(&m, &v);
        double made = now_ms();
        kvm_vm_free(v);
        gmem_done(&m);
        struct report r = {made - start, now_ms() - made};
        if (write(out, &r, sizeof r) != sizeof r)
            _exit(1);
    }
    _exit(0);
}

static void at_once(unsigned jobs)
{
    int fds[2];
    unsigned n = 0;
    struct report r;
    if (pipe2(fds, O_CLOEXEC) < 0)
        die("pipe", NULL);
    fflush(stdout);
    for (unsigned i = 0; i < jobs; i++)
        if (fork() == 0)
            job(fds[1]);
    close(fds[1]);
    for (; read(fds[0], &r, sizeof r) == sizeof r && n < RUNS_MAX; n++) {
        sample[0][n] = r.create;
        sample[1][n] = r.teardown;
    }
    close(fds[0]);
    while (wait(NULL) > 0)
        ;
    char name[64];
    snprintf(name, sizeof name, "%u at once: VM objects", jobs);
    print_row(name, sample[0], n, 0);
    snprintf(name, sizeof name, "%u at once: teardown", jobs);
    print_row(name, sample[1], n, 0);
}

static unsigned argument(int argc, char **argv, int i, unsigned fallback, unsigned max)
{
    long v = argc > i ? strtol(argv[i], NULL, 10) : (long)fallback;
    if (v < 1 || v > (long)max) {
        fprintf(stderr, "usage: %s [MiB [vCPUs [RUNS]]]\n", argv[0]);
        exit(2);
    }
    return (unsigned)v;
}

int main(int argc, char **argv)
{
    rig.bytes = (uint64_t)argument(argc, argv, 1, 512, 16384) << 20;
    rig.vcpus = argument(argc, argv, 2, 1, KVM_VCPUS_MAX);
    unsigned runs = argument(argc, argv, 3, 200, RUNS_MAX);
    static const unsigned jobs[] = {1, 10, JOBS_MAX};
    rig.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (rig.kvm < 0) {
        printf("skipped: /dev/kvm: %s\n", strerror(errno));
        return 77;
    }
    if (bus_add(&ports, PORT, 1, &port_ops, NULL) < 0)
        die("bus", NULL);
    make_snapshot();
    printf("%llu MiB, %u vCPU, %u runs\n", (unsigned long long)(rig.bytes >> 20), rig.vcpus, runs);
    steps(runs);
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        at_once(jobs[i]);
    return 0;
}
