/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One tinderbox-vmm process before it belongs to a machine: started, perhaps with its VM already
 * created. It jails itself; it inherits the control socket and an open /dev/kvm, nothing else.
 * Blocking; any thread, one at a time per process.
 */
#ifndef ENGINE_KVM_PROCESS_H
#define ENGINE_KVM_PROCESS_H

#include "base/proc.h"
#include "engine/engine.h"
#include "proto/monitor.h"

struct vmm_shape { /* what CREATE fixes */
    unsigned memory_mib, vcpus, n_disks;
    bool network, huge_pages;
    bool chunked; /* memory will come in compressed chunks */
};

struct vmm_process {
    struct proc proc;
    int control;         /* ours, non-blocking; owned, as the next two; -1 = none */
    int err, err_theirs; /* stderr: read here; written by it and by the network helper */
};

struct vmm_program {
    const char *path;
    int kvm; /* /dev/kvm */
};

int vmm_process_spawn(const struct vmm_program *p, struct vmm_process *ret,
                      struct err *e) MUST_CHECK;
/* CREATE as the first request, and its answer. */
int vmm_process_create(struct vmm_process *p, const struct vmm_shape *s, struct err *e) MUST_CHECK;
bool vmm_process_alive(const struct vmm_process *p);
void vmm_process_kill(struct vmm_process *p); /* and reap, and close; zeroed by _init is fine */
void vmm_process_init(struct vmm_process *p);

void vmm_create_message(const struct vmm_shape *s, struct monitor_message *ret);
bool vmm_shape_same(const struct vmm_shape *a, const struct vmm_shape *b);

#endif
