/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An option in the command line: its row, the structure it fills, and the value given with '='. */
struct found {
    const struct option_row *row;
    void *into;
    const char *value;
};

static bool find_long(const struct option_set sets[2], const char *word, struct found *ret)
{
    size_t n = strcspn(word, "=");
    for (int s = 0; s < 2; s++) {
        for (const struct option_row *r = sets[s].rows; r && r->name; r++) {
            if (strlen(r->name) == n && strncmp(r->name, word, n) == 0) {
                *ret = (struct found){r, sets[s].into, word[n] ? word + n + 1 : NULL};
                return true;
            }
        }
    }
    return false;
}

static bool find_letter(const struct option_set sets[2], const char *word, struct found *ret)
{
    for (int s = 0; s < 2; s++) {
        for (const struct option_row *r = sets[s].rows; r && r->name; r++) {
            if (r->letter && r->letter == word[0]) {
                *ret = (struct found){r, sets[s].into, word[1] ? word + 1 : NULL};
                return true;
            }
        }
    }
    return false;
}

static int store_number(const struct found *f, const char *value, struct err *e)
{
    char *end;
    errno = 0;
    long v = strtol(value, &end, 10);
    if (errno || !*value || *end || v < f->row->min || v > f->row->max)
        return err_set(e, EINVAL, "--%s: '%s' is not a number from %ld to %ld", f->row->name, value,
                       f->row->min, f->row->max);
    *(long *)(void *)((char *)f->into + f->row->offset) = v;
    return 0;
}

static int store_item(const struct found *f, const char *value, struct err *e)
{
    struct option_list *list = (void *)((char *)f->into + f->row->offset);
    if (list->n == OPTION_LIST_MAX)
        return err_set(e, EINVAL, "--%s may be given at most %d times", f->row->name,
                       OPTION_LIST_MAX);
    list->items[list->n++] = value;
    return 0;
}

static int store_value(const struct found *f, const char *value, struct err *e)
{
    switch (f->row->kind) {
    case OPTION_NUMBER:
        return store_number(f, value, e);
    case OPTION_LIST:
        return store_item(f, value, e);
    default:
        *(const char **)(void *)((char *)f->into + f->row->offset) = value;
        return 0;
    }
}

/* Takes the option at argv[*i] and, where it needs one, its value. */
static int take(const struct found *f, int argc, const char *const *argv, int *i, struct err *e)
{
    if (f->row->kind == OPTION_FLAG) {
        if (f->value)
            return err_set(e, EINVAL, "--%s takes no value", f->row->name);
        *(bool *)((char *)f->into + f->row->offset) = true;
        return 0;
    }
    const char *value = f->value;
    if (!value && *i + 1 >= argc)
        return err_set(e, EINVAL, "--%s needs a value: --%s %s", f->row->name, f->row->name,
                       f->row->metavar);
    return store_value(f, value ? value : argv[++*i], e);
}

int options_parse(const struct option_set sets[2], size_t stop_after, int argc,
                  const char *const *argv, struct operands *ret, struct err *e)
{
    bool options = true;
    ret->n = 0;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        struct found f;
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (!options || word[0] != '-' || !word[1]) {
            if (ret->n == OPERANDS_MAX)
                return err_set(e, EINVAL, "too many arguments");
            ret->items[ret->n++] = word;
            if (ret->n == stop_after)
                options = false;
        } else if (word[1] == '-' ? find_long(sets, word + 2, &f)
                                  : find_letter(sets, word + 1, &f)) {
            int rc = take(&f, argc, argv, &i, e);
            if (rc < 0)
                return rc;
        } else {
            return err_set(e, EINVAL, "unknown option '%s'", word);
        }
    }
    return 0;
}

void options_help(const struct option_row *rows, FILE *out)
{
    for (const struct option_row *r = rows; r && r->name; r++) {
        char left[64];
        bool value = r->kind != OPTION_FLAG;
        char letter[] = {'-', r->letter, ',', ' ', 0};
        snprintf(left, sizeof left, "%s--%s%s%s", r->letter ? letter : "    ", r->name,
                 value ? " " : "", value ? r->metavar : "");
        fprintf(out, "  %-28s %s%s\n", left, r->help,
                r->kind == OPTION_LIST ? " (may be repeated)" : "");
    }
}
