/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void table_add(struct table *t, ...)
{
    if (t->rows == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->cells = realloc(t->cells, t->cap * sizeof *t->cells);
        if (!t->cells)
            abort();
    }
    va_list ap;
    va_start(ap, t);
    for (size_t i = 0; i < t->columns; i++) {
        const char *s = va_arg(ap, const char *);
        snprintf(t->cells[t->rows][i], TABLE_CELL_MAX, "%s", s && *s ? s : "-");
    }
    va_end(ap);
    t->rows++;
}

void table_print(struct table *t)
{
    size_t width[TABLE_COLUMNS_MAX] = {0};
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t i = 0; i < t->columns; i++) {
            size_t n = strlen(t->cells[r][i]);
            width[i] = n > width[i] ? n : width[i];
        }
    }
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t i = 0; i + 1 < t->columns; i++)
            printf("%-*s  ", (int)width[i], t->cells[r][i]);
        printf("%s\n", t->cells[r][t->columns - 1]);
    }
    free(t->cells);
    *t = (struct table){0};
}

void print_json(const json_t *v)
{
    json_dumpf(v, stdout, JSON_INDENT(2));
    putchar('\n');
}

const char *ago(double unix_s, char out[24])
{
    static const struct {
        long seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}};
    long s = (long)((double)time(NULL) - unix_s);
    if (unix_s <= 0)
        return "-";
    s = s < 0 ? 0 : s;
    for (size_t i = 0; i < 3; i++) {
        if (s >= 2 * units[i].seconds) {
            snprintf(out, 24, "%ld%c", s / units[i].seconds, units[i].unit);
            return out;
        }
    }
    snprintf(out, 24, "%ds", (int)s);
    return out;
}

double json_time(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

void print_shell_quoted(const char *s)
{
    putchar('\'');
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*s);
    }
    putchar('\'');
}
