/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor's process costs beside the guest's RAM, from /proc/PID/smaps. Guest RAM is every
 * mapping of the memory file, and every mapping of 48 MiB and more: no monitor here has another of
 * that size. Needs the rights to read the maps of a process that is not dumpable (root).
 * Everything fails by ending the program. Any thread.
 */
#ifndef TESTS_PERF_FOOTPRINT_H
#define TESTS_PERF_FOOTPRINT_H

#include <sys/types.h>

struct footprint {  /* KiB, PSS: private memory and the fair share of what is shared */
    double own;     /* everything but guest RAM; of which: */
    double code;    /* mapped files */
    double heap;    /* the heap and other anonymous memory that can be written */
    double stack;   /* of the first thread; those of the others are anonymous memory */
    double other;   /* KVM's shared pages, ... */
    double guest;   /* guest RAM: the clone's own pages and its share of the snapshot's */
    double written; /* of that, pages of its own */
};

/* ram: the name of the memory file as smaps says it, or its end; NULL = none. */
void footprint_read(pid_t pid, const char *ram, struct footprint *ret);

#endif
