/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls left to tinderbox-net once it runs, as a table. */
#ifndef NET_SYSCALLS_H
#define NET_SYSCALLS_H

#include <seccomp.h>
#include <stdint.h>

#define NET_SYSCALL_ARGS 3

struct net_syscall {
    const char *name; /* resolved by libseccomp, so that a row may not exist on every machine */
    uint32_t action;  /* what happens when all args match */
    unsigned n_args;
    struct scmp_arg_cmp args[NET_SYSCALL_ARGS];
    const char *why;
};

/* Anything not listed kills the process: nothing this program does reaches that. Rows of one call
 * add up only while each has conditions: libseccomp lets one without swallow all others. */
extern const struct net_syscall net_syscalls[];
extern const unsigned net_syscalls_n;

#endif
