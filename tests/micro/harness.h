/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Micro-guests: flat programs of a few instructions, one property each, on a machine of RAM,
 * vCPUs and recording devices, in this process. A guest is loaded at MICRO_CODE and starts there;
 * it leaves results at MICRO_RESULT and ends by writing a byte to port MICRO_PORT_DONE.
 *
 * A check that fails ends the process with 1, a property this host cannot have with 77.
 */
#ifndef MICRO_HARNESS_H
#define MICRO_HARNESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/gmem.h"
#include "vmm/kvm/kvm.h"

#define MICRO_RAM (UINT64_C(4) << 20)
#define MICRO_CODE 0x1000u
#define MICRO_RESULT 0x3000u
#define MICRO_STACK 0x7000u
#define MICRO_PORT_DONE 0xf4u
#define MICRO_PORT 0x100u /* 16 recorded ports */
#define MICRO_PORTS 16u
#define MICRO_MMIO 0xd0000000u
#define MICRO_MMIO_BYTES 0x200u
#define MICRO_LOG 4096u

struct micro_access {
    bool write;
    unsigned len;
    uint64_t offset, value; /* value: zero-extended; of a read, what was answered */
};

/* A device that remembers accesses. A byte at offset o reads as 0xa0 + o. */
struct micro_recorder {
    struct micro_access log[MICRO_LOG];
    unsigned n;
    void (*hook)(void *arg, const struct micro_access *a); /* after each access; may be NULL */
    void *arg;
};

struct micro {
    struct gmem mem;
    struct bus ports, mmio;
    struct micro_recorder port, window;
    struct kvm_vm *vm;
    unsigned vcpus;
    atomic_int done;  /* -1 until the guest wrote its byte */
    atomic_bool stop; /* see micro_stop() */
    char text[200];   /* of vCPU 0's last vcpu_run() */
    pthread_t other[KVM_VCPUS_MAX];
};

struct micro_snapshot { /* of a machine whose vCPUs are parked */
    int memory, state;  /* owned files; -1 */
};

#define CHECK(cond) ((cond) ? (void)0 : micro_fail(__FILE__, __LINE__, #cond))
_Noreturn void micro_fail(const char *file, int line, const char *what);
_Noreturn void micro_skip(const char *fmt, ...) PRINTF(1, 2);

int micro_kvm_fd(void); /* one per process */
/* memory: a file as long as RAM, -1 for zeroes */
void micro_new(struct micro *m, unsigned vcpus, int memory);
void micro_free(struct micro *m);
void micro_load(struct micro *m, const char *path);
/* Loads and enters path at MICRO_CODE; tables a mode needs are built. */
void micro_start(struct micro *m, const char *path, enum boot_mode mode);
/* Runs vCPU 0 on the calling thread, the others on threads of their own, until the guest is done,
 * micro_stop() was called or vCPU 0 stops for another reason. Afterwards all are parked. */
enum vcpu_exit micro_run(struct micro *m);
void micro_stop(struct micro *m);       /* any thread, a recorder's hook too */
void micro_run_to_end(struct micro *m); /* micro_run(), and the guest must say 0 */
void *micro_ram(struct micro *m, uint64_t gpa, uint64_t len);
uint32_t micro_result(struct micro *m, unsigned n); /* 32-bit word n at MICRO_RESULT */

void micro_save(struct micro *m, struct micro_snapshot *s);
/* Into a machine made with s->memory; -errno and a text if it is refused. */
int micro_restore(struct micro *m, const struct micro_snapshot *s, struct err *e) MUST_CHECK;
void micro_snapshot_done(struct micro_snapshot *s);

struct micro_test {
    const char *name;
    void (*run)(const char *guest); /* path of its binary */
    const char *guest;              /* NULL: named as the test */
};
extern const struct micro_test micro_io_tests[], micro_cpu_tests[], micro_state_tests[];

#endif
