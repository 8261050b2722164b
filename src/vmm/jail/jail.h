/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the process's rights away, in named stages (docs/design/monitor.md, "Jail"). main() calls
 * them in this order; after jail_enter() nothing can be opened by name, after jail_filter() on a
 * thread only the system calls of its role are left.
 */
#ifndef VMM_JAIL_JAIL_H
#define VMM_JAIL_JAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum jail_role { JAIL_CONTROL, JAIL_VCPU, JAIL_IO, JAIL_DISK, JAIL_PAGER, JAIL_ROLES };

/* Own user and namespaces, empty read-only root, no capabilities, no new privileges, not dumpable,
 * Landlock without any right where present. Single-threaded still. -errno, the text says where. */
int jail_enter(struct err *e) MUST_CHECK;
/* /proc/self/pagemap, before the jail: which pages are there, not where. Opened with CAP_SYS_ADMIN
 * it would also show physical addresses to whoever holds it. -errno. */
int jail_open_pagemap(void) MUST_CHECK;
/* Resource limits, once sizes are known: no core file, file size, data segment, descriptors, tasks
 * (threads and copies; not where the user is somebody else's, too). */
int jail_limit(uint64_t guest_bytes, uint64_t max_file_bytes, unsigned tasks,
               struct err *e) MUST_CHECK;
/* Loads the role's system call filter (jail/filters) on the calling thread: any other call kills
 * the process. */
int jail_filter(enum jail_role role, struct err *e) MUST_CHECK;
/* For tests: without one rule; how many there are; their text; names. */
int jail_filter_except(enum jail_role role, unsigned rule, struct err *e) MUST_CHECK;
unsigned jail_filter_rules(enum jail_role role);
const char *jail_filter_rule_text(enum jail_role role, unsigned rule);
const char *jail_role_name(enum jail_role role);

#endif
