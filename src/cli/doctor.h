/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine has of what the service needs. Each check is a table row that answers one
 * question; the verb prints them. Blocking, reads only.
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "cli/cli.h"

enum finding_level {
    FINDING_OK,
    FINDING_NOTE,    /* works, but worse or with less */
    FINDING_MISSING, /* the service cannot work */
};

struct finding {
    enum finding_level level;
    char text[400];
    char fix[300]; /* the command that mends it; "" = none */
};

struct check {
    const char *name;
    void (*run)(const struct cli *c, struct finding *f);
};

extern const struct check doctor_checks[];
extern const size_t doctor_n_checks;

#endif
