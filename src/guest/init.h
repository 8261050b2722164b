/* SPDX-License-Identifier: Apache-2.0 */
/* The first steps of PID 1: file systems, modules, the port. */
#ifndef GUEST_INIT_H
#define GUEST_INIT_H

#include "base/err.h"

/* Everything up to a machine that can serve: mounts, modules, cgroups, loopback. */
int init_machine(struct err *e) MUST_CHECK;
/* Opens the port WIRE_PORT_NAME, waiting up to timeout_ms for the device to appear. Returns the fd.
 */
int init_open_port(int timeout_ms, struct err *e) MUST_CHECK;
/* Major number of the port's device; 0 before it was opened. */
unsigned init_port_major(void);
/* Says why on the console and powers the machine off. */
void init_die(const char *why) __attribute__((noreturn));

#endif
