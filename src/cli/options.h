/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Table-driven command line options: "--name value", "--name=value", "-n value", flags, and
 * operands in between. "--" ends the options. One row per option; the table also prints the help.
 * Pure.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

#define OPTION_LIST_MAX 64
#define OPERANDS_MAX 1024

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_NUMBER, OPTION_LIST };

/* The members a row points at: bool, const char *, long, struct option_list. */
struct option_list {
    const char *items[OPTION_LIST_MAX];
    size_t n;
};

struct option_row {
    const char *name; /* without dashes; NULL ends the table */
    char letter;      /* 0 = none */
    enum option_kind kind;
    size_t offset; /* of the member in the caller's structure */
    long min, max; /* of a number */
    const char *metavar;
    const char *help;
};

struct operands {
    const char *items[OPERANDS_MAX]; /* borrowed from argv */
    size_t n;
};

/* Two tables, each with its structure: those every verb has, and the verb's own. After stop_after
 * operands (0 = never) everything that follows is an operand too. -EINVAL with a text. */
struct option_set {
    const struct option_row *rows;
    void *into;
};
int options_parse(const struct option_set sets[2], size_t stop_after, int argc,
                  const char *const *argv, struct operands *ret, struct err *e) MUST_CHECK;

void options_help(const struct option_row *rows, FILE *out);

#endif
