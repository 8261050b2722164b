/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsed Dockerfile + context + build arguments -> what a build machine has to do, in order, and
 * under which cache keys. Pure; any thread (the resolver callback is called on the caller's).
 * The plan holds only the stages the target needs; a stage refers only to earlier ones, so the
 * executor walks stages and steps in order. Errors start with "Dockerfile:<line>: ".
 *
 * Executor, per stage: start from the base (stage i's last layer, or the resolved base image);
 * per step: if the layer step->key is cached take it, else carry the step out and keep the disk as
 * layer step->key. RUN: plan_mkdirs_spec() first when there are mkdirs, then plan_run_spec() and
 * the input. COPY: plan_copy_spec() (which has the mkdirs) and the pairs. MKDIR:
 * plan_mkdirs_spec(). plan_stage_key() is the stage's finished state.
 */
#ifndef IMAGE_PLAN_H
#define IMAGE_PLAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "image/context.h"
#include "image/dockerfile.h"

#define PLAN_KEY_VERSION 1 /* raise it when a step with the same inputs may give another result */
#define PLAN_MAX_STAGES 100
#define PLAN_MAX_ENV 1000                 /* variables of a stage */
#define PLAN_MAX_ENV_BYTES (32 * 1024)    /* "K=V" bytes of a stage, arguments included */
#define PLAN_MAX_BYTES (64 * 1024 * 1024) /* memory of a plan */

/* What a base image is. id names its contents exactly (a digest); config is in Docker's form
 * ({"Env", "Cmd", ...}), may be NULL. Both owned by whoever holds the struct. */
struct plan_base {
    char id[128];
    json_t *config;
};

/* ref is expanded, not normalised. A negative result's text is shown after "Dockerfile:<line>: ".
 */
typedef int plan_resolve_fn(void *arg, const char *ref, struct plan_base *ret, struct err *e);

struct plan_arg {
    const char *name, *value;
};

struct plan_options {
    const char *arch;   /* "amd64" or "arm64": what the machine builds */
    const char *target; /* stage name or number; NULL = the last stage */
    const struct plan_arg *args;
    size_t n_args;
    plan_resolve_fn *resolve;
    void *resolve_arg;
};

enum plan_step_kind { PLAN_RUN, PLAN_COPY, PLAN_MKDIR };

/* One context entry and its place below dest. */
struct plan_pair {
    const struct context_entry *entry; /* borrowed from the context */
    const char *target;
};

struct plan_step {
    enum plan_step_kind kind;
    unsigned line;
    const char *display; /* "[builder 2/5] RUN pip install ...", printable, one line */
    char key[SHA256_HEX_LEN + 1];
    struct strlist mkdirs; /* absolute; made in order before the step, root's, 0755 */

    /* PLAN_RUN */
    struct strlist args; /* final argv */
    struct strlist env;  /* "K=V" */
    const char *cwd, *user;
    const char *input; /* standard input, NULL = empty; not NUL-terminated text */
    size_t input_n;

    /* PLAN_COPY */
    int from;                /* index of a stage of the plan, or -1: the context */
    struct plan_pair *pairs; /* context */
    size_t n_pairs;
    struct strlist sources; /* stage: absolute patterns (pattern.h) */
    const char *dest;       /* absolute, clean */
    /*
     * true: dest is a directory, made when missing, and everything lands below it.
     * false: one file (context; its target is "") or one source of unknown type (stage). It lands
     * at dest itself, or, when dest is a directory by then, below it under its own name. A stage's
     * source that turns out to be a directory, or a pattern with several matches, makes dest a
     * directory; a matched directory stands for what is in it.
     */
    bool dest_is_dir;
    const char *chown, *chmod; /* "user[:group]", octal digits; NULL = root's, mode kept */
    bool extract; /* ADD: what is an archive by its first bytes is unpacked below dest */
};

struct plan_stage {
    const char *name; /* as named, or "stage-<number>" */
    unsigned line;
    const char *display;            /* "[builder 1/5] FROM debian:12" */
    int base_stage;                 /* index of an earlier stage of the plan, or -1 */
    const char *base_ref, *base_id; /* when base_stage is -1 */
    char key[SHA256_HEX_LEN + 1];   /* before the first step */
    struct plan_step *steps;
    size_t n_steps;
    json_t *config; /* owned; Docker's form, the result of the stage's instructions */
};

/* Something the user should know and the build goes on: a line of the build log. */
struct plan_note {
    unsigned line;
    const char *text; /* without the "Dockerfile:<line>: " */
};

struct plan {
    struct arena *arena; /* owned */
    struct plan_stage *stages;
    size_t n_stages; /* >= 1; the last one is the target */
    struct plan_note *notes;
    size_t n_notes;
};

/* d, ctx (sealed, ignore rules applied) and the options must outlive the plan. */
int plan_make(const struct dockerfile *d, const struct context *ctx, const struct plan_options *o,
              struct plan **ret, struct err *e) MUST_CHECK;
void plan_free(struct plan *p); /* NULL is fine */

const struct plan_stage *plan_target(const struct plan *p);
const char *plan_stage_key(const struct plan_stage *s); /* the last step's, or the base's */

/* Requests of proto/wire.h; new references, never NULL. Each fits one frame. */
json_t *plan_run_spec(const struct plan_step *s);                            /* BUILD_RUN */
json_t *plan_mkdirs_spec(const struct plan_step *s, int disk, int64_t size); /* BUILD_COPY */
/* BUILD_COPY: disk and size are the context's or the source stage's. */
json_t *plan_copy_spec(const struct plan_step *s, int disk, int64_t size);
/* Appends pair i as the wire's line '["entry path","target"]\n'. */
int plan_copy_pair(const struct plan_step *s, size_t i, struct buf *out) MUST_CHECK;

#endif
