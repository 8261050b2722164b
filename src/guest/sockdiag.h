/* SPDX-License-Identifier: Apache-2.0 */
/* Ends TCP connections from outside their process. */
#ifndef GUEST_SOCKDIAG_H
#define GUEST_SOCKDIAG_H

#include "base/err.h"

/* Listening TCP sockets of this network namespace. */
unsigned sockdiag_listeners(void);
/* Destroys every TCP connection of this network namespace whose peer is not on loopback; their
 * owners see ECONNABORTED. Listeners stay. listeners is their number when it was last counted: when
 * the kernel counts no more TCP sockets than that, there is nothing to look for. */
int sockdiag_kill_remote(unsigned listeners, unsigned *killed, struct err *e) MUST_CHECK;

#endif
