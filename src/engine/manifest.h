/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.json of a frozen machine (docs/design/snapshot-format.md): what made it, what it needs,
 * and a digest of every file. Encoding and decoding are pure; decoding treats the text as hostile.
 */
#ifndef ENGINE_MANIFEST_H
#define ENGINE_MANIFEST_H

#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "engine/engine.h"

#define MANIFEST_NAME "manifest.json"
#define MANIFEST_FORMAT 1
#define MANIFEST_MAX 65536
#define MANIFEST_FILES_MAX 4

enum manifest_kind { MANIFEST_SNAPSHOT, MANIFEST_SUSPENDED };
/* plain: SHA-256 of the file. sparse: engine/sparse.h. */
enum manifest_digest { MANIFEST_PLAIN, MANIFEST_SPARSE };

struct manifest_file {
    char name[32];
    uint64_t bytes;
    enum manifest_digest how;
    char digest[SHA256_HEX_LEN + 1];
};

struct manifest {
    enum manifest_kind kind;
    char engine[16], engine_version[48];
    char cpu[64];                     /* CPU model and features, as the engine names them */
    char machine[SHA256_HEX_LEN + 1]; /* of everything guest-visible in the engine's command line */
    unsigned memory_mib, vcpus;
    uint64_t tsc_khz;
    bool network;
    uint64_t disk_bytes[ENGINE_DISKS_MAX]; /* virtual sizes */
    unsigned n_disks;
    struct manifest_file files[MANIFEST_FILES_MAX];
    unsigned n_files;
};

int manifest_encode(const struct manifest *m, struct buf *out, struct err *e) MUST_CHECK;
/* -EBADMSG: damaged, or of a format we do not know. */
int manifest_decode(const char *p, size_t n, struct manifest *ret, struct err *e) MUST_CHECK;
/* -EBADMSG with the first difference when a machine as in need cannot continue from have. Files and
 * kind are not compared. */
int manifest_compare(const struct manifest *have, const struct manifest *need,
                     struct err *e) MUST_CHECK;
/* -EINVAL when there are too many files or the name is too long. */
int manifest_add_file(struct manifest *m, const char *name, uint64_t bytes,
                      enum manifest_digest how, const char *digest, struct err *e) MUST_CHECK;
const struct manifest_file *manifest_find(const struct manifest *m, const char *name);

#endif
