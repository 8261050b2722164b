/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, JSON and times on stdout. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_COLUMNS_MAX 8
#define TABLE_CELL_MAX 96

struct table {
    size_t columns;
    char (*cells)[TABLE_COLUMNS_MAX][TABLE_CELL_MAX]; /* owned; the first row is the heading */
    size_t rows, cap;
};

/* A new row of columns texts (NULL = "-"). */
void table_add(struct table *t, ...);
/* Prints with aligned columns and frees. */
void table_print(struct table *t);

void print_json(const json_t *v); /* indented */
/* "3m", "2h", "5d" since Unix seconds; "-" for 0. */
const char *ago(double unix_s, char out[24]);
/* Unix seconds of a member, 0 when absent. */
double json_time(const json_t *o, const char *key);
/* The text in single quotes for a POSIX shell. */
void print_shell_quoted(const char *s);

#endif
