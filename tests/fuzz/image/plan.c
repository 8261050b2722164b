/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Dockerfile, parsed and planned against a fixed context. Every error names its line; what comes
 * out must be JSON, refer backwards only, and stay below its destination.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/plan.h"
#include "proto/wire.h"

static int resolve(void *arg, const char *ref, struct plan_base *ret, struct err *e)
{
    (void)arg;
    if (strlen(ref) % 5 == 4)
        return err_set(e, ENOENT, "no image '%s'", ref);
    snprintf(ret->id, sizeof ret->id, "id-%zu", strlen(ref));
    ret->config =
        json_pack("{s[s]s[s]s{s{}}}", "Env", "PATH=/bin", "Cmd", "sh", "ExposedPorts", "1/tcp");
    return 0;
}

static struct context *fixed_context(void)
{
    static const char *const records[] = {
        "{\"path\":\"a.txt\",\"type\":\"file\",\"mode\":420,\"size\":1,\"sha256\":\"",
        "{\"path\":\"d/b.tar.gz\",\"type\":\"file\",\"mode\":493,\"size\":1,\"sha256\":\"",
        "{\"path\":\"d/e/f\",\"type\":\"file\",\"mode\":493,\"size\":1,\"sha256\":\"",
    };
    static const char link[] =
        "{\"path\":\"l\",\"type\":\"link\",\"mode\":511,\"target\":\"../d/e\"}";
    struct context *c = context_new();
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        char text[256];
        int n = snprintf(text, sizeof text, "%s%064d\"}", records[i], (int)i);
        if (context_add_record(c, text, (size_t)n, NULL) < 0)
            abort();
    }
    if (context_add_record(c, link, sizeof link - 1, NULL) < 0 || context_seal(c, NULL) < 0)
        abort();
    return c;
}

static void check_json(json_t *spec)
{
    char *text = json_dumps(spec, JSON_COMPACT);
    if (!text || strlen(text) > 2 * WIRE_MAX_REQUEST)
        abort();
    free(text);
    json_decref(spec);
}

static void check_step(const struct plan *p, const struct plan_step *s, int stage)
{
    if (s->from >= stage || strlen(s->key) != SHA256_HEX_LEN || !s->display)
        abort();
    check_json(plan_mkdirs_spec(s, 1, 2));
    if (s->kind == PLAN_RUN)
        check_json(plan_run_spec(s));
    if (s->kind != PLAN_COPY)
        return;
    check_json(plan_copy_spec(s, 1, 2));
    if (s->from >= (int)p->n_stages || s->dest[0] != '/')
        abort();
    for (size_t i = 0; i < s->n_pairs; i++) {
        struct buf b = BUF_INIT(0);
        if (plan_copy_pair(s, i, &b) < 0 || strstr(s->pairs[i].target, ".."))
            abort();
        buf_done(&b);
    }
}

static void plan(const struct dockerfile *d)
{
    static const struct plan_arg args[] = {{"A", "1"}, {"HTTP_PROXY", "p"}};
    const struct plan_options o = {
        .arch = "amd64", .args = args, .n_args = ARRAY_LEN(args), .resolve = resolve};
    struct context *c = fixed_context();
    struct plan *p = NULL;
    struct err e = {0};
    if (plan_make(d, c, &o, &p, &e) < 0) {
        if (strncmp(e.text, "Dockerfile:", 11) != 0)
            abort();
    } else {
        for (size_t i = 0; i < p->n_stages; i++) {
            if (p->stages[i].base_stage >= (int)i)
                abort();
            for (size_t k = 0; k < p->stages[i].n_steps; k++)
                check_step(p, &p->stages[i].steps[k], (int)i);
        }
    }
    plan_free(p);
    context_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dockerfile *d = NULL;
    struct err e = {0};
    if (dockerfile_parse((const char *)data, size, &d, &e) < 0) {
        if (strncmp(e.text, "Dockerfile:", 11) != 0)
            abort();
        return 0;
    }
    plan(d);
    dockerfile_free(d);
    return 0;
}
