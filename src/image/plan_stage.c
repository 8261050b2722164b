/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stage: start from the base's configuration, apply the instructions in order (a row per
 * instruction), end with the stage's own configuration. WORKDIR makes no step of its own: its
 * directory is made by the next step, or by a last one at the end of the stage.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "image/config.h"
#include "image/dockerfile_internal.h"
#include "image/paths.h"
#include "image/plan_internal.h"
#include "proto/wire.h"

#define MAX_PORTS 4096
#define MAX_USER 256
#define MAX_DISPLAY 400
#define MAX_ARG (128 * 1024 - 1) /* Linux's MAX_ARG_STRLEN without the NUL */

/* Reach RUN when given as build arguments, undeclared, and never change a key. */
static const char *const proxy_args[] = {
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
    "ftp_proxy",  "NO_PROXY",   "no_proxy",    "ALL_PROXY",   "all_proxy",
};

static const char *const signals[] = {
    "HUP",  "INT",  "QUIT",   "ILL",  "TRAP",  "ABRT", "BUS",  "FPE",  "KILL",  "USR1",  "SEGV",
    "USR2", "PIPE", "ALRM",   "TERM", "CHLD",  "CONT", "STOP", "TSTP", "TTIN",  "TTOU",  "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",   "PWR",  "SYS",  "RTMIN", "RTMAX",
};

/* Runs a script with a #! line: it has to be a file, and must not stay. */
static const char script_runner[] = "umask 077; f=$(mktemp) && cat >\"$f\" && chmod 0700 \"$f\" && "
                                    "\"$f\" </dev/null; r=$?; rm -f \"$f\"; exit \"$r\"";

#define STAGE_ERR(s, code, ...) PLAN_ERR((s)->pl, code, (s)->line, __VA_ARGS__)

static struct arena *arena_of(struct stage_state *s)
{
    return s->pl->p->arena;
}

static void config_set(struct stage_state *s, const char *key, json_t *value)
{
    if (json_object_set_new(s->out->config, key, value) < 0)
        abort(); /* no memory */
}

static json_t *list_json(const struct strlist *l)
{
    json_t *a = json_array();
    for (size_t i = 0; i < l->n; i++)
        if (json_array_append_new(a, json_string(l->v[i])) < 0)
            abort();
    return a;
}

int stage_expand(struct stage_state *s, const char *word, const char **ret)
{
    return plan_expand(s->pl, &s->visible, s->line, word, false, ret);
}

/* ---- steps ---- */

/* One printable line, cut between characters. */
static const char *display_text(struct arena *a, const char *text)
{
    char *out = arena_alloc(a, MAX_DISPLAY + 4);
    size_t n = 0;
    bool space = false;
    for (; *text && n < MAX_DISPLAY; text++) {
        bool blank = (unsigned char)*text <= ' ' || *text == 0x7f;
        if (!blank || !space)
            out[n++] = blank ? ' ' : *text;
        space = blank;
    }
    if (*text) {
        while (n && ((unsigned char)*text & 0xc0) == 0x80)
            text--, n--;
        memcpy(out + n, "...", 4);
    }
    return out;
}

int stage_add_step(struct stage_state *s, const struct dockerfile_instruction *in,
                   struct plan_step *step)
{
    struct plan_stage *out = s->out;
    step->line = s->line;
    step->display = display_text(
        arena_of(s), in ? in->text : arena_printf(arena_of(s), "WORKDIR %s", s->workdir));
    step->mkdirs = s->mkdirs;
    s->mkdirs = (struct strlist){0};
    out->steps =
        arena_grow(arena_of(s), out->steps, out->n_steps, &s->cap_steps, sizeof *out->steps);
    plan_key_step(s->pl->p, plan_stage_key(out), step, step->key);
    out->steps[out->n_steps++] = *step;
    return plan_check_size(s->pl, s->line);
}

/* The total is known only at the end. */
static void number_displays(struct stage_state *s, const char *from)
{
    struct plan_stage *out = s->out;
    size_t total = out->n_steps + 1;
    const char *name = s->pl->n_named > 1 ? out->name : "";
    const char *space = *name ? " " : "";
    out->display = arena_printf(arena_of(s), "[%s%s1/%zu] FROM %s", name, space, total, from);
    for (size_t i = 0; i < out->n_steps; i++)
        out->steps[i].display = arena_printf(arena_of(s), "[%s%s%zu/%zu] %s", name, space, i + 2,
                                             total, out->steps[i].display);
}

/* ---- RUN, CMD, ENTRYPOINT, SHELL ---- */

static struct strlist command_args(struct stage_state *s, const struct dockerfile_instruction *in,
                                   const char *line)
{
    struct strlist l = {0};
    if (in->exec)
        return in->args;
    for (size_t i = 0; i < s->shell.n; i++)
        strlist_add(arena_of(s), &l, s->shell.v[i]);
    strlist_add(arena_of(s), &l, line);
    return l;
}

/* The command line with its here-documents behind it, as the shell reads them. */
static const char *with_heredocs(struct stage_state *s, const struct dockerfile_instruction *in)
{
    struct buf b = BUF_INIT(0);
    int r = buf_adds(&b, in->args.v[0]);
    for (size_t i = 0; r == 0 && i < in->n_heredocs; i++)
        r = buf_addf(&b, "\n%s%s", in->heredocs[i].raw, in->heredocs[i].name);
    if (r < 0)
        abort(); /* no ceiling was given: no memory */
    const char *text = arena_strndup(arena_of(s), b.data, b.len);
    buf_done(&b);
    return text;
}

static void run_command(struct stage_state *s, const struct dockerfile_instruction *in,
                        struct plan_step *step)
{
    const struct dockerfile_heredoc *h = in->heredocs;
    if (!in->n_heredocs) {
        step->args = command_args(s, in, in->args.v[0]);
    } else if (!in->is_heredoc) {
        step->args = command_args(s, in, with_heredocs(s, in));
    } else if (h->body_n > 2 && memcmp(h->body, "#!", 2) == 0) {
        const char *const argv[] = {"/bin/sh", "-c", script_runner, "RUN"};
        for (size_t i = 0; i < ARRAY_LEN(argv); i++)
            strlist_add(arena_of(s), &step->args, argv[i]);
        step->input = h->body;
        step->input_n = h->body_n;
    } else {
        step->args = command_args(s, in, h->body);
    }
}

static void add_proxies(struct stage_state *s, struct plan_step *step)
{
    const struct plan_options *o = s->pl->o;
    for (size_t i = 0; i < o->n_args; i++) {
        for (size_t k = 0; k < ARRAY_LEN(proxy_args); k++) {
            if (strcmp(o->args[i].name, proxy_args[k]) != 0)
                continue;
            s->pl->arg_used[i] = true;
            if (!envlist_get(&s->visible, slice_from(proxy_args[k])))
                strlist_add(arena_of(s), &step->env,
                            arena_printf(arena_of(s), "%s=%s", proxy_args[k], o->args[i].value));
        }
    }
}

/* The whole request has to fit one frame, an argument what execve(2) takes. */
static int check_run(struct stage_state *s, const struct plan_step *step)
{
    for (size_t i = 0; i < step->args.n; i++)
        if (strlen(step->args.v[i]) > MAX_ARG)
            return STAGE_ERR(s, EMSGSIZE, "RUN: an argument is longer than %d bytes", MAX_ARG);
    json_t *spec = plan_run_spec(step);
    char *text = json_text(spec);
    size_t n = strlen(text);
    free(text);
    json_decref(spec);
    if (n > WIRE_MAX_FRAME_DATA)
        return STAGE_ERR(s, EMSGSIZE,
                         "RUN: the command and its environment are larger than %d bytes",
                         WIRE_MAX_FRAME_DATA);
    return 0;
}

static int stage_run(struct stage_state *s, const struct dockerfile_instruction *in)
{
    struct envlist env;
    struct plan_step step = {.kind = PLAN_RUN, .from = -1, .cwd = s->workdir, .user = s->user};
    run_command(s, in, &step);
    envlist_copy(arena_of(s), &env, &s->visible);
    step.env = env.list;
    int r = stage_add_step(s, in, &step);
    if (r < 0)
        return r;
    struct plan_step *added = &s->out->steps[s->out->n_steps - 1];
    add_proxies(s, added); /* after the key was made */
    return check_run(s, added);
}

static int stage_cmd(struct stage_state *s, const struct dockerfile_instruction *in)
{
    struct strlist l = command_args(s, in, in->args.n ? in->args.v[0] : "");
    config_set(s, "Cmd", list_json(&l));
    s->cmd_set = true;
    return 0;
}

static int stage_entrypoint(struct stage_state *s, const struct dockerfile_instruction *in)
{
    struct strlist l = command_args(s, in, in->args.n ? in->args.v[0] : "");
    config_set(s, "Entrypoint", list_json(&l));
    if (!s->cmd_set) /* a CMD of the base was meant for the base's ENTRYPOINT */
        (void)json_object_del(s->out->config, "Cmd"); /* absent is as good */
    return 0;
}

static int stage_shell(struct stage_state *s, const struct dockerfile_instruction *in)
{
    s->shell = in->args;
    config_set(s, "Shell", list_json(&in->args));
    return 0;
}

/* ---- variables and labels ---- */

static int set_variable(struct stage_state *s, struct envlist *l, const char *name,
                        const char *value)
{
    if (envlist_set(arena_of(s), l, name, value) < 0)
        return STAGE_ERR(s, EMSGSIZE, "more than %d variables or %d bytes of them", PLAN_MAX_ENV,
                         PLAN_MAX_ENV_BYTES);
    return 0;
}

static int expand_pair(struct stage_state *s, const struct dockerfile_instruction *in, size_t i,
                       const char **name, const char **value)
{
    int r = stage_expand(s, in->pairs[i].name, name);
    if (r == 0)
        r = stage_expand(s, in->pairs[i].value, value);
    if (r == 0 && !**name)
        r = STAGE_ERR(s, EINVAL, "%s: a name is empty", dockerfile_word_name(in->word));
    return r;
}

/* All values of one ENV are expanded before any of them is set. */
static int stage_env(struct stage_state *s, const struct dockerfile_instruction *in)
{
    struct strlist names = {0}, values = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < in->n_pairs; i++) {
        const char *name, *value;
        r = expand_pair(s, in, i, &name, &value);
        if (r == 0 && strchr(name, '='))
            r = STAGE_ERR(s, EINVAL, "ENV: the name '%.100s' has a '='", name);
        if (r == 0) {
            strlist_add(arena_of(s), &names, name);
            strlist_add(arena_of(s), &values, value);
        }
    }
    for (size_t i = 0; r == 0 && i < names.n; i++) {
        r = set_variable(s, &s->env, names.v[i], values.v[i]);
        if (r == 0)
            r = set_variable(s, &s->visible, names.v[i], values.v[i]);
    }
    return r;
}

static int stage_arg(struct stage_state *s, const struct dockerfile_instruction *in)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < in->n_pairs; i++) {
        const char *value;
        r = plan_arg_value(s->pl, &s->visible, s->line, &in->pairs[i], &value);
        if (r == 0 && value)
            r = set_variable(s, &s->visible, in->pairs[i].name, value);
    }
    return r;
}

static int stage_label(struct stage_state *s, const struct dockerfile_instruction *in)
{
    json_t *labels = json_object_get(s->out->config, "Labels");
    if (!json_is_object(labels)) {
        config_set(s, "Labels", json_object());
        labels = json_object_get(s->out->config, "Labels");
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < in->n_pairs; i++) {
        const char *name, *value;
        r = expand_pair(s, in, i, &name, &value);
        if (r == 0 && json_object_set_new(labels, name, json_string(value)) < 0)
            abort();
    }
    return r;
}

/* ---- the rest of the configuration ---- */

/* The expanded single argument, which must not be empty nor hold control characters. */
static int one_word(struct stage_state *s, const struct dockerfile_instruction *in, size_t max,
                    const char **ret)
{
    const char *word = dockerfile_word_name(in->word);
    int r = stage_expand(s, in->args.v[0], ret);
    if (r < 0)
        return r;
    if (!**ret)
        return STAGE_ERR(s, EINVAL, "%s: '%.100s' expands to nothing", word, in->args.v[0]);
    if (strlen(*ret) > max)
        return STAGE_ERR(s, EMSGSIZE, "%s: longer than %zu bytes", word, max);
    for (const char *c = *ret; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return STAGE_ERR(s, EINVAL, "%s: control characters are not allowed", word);
    return 0;
}

static int stage_workdir(struct stage_state *s, const struct dockerfile_instruction *in)
{
    char path[PATHS_MAX + 1];
    const char *word;
    int r = one_word(s, in, PATHS_MAX, &word);
    if (r < 0)
        return r;
    if (paths_resolve(s->workdir, word, path) < 0)
        return STAGE_ERR(s, EMSGSIZE, "WORKDIR: the path is too long");
    s->workdir = arena_strdup(arena_of(s), path);
    config_set(s, "WorkingDir", json_string(path));
    if (strcmp(path, "/") != 0)
        strlist_add(arena_of(s), &s->mkdirs, s->workdir);
    return 0;
}

static int stage_user(struct stage_state *s, const struct dockerfile_instruction *in)
{
    int r = one_word(s, in, MAX_USER, &s->user);
    if (r == 0)
        config_set(s, "User", json_string(s->user));
    return r;
}

static int stage_stopsignal(struct stage_state *s, const struct dockerfile_instruction *in)
{
    const char *word;
    int r = one_word(s, in, 32, &word);
    if (r < 0)
        return r;
    const char *name = strncasecmp(word, "SIG", 3) == 0 ? word + 3 : word;
    bool number = word[strspn(word, "0123456789")] == '\0';
    bool known = number && strtoul(word, NULL, 10) >= 1 && strtoul(word, NULL, 10) <= 64;
    for (size_t i = 0; !known && i < ARRAY_LEN(signals); i++)
        known = strcasecmp(name, signals[i]) == 0;
    if (!known)
        return STAGE_ERR(s, EINVAL, "STOPSIGNAL: there is no signal '%s'", word);
    config_set(s, "StopSignal", json_string(word));
    return 0;
}

static bool port_number(const char *s, size_t n, unsigned *ret)
{
    unsigned v = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)s[i]) || v > 65535)
            return false;
        v = v * 10 + (unsigned)(s[i] - '0');
    }
    *ret = v;
    return n && v >= 1 && v <= 65535;
}

/* port[-port][/protocol] */
static int expose_one(struct stage_state *s, json_t *ports, const char *word)
{
    static const char *const protocols[] = {"tcp", "udp", "sctp"};
    size_t n = strcspn(word, "/"), dash = strcspn(word, "-");
    const char *protocol = word[n] ? word + n + 1 : "tcp";
    unsigned from = 0, to = 0;
    bool range = dash < n, ok = false;
    for (size_t i = 0; i < ARRAY_LEN(protocols) && !ok; i++)
        if ((ok = strcasecmp(protocol, protocols[i]) == 0))
            protocol = protocols[i];
    ok = ok && port_number(word, range ? dash : n, &from);
    to = from;
    if (ok && range)
        ok = port_number(word + dash + 1, n - dash - 1, &to) && from <= to;
    if (!ok)
        return STAGE_ERR(s, EINVAL, "EXPOSE: '%.100s' is not port[-port][/tcp|/udp|/sctp]", word);
    for (unsigned port = from; port <= to; port++) {
        char key[32];
        snprintf(key, sizeof key, "%u/%s", port, protocol);
        if (json_object_set_new(ports, key, json_object()) < 0)
            abort();
        if (json_object_size(ports) > MAX_PORTS)
            return STAGE_ERR(s, EMSGSIZE, "EXPOSE: more than %d ports", MAX_PORTS);
    }
    return 0;
}

static int stage_expose(struct stage_state *s, const struct dockerfile_instruction *in)
{
    json_t *ports = json_object_get(s->out->config, "ExposedPorts");
    if (!json_is_object(ports)) {
        config_set(s, "ExposedPorts", json_object());
        ports = json_object_get(s->out->config, "ExposedPorts");
    }
    for (size_t i = 0; i < in->args.n; i++) {
        const char *text;
        int r = stage_expand(s, in->args.v[i], &text);
        if (r < 0)
            return r;
        /* A variable may hold several ports. */
        struct slice rest = slice_from(text), word;
        while ((word = dockerfile_take_word(&rest)).n && r == 0)
            r = expose_one(s, ports, arena_strndup(arena_of(s), word.p, word.n));
        if (r < 0)
            return r;
    }
    return 0;
}

static int stage_ignored(struct stage_state *s, const struct dockerfile_instruction *in)
{
    plan_note(s->pl, in->line, "MAINTAINER has no effect: use LABEL");
    return 0;
}

static int (*const handlers[])(struct stage_state *s, const struct dockerfile_instruction *in) = {
    [DOCKERFILE_FROM] = NULL, /* begins another stage */
    [DOCKERFILE_RUN] = stage_run,
    [DOCKERFILE_COPY] = stage_copy,
    [DOCKERFILE_ADD] = stage_copy,
    [DOCKERFILE_ENV] = stage_env,
    [DOCKERFILE_ARG] = stage_arg,
    [DOCKERFILE_WORKDIR] = stage_workdir,
    [DOCKERFILE_USER] = stage_user,
    [DOCKERFILE_EXPOSE] = stage_expose,
    [DOCKERFILE_ENTRYPOINT] = stage_entrypoint,
    [DOCKERFILE_CMD] = stage_cmd,
    [DOCKERFILE_LABEL] = stage_label,
    [DOCKERFILE_SHELL] = stage_shell,
    [DOCKERFILE_MAINTAINER] = stage_ignored,
    [DOCKERFILE_STOPSIGNAL] = stage_stopsignal,
};

/* ---- begin and end ---- */

static int from_stage(struct stage_state *s)
{
    const struct source_stage *base = &s->pl->stages[s->src->base_stage];
    const struct plan_stage *done = &s->pl->p->stages[base->index];
    s->out->base_stage = base->index;
    memcpy(s->out->key, plan_stage_key(done), sizeof s->out->key);
    s->out->config = json_deep_copy(done->config);
    envlist_copy(arena_of(s), &s->env, &base->env);
    envlist_copy(arena_of(s), &s->visible, &base->visible);
    return s->out->config ? 0 : STAGE_ERR(s, ENOMEM, "out of memory");
}

static int import_env(struct stage_state *s)
{
    size_t i;
    json_t *item;
    int r = 0;
    json_array_foreach (json_object_get(s->out->config, "Env"), i, item) {
        const char *text = json_string_value(item), *eq = strchr(text, '=');
        if (r == 0)
            r = set_variable(s, &s->env, arena_strndup(arena_of(s), text, (size_t)(eq - text)),
                             eq + 1);
    }
    if (r == 0 && !envlist_get(&s->env, SLICE("PATH")))
        r = set_variable(s, &s->env, "PATH", CONFIG_DEFAULT_PATH);
    envlist_copy(arena_of(s), &s->visible, &s->env);
    return r;
}

static int from_image(struct stage_state *s)
{
    struct plan_base base = {.config = NULL};
    struct err e = {0};
    int r = s->pl->o->resolve(s->pl->o->resolve_arg, s->src->base, &base, &e);
    if (r < 0)
        return STAGE_ERR(s, -r, "%s", e.text);
    s->out->base_stage = -1;
    s->out->base_ref = s->src->base;
    s->out->base_id = arena_strdup(arena_of(s), base.id);
    plan_key_base(base.id, s->out->key);
    s->out->config = base.config ? json_deep_copy(base.config) : json_object();
    json_decref(base.config);
    if (!s->out->config)
        return STAGE_ERR(s, ENOMEM, "out of memory");
    if (config_check(s->out->config, &e) < 0)
        return STAGE_ERR(s, EINVAL, "base image '%.200s': %s", s->src->base, e.text);
    return import_env(s);
}

static void import_config(struct stage_state *s)
{
    size_t i;
    json_t *item;
    s->workdir = arena_strdup(arena_of(s), config_workdir(s->out->config));
    s->user = arena_strdup(arena_of(s), config_user(s->out->config));
    json_array_foreach (json_object_get(s->out->config, "Shell"), i, item) {
        strlist_add(arena_of(s), &s->shell, arena_strdup(arena_of(s), json_string_value(item)));
    }
    if (!s->shell.n) {
        strlist_add(arena_of(s), &s->shell, "/bin/sh");
        strlist_add(arena_of(s), &s->shell, "-c");
    }
}

static int end_stage(struct stage_state *s)
{
    int r = 0;
    if (s->mkdirs.n) {
        struct plan_step step = {.kind = PLAN_MKDIR, .from = -1};
        r = stage_add_step(s, NULL, &step);
    }
    config_set(s, "Env", list_json(&s->env.list));
    char *text = json_text(s->out->config);
    if (r == 0 && strlen(text) > CONFIG_MAX_BYTES)
        r = STAGE_ERR(s, EMSGSIZE, "the configuration of the image is larger than %d bytes",
                      CONFIG_MAX_BYTES);
    free(text);
    s->src->env = s->env;
    s->src->visible = s->visible;
    number_displays(s, display_text(arena_of(s), s->src->base));
    return r;
}

int plan_stage_run(struct planner *pl, struct source_stage *src)
{
    struct plan *p = pl->p;
    src->index = (int)p->n_stages;
    struct plan_stage *out = &p->stages[p->n_stages++];
    *out = (struct plan_stage){.line = src->from->line, .base_stage = -1};
    bool image_only = src >= pl->stages + pl->n_named;
    out->name = src->name    ? src->name
                : image_only ? src->base
                             : arena_printf(p->arena, "stage-%u", src->number);
    struct stage_state s = {.pl = pl, .src = src, .out = out, .line = src->from->line};
    int r = src->base_stage >= 0 ? from_stage(&s) : from_image(&s);
    if (r < 0)
        return r;
    import_config(&s);
    for (size_t i = 0; r == 0 && i < src->n; i++) {
        const struct dockerfile_instruction *in = &pl->d->v[src->first + i];
        s.line = in->line;
        r = handlers[in->word](&s, in);
        if (r == 0)
            r = plan_check_size(pl, in->line);
    }
    return r < 0 ? r : end_stage(&s);
}
