/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/backend.h"

#include <ctype.h>
#include <stdlib.h>

static void *find(void *arg, struct slice label)
{
    struct proxy_machines *m = arg;
    char lower[64]; /* host names do not care about case (RFC 4343); labels in the store do */
    if (!label.n || label.n > sizeof lower)
        return NULL;
    for (size_t i = 0; i < label.n; i++)
        lower[i] = (char)tolower((unsigned char)label.p[i]);
    return microvm_find(m->service, (struct slice){lower, label.n});
}

static void ref(void *vm)
{
    microvm_ref(vm);
}

static void unref(void *vm)
{
    microvm_unref(vm);
}

/* Five base64url parts, the second (the encrypted key) empty: then it is a token, if not ours. */
static bool looks_like_token(struct slice s)
{
    unsigned dots = 0;
    size_t at_first = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '.') {
            dots++;
            if (dots == 1)
                at_first = i;
            if (dots == 2 && i != at_first + 1)
                return false;
        } else if (!isalnum(c) && c != '-' && c != '_') {
            return false;
        }
    }
    return dots == 4 && at_first > 0;
}

static enum proxy_verdict authorize(void *arg, void *vm, struct slice token, uint16_t port)
{
    struct proxy_machines *m = arg;
    struct token_claims claims;
    if (!looks_like_token(token))
        return PROXY_TOKEN_MISSING;
    if (token_open(m->key, token, &claims) < 0 || !vm)
        return PROXY_TOKEN_REFUSED;
    switch (token_check(&claims, microvm_id(vm), port, clock_real_ms() / 1000)) {
    case TOKEN_OK:
        return microvm_allows_http(vm) ? PROXY_ALLOWED : PROXY_PORT_DENIED;
    case TOKEN_PORT_DENIED:
        return claims.shell ? PROXY_NOT_FOR_HTTP : PROXY_PORT_DENIED;
    default:
        return PROXY_TOKEN_REFUSED;
    }
}

struct wait {
    void (*fn)(struct agent *a, void *ctx);
    void *ctx;
};

static void on_connected(enum microvm_connect_status status, struct agent *a, void *arg)
{
    struct wait *w = arg;
    w->fn(status == MICROVM_CONNECT_OK ? a : NULL, w->ctx);
    free(w);
}

static void backend_connect(void *arg, void *vm, void (*fn)(struct agent *a, void *ctx), void *ctx)
{
    struct wait *w = malloc(sizeof *w);
    (void)arg;
    if (!w) {
        fn(NULL, ctx);
        return;
    }
    *w = (struct wait){.fn = fn, .ctx = ctx};
    microvm_connect(vm, on_connected, w);
}

static void activity(void *vm)
{
    microvm_activity(vm);
}

struct proxy_backend proxy_backend_machines(struct proxy_machines *m)
{
    return (struct proxy_backend){
        .arg = m,
        .find = find,
        .ref = ref,
        .unref = unref,
        .authorize = authorize,
        .connect = backend_connect,
        .activity = activity,
        .tunnel_open = agent_tunnel_open,
        .tunnel_write = agent_tunnel_write,
        .tunnel_end = agent_tunnel_end,
        .tunnel_pause = agent_tunnel_pause,
        .tunnel_resume = agent_tunnel_resume,
        .tunnel_abort = agent_tunnel_abort,
    };
}
