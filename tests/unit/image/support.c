/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "image/ignore.h"

static void add(struct context *c, json_t *o)
{
    struct err e = {0};
    char *text = json_text(o);
    if (context_add_record(c, text, strlen(text), &e) < 0)
        fail_msg("%s: %s", text, e.text);
    free(text);
    json_decref(o);
}

static void add_line(struct context *c, const char *line)
{
    char kind[8], a[512], b[512];
    int used = 0;
    if (sscanf(line, "%7s %511s %511s%n", kind, a, b, &used) < 2)
        fail_msg("context line: %s", line);
    const char *content = line[used] ? line + used + 1 : "";
    char hex[SHA256_HEX_LEN + 1];
    sha256_hex_of(content, strlen(content), hex);
    if (strcmp(kind, "file") == 0)
        add(c, json_pack("{sssssisIss}", "type", kind, "path", b, "mode", (int)strtol(a, NULL, 8),
                         "size", (json_int_t)strlen(content), "sha256", hex));
    else if (strcmp(kind, "dir") == 0)
        add(c, json_pack("{sssssisn}", "type", kind, "path", b, "mode", (int)strtol(a, NULL, 8),
                         "sha256"));
    else
        add(c, json_pack("{sssssiss}", "type", kind, "path", a, "mode", 0777, "target", b));
}

struct context *support_context(const char *lines, const char *ignore)
{
    struct context *c = context_new();
    struct err e = {0};
    char *copy = strdup(lines ? lines : ""), *rest = copy;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (*line)
            add_line(c, line);
    free(copy);
    if (context_seal(c, &e) < 0)
        fail_msg("%s", e.text);
    if (ignore) {
        struct ignore *g = NULL;
        if (ignore_parse(ignore, strlen(ignore), &g, &e) < 0 || context_apply_ignore(c, g, &e) < 0)
            fail_msg("%s", e.text);
        ignore_free(g);
    }
    return c;
}

int support_resolve(void *arg, const char *ref, struct plan_base *ret, struct err *e)
{
    (void)arg;
    snprintf(ret->id, sizeof ret->id, "id-of-%s", ref);
    if (strcmp(ref, "debian:12") == 0) {
        ret->config = json_pack("{s[s]s[s]}", "Env", "PATH=/usr/bin:/bin", "Cmd", "bash");
        return 0;
    }
    if (strcmp(ref, "full") == 0) {
        ret->config = json_pack(
            "{s[sss]s[s]s[ss]ssss s{s{}}s{ss}ssso}", "Env", "PATH=/opt/bin:/bin", "LANG=C.UTF-8",
            "MODE=base", "Entrypoint", "/entry", "Cmd", "serve", "now", "WorkingDir", "/srv/app",
            "User", "www", "ExposedPorts", "80/tcp", "Labels", "from", "base", "StopSignal",
            "SIGQUIT", "Shell", json_pack("[ss]", "/bin/bash", "-ec"));
        return 0;
    }
    if (strcmp(ref, "bare") == 0)
        return 0; /* no configuration at all */
    return err_set(e, ENOENT, "base image '%s' is not available", ref);
}

void support_plan(struct support_plan *s, const char *dockerfile, const char *context,
                  const char *ignore, const struct plan_options *o)
{
    struct plan_options with = o ? *o : (struct plan_options){0};
    memset(s, 0, sizeof *s);
    if (!with.arch)
        with.arch = "amd64";
    if (!with.resolve)
        with.resolve = support_resolve;
    s->ctx = support_context(context, ignore);
    s->r = dockerfile_parse(dockerfile, strlen(dockerfile), &s->d, &s->e);
    if (s->r == 0)
        s->r = plan_make(s->d, s->ctx, &with, &s->p, &s->e);
}

void support_plan_done(struct support_plan *s)
{
    plan_free(s->p);
    context_free(s->ctx);
    dockerfile_free(s->d);
}

static json_t *step_json(const struct plan_step *step)
{
    static const char *const kinds[] = {"RUN", "COPY", "MKDIR"};
    json_t *o = json_pack("{ssssss}", "kind", kinds[step->kind], "display", step->display, "key",
                          step->key);
    json_object_set_new(o, "line", json_integer(step->line));
    if (step->kind == PLAN_RUN) {
        json_object_set_new(o, "spec", plan_run_spec(step));
        if (step->input)
            json_object_set_new(o, "input", json_stringn(step->input, step->input_n));
        if (step->mkdirs.n)
            json_object_set_new(o, "mkdirs", plan_mkdirs_spec(step, 1, 2));
    } else if (step->kind == PLAN_MKDIR) {
        json_object_set_new(o, "spec", plan_mkdirs_spec(step, 1, 2));
    } else {
        json_t *pairs = json_array();
        for (size_t i = 0; i < step->n_pairs; i++) {
            struct buf b = BUF_INIT(0);
            assert_int_equal(plan_copy_pair(step, i, &b), 0);
            json_t *pair = NULL;
            assert_int_equal(json_parse(b.data, b.len, 100000, &pair, NULL), 0);
            json_array_append_new(pairs, pair);
            buf_done(&b);
        }
        json_object_set_new(o, "spec", plan_copy_spec(step, 1, 2));
        json_object_set_new(o, "pairs", pairs);
        json_object_set_new(o, "from", json_integer(step->from));
    }
    return o;
}

char *support_plan_text(const struct plan *p)
{
    json_t *stages = json_array(), *notes = json_array();
    for (size_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        json_t *steps = json_array();
        for (size_t k = 0; k < s->n_steps; k++)
            json_array_append_new(steps, step_json(&s->steps[k]));
        json_t *o = json_pack("{sssssissso}", "name", s->name, "display", s->display, "base",
                              s->base_stage, "key", s->key, "steps", steps);
        if (s->base_stage < 0)
            json_object_set_new(o, "id", json_string(s->base_id));
        json_object_set(o, "config", s->config);
        json_array_append_new(stages, o);
    }
    for (size_t i = 0; i < p->n_notes; i++)
        json_array_append_new(notes, json_sprintf("%u: %s", p->notes[i].line, p->notes[i].text));
    json_t *all = json_pack("{soso}", "stages", stages, "notes", notes);
    char *text = json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS);
    json_decref(all);
    return text;
}
