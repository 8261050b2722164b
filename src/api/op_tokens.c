/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint and shell tokens. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "api/body.h"
#include "api/rules.h"

#define EXPIRATION_MAX_MIN 60

static int check_expiration(struct op_call *c, struct err *e)
{
    int64_t minutes = json_get_int(c->in, "expirationInMinutes", 0);
    if (minutes > EXPIRATION_MAX_MIN)
        return err_set(e, EINVAL, "ExpirationMinutes %lld exceeded max allowed of %d.",
                       (long long)minutes, EXPIRATION_MAX_MIN);
    return 0;
}

static int add_ports(const json_t *list, struct token_claims *claims, struct err *e)
{
    size_t i;
    json_t *v;
    json_array_foreach (list, i, v) {
        const json_t *range = json_object_get(v, "range");
        int64_t first = json_get_int(v, "port", 0), last = first;
        if (json_object_get(v, "allPorts")) {
            claims->all_ports = true;
            continue;
        }
        if (range) {
            first = json_get_int(range, "startPort", 0);
            last = json_get_int(range, "endPort", 0);
        }
        if (first > last)
            return err_set(e, EINVAL, "startPort %lld is larger than endPort %lld",
                           (long long)first, (long long)last);
        if (claims->n_ports == TOKEN_PORT_RANGES_MAX)
            return err_set(e, EINVAL, "A token allows at most %d port specifications",
                           TOKEN_PORT_RANGES_MAX);
        claims->ports[claims->n_ports++] =
            (struct token_port_range){(uint16_t)first, (uint16_t)last};
    }
    return 0;
}

static int mint(struct op_call *c, const struct token_claims *claims, json_t **ret, struct err *e)
{
    CLEANUP(buf_done)
    struct buf token = BUF_INIT(TOKEN_TEXT_MAX);
    int r = token_mint(&c->api->keys->token, claims, &token, e);
    if (r == 0)
        *ret = json_pack("{s:{s:s}}", "authToken", "X-aws-proxy-auth", token.data);
    if (token.data)
        OPENSSL_cleanse(token.data, token.len);
    return r;
}

/* The VM a token is for, alive, with the expiry checked and filled in. */
static int begin(struct op_call *c, struct store_microvm *vm, struct token_claims *claims,
                 struct err *e)
{
    int r = check_expiration(c, e);
    if (r == 0)
        r = body_find_microvm(c, vm, e);
    if (r < 0)
        return r;
    if (vm->state == MICROVM_TERMINATING || vm->state == MICROVM_TERMINATED)
        return err_set(e, EBUSY, "The MicroVM %s is in state %s", vm->id,
                       microvm_state_name(vm->state));
    snprintf(claims->microvm_id, sizeof claims->microvm_id, "%s", vm->id);
    claims->expires_at =
        clock_real_ms() / 1000 + 60 * json_get_int(c->in, "expirationInMinutes", 0);
    return 0;
}

int op_create_token(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_microvm vm = {0};
    struct token_claims claims = {0};
    int r = begin(c, &vm, &claims, e);
    if (r == 0)
        r = add_ports(json_object_get(c->in, "allowedPorts"), &claims, e);
    if (r == 0)
        r = mint(c, &claims, ret, e);
    store_microvm_done(&vm);
    return r;
}

int op_create_shell_token(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_microvm vm = {0};
    struct token_claims claims = {.shell = true};
    int r = begin(c, &vm, &claims, e);
    CLEANUP(cleanup_json)
    json_t *config = body_config(vm.config);
    if (r == 0 && !rules_has_connector(json_object_get(config, "ingressNetworkConnectors"),
                                       CONNECTOR_SHELL_INGRESS))
        r = err_set(e, EINVAL,
                    "Shell access requires SHELL_INGRESS network connector to be "
                    "configured on the MicroVM.");
    if (r == 0)
        r = mint(c, &claims, ret, e);
    store_microvm_done(&vm);
    return r;
}
