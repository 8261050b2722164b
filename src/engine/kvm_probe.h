/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is there hardware behind /dev/kvm? A device that opens is not enough: where KVM has to emulate
 * the guest's kernel code, it is slower than the software engine. So a micro-guest of five
 * instructions is run and timed, in a child process that is killed when it takes too long.
 * Blocks for up to KVM_PROBE_LIMIT_MS. It forks; the child only makes system calls.
 */
#ifndef ENGINE_KVM_PROBE_H
#define ENGINE_KVM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define KVM_PROBE_LIMIT_MS 500 /* real hardware needs 10 */
/* Loop turns per second that no instruction emulator reaches and every real CPU does. */
#define KVM_PROBE_REAL_RATE 50000000ULL

struct kvm_probe {
    bool present;   /* /dev/kvm exists */
    bool opens;     /* and this user may open it */
    bool cpu_flag;  /* vmx or svm in /proc/cpuinfo */
    bool ran;       /* the micro-guest came to its end within the limit */
    uint64_t rate;  /* loop turns per second, when it ran */
    bool real;      /* ran, and fast enough */
    char text[200]; /* one sentence for people */
};

void kvm_probe(struct kvm_probe *ret);

#endif
