/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's backend on real microVMs, tokens and agent tunnels. */
#ifndef PROXY_BACKEND_H
#define PROXY_BACKEND_H

#include "auth/token.h"
#include "microvm/microvm.h"
#include "proxy/proxy.h"

struct proxy_machines {
    struct microvm_service *service; /* borrowed */
    const struct token_key *key;     /* borrowed */
};

/* m is borrowed and must outlive the proxy. */
struct proxy_backend proxy_backend_machines(struct proxy_machines *m);

#endif
