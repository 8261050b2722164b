/* SPDX-License-Identifier: Apache-2.0 */
#include "footprint.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAM_KIB_MIN (48u << 10)

struct mapping {
    char perms[8], name[300];
    unsigned long kib;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* "start-end perms offset dev inode   name"; every other line is "Field: N kB". */
static bool read_header(const char *line, struct mapping *m)
{
    unsigned long start, end;
    int name = 0;
    if (sscanf(line, "%lx-%lx %7s %*x %*x:%*x %*u %n", &start, &end, m->perms, &name) != 3)
        return false;
    m->kib = (end - start) >> 10;
    snprintf(m->name, sizeof m->name, "%s", name ? line + name : "");
    m->name[strcspn(m->name, "\n")] = '\0';
    char *gone = strstr(m->name, " (deleted)");
    if (gone)
        *gone = '\0';
    return true;
}

static bool is_ram(const struct mapping *m, const char *ram)
{
    return m->kib >= RAM_KIB_MIN || (ram && ends_with(m->name, ram));
}

static double *part(const struct mapping *m, struct footprint *f)
{
    if (strcmp(m->name, "[stack]") == 0)
        return &f->stack;
    if (m->name[0] == '/')
        return &f->code;
    if (!m->name[0] || strcmp(m->name, "[heap]") == 0)
        return &f->heap;
    return &f->other;
}

void footprint_read(pid_t pid, const char *ram, struct footprint *ret)
{
    char path[64], line[512];
    struct mapping m = {0};
    *ret = (struct footprint){0};
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f) {
        perror(path);
        exit(1);
    }
    while (fgets(line, sizeof line, f)) {
        double kib;
        if (read_header(line, &m))
            continue;
        if (sscanf(line, "Private_Dirty: %lf", &kib) == 1 && is_ram(&m, ram))
            ret->written += kib;
        if (sscanf(line, "Pss: %lf", &kib) != 1)
            continue;
        if (is_ram(&m, ram)) {
            ret->guest += kib;
        } else {
            ret->own += kib;
            *part(&m, ret) += kib;
        }
    }
    fclose(f);
}
