/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Monitors started ahead of need: jailed, with VM, memory slots, interrupt controller and vCPUs
 * made, so that a restore only maps memory and sets registers. They fit one shape of machine, the
 * last one asked for; when that changes the others are discarded. One thread refills. Any thread
 * may take.
 */
#ifndef ENGINE_KVM_POOL_H
#define ENGINE_KVM_POOL_H

#include "engine/kvm/process.h"

#define VMM_POOL_MAX 64u

struct vmm_pool;

/* size 0: nothing is ever started ahead. program is copied but for what its members point to. */
int vmm_pool_new(const struct vmm_program *program, unsigned size, struct vmm_pool **ret,
                 struct err *e) MUST_CHECK;
void vmm_pool_free(struct vmm_pool *p); /* kills what is idle; NULL is fine */
/* True: *ret has answered CREATE for this shape. Either way the pool is filled for it from now on.
 */
bool vmm_pool_take(struct vmm_pool *p, const struct vmm_shape *s, struct vmm_process *ret);
unsigned vmm_pool_idle(struct vmm_pool *p);

#endif
