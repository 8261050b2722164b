/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy backend without microVMs: labels, tokens and tunnels that end at local TCP ports. */
#ifndef TESTS_PROXY_FAKE_H
#define TESTS_PROXY_FAKE_H

#include <stdatomic.h>

#include "proxy/proxy.h"

struct fake {
    struct loop *loop;
    uint16_t app, script;    /* guest ports 8080 and 8081 lead here; others are refused */
    atomic_int vms, tunnels; /* references and open tunnels: 0 at the end */
    atomic_uint opened;      /* tunnels ever */
    atomic_uint activity;
    atomic_uint_least64_t delivered; /* bytes from the applications */
};

/* Labels: "vm" is reached at once, "slow" after 150 ms, "dead" never. Tokens: "good" opens every
 * port but 9999, "other" is another microVM's, "shell" a shell token, anything else no token. */
struct proxy_backend fake_backend(struct fake *f);

#endif
