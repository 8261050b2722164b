/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of machines as files: chains of copy-on-write overlays in the one format an engine
 * uses, down to a raw file, and what is done with them. Formats are always known, never probed, and
 * an overlay that the other engine made is refused with a sentence. Blocking; any thread.
 */
#ifndef ENGINE_DISKS_H
#define ENGINE_DISKS_H

#include "engine/argv.h"
#include "engine/overlay.h"

struct disks_format {
    const char *maker; /* "the software engine" */
    /* A new empty overlay; path must not exist. */
    int (*create)(const char *path, const struct overlay_info *in, const struct overlay_key *k,
                  struct err *e);
    /* Of the first n bytes of an overlay; -EBADMSG unless it is one that was made with this key. */
    int (*decode)(const unsigned char *p, size_t n, const struct overlay_key *k,
                  struct overlay_info *ret, struct err *e);
    bool (*is_one)(const unsigned char *p, size_t n); /* by its magic: for error texts only */
    /* The program that flattens: of ours, or found in PATH; and its arguments, to write the chain
     * to an existing empty raw file. */
    const char *program;
    bool ours;
    void (*flatten)(struct argv *a, const struct overlay_chain *c, const char *raw);
};
extern const struct disks_format disks_qcow2, disks_layers;

/* On failure nothing is left to free. */
int disks_chain_read(const struct disks_format *f, const char *path, enum engine_disk_format format,
                     const struct overlay_key *k, struct overlay_chain *ret,
                     struct err *e) MUST_CHECK;
void disks_chain_done(struct overlay_chain *c);
/* A new overlay of base at path; bytes 0 = the size of base. */
int disks_overlay(const struct disks_format *f, const char *path, const char *base,
                  enum engine_disk_format base_format, uint64_t bytes, const struct overlay_key *k,
                  struct err *e) MUST_CHECK;

/* All disks of a machine; arrays of ENGINE_DISKS_MAX. */
int disks_read(const struct disks_format *f, const struct engine_spec *s,
               const struct overlay_key *k, struct overlay_chain *chain, bool *read_only,
               struct err *e) MUST_CHECK;
void disks_done(struct overlay_chain *chain);
/* Syncs the tops of the first n that are writable. */
int disks_sync(const struct overlay_chain *chain, const bool *read_only, unsigned n,
               struct err *e) MUST_CHECK;
uint64_t disks_written(const struct overlay_chain *chain, const bool *read_only, unsigned n);

#endif
