/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file (docs/design/monitor-snapshot.md): header, then sections of one plain struct each.
 * A section is named by type and instance, has a version, an exact length and a CRC-32C. The reader
 * treats the file as hostile: it is copied into memory, checked as a whole, then looked up.
 *
 * Structs in sections have fixed-width members in natural alignment, no padding, no pointers,
 * little endian (the only byte order this monitor runs on).
 */
#ifndef VMM_SNAPSHOT_STATE_H
#define VMM_SNAPSHOT_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STATE_FILE_MAX (4u << 20)
#define STATE_SECTIONS_MAX 256

/* Never renumbered. */
enum state_type {
    STATE_MACHINE = 1,
    STATE_CPUID = 2,
    STATE_VCPU = 3,
    STATE_MSRS = 4,
    STATE_XSAVE = 5,
    STATE_CLOCK = 6,
    STATE_IOAPIC = 10,
    STATE_SERIAL = 11,
    STATE_RTC = 12,
    STATE_GED = 13,
    STATE_VIRTIO = 20, /* transport and queues; instance = slot */
    STATE_BLK = 21,
    STATE_NET = 22,
    STATE_CONSOLE = 23,
    STATE_BALLOON = 24,
};

struct state_writer {
    uint8_t *data; /* owned: a mapping of STATE_FILE_MAX bytes */
    size_t len;
    unsigned n_sections;
    int failed; /* first error, reported by state_writer_finish() */
};

void state_writer_init(struct state_writer *w);
void state_put(struct state_writer *w, enum state_type type, uint32_t instance, uint32_t version,
               const void *p, size_t n);
/* Completes the header and writes everything to fd. */
int state_writer_finish(struct state_writer *w, int fd, struct err *e) MUST_CHECK;
void state_writer_done(struct state_writer *w);

struct state_section {
    uint32_t type, instance, version;
    const uint8_t *p; /* borrowed from the reader */
    size_t n;
};

struct state_reader {
    uint8_t *data; /* owned */
    size_t len;
    struct state_section section[STATE_SECTIONS_MAX];
    unsigned n;
};

/* -EBADMSG: damaged, or of a version this monitor does not know. */
int state_reader_parse(struct state_reader *r, const void *p, size_t n, struct err *e) MUST_CHECK;
int state_reader_load(struct state_reader *r, int fd, struct err *e) MUST_CHECK; /* then parse */
void state_reader_done(struct state_reader *r);

/* Copies a section of exactly n bytes and this version; -EBADMSG with a sentence otherwise. */
int state_get(const struct state_reader *r, enum state_type type, uint32_t instance,
              uint32_t version, void *ret, size_t n, struct err *e) MUST_CHECK;
/* For sections of variable length; NULL when there is none of this version. */
const struct state_section *state_find(const struct state_reader *r, enum state_type type,
                                       uint32_t instance, uint32_t version);

#endif
