/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real tinderbox-vmm, driven through its control channel as the daemon does it, with flat
 * guests of a few instructions. Every helper fails the running test itself.
 */
#ifndef TESTS_MONITOR_DRIVE_H
#define TESTS_MONITOR_DRIVE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "proto/monitor.h"

#define DRIVE_RAM (UINT64_C(16) << 20)
#define DRIVE_ENTRY 0x1000u

struct drive {
    pid_t pid;
    int sock, serial; /* serial: our end of the guest's serial port */
    uint32_t sequence;
    char said[65536]; /* what the guest wrote there so far */
    size_t n_said;
    struct monitor_notice event; /* the last one; event 0 = none */
};

extern const char *drive_program; /* path of tinderbox-vmm */

/* NULL without a usable /dev/kvm: the reason was printed, the test is skipped. */
const char *drive_why_not(void);
void drive_start(struct drive *d);
void drive_end(struct drive *d); /* kills it if need be, reaps it */
int drive_wait(struct drive *d); /* wait status; the process is expected to end by itself */

/* Sends, waits for its answer; events meanwhile go to d->event. */
struct monitor_answer drive_call(struct drive *d, enum monitor_type type,
                                 const struct monitor_message *body, const int *fds, unsigned n);
/* The same, and it must succeed. */
struct monitor_answer drive_ok(struct drive *d, enum monitor_type type,
                               const struct monitor_message *body, const int *fds, unsigned n);
/* CREATE with one vCPU, no disks, no network, DRIVE_RAM; memory -1 = zeroes, else a private copy;
 * then CONSOLE. */
void drive_shape(struct drive *d, int memory, uint32_t flags);
void drive_boot(struct drive *d, const char *guest); /* BOOT of a flat image, RUN */
/* Restores from the files (pages, working_set -1 = none) as a clone and runs. */
void drive_restore(struct drive *d, int state, int pages, int working_set);
/* Reads the serial port until text was said; fails after ten seconds. */
void drive_expect(struct drive *d, const char *text);
void drive_event(struct drive *d, enum monitor_event event); /* waits for it */
int drive_file(void);                                        /* a new empty file in memory */

#endif
