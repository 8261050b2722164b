/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: what it is made of, and its life.
 *
 *   machine_create -> memory, disks, net, serial -> machine_boot | machine_restore (paused)
 *   -> machine_run / machine_pause ... -> machine_save -> the process ends
 *
 * Threads: all functions on the control thread. Below it run one thread per vCPU (vcpus.c) and two
 * device threads (ev.h). A paused machine has its vCPUs parked; a quiet one its device threads too.
 * Descriptors that are passed in are the caller's. Where they come as int *, those that the machine
 * keeps are replaced by -1.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/monitor.h"
#include "vmm/bus.h"
#include "vmm/dev/ged.h"
#include "vmm/dev/i8042.h"
#include "vmm/dev/ioapic.h"
#include "vmm/dev/rtc.h"
#include "vmm/dev/serial.h"
#include "vmm/ev.h"
#include "vmm/gmem.h"
#include "vmm/kvm/kvm.h"
#include "vmm/layout.h"
#include "vmm/snapshot/pages.h"
#include "vmm/virtio/virtio.h"

struct vcpus { /* vcpus.c */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool run; /* what the threads shall do */
    unsigned parked;
    unsigned n;
    struct vcpu_thread {
        struct kvm_vcpu *vcpu;
        struct machine *machine;
        bool parked;
    } thread[KVM_VCPUS_MAX];
    bool ended, told; /* the first end wins, and is told once */
    enum monitor_event end;
    char end_text[200];
};

struct pager; /* snapshot/pager.h */

struct machine {
    int kvm_fd, pagemap; /* owned */
    int uffd;            /* owned; -1 = the kernel does not grant one */
    int wake;            /* owned; eventfd: something for the control thread to look at */
    struct monitor_create shape;
    struct gmem mem;
    struct page_set mapped; /* pages that came from a pages file */
    bool has_memory;        /* RAM is mapped: until then touching it is a fault */
    bool has_file;          /* RAM is a private copy of a file */
    struct pager *pager;    /* owned; NULL = memory is local */
    struct bus ports, mmio;
    struct kvm_vm *vm; /* owned */
    struct vcpus vcpus;

    struct ev_loop *io, *disk; /* owned */
    bool threads_started;
    bool quiet; /* the device threads are parked */

    struct ioapic ioapic;
    struct serial serial; /* its descriptor is owned here */
    struct i8042 i8042;
    struct rtc rtc;
    struct ged ged;
    struct virtio_dev *virtio[LAYOUT_VIRTIO_MAX]; /* owned, by slot; NULL until it is there */
    unsigned n_virtio;                            /* slots of this shape */
    struct virtio_dev *console, *net, *balloon;   /* borrowed from virtio; NULL = none */
    struct disk *disks[MONITOR_DISKS_MAX];        /* borrowed from virtio[0...] */

    bool ready; /* booted or restored */
    bool running;
    bool paused;                       /* it has stood still since it first ran */
    bool gate_closed;                  /* how the network starts */
    _Atomic unsigned stuck;            /* disks that wait for space on the host */
    _Atomic(const char *) broken;      /* name of a device whose driver broke its rules, untold */
    struct saved_result *child_result; /* shared with the forked copy (freeze.c) */
};

/* build.c: after a failure the machine is of no use. m is zeroed but for kvm_fd, pagemap, uffd. */
int machine_create(struct machine *m, const struct monitor_create *c, struct err *e) MUST_CHECK;
int machine_memory(struct machine *m, const struct monitor_memory *c, int *fd,
                   struct err *e) MUST_CHECK;
int machine_disk(struct machine *m, const struct monitor_disk *c, int *fds, unsigned n,
                 struct err *e) MUST_CHECK;
int machine_net(struct machine *m, const struct monitor_net *c, int *fd, struct err *e) MUST_CHECK;
int machine_serial(struct machine *m, int *fd, struct err *e) MUST_CHECK;
/* Whether everything the shape names is there. */
int machine_complete(const struct machine *m, struct err *e) MUST_CHECK;
int machine_boot(struct machine *m, const struct monitor_boot *c, const int *fds,
                 struct err *e) MUST_CHECK;

/* machine.c: of a machine that is complete */
int machine_run(struct machine *m, struct err *e) MUST_CHECK;
void machine_pause(struct machine *m);
/* Parks the device threads, or lets them go on. */
void machine_quiet(struct machine *m, bool quiet);
int machine_link(struct machine *m, int *fd, struct err *e) MUST_CHECK; /* -1: none */
int machine_gate(struct machine *m, bool open, struct err *e) MUST_CHECK;
int machine_balloon(struct machine *m, uint64_t bytes, struct err *e) MUST_CHECK;
int machine_stats(struct machine *m, struct monitor_stats *ret, struct err *e) MUST_CHECK;

/* freeze.c */
int machine_save(struct machine *m, const struct monitor_save *c, const int *fds,
                 struct monitor_saved *ret, struct err *e) MUST_CHECK;
int machine_fork(struct machine *m, const struct monitor_save *c, int *fds,
                 struct monitor_saved *ret, struct err *e) MUST_CHECK;
int machine_restore(struct machine *m, const struct monitor_restore *c, const int *fds,
                    struct err *e) MUST_CHECK;
int machine_working_set(struct machine *m, int fd, struct err *e) MUST_CHECK;

/* vcpus.c */
int vcpus_start(struct machine *m, struct err *e) MUST_CHECK; /* threads, parked */
void vcpus_run(struct machine *m);
void vcpus_pause(struct machine *m); /* returns when all are parked */
/* Whether every vCPU waits for an interrupt that cannot come. Paused. */
bool vcpus_hang(struct machine *m);
/* The end of the machine, if there was one: true once. */
bool vcpus_take_end(struct machine *m, enum monitor_event *ret, char text[200]);
/* Any thread: the machine has ended; its vCPUs will not run again. */
void machine_note_end(struct machine *m, enum monitor_event event, const char *text);
/* Any thread: there is something for the control thread to look at. */
void machine_wake(struct machine *m);
/* A thread that lives as long as the process. */
int machine_thread(void *(*main)(void *), void *arg, struct err *e) MUST_CHECK;

#endif
