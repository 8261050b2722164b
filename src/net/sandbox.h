/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives up every right tinderbox-net does not need to carry frames. Called once, single-threaded,
 * after everything was opened; there is no way back.
 */
#ifndef NET_SANDBOX_H
#define NET_SANDBOX_H

#include "base/err.h"

/* resolv_conf: the one file whose directory stays readable. */
int net_sandbox_enter(const char *resolv_conf, struct err *e) MUST_CHECK;

#endif
