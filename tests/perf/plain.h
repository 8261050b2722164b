/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The yardstick: the same guest in a QEMU started as its manual says. Without KVM it is frozen with
 * "savevm" into its disk and thawed with "-loadvm"; with KVM its memory is a file that clones map
 * privately (x-ignore-shared), the fastest thaw QEMU has. No sandbox, no network process.
 * Everything fails by ending the program. One thread at a time per machine.
 */
#ifndef TESTS_PERF_PLAIN_H
#define TESTS_PERF_PLAIN_H

#include <stdbool.h>

#include "base/proc.h"

#define PLAIN_TAG "frozen" /* of the snapshot inside a disk */

struct plain {
    struct proc proc;
    int qmp;     /* owned */
    int channel; /* owned; handed to agent_open() by whoever takes it */
    bool greeted;
};

struct plain_spec {
    const char *kernel, *initramfs;
    const char *disk; /* qcow2, of this machine alone */
    unsigned memory_mib;
    bool load; /* -loadvm instead of a boot */
    /* With KVM: */
    bool kvm;        /* and a network card on QEMU's own user network */
    const char *ram; /* file: shared; of a machine that is thawed a private mapping. NULL = none */
    const char *state; /* thaw from this, plain_freeze() wrote it; NULL = boot */
};

void plain_start(struct plain *p, const struct plain_spec *s);
void plain_save(struct plain *p); /* returns when QEMU says it is done; the machine stays */
/* Stops and writes the state; the RAM too, unless it is a shared file. */
void plain_freeze(struct plain *p, const char *state, bool with_ram);
void plain_end(struct plain *p);
/* A qcow2 disk over a raw one, and a whole copy of a disk with a snapshot in it. */
void plain_disk(const char *path, const char *raw);
void plain_copy(const char *from, const char *to);
/* A line of /proc/PID/smaps_rollup: "Pss", "Private_Dirty", ... */
double memory_mib(pid_t pid, const char *field);

#endif
