/* SPDX-License-Identifier: Apache-2.0 */
/* What the image tests share: contexts from short texts, plans from Dockerfile texts. */
#ifndef TESTS_IMAGE_SUPPORT_H
#define TESTS_IMAGE_SUPPORT_H

#include "image/plan.h"

/*
 * One entry per line: "file <mode> <path> <content>", "dir <mode> <path>", "link <path> <target>".
 * ignore is a .dockerignore text or NULL. Sealed; fails the test on an error.
 */
struct context *support_context(const char *lines, const char *ignore);

/* debian:12 has a small configuration, debian-onbuild a larger one; anything else is refused. */
int support_resolve(void *arg, const char *ref, struct plan_base *ret, struct err *e);

/* Everything plan_make() needs, alive as long as the plan. */
struct support_plan {
    struct dockerfile *d;
    struct context *ctx;
    struct plan *p;
    struct err e;
    int r;
};

/* o->resolve may be NULL: support_resolve. A parse error lands in e, too. */
void support_plan(struct support_plan *s, const char *dockerfile, const char *context,
                  const char *ignore, const struct plan_options *o);
void support_plan_done(struct support_plan *s);

/* The plan as indented JSON; owned by the caller. */
char *support_plan_text(const struct plan *p);

#endif
