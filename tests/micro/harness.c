/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/layout.h"

#define SECONDS_MAX 20

void micro_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

void micro_skip(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("skipped: ");
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    exit(77);
}

int micro_kvm_fd(void)
{
    static int fd = -1;
    if (fd < 0 && (fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0)
        micro_skip("/dev/kvm: %s", strerror(errno));
    return fd;
}

/* ---- devices ----------------------------------------------------------------------------------
 */

static void record(struct micro_recorder *r, struct micro_access a)
{
    CHECK(r->n < MICRO_LOG);
    r->log[r->n++] = a;
    if (r->hook)
        r->hook(r->arg, &r->log[r->n - 1]);
}

static void recorder_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct micro_access a = {.len = len, .offset = offset};
    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)(0xa0 + offset + i);
    memcpy(&a.value, data, len);
    record(dev, a);
}

static void recorder_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct micro_access a = {.write = true, .len = len, .offset = offset};
    memcpy(&a.value, data, len);
    record(dev, a);
}

static const struct bus_ops recorder_ops = {recorder_read, recorder_write};

static void done_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    memset(data, 0, len);
}

static void done_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct micro *m = dev;
    (void)offset;
    (void)len;
    atomic_store(&m->done, *(const uint8_t *)data);
    micro_stop(m);
}

static const struct bus_ops done_ops = {done_read, done_write};

/* ---- machine ----------------------------------------------------------------------------------
 */

static void on_kick(int signal)
{
    (void)signal;
}

static void on_alarm(int signal)
{
    static const char text[] = "the guest did not end in time\n";
    (void)signal;
    (void)!write(2, text, sizeof text - 1);
    _exit(1);
}

static void check(int r, const struct err *e)
{
    if (r < 0)
        micro_fail("machine", -r, e->text);
}

void micro_new(struct micro *m, unsigned vcpus, int memory)
{
    struct err e = {0};
    memset(m, 0, sizeof *m);
    atomic_init(&m->done, -1);
    m->vcpus = vcpus;
    signal(KVM_KICK_SIGNAL, on_kick);
    signal(SIGALRM, on_alarm);
    CHECK(bus_add(&m->ports, MICRO_PORT, MICRO_PORTS, &recorder_ops, &m->port) == 0);
    CHECK(bus_add(&m->ports, MICRO_PORT_DONE, 1, &done_ops, m) == 0);
    CHECK(bus_add(&m->mmio, MICRO_MMIO, MICRO_MMIO_BYTES, &recorder_ops, &m->window) == 0);
    check(gmem_reserve(&m->mem, MICRO_RAM, &e), &e);
    struct kvm_vm_config c = {micro_kvm_fd(), &m->mem, vcpus, &m->ports, &m->mmio};
    check(kvm_vm_new(&c, &m->vm, &e), &e);
    check(memory < 0 ? gmem_map_zero(&m->mem, false, &e) : gmem_map_file(&m->mem, memory, &e), &e);
}

void micro_free(struct micro *m)
{
    kvm_vm_free(m->vm);
    gmem_done(&m->mem);
}

void *micro_ram(struct micro *m, uint64_t gpa, uint64_t len)
{
    void *p = gmem_ptr(&m->mem, gpa, len);
    CHECK(p);
    return p;
}

uint32_t micro_result(struct micro *m, unsigned n)
{
    uint32_t v;
    memcpy(&v, micro_ram(m, MICRO_RESULT + 4 * n, 4), 4);
    return v;
}

void micro_load(struct micro *m, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t n =
        read(fd, micro_ram(m, MICRO_CODE, MICRO_RESULT - MICRO_CODE), MICRO_RESULT - MICRO_CODE);
    CHECK(n > 0 && n < MICRO_RESULT - MICRO_CODE);
    close(fd);
}

#define PML4 0x10000u
#define PDPT 0x11000u
#define PD 0x12000u /* four pages: 4 GiB in pages of 2 MiB */

static void map_low_memory(struct micro *m)
{
    uint64_t *pml4 = micro_ram(m, PML4, 4096), *pdpt = micro_ram(m, PDPT, 4096),
             *pd = micro_ram(m, PD, 4 * 4096);
    pml4[0] = PDPT | 3;
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = (PD + i * 4096u) | 3;
    for (uint64_t i = 0; i < 2048; i++)
        pd[i] = i << 21 | 0x83;
}

void micro_start(struct micro *m, const char *path, enum boot_mode mode)
{
    uint64_t gdt[] = {0, 0,
                      mode == BOOT_MODE_LONG64 ? UINT64_C(0x00af9b000000ffff)
                                               : UINT64_C(0x00cf9b000000ffff),
                      UINT64_C(0x00cf93000000ffff)};
    struct err e = {0};
    micro_load(m, path);
    memcpy(micro_ram(m, LAYOUT_GDT, sizeof gdt), gdt, sizeof gdt);
    map_low_memory(m);
    struct boot_entry entry = {.mode = mode,
                               .rip = MICRO_CODE,
                               .rbx = 0xb0b0,
                               .rsi = 0x5151,
                               .rsp = MICRO_STACK,
                               .cr3 = PML4,
                               .gdt = LAYOUT_GDT};
    check(kvm_vm_power_on(m->vm, &entry, &e), &e);
}

static bool ended(struct micro *m)
{
    return atomic_load(&m->done) >= 0 || atomic_load(&m->stop);
}

static enum vcpu_exit run_vcpu(struct kvm_vcpu *c, struct micro *m, char text[200])
{
    enum vcpu_exit why;
    vcpu_set_thread(c);
    do
        why = vcpu_run(c, text);
    while (why == VCPU_KICKED && !ended(m));
    return why;
}

struct other {
    struct micro *m;
    unsigned index;
};

static void *run_other(void *arg)
{
    struct other o = *(struct other *)arg;
    char text[200];
    free(arg);
    if (run_vcpu(kvm_vm_vcpu(o.m->vm, o.index), o.m, text) != VCPU_KICKED)
        micro_fail("vCPU", (int)o.index, text);
    return NULL;
}

static void start_others(struct micro *m)
{
    for (unsigned i = 1; i < m->vcpus; i++) {
        struct other *o = malloc(sizeof *o);
        CHECK(o);
        *o = (struct other){m, i};
        CHECK(pthread_create(&m->other[i], NULL, run_other, o) == 0);
    }
}

static void kick_all(struct micro *m)
{
    for (unsigned i = 0; i < m->vcpus; i++)
        vcpu_kick(kvm_vm_vcpu(m->vm, i));
}

void micro_stop(struct micro *m)
{
    atomic_store(&m->stop, true);
    kick_all(m);
}

enum vcpu_exit micro_run(struct micro *m)
{
    atomic_store(&m->stop, false);
    alarm(SECONDS_MAX);
    start_others(m);
    enum vcpu_exit why = run_vcpu(kvm_vm_vcpu(m->vm, 0), m, m->text);
    if (m->vcpus > 1)
        micro_stop(m);
    for (unsigned i = 1; i < m->vcpus; i++)
        pthread_join(m->other[i], NULL);
    alarm(0);
    return why;
}

void micro_run_to_end(struct micro *m)
{
    if (micro_run(m) != VCPU_KICKED)
        micro_fail("guest", 0, m->text);
    if (atomic_load(&m->done) != 0) {
        fprintf(stderr, "the guest ended with %d\n", atomic_load(&m->done));
        exit(1);
    }
}

/* ---- snapshots --------------------------------------------------------------------------------
 */

static int new_file(const void *p, size_t n)
{
    int fd = memfd_create("micro", MFD_CLOEXEC);
    CHECK(fd >= 0 && (!n || write(fd, p, n) == (ssize_t)n));
    return fd;
}

void micro_save(struct micro *m, struct micro_snapshot *s)
{
    struct state_writer w;
    struct err e = {0};
    state_writer_init(&w);
    check(kvm_vm_save(m->vm, &w, &e), &e);
    s->state = new_file(NULL, 0);
    check(state_writer_finish(&w, s->state, &e), &e);
    state_writer_done(&w);
    s->memory = new_file(m->mem.host, m->mem.bytes);
}

int micro_restore(struct micro *m, const struct micro_snapshot *s, struct err *e)
{
    struct state_reader *r = malloc(sizeof *r);
    CHECK(r && lseek(s->state, 0, SEEK_SET) == 0);
    int k = state_reader_load(r, s->state, e);
    if (k == 0) {
        k = kvm_vm_restore(m->vm, r, e);
        state_reader_done(r);
    }
    free(r);
    return k;
}

void micro_snapshot_done(struct micro_snapshot *s)
{
    close(s->memory);
    close(s->state);
}
