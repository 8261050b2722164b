/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files of the planner: plan.c (stages, which of them are needed), plan_stage.c (what
 * each instruction does to a stage), plan_copy.c (COPY and ADD), plan_key.c (cache keys).
 */
#ifndef IMAGE_PLAN_INTERNAL_H
#define IMAGE_PLAN_INTERNAL_H

#include "image/plan.h"

/* "K=V" strings, in order of first definition; a later value replaces an earlier one in place. */
struct envlist {
    struct strlist list;
    size_t bytes;
};

const char *envlist_get(const struct envlist *l, struct slice name);
/* -EMSGSIZE past PLAN_MAX_ENV or PLAN_MAX_ENV_BYTES. */
int envlist_set(struct arena *a, struct envlist *l, const char *name, const char *value) MUST_CHECK;
void envlist_copy(struct arena *a, struct envlist *to, const struct envlist *from);

/* A stage of the Dockerfile, or an image that only --from names (n = 0). */
struct source_stage {
    const struct dockerfile_instruction *from; /* FROM, or the COPY that names the image */
    size_t first, n;                           /* its instructions */
    const char *name;                          /* NULL: unnamed */
    const char *base;                          /* expanded */
    int base_stage;                            /* index of a source stage, or -1 */
    unsigned number;                           /* as --from=<number> counts */
    bool needed;
    int index;                   /* in the plan, once it is there */
    struct envlist env, visible; /* at its end */
};

struct planner {
    const struct dockerfile *d;
    const struct context *ctx;
    const struct plan_options *o;
    struct plan *p;
    struct source_stage *stages;
    size_t n_stages, cap_stages;
    size_t n_named; /* of the Dockerfile; what follows are images of --from */
    struct envlist globals;
    bool *arg_used; /* per option argument */
    size_t notes_cap;
    uint64_t work; /* steps of pattern matching */
    struct err *e;
};

/* A stage while its instructions are carried out. */
struct stage_state {
    struct planner *pl;
    struct source_stage *src;
    struct plan_stage *out;
    size_t cap_steps;
    struct envlist env;     /* of the image */
    struct envlist visible; /* env and arguments: what words and RUN see */
    const char *workdir, *user;
    struct strlist shell;
    struct strlist mkdirs; /* not made yet */
    bool cmd_set;
    unsigned line; /* of the instruction at hand */
};

#define PLAN_ERR(pl, code, line, ...) dockerfile_err((pl)->e, code, line, __VA_ARGS__)

/* plan.c */
int plan_check_size(struct planner *pl, unsigned line) MUST_CHECK;
void plan_note(struct planner *pl, unsigned line, const char *text);
/* The expanded word in the plan's arena. what names it in errors. */
int plan_expand(struct planner *pl, const struct envlist *vars, unsigned line, const char *word,
                bool heredoc, const char **ret) MUST_CHECK;
/* The value an ARG gets, or NULL: build argument, default, global. */
int plan_arg_value(struct planner *pl, const struct envlist *vars, unsigned line,
                   const struct dockerfile_pair *arg, const char **ret) MUST_CHECK;
/* The source stage a --from names; images are added on demand before planning starts. */
struct source_stage *plan_find_from(struct planner *pl, const struct source_stage *user,
                                    const char *from);

/* plan_stage.c */
int plan_stage_run(struct planner *pl, struct source_stage *src) MUST_CHECK;
int stage_expand(struct stage_state *s, const char *word, const char **ret) MUST_CHECK;
/* Takes the pending directories over; display, key and limits are the callee's work. */
int stage_add_step(struct stage_state *s, const struct dockerfile_instruction *in,
                   struct plan_step *step) MUST_CHECK;

/* plan_copy.c */
int stage_copy(struct stage_state *s, const struct dockerfile_instruction *in) MUST_CHECK;

/* plan_key.c */
void plan_key_base(const char *id, char out[SHA256_HEX_LEN + 1]);
void plan_key_step(const struct plan *p, const char *parent, const struct plan_step *step,
                   char out[SHA256_HEX_LEN + 1]);

#endif
