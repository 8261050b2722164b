/* SPDX-License-Identifier: Apache-2.0 */
/* Between dockerfile.c (lines) and dockerfile_words.c (what is on a line). */
#ifndef IMAGE_DOCKERFILE_INTERNAL_H
#define IMAGE_DOCKERFILE_INTERNAL_H

#include "base/buf.h"
#include "image/dockerfile.h"

struct dockerfile_line {
    struct arena *arena;
    char escape;
    unsigned line;
    struct slice rest; /* what is not parsed yet */
    struct err *e;
};

/* Whitespace inside a line. */
bool dockerfile_is_space(char c);
struct slice dockerfile_trim(struct slice s);
/* The run of non-spaces at the front of *s (after spaces), taken off it. Empty at the end. */
struct slice dockerfile_take_word(struct slice *s);

/* Fills everything of *in but its heredocs from the joined line. */
int dockerfile_parse_line(struct dockerfile_line *l, struct dockerfile_instruction *in) MUST_CHECK;

/* heredoc.c: finds the markers in the arguments of RUN, COPY, ADD; bodies are still empty. */
int dockerfile_find_markers(struct dockerfile_line *l, struct dockerfile_instruction *in,
                            bool strip_tabs[DOCKERFILE_MAX_HEREDOCS]) MUST_CHECK;

#endif
