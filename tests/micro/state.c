/* SPDX-License-Identifier: Apache-2.0 */
/* Machines that are saved, and go on as another one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

static struct micro m;

static void stop_at_mark(void *arg, const struct micro_access *a)
{
    if (a->value == *(const uint64_t *)arg)
        micro_stop(&m);
}

/* Saves the machine in m and makes m its successor. */
static void succeed(void)
{
    struct micro_snapshot s;
    struct err e = {0};
    unsigned vcpus = m.vcpus;
    micro_save(&m, &s);
    micro_free(&m);
    micro_new(&m, vcpus, s.memory);
    if (micro_restore(&m, &s, &e) < 0)
        micro_fail("restore", 0, e.text);
    micro_snapshot_done(&s);
}

/* ---- a computation, cut at every access -------------------------------------------------------
 */

struct trace {
    struct micro_access log[MICRO_LOG];
    unsigned n, cuts;
    bool cut;
};

static void follow(void *arg, const struct micro_access *a)
{
    struct trace *t = arg;
    CHECK(t->n < MICRO_LOG);
    t->log[t->n++] = *a;
    if (t->cut)
        micro_stop(&m);
}

static void set_hooks(struct trace *t)
{
    m.port.hook = m.window.hook = follow;
    m.port.arg = m.window.arg = t;
}

static void run_traced(const char *guest, struct trace *t, uint8_t ram[0x200])
{
    micro_new(&m, 1, -1);
    set_hooks(t);
    micro_start(&m, guest, BOOT_MODE_PVH32);
    while (micro_run(&m) == VCPU_KICKED && atomic_load(&m.done) < 0) {
        succeed();
        set_hooks(t);
        t->cuts++;
    }
    CHECK(atomic_load(&m.done) == 0);
    memcpy(ram, micro_ram(&m, MICRO_RESULT, 0x200), 0x200);
    micro_free(&m);
}

static int lowest_free_fd(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void test_work(const char *guest)
{
    static struct trace whole, cut = {.cut = true};
    static uint8_t ram_whole[0x200], ram_cut[0x200];
    run_traced(guest, &whole, ram_whole);
    int fd = lowest_free_fd();
    run_traced(guest, &cut, ram_cut);
    CHECK(lowest_free_fd() == fd);
    CHECK(whole.cuts == 0 && cut.cuts > 60);
    CHECK(whole.n == cut.n);
    for (unsigned i = 0; i < whole.n; i++) {
        const struct micro_access *a = &whole.log[i], *b = &cut.log[i];
        CHECK(a->write == b->write && a->len == b->len && a->offset == b->offset &&
              a->value == b->value);
    }
    CHECK(memcmp(ram_whole, ram_cut, sizeof ram_whole) == 0);
    printf("%u accesses, saved and restored %u times\n", cut.n, cut.cuts);
}

static void test_xsave(const char *guest)
{
    uint64_t mark = 2;
    micro_new(&m, 1, -1);
    m.port.hook = stop_at_mark;
    m.port.arg = &mark;
    micro_start(&m, guest, BOOT_MODE_PVH32);
    enum vcpu_exit why = micro_run(&m);
    if (why == VCPU_FAILED && strstr(m.text, "cannot emulate"))
        micro_skip("this host runs guests in KVM's instruction emulator: %s", m.text);
    CHECK(why == VCPU_KICKED);
    if (atomic_load(&m.done) == 2)
        micro_skip("this KVM gives guests no XSAVE");
    if (atomic_load(&m.done) == 3)
        micro_skip("KVM does not see XSETBV here: QEMU's emulation of SVM does not intercept it");
    CHECK(atomic_load(&m.done) < 0);
    succeed();
    micro_run_to_end(&m);
    CHECK(micro_result(&m, 1) == micro_result(&m, 0));
    const uint8_t *p = micro_ram(&m, MICRO_RESULT + 0x20, 32);
    for (unsigned i = 0; i < (micro_result(&m, 0) & 4 ? 32 : 16); i++)
        CHECK(p[i] == i);
    micro_free(&m);
}

/* ---- time -------------------------------------------------------------------------------------
 */

static void test_deadline(const char *guest)
{
    uint64_t mark = 1;
    micro_new(&m, 1, -1);
    m.port.hook = stop_at_mark;
    m.port.arg = &mark;
    micro_start(&m, guest, BOOT_MODE_PVH32);
    CHECK(micro_run(&m) == VCPU_KICKED && atomic_load(&m.done) < 0);
    succeed();
    micro_run_to_end(&m);
    micro_free(&m);
}

struct pvclock { /* struct pvclock_vcpu_time_info */
    uint32_t version, pad0;
    uint64_t tsc, ns;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad[2];
};

#define GUEST_STOPPED 2u

static uint64_t guest_ns(unsigned stamp, uint8_t *flags)
{
    struct pvclock c;
    uint64_t tsc;
    memcpy(&c, micro_ram(&m, 0x3800, sizeof c), sizeof c);
    memcpy(&tsc, micro_ram(&m, MICRO_RESULT + 8 * stamp, sizeof tsc), sizeof tsc);
    *flags = c.flags;
    if (c.version == 0 || c.version % 2)
        micro_skip("this KVM does not keep kvmclock for micro-guests");
    /* KVM may have renewed the structure since the stamp was taken. */
    bool behind = tsc < c.tsc;
    uint64_t delta = behind ? c.tsc - tsc : tsc - c.tsc;
    delta = c.shift < 0 ? delta >> -c.shift : delta << c.shift;
    delta = (uint64_t)((unsigned __int128)delta * c.mul >> 32);
    return behind ? c.ns - delta : c.ns + delta;
}

static uint64_t host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void test_clock(const char *guest)
{
    const struct timespec pause = {.tv_nsec = 300000000};
    uint64_t mark = 1;
    uint8_t before_flags, after_flags;
    micro_new(&m, 1, -1);
    m.port.hook = stop_at_mark;
    m.port.arg = &mark;
    micro_start(&m, guest, BOOT_MODE_PVH32);
    uint64_t host = host_ns();
    CHECK(micro_run(&m) == VCPU_KICKED && atomic_load(&m.done) < 0);
    uint64_t before = guest_ns(0, &before_flags);
    struct micro_snapshot s;
    struct err e = {0};
    micro_save(&m, &s);
    micro_free(&m);
    nanosleep(&pause, NULL);
    micro_new(&m, 1, s.memory);
    CHECK(micro_restore(&m, &s, &e) == 0);
    micro_snapshot_done(&s);
    micro_run_to_end(&m);
    uint64_t after = guest_ns(1, &after_flags);
    host = host_ns() - host;
    printf("guest %llu ns, host %llu ns\n", (unsigned long long)(after - before),
           (unsigned long long)host);
    CHECK(after > before && after - before < host - (uint64_t)pause.tv_nsec);
    CHECK(!(before_flags & GUEST_STOPPED) && (after_flags & GUEST_STOPPED));
    micro_free(&m);
}

/* ---- several vCPUs ----------------------------------------------------------------------------
 */

static void test_smp_restore(const char *guest)
{
    for (uint64_t mark = 1; mark <= 3; mark++) {
        micro_new(&m, 2, -1);
        m.port.hook = stop_at_mark;
        m.port.arg = &mark;
        micro_start(&m, guest, BOOT_MODE_PVH32);
        CHECK(micro_run(&m) == VCPU_KICKED && atomic_load(&m.done) < 0);
        succeed();
        micro_run_to_end(&m);
        CHECK(micro_result(&m, 1) == 1);
        micro_free(&m);
    }
}

/* ---- state that does not fit ------------------------------------------------------------------
 */

static struct micro_snapshot saved;

/* Restores saved with one section replaced by p (n 0: left out) into a fresh machine of vcpus. */
static int restore_changed(enum state_type type, const void *p, size_t n, unsigned vcpus,
                           struct err *e)
{
    struct state_reader *r = malloc(sizeof *r);
    struct state_writer w;
    CHECK(r && lseek(saved.state, 0, SEEK_SET) == 0 && state_reader_load(r, saved.state, e) == 0);
    state_writer_init(&w);
    for (unsigned i = 0; i < r->n; i++) {
        const struct state_section *s = &r->section[i];
        if (s->type != type)
            state_put(&w, s->type, s->instance, s->version, s->p, s->n);
        else if (n)
            state_put(&w, s->type, s->instance, s->version, p, n);
    }
    struct micro_snapshot changed = {saved.memory, memfd_create("state", MFD_CLOEXEC)};
    CHECK(changed.state >= 0 && state_writer_finish(&w, changed.state, e) == 0);
    state_writer_done(&w);
    state_reader_done(r);
    free(r);
    *e = (struct err){0};
    micro_new(&m, vcpus, saved.memory);
    int k = micro_restore(&m, &changed, e);
    CHECK(k == 0 || (k == -e->code && e->text[0]));
    close(changed.state);
    return k;
}

static void refuse(int code, const char *text, enum state_type type, const void *p, size_t n)
{
    struct err e = {0};
    int k = restore_changed(type, p, n, 1, &e);
    if (k != code || !strstr(e.text, text)) {
        fprintf(stderr, "section %u of %zu bytes: %d, \"%s\"; expected %d, \"%s\"\n", type, n, k,
                e.text, code, text);
        exit(1);
    }
    micro_free(&m);
}

/* A copy of the section. */
static size_t get_section(enum state_type type, uint8_t *p, size_t cap)
{
    struct state_reader *r = malloc(sizeof *r);
    struct err e = {0};
    CHECK(r && lseek(saved.state, 0, SEEK_SET) == 0 && state_reader_load(r, saved.state, &e) == 0);
    const struct state_section *s = state_find(r, type, 0, 1);
    CHECK(s && s->n <= cap);
    memcpy(p, s->p, s->n);
    size_t n = s->n;
    state_reader_done(r);
    free(r);
    return n;
}

static void refuse_cpuid(void)
{
    uint8_t p[8192];
    size_t n = get_section(STATE_CPUID, p, sizeof p);
    refuse(-EBADMSG, "CPUID", STATE_CPUID, NULL, 0);
    refuse(-EBADMSG, "CPUID", STATE_CPUID, p, n - 1);
    for (size_t at = 0; at < n; at += 28)
        if (p[at] == 1 && p[at + 1] == 0 && p[at + 3] == 0)
            p[at + 20] |= 0x20; /* leaf 1, ecx: VMX */
    refuse(-ENOTSUP, "leaf 0x1.0, ecx, bits 0x20", STATE_CPUID, p, n);
}

static void refuse_clock(void)
{
    struct {
        uint64_t ns;
        uint32_t khz, vcpus;
    } c;
    struct err e = {0};
    CHECK(get_section(STATE_CLOCK, (uint8_t *)&c, sizeof c) == sizeof c);
    refuse(-EBADMSG, "", STATE_CLOCK, NULL, 0);
    refuse(-EBADMSG, "", STATE_CLOCK, &c, sizeof c - 1);
    CHECK(restore_changed(STATE_CLOCK, &c, sizeof c, 2, &e) == -EBADMSG);
    CHECK(strstr(e.text, "1 vCPUs, not 2"));
    micro_free(&m);
    c.khz += c.khz / 100000; /* within what a guest's own clock corrects */
    CHECK(restore_changed(STATE_CLOCK, &c, sizeof c, 1, &e) == 0);
    micro_free(&m);
    c.khz /= 2;
    if (ioctl(micro_kvm_fd(), KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0)
        refuse(-ENOTSUP, "cannot scale", STATE_CLOCK, &c, sizeof c);
    c.khz = 0;
    refuse(-ENOTSUP, "time stamp counter", STATE_CLOCK, &c, sizeof c);
}

static void refuse_vcpu(void)
{
    static uint8_t p[16384];
    size_t n = get_section(STATE_VCPU, p, sizeof p);
    refuse(-EBADMSG, "", STATE_VCPU, NULL, 0);
    refuse(-EBADMSG, "", STATE_VCPU, p, n - 8);
    p[0] = 99;
    refuse(-EINVAL, "MP_STATE", STATE_VCPU, p, n);
    n = get_section(STATE_XSAVE, p, sizeof p);
    refuse(-EBADMSG, "XSAVE", STATE_XSAVE, NULL, 0);
    refuse(-EBADMSG, "XSAVE", STATE_XSAVE, p, n - 4);
    memset(p, 0xff, n);
    refuse(-EINVAL, "XSAVE", STATE_XSAVE, p, n);
}

/* An MSR this host does not know is skipped; those behind it are not. */
static void skip_msr(void)
{
    static struct kvm_msr_entry p[600];
    size_t n = get_section(STATE_MSRS, (uint8_t *)(p + 1), sizeof p - sizeof p[0]);
    struct err e = {0};
    refuse(-EBADMSG, "MSRs", STATE_MSRS, NULL, 0);
    refuse(-EBADMSG, "registers", STATE_MSRS, p, n - 1);
    refuse(-EBADMSG, "registers", STATE_MSRS, p, sizeof p);
    p[0] = (struct kvm_msr_entry){.index = 0xdeadbeef, .data = 1};
    CHECK(restore_changed(STATE_MSRS, p, n + sizeof p[0], 1, &e) == 0);
    micro_run_to_end(&m);
    CHECK(micro_result(&m, 0) == 0x4321); /* SYSENTER_CS */
    micro_free(&m);
}

static void test_refusals(const char *guest)
{
    uint64_t mark = 1;
    micro_new(&m, 1, -1);
    m.port.hook = stop_at_mark;
    m.port.arg = &mark;
    micro_start(&m, guest, BOOT_MODE_PVH32);
    CHECK(micro_run(&m) == VCPU_KICKED && atomic_load(&m.done) < 0);
    micro_save(&m, &saved);
    micro_free(&m);
    refuse_cpuid();
    refuse_clock();
    refuse_vcpu();
    skip_msr();
    micro_snapshot_done(&saved);
}

const struct micro_test micro_state_tests[] = {{"work", test_work, NULL},
                                               {"xsave", test_xsave, NULL},
                                               {"deadline", test_deadline, NULL},
                                               {"clock", test_clock, NULL},
                                               {"smp_restore", test_smp_restore, "smp"},
                                               {"refusals", test_refusals, NULL},
                                               {0}};
