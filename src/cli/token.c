/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/token.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"

static bool parse_port(const char *s, char **end, long *ret)
{
    if (*s < '0' || *s > '9')
        return false;
    *ret = strtol(s, end, 10);
    return *ret >= 1 && *ret <= 65535;
}

int token_parse_ports(const char *text, long *first, long *last, struct err *e)
{
    char *end = NULL;
    *first = 0;
    bool ok = parse_port(text, &end, first);
    *last = *first;
    if (ok && *end == '-')
        ok = parse_port(end + 1, &end, last) && *last >= *first;
    if (ok && *end == '\0')
        return 0;
    return err_set(e, EINVAL, "'%s' is neither a port from 1 to 65535 nor a range like 8000-8010",
                   text);
}

static int add_port(json_t *list, const char *text, struct err *e)
{
    long first, last;
    int rc = token_parse_ports(text, &first, &last, e);
    if (rc < 0)
        return rc;
    json_t *spec = first == last ? json_pack("{s:I}", "port", (json_int_t)first)
                                 : json_pack("{s:{s:I,s:I}}", "range", "startPort",
                                             (json_int_t)first, "endPort", (json_int_t)last);
    json_array_append_new(list, spec);
    return 0;
}

int token_create(struct cli *c, const char *id, const struct option_list *ports, long minutes,
                 char out[TOKEN_MAX], struct err *e)
{
    char path[1024];
    CLEANUP(cleanup_json)
    json_t *list = json_array();
    CLEANUP(cleanup_json)
    json_t *reply = NULL;
    int rc = 0;
    for (size_t i = 0; ports && i < ports->n && rc == 0; i++)
        rc = add_port(list, ports->items[i], e);
    if (rc < 0)
        return rc;
    if (json_array_size(list) == 0)
        json_array_append_new(list, json_pack("{s:{}}", "allPorts"));
    CLEANUP(cleanup_json)
    json_t *body =
        json_pack("{s:I,s:O}", "expirationInMinutes", (json_int_t)minutes, "allowedPorts", list);
    rc = client_path(path, sizeof path, "/2025-09-09/microvms/", id, "/auth-token", e);
    if (rc == 0)
        rc = client_call(c, "POST", path, body, &reply, e);
    if (rc < 0)
        return rc;
    const char *token = json_get_str(json_object_get(reply, "authToken"), "X-aws-proxy-auth");
    if (!token || strlen(token) >= TOKEN_MAX)
        return err_set(e, EPROTO, "the service's answer has no token");
    memcpy(out, token, strlen(token) + 1);
    return 0;
}
