/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dockerfile text to a list of instructions (docs/design/dockerfile.md). Pure; any thread. The
 * input is hostile. Nothing is expanded here: words keep their quotes, escapes and variables,
 * except in JSON form, whose strings are final. plan.h gives the instructions their meaning.
 *
 * Every error text starts with "Dockerfile:<line>: "; the code is EINVAL, or EMSGSIZE for a limit.
 */
#ifndef IMAGE_DOCKERFILE_H
#define IMAGE_DOCKERFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "image/arena.h"

#define DOCKERFILE_MAX_BYTES (1024 * 1024)
#define DOCKERFILE_MAX_INSTRUCTIONS 1000
#define DOCKERFILE_MAX_LINE (128 * 1024) /* one instruction, continuations joined */
#define DOCKERFILE_MAX_WORDS 2048        /* of one instruction */
#define DOCKERFILE_MAX_HEREDOCS 16       /* of one instruction */

enum dockerfile_word {
    DOCKERFILE_FROM,
    DOCKERFILE_RUN,
    DOCKERFILE_COPY,
    DOCKERFILE_ADD,
    DOCKERFILE_ENV,
    DOCKERFILE_ARG,
    DOCKERFILE_WORKDIR,
    DOCKERFILE_USER,
    DOCKERFILE_EXPOSE,
    DOCKERFILE_ENTRYPOINT,
    DOCKERFILE_CMD,
    DOCKERFILE_LABEL,
    DOCKERFILE_SHELL,
    DOCKERFILE_MAINTAINER,
    DOCKERFILE_STOPSIGNAL,
};

struct dockerfile_heredoc {
    const char *name; /* the terminator without its quotes */
    const char *body; /* tabs already stripped for <<- */
    size_t body_n;
    const char *arg; /* the element of args it stands for (COPY, ADD), or NULL (RUN) */
    const char *raw; /* as written, for a shell that reads the heredoc itself */
    bool expand;     /* the terminator was not quoted */
};

/* A name and its value as ENV, ARG and LABEL carry them. value NULL: ARG without a default. */
struct dockerfile_pair {
    const char *name, *value;
};

struct dockerfile_instruction {
    enum dockerfile_word word;
    unsigned line;    /* first physical line, from 1 */
    const char *text; /* the joined line without heredoc bodies */

    /* Flags; NULL when absent. */
    const char *platform;             /* FROM */
    const char *from, *chown, *chmod; /* COPY, ADD (not from) */

    bool exec; /* JSON form */
    /*
     * RUN CMD ENTRYPOINT: exec form: the strings; shell form: exactly one, the command line.
     * SHELL: the strings. COPY ADD: sources, then the destination. EXPOSE: the ports.
     * FROM: the base. WORKDIR USER STOPSIGNAL MAINTAINER: exactly one, the rest of the line.
     */
    struct strlist args;
    const char *as;                /* FROM ... AS name, lower case; or NULL */
    struct dockerfile_pair *pairs; /* ENV ARG LABEL */
    size_t n_pairs;
    struct dockerfile_heredoc *heredocs; /* RUN COPY ADD, in the order of their markers */
    size_t n_heredocs;
    bool is_heredoc; /* RUN: the command is one marker and nothing else */
};

struct dockerfile {
    struct arena *arena; /* owned: every pointer below points into it */
    char escape;         /* '\\' or '`' */
    struct dockerfile_instruction *v;
    size_t n;
    unsigned lines;
};

/* At least one instruction on success. */
int dockerfile_parse(const char *p, size_t n, struct dockerfile **ret, struct err *e) MUST_CHECK;
void dockerfile_free(struct dockerfile *d); /* NULL is fine */
const char *dockerfile_word_name(enum dockerfile_word w);

/* "Dockerfile:<line>: " and the text; returns -code. */
int dockerfile_err(struct err *e, int code, unsigned line, const char *fmt, ...) PRINTF(4, 5);

/* The heredoc an element of args stands for, or NULL. */
const struct dockerfile_heredoc *dockerfile_find_heredoc(const struct dockerfile_instruction *in,
                                                         const char *arg);

#endif
