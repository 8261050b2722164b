/* SPDX-License-Identifier: Apache-2.0 */
/* Ends TCP connections from outside their process. */
#ifndef GUEST_SOCKDIAG_H
#define GUEST_SOCKDIAG_H

#include "base/err.h"

/* Destroys every TCP connection of this network namespace whose peer is not on loopback; their
 * owners see ECONNABORTED. Listeners stay. */
int sockdiag_kill_remote(unsigned *killed, struct err *e) MUST_CHECK;

#endif
