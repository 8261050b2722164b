/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a build context, as the guest that read the archive reports it. The guest is
 * hostile: every record is checked, and what comes out has only clean relative paths, no
 * duplicates, and no entry below a file or a link. Order of calls: new, add_record per record,
 * seal once, then look up. Not thread-safe while building; immutable afterwards.
 */
#ifndef IMAGE_CONTEXT_H
#define IMAGE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"

#define CONTEXT_MAX_ENTRIES 100000
#define CONTEXT_MAX_RECORD (32 * 1024) /* bytes of one record */
#define CONTEXT_MAX_PATH 4095
#define CONTEXT_MAX_NAME 255
#define CONTEXT_MAX_PATH_BYTES (32 * 1024 * 1024) /* all paths and link targets */
#define CONTEXT_MAX_FILE ((int64_t)1 << 40)

enum context_type { CONTEXT_FILE, CONTEXT_DIR, CONTEXT_LINK };

struct context_entry {
    const char *path; /* "app/main.py": relative, clean, no dot components */
    enum context_type type;
    unsigned mode; /* permission bits, 07777 */
    int64_t size;
    char sha256[SHA256_HEX_LEN + 1]; /* of a file's bytes; empty otherwise */
    const char *target;              /* of a link, as stored; NULL otherwise */
    bool implied;                    /* a parent the archive has no entry for (dir, 0755) */
    bool excluded;                   /* by .dockerignore */
};

struct context;
struct ignore;

struct context *context_new(void);
void context_free(struct context *c); /* NULL is fine */

/* {path, type: "file"|"dir"|"link", mode, size, sha256, target}. A directory's path may end in
 * one slash. -EINVAL, -EMSGSIZE; the context is then to be freed. */
int context_add_record(struct context *c, const char *json, size_t n, struct err *e) MUST_CHECK;
/* Sorts, adds implied parents; refuses duplicates and entries below something not a directory. */
int context_seal(struct context *c, struct err *e) MUST_CHECK;
/* Marks what the rules exclude. At most once, after sealing. -E2BIG when the rules cost too much.
 */
int context_apply_ignore(struct context *c, const struct ignore *rules, struct err *e) MUST_CHECK;

size_t context_count(const struct context *c);
const struct context_entry *context_at(const struct context *c, size_t i); /* in tree order */
/* NULL when there is none; excluded entries are found, too. */
const struct context_entry *context_find(const struct context *c, const char *path);
/* What is below dir ("" = everything) is contiguous: [*first, *first + result). */
size_t context_below(const struct context *c, const char *dir, size_t *first);
/*
 * Follows links in every component of path, never leaving the context. Writes the real path ("" =
 * the context itself). -ENOENT, -ELOOP. An excluded entry is as good as missing.
 */
int context_resolve(const struct context *c, const char *path,
                    char out[CONTEXT_MAX_PATH + 1]) MUST_CHECK;

#endif
