/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tinderbox-unpack: everything that parses archives or copies trees in a build machine, as a
 * process of its own with few rights; and what copies files from and to a running application. It
 * is run by the agent as "tinderbox-unpack scan|read|copy|files <json>", reads pairs or a tar on
 * stdin and writes frames of proto/wire.h on stdout; the last one is EXIT or ERROR. One thread,
 * straight-line; errors carry an errno that out_error() turns into a code.
 */
#ifndef GUEST_UNPACK_H
#define GUEST_UNPACK_H

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/json.h"

#define UNPACK_MAX_ENTRIES 100000
#define UNPACK_MAX_MEMBERS 1000000    /* of a tar */
#define UNPACK_MAX_BYTES (4ull << 30) /* uncompressed, all entries together */
#define UNPACK_MAX_PATH 4096
#define UNPACK_MAX_NAME 255

/* -- frames (unpack_out.c) -- */
void out_frame(int type, const void *p, size_t n);
void out_record(json_t *v); /* takes the reference */
void out_exit(void);
/* EBADMSG -> ARCHIVE_INVALID, ENOENT -> NOT_FOUND, ENOSPC/EDQUOT -> DISK_FULL, EINVAL -> INVALID,
 * EEXIST/ENOTDIR -> EXISTS, ELOOP/ENAMETOOLONG/EROFS/EPERM/EACCES -> INVALID, else INTERNAL. */
void out_error(const struct err *e);

/* -- names (unpack_name.c) -- */
/* Normalises the path of an archive entry: no leading "./", no empty or "." components, no trailing
 * slash. "" is the root. Refuses absolute paths, "..", over-long and non-UTF-8 names (-EBADMSG). */
int name_clean(const char *raw, char out[UNPACK_MAX_PATH], struct err *e) MUST_CHECK;

bool name_is_utf8(const char *s); /* RFC 3629, without surrogates and over-long forms */

struct names; /* set of strings, each with a small value */
struct names *names_new(void);
void names_free(struct names *n);
/* 1 added, 0 was there already (value unchanged), -ENOMEM. */
int names_add(struct names *n, const char *name, int value) MUST_CHECK;
int names_get(const struct names *n, const char *name); /* -1 when missing */

/* -- zip (unpack_zip.c) -- */
struct zip {
    int fd;
    uint64_t size, at;
    struct archive *ar;  /* owned */
    struct names *index; /* owned: the central directory; value 1 = has unix modes */
    struct names *seen;  /* owned: entries already met */
    uint64_t bytes;      /* uncompressed, so far */
    unsigned entries;
    char block[65536];
};

struct zip_entry {
    char path[UNPACK_MAX_PATH];
    char type; /* 'f' file, 'd' directory, 'l' link */
    mode_t mode;
    int64_t mtime;
    const char *target; /* of a link; valid until the next call */
};

/* Reads the archive in the first size bytes of fd (borrowed, seekable). */
int zip_open(struct zip *z, int fd, uint64_t size, struct err *e) MUST_CHECK;
void zip_close(struct zip *z);
/* 1 and *ret, 0 at the end, -EBADMSG naming the entry. */
int zip_next(struct zip *z, struct zip_entry *ret, struct err *e) MUST_CHECK;
/* Bytes of the current entry; 0 at its end. Checks the CRC and the total. */
ssize_t zip_read(struct zip *z, void *p, size_t n, struct err *e) MUST_CHECK;
/* The archive's own directory (unpack_zipdir.c): names, counts, flags; fills z->index. */
int zip_read_index(struct zip *z, struct err *e) MUST_CHECK;

int scan_run(int fd, const json_t *spec, struct err *e) MUST_CHECK; /* unpack_scan.c */
int read_run(int fd, const json_t *spec, struct err *e) MUST_CHECK;

/* -- writing below the stage's root, after chroot (unpack_put.c) -- */
struct put {
    uid_t uid;
    gid_t gid;
    bool has_owner;
    mode_t chmod; /* (mode_t)-1: keep */
};

struct put_meta {
    mode_t mode;
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
};

int put_mkdir_p(const struct put *p, const char *path, struct err *e) MUST_CHECK;
/* A directory that exists is left as it is. */
int put_dir(const struct put *p, const char *path, const struct put_meta *m,
            struct err *e) MUST_CHECK;
/* A new, empty file in place of whatever file was there; its parents are made. Returns the fd;
 * put_file_end() sets owner, mode and time and closes it. */
int put_file(const struct put *p, const char *path, struct err *e) MUST_CHECK;
int put_file_end(const struct put *p, int fd, const char *path, const struct put_meta *m,
                 struct err *e) MUST_CHECK;
int put_link(const struct put *p, const char *path, const char *target, const struct put_meta *m,
             struct err *e) MUST_CHECK;
int put_hardlink(const struct put *p, const char *path, const char *existing,
                 struct err *e) MUST_CHECK;
int put_node(const struct put *p, const char *path, mode_t type, dev_t dev,
             const struct put_meta *m, struct err *e) MUST_CHECK;
bool put_is_dir(const char *path); /* follows links */

/* -- COPY (unpack_copy.c), its sources in another stage (unpack_tree.c), archives (unpack_tar.c) --
 */
struct copy {
    struct put put;
    char dest[UNPACK_MAX_PATH]; /* absolute, no trailing slash but for "/" */
    bool dest_is_dir;
    bool extract;
    uint64_t max_bytes; /* of all files of a tar together; 0 = what the disk holds */
};

int copy_run(int disk, int from, const json_t *spec, struct err *e) MUST_CHECK;
int copy_path(char out[UNPACK_MAX_PATH], const char *dir, const char *name,
              struct err *e) MUST_CHECK;
int tree_run(const struct copy *c, int from, const json_t *sources, struct err *e) MUST_CHECK;
/* 1 when fd held an archive and was unpacked into c->dest, 0 when it holds something else. */
int tar_try(const struct copy *c, int fd, const char *name, struct err *e) MUST_CHECK;
/* A plain tar from a pipe, into c->dest, which exists. */
int tar_stream(const struct copy *c, int fd, struct err *e) MUST_CHECK;

/* -- a tar as STDOUT frames (unpack_tarout.c) -- */
struct tar_entry {
    const char *path, *link; /* link: target of '1' and '2', NULL otherwise */
    char type; /* '0' file, '1' hard link, '2' link, '3' 'c', '4' 'b', '5' directory, '6' fifo */
    const struct stat *st;
};
/* The header; after that of a '0' come exactly st_size bytes and their padding. */
int tar_put(const struct tar_entry *t, struct err *e) MUST_CHECK;
void tar_put_data(const void *p, size_t n);
void tar_put_padding(uint64_t size);
void tar_put_end(void);

/* -- FILES, after chroot (unpack_files.c) -- */
/* RECORD frames: path itself (name ""), then, when it is a directory, what is in it. */
int files_list(const char *path, struct err *e) MUST_CHECK;
int files_read(const char *path, struct err *e) MUST_CHECK; /* STDOUT frames with a tar */
/* openat2() without magic links: /proc leads nowhere. -errno. */
int files_open(const char *path, uint64_t flags) MUST_CHECK;

#endif
