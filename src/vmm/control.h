/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread: takes requests from the daemon (proto/monitor.h) one by one, answers each,
 * and tells what happens to the machine in between. */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H

#include "vmm/machine.h"

/* Until QUIT or the end of the daemon; the exit status of the process. */
int control_run(struct machine *m, int sock);

#endif
